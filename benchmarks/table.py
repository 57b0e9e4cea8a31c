"""The rows of a comparison. A row has measurements of ours and of a peer, made in turns, round by round."""

import statistics
from collections.abc import Sequence


def row(name: str, unit: str, ours: Sequence[float], peer: Sequence[float]) -> dict:
    """Makes the row {name, unit, ours, peer, ratio} from one measurement of each round.

    In the row, `ours` and `peer` are medians over the rounds. `ratio` is the median of the rounds' ratios, which varies
    less than the ratio of the medians.
    """
    return {
        'name': name,
        'unit': unit,
        'ours': statistics.median(ours),
        'peer': statistics.median(peer),
        'ratio': statistics.median(a / b for a, b in zip(ours, peer, strict=True)),
    }


def print_table(rows: Sequence[dict]) -> None:
    print(f'{"":64} {"unit":>10} {"ours":>9} {"peer":>9} {"ratio":>6}')
    for row in rows:
        numbers = f'{_short(row["ours"]):>9} {_short(row["peer"]):>9} {row["ratio"]:6.2f}'
        print(f'{row["name"]:64} {row["unit"]:>10} {numbers}')


def _short(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
