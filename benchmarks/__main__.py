"""Measures vidcls beside its peers: runs all measurements, prints a table and writes bench.json. `make bench` runs it.

    python -m benchmarks [--release=VERSION]

With --release, the ratios are also kept in benchmarks/history.jsonl. It has a line for each release, with the machine,
the versions and the date.

bench.json is a list of {name, unit, ours, peer, ratio}. A number is the median of rounds in which ours and the peers
take turns; only starts are measured in a single round. If the unit is a rate, a ratio of 2 means twice as fast.
Networks, ours and the peers', run in a process of their own, with the large pages that docs/performance.md recommends
for a CPU.
"""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from unittest import mock

from absl import app, flags

from benchmarks import convert, exported, machine, models, read, start, stream
from benchmarks.table import print_table

_RELEASE = flags.DEFINE_string('release', '', 'The version whose ratios are kept in benchmarks/history.jsonl.')
_HISTORY = Path(__file__).with_name('history.jsonl')


def main(argv) -> None:
    del argv
    made_on = machine.describe()
    print(', '.join(f'{name} {value}' for name, value in made_on.items()), flush=True)
    rows = []
    in_processes = map(_in_large_pages, (stream.run, models.run, exported.run))
    for run in (convert.run, read.run, *in_processes, start.run):
        rows += run()
        Path('bench.json').write_text(json.dumps(rows, indent=2) + '\n')
    print_table(rows)
    if _RELEASE.value:
        ratios = {row['name']: float(f'{row["ratio"]:.3g}') for row in rows}
        with _HISTORY.open('a') as file:
            file.write(json.dumps({'release': _RELEASE.value, **made_on, 'ratios': ratios}) + '\n')


def _in_large_pages(run: Callable[[], list[dict]]) -> Callable[[], list[dict]]:
    """Returns a function that calls `run` in a process of its own, in which glibc allocates large pages."""

    def elsewhere():
        with (
            mock.patch.dict(os.environ, GLIBC_TUNABLES='glibc.malloc.hugetlb=1'),
            futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process,
        ):
            return process.submit(run).result()

    return elsewhere


if __name__ == '__main__':
    app.run(main)
