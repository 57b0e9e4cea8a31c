"""Conversion of datasets: one script a dataset, and what the scripts share."""

import sys

from vidcls.run import signals

if sys.argv[0] == '-m':  # `python -m data_prep.NAME` is being started: its imports take seconds
    signals.end_at_once()
