"""All measurements beside peers in one run, which prints a table and writes bench.json. `make bench` runs it.

bench.json is a list of {name, unit, ours, peer, ratio}. Each number is a median of alternating rounds; starts are measured in
one round. Where the unit is a rate, a ratio of 2 means twice as fast. Networks, ours and the peers', run in a process of
their own, with the large pages that docs/performance.md recommends for a CPU.
"""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from unittest import mock

from benchmarks import convert, exported, models, read, start, stream
from benchmarks.table import print_table


def main() -> None:
    rows = []
    in_processes = map(_in_large_pages, (stream.run, models.run, exported.run))
    for run in (convert.run, read.run, *in_processes, start.run):
        rows += run()
        Path('bench.json').write_text(json.dumps(rows, indent=2) + '\n')
    print_table(rows)


def _in_large_pages(run: Callable[[], list[dict]]) -> Callable[[], list[dict]]:
    """`run` in a process of its own, in which glibc allocates large pages."""

    def elsewhere():
        with (
            mock.patch.dict(os.environ, GLIBC_TUNABLES='glibc.malloc.hugetlb=1'),
            futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process,
        ):
            return process.submit(run).result()

    return elsewhere


if __name__ == '__main__':
    main()
