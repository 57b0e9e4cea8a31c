import sys

from vidcls.run import signals

if sys.argv[0] == '-m':  # `python -m experiments.NAME` is being started: its imports take seconds
    signals.end_at_once()
