"""Reads list files of 'path label' lines, in which many papers give splits.

The functions that the readers of official lists share are here too.
"""

import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from absl import logging

from data_prep.source import clip_ids
from vidcls.data import tree
from vidcls.data.video import SUFFIXES
from vidcls.errors import UserError
from vidcls.text.names import check_label, readable

_AVI = frozenset(('.avi',))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A clip that was found: its path (a video or a folder of frames), its label, and its split ('' if it has none)."""

    path: Path
    label: str
    split: str


def read_lists(root: Path, lists: Mapping[str, Path], classes: Path | None) -> tuple[list[Entry], list[str]]:
    """Returns all entries of the lists, and the labels in order.

    An entry is kept even if its path doesn't exist; the converter then reports it like a video that can't be read.
    Clips below `root` that are in no list are left out, with a warning.

    Args:
      root: the folder that paths are relative to.
      lists: split -> list file. The split '' stands for a list without a split.
      classes: the class file. With None, the labels are all labels in the lists, sorted.

    Raises:
      UserError: a list is missing or empty; a line is malformed; a label is not one printable line or is not in the
        class file; a clip has two labels or is in two splits; or a path is a pipe or a device.
    """
    names = _read_classes(classes) if classes else None
    by_stem = functools.cache(_videos_by_stem)
    entries: dict[Path, Entry] = {}
    any_absolute = False
    for split, file in lists.items():
        for where, line in read_lines(file):
            text, label = _split_line(line, where)
            any_absolute |= os.path.isabs(text)
            label = check_label(label, where) if names is None else _look_up(label, names, where, classes)
            entry = Entry(_find(root, text, where, by_stem), label, split)
            before = entries.setdefault(entry.path, entry)
            if before.label != entry.label or before.split != entry.split:
                raise UserError(
                    f'{where}: {text} is {label!r} in {split or "the list"}, and was '
                    f'{before.label!r} in {before.split or "the list"} before'
                )
    if not entries:
        raise UserError(f'{", ".join(map(str, lists.values()))}: no clips')
    if not any_absolute:  # with absolute paths, `root` does not tell where the clips lie
        _warn_of_unlisted(entries, tree.search(root).clips, root)
    present = {entry.label for entry in entries.values()}
    if names is not None:
        absent = [name for name in names.values() if name not in present]
        if absent:
            logging.warning(
                'no list has a clip of %d of the %d classes of %s; they are left out: %s',
                len(absent), len(names), classes, tree.few(absent),
            )  # fmt: skip
        return list(entries.values()), [n for n in names.values() if n in present]
    numeric = all(label.isdecimal() and len(label) < 20 for label in present)
    return list(entries.values()), sorted(present, key=lambda label: (int(label) if numeric else 0, label))


def _split_line(line: str, where: str) -> tuple[str, str]:
    """Splits a line into path and label. The path may contain spaces, and so may the label if a tab precedes it."""
    pieces = [p.strip() for p in line.rsplit('\t' if '\t' in line else None, maxsplit=1)]
    if len(pieces) != 2 or not all(pieces):
        raise UserError(f"{where}: {line!r} is not 'path label'")
    return pieces[0], pieces[1]


def _look_up(label: str, names: Mapping[str, str], where: str, classes: Path | None) -> str:
    """Returns the name of the class that has `label` as its name or number in the class file."""
    if label in names:
        return names[label]
    if label not in names.values():
        raise UserError(f'{where}: label {label!r} is not one of the {len(names)} in {classes}')
    return label


def _find(root: Path, text: str, where: str, by_stem: Callable[[Path], Mapping[str, Path]]) -> Path:
    """Returns the path of the clip that a list names, with the ending that the list may leave out."""
    path = root / text
    if path.is_file() or path.is_dir():
        return path
    if path.exists():
        raise UserError(f'{where}: {readable(text)} is a pipe or a device, no video')
    return by_stem(path.parent).get(path.name, path)


def _videos_by_stem(folder: Path) -> dict[str, Path]:
    """Returns stem -> video for the videos in a folder. Of several videos with one stem, the first is taken."""
    videos = tree.files(folder, SUFFIXES) if folder.is_dir() else []
    return {video.stem: video for video in reversed(videos)}


def listed_videos(videos: Path, lists: Path, listed: Collection[str]) -> dict[str, Path]:
    """Returns clip id -> file, for each clip of official lists that is in a tree of videos.

    Args:
      videos: the folder of the tree, which has files <class>/<name>.avi.
      lists: the folder of the lists, for messages.
      listed: the ids ('<class>/<name>') of all clips in the lists.

    Raises:
      UserError: the tree has none of the clips, or a folder can't be read.
    """
    if not videos.is_dir():
        raise UserError(f'{videos}: no such folder')
    files = [file for folder in tree.subfolders(videos) for file in tree.files(folder, _AVI)]
    found = {name: file for name, file in zip(clip_ids(files, videos), files) if name in listed}
    if not found:
        raise UserError(f'{videos}: none of the clips that {lists} lists (<class>/<name>.avi)')
    _warn_of_unlisted(found.values(), files, videos)
    absent = [name for name in listed if name not in found]
    if absent:
        logging.warning('%d of the %d listed clips are not there: %s', len(absent), len(listed), tree.few(absent, 3))
    return found


def _warn_of_unlisted(listed: Iterable[Path], clips: Sequence[Path], root: Path) -> None:
    """Warns of clips below `root` that are in no list, and of folders that have no clip in any list."""
    # Paths are normalised because a list may have a/../b.mp4, and a user may give --videos=../clips.
    (root,), listed, clips = ([Path(os.path.normpath(path)) for path in paths] for paths in ([root], listed, clips))
    named = set(listed)
    unlisted = [clip for clip in clips if clip not in named]
    if not unlisted:
        return
    logging.warning(
        'no list names %d of the %d clips in %s; they are left out: %s',
        len(unlisted), len(clips), readable(str(root)), tree.some(unlisted, root),
    )  # fmt: skip
    with_named = {root, *(clip.parent for clip in listed)}
    folders = Counter(clip.parent for clip in unlisted if clip.parent not in with_named)
    if folders:
        counted = [f'{os.path.relpath(folder, root)} ({number} clips)' for folder, number in folders.items()]
        logging.warning('no list names any clip of %d folders: %s', len(folders), tree.few(counted))


def _read_classes(path: Path) -> dict[str, str]:
    """Reads a class file of 'number name' lines, or of 'name' lines, which are numbered from 0.

    Returns:
      Number (as text) -> name.

    Raises:
      UserError: a number or a name is in the file twice, or a name is not one printable line.
    """
    lines = [(where, line.strip()) for where, line in read_lines(path)]
    pairs = [line.split(maxsplit=1) for _, line in lines]
    if not all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
        pairs = [[str(number), line] for number, (_, line) in enumerate(lines)]
    names = {number: check_label(name, where) for (where, _), (number, name) in zip(lines, pairs)}
    if len(set(names.values())) < len(lines):
        raise UserError(f'{path}: a number or a class stands there twice')
    return names


def read_lines(path: Path, missing: str = 'no such file') -> list[tuple[str, str]]:
    """Returns (where, line) for each line of a list file that is not blank.

    `where` is the file's path and the line's number, for messages.

    Args:
      missing: the error's text if the file does not exist.

    Raises:
      UserError: the file is missing, is not a regular file, can't be read, or contains NUL characters, as UTF-16 does.
    """
    if not path.is_file():
        raise UserError(f'{path}: {"a list must be a regular file" if path.exists() else missing}')
    try:
        text = path.read_text(encoding='utf-8-sig', errors='surrogateescape')
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    if '\0' in text:
        raise UserError(f'{path}: not a text file in UTF-8; save it as UTF-8')
    return [(f'{path}, line {number}', line) for number, line in enumerate(text.split('\n'), 1) if line.strip()]
