import sys

from vidcls.run import signals

# `python -m experiments.NAME` is starting. Its imports take seconds, and a signal during them should end it at once.
if sys.argv[0] == '-m':
    signals.end_at_once()
