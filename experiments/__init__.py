import sys

from vidcls import interruption

if sys.argv[0] == '-m':  # `python -m experiments.NAME` is being started: its imports take seconds
    interruption.end_at_once()
