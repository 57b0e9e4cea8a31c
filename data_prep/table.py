"""Shows how many clips a dataset has of each class and split, as a table and as sentences."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_prep.source import Clip, Source
from vidcls.text.names import readable

_MOST_ROWS = 20  # classes; if there are more, only the smallest and the largest are shown
_ENDS = 3  # so many of the smallest, and so many of the largest


def of_clips(source: Source, stored: Sequence[Clip]) -> str:
    """Returns a table of how many clips of each class are in each split.

    If there are many classes, the table has only the smallest and the largest.

    Args:
      stored: the clips that could be used.
    """
    count = _count(source, stored)
    splits = [name for name in source.splits if any(row[name] for row in count)]
    total = Counter(clip.label for clip in stored)
    header = ['class', *splits, 'all clips']
    rows: list[list[Any]] = [
        [readable(name), *(row[s] for s in splits), total[k]] for k, (name, row) in enumerate(zip(source.labels, count))
    ]
    if len(rows) > _MOST_ROWS:
        rows.sort(key=lambda row: row[-1])
        between = len(rows) - 2 * _ENDS
        rows = [
            *rows[:_ENDS],
            [f'... {between} classes of {rows[_ENDS][-1]} to {rows[-_ENDS - 1][-1]} clips'],
            *rows[-_ENDS:],
        ]
    last = [f'all {len(source.labels)} classes', *(sum(row[s] for row in count) for s in splits), len(stored)]
    return _aligned([header, *rows, last])


def gaps(source: Source, stored: Sequence[Clip]) -> list[str]:
    """Returns a sentence for each split without a usable clip, and for each split that lacks some classes."""
    count, lines = _count(source, stored), []
    for split in source.splits:
        if not any(row[split] for row in count) and any(row[split] for row in _count(source, source.clips)):
            lines.append(f'no clip of {split} could be used')
        absent = [readable(name) for name, row in zip(source.labels, count) if not row[split]]
        if 0 < len(absent) < len(source.labels):
            named = ', '.join(absent[:_MOST_ROWS]) + (', ...' if len(absent) > _MOST_ROWS else '')
            lines.append(f'{split} has no clip of {len(absent)} of the {len(source.labels)} classes: {named}')
    return lines


def _count(source: Source, stored: Sequence[Clip]) -> list[Counter[str]]:
    """Returns a counter for each class: split -> number of clips."""
    count: list[Counter[str]] = [Counter() for _ in source.labels]
    splits_of = {part: [s for s, parts in source.splits.items() if part in parts] for part in {c.part for c in stored}}
    for clip in stored:
        count[clip.label].update(splits_of[clip.part])
    return count


def _aligned(rows: Sequence[Sequence]) -> str:
    """Writes rows of a name and numbers in aligned columns. A row may have fewer numbers than the others."""
    texts = [[str(value) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*(row for row in texts if len(row) > 1))]
    lines = []
    for first, *numbers in texts:
        cells = [' ' * (width - len(text)) + text for text, width in zip(numbers, widths[1:])]
        lines.append('  '.join([f'  {first}' + ' ' * (widths[0] - _width(first)), *cells]).rstrip())
    return '\n'.join(lines)


def _width(text: str) -> int:
    """Returns how many columns of a terminal a text takes.

    A Chinese, Japanese or Korean character and most emoji take two, a combining accent takes none.
    """
    wide = sum(unicodedata.east_asian_width(char) in 'WF' for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ('Mn', 'Me', 'Cf') for char in text)
