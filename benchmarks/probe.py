"""Measures one commit for `benchmarks.quick`, which runs this module in a checkout of the commit.

Each line of standard input names a measurement. The module answers each line with a rate: train steps of a network a
second, or frames read a second. Networks are compiled when the module starts, so no answer includes compiling.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import models, read

# Full networks on few pixels: a step takes only a second or two, and spends most of its time where a step of full size
# does.
SIZE = 112  # pixels
CASES = {
    'tsn_resnet50 step': models.Case('tsn_resnet50', 4, 3, 51, ()),
    'eco_lite step': models.Case('eco_lite', 1, 16, 101, ()),
    'timesformer_base step': models.Case('timesformer_base', 1, 8, 400, ()),
}
READING = 'reading'


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print, too
    calls = {name: _steps(case) for name, case in CASES.items()} | {
        READING: _reading(Path(os.environ['PROBE_DATASET']))
    }
    for call in calls.values():
        call()
    print('ready', file=answers, flush=True)
    for line in sys.stdin:
        print(calls[line.strip()](), file=answers, flush=True)


def _steps(case: models.Case) -> Callable[[], float]:
    train = models.our_tasks(case, SIZE)['train']

    def rate() -> float:
        start = time.perf_counter()
        train()
        return 1 / (time.perf_counter() - start)

    return rate


def _reading(folder: Path) -> Callable[[], float]:
    from vidcls.data.dataset import open_dataset

    dataset = open_dataset(folder)
    starts = itertools.count()

    def rate() -> float:
        return read.frames_per_second(read.our_batches(dataset, 8, next(starts)), 8)

    return rate


if __name__ == '__main__':
    main()
