"""Everything measured beside a peer, in one run: a table, and bench.json. `make bench` runs it.

bench.json is a list of {name, unit, ours, peer, ratio}; each number is a median of alternating rounds (of starts there is
one round). Where the unit is a rate, a ratio of 2 means twice as fast.
"""

import json
from pathlib import Path

from benchmarks import convert, models, read, start, stream
from benchmarks.table import print_table


def main() -> None:
    rows = []
    for part in (convert, read, stream, models, start):
        rows += part.run()
        Path('bench.json').write_text(json.dumps(rows, indent=2) + '\n')
    print_table(rows)


if __name__ == '__main__':
    main()
