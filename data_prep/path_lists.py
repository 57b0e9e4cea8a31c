"""List files of 'path label' lines, the form in which the textbook and many papers give splits."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from absl import logging

from vidcls.data.video import SUFFIXES
from vidcls.errors import UserError


@dataclasses.dataclass(frozen=True)
class Entry:
    """A clip that was found: a video or a folder of frames, its label, its split ('' if none)."""

    path: Path
    label: str
    split: str


def read_lists(root: Path, lists: Mapping[str, Path], classes: Path | None) -> tuple[list[Entry], list[str]]:
    """All entries of the lists, and the labels in order.

    A path that is not there is kept: the converter reports it like a video that cannot be read.

    Args:
      root: what paths are relative to.
      lists: split ('' for none) -> list file.
      classes: class file, or None: then labels are those in the lists, sorted.

    Raises:
      UserError: a list is missing or empty, a line is malformed, a label is not in the class file,
        a clip has two labels or is in two splits.
    """
    names = _read_classes(classes) if classes else None
    entries: dict[Path, Entry] = {}
    for split, file in lists.items():
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            where = f'{file}, line {number}'
            text, label = _split_line(line, where)
            if names is not None:
                label = _look_up(label, names, where, classes)
            entry = Entry(_find(root, text), label, split)
            before = entries.setdefault(entry.path, entry)
            if before.label != entry.label or before.split != entry.split:
                raise UserError(
                    f'{where}: {text} is {label!r} in {split or "the list"}, and was '
                    f'{before.label!r} in {before.split or "the list"} before'
                )
    if not entries:
        raise UserError(f'{", ".join(map(str, lists.values()))}: no clips')
    present = {entry.label for entry in entries.values()}
    if names is not None:
        if len(present) < len(names):
            logging.warning('%d of %d classes have no clip', len(names) - len(present), len(names))
        return list(entries.values()), [n for n in names.values() if n in present]
    numeric = all(label.isdecimal() for label in present)
    return list(entries.values()), sorted(present, key=int if numeric else str)


def _split_line(line: str, where: str) -> tuple[str, str]:
    """Path and label; the path may hold spaces, and so may the label after a tab."""
    pieces = [p.strip() for p in line.rsplit('\t' if '\t' in line else None, maxsplit=1)]
    if len(pieces) != 2 or not all(pieces):
        raise UserError(f"{where}: {line!r} is not 'path label'")
    return pieces[0], pieces[1]


def _look_up(label: str, names: Mapping[str, str], where: str, classes: Path) -> str:
    """The class's name, of its name or its number in the class file."""
    if label in names:
        return names[label]
    if label not in names.values():
        raise UserError(f'{where}: label {label!r} is not one of the {len(names)} in {classes}')
    return label


def _find(root: Path, text: str) -> Path:
    """The clip that a list means, its ending completed where the list leaves it out."""
    path = root / text
    if path.exists():
        return path
    found = sorted(p for p in path.parent.glob('*') if p.stem == path.name and _is_video(p))
    return found[0] if found else path


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _read_classes(path: Path) -> dict[str, str]:
    """Number (as text) -> name, of 'number name' lines or of 'name' lines, counted from 0."""
    lines = [line.strip() for line in _lines(path) if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    if all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
        return {number: name for number, name in pairs}
    return {str(number): name for number, name in enumerate(lines)}


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    return path.read_text(encoding='utf-8', errors='surrogateescape').splitlines()
