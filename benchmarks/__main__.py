"""Everything measured beside a peer, in one run: a table, and bench.json. `make bench` runs it.

bench.json is a list of {name, unit, ours, peer, ratio}; each number is a median of alternating rounds (of starts there is
one round). Where the unit is a rate, a ratio of 2 means twice as fast. Networks run in a process of their own, ours and
their peers with the large pages that the README recommends for a CPU.
"""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from unittest import mock

from benchmarks import convert, models, read, start, stream
from benchmarks.table import print_table


def main() -> None:
    rows = []
    for run in (convert.run, read.run, _in_large_pages(stream.run), _in_large_pages(models.run), start.run):
        rows += run()
        Path('bench.json').write_text(json.dumps(rows, indent=2) + '\n')
    print_table(rows)


def _in_large_pages(run: Callable[[], list[dict]]) -> Callable[[], list[dict]]:
    """`run`, in a process that starts with glibc's setting for them."""

    def elsewhere():
        with (
            mock.patch.dict(os.environ, GLIBC_TUNABLES='glibc.malloc.hugetlb=1'),
            futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process,
        ):
            return process.submit(run).result()

    return elsewhere


if __name__ == '__main__':
    main()
