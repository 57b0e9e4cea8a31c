"""What lies in a folder of clips: videos, folders of frame images, and files that are neither.

Hidden files and folders are passed over, and so are the files that operating systems and programs leave behind. Pipes
and devices are never opened. A link to a file counts as a file. A link to a folder is followed only in the place of a
class folder; further down it could lead round in a circle.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vidcls.data.video import SUFFIXES
from vidcls.errors import UserError
from vidcls.text.names import readable

IMAGE_SUFFIXES = frozenset(('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'))
_SYSTEM = frozenset(('$RECYCLE.BIN', '@eaDir', '__MACOSX', 'System Volume Information', 'lost+found'))


@dataclasses.dataclass
class Found:
    """The result of `search`.

    Attributes:
      clips: files with a video's ending, and folders with images and no video.
      left_out: files, links and pipes that belong to no clip.
    """

    clips: list[Path] = dataclasses.field(default_factory=list)
    left_out: list[Path] = dataclasses.field(default_factory=list)


def search(folder: Path) -> Found:
    """Finds the clips in a folder and below it, and the files that belong to no clip. Both lists are sorted.

    Raises:
      UserError: a folder can't be read.
    """
    found, pending = Found(), [folder]
    while pending:
        parent = pending.pop()
        videos, has_images = [], False
        for entry in _scan(parent):
            ending = _ending(entry.name)
            if entry.is_dir(follow_symlinks=False):
                pending.append(parent / entry.name)
            elif ending in SUFFIXES and _is_file(entry):
                videos.append(parent / entry.name)
            elif ending in IMAGE_SUFFIXES and _is_file(entry):
                has_images = True
            else:
                found.left_out.append(parent / entry.name)
        # Images beside videos (previews, posters) are not frames.
        found.clips += videos or ([parent] if has_images else [])
    return Found(sorted(found.clips), sorted(found.left_out))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, and the links to folders, sorted.

    Raises:
      UserError: `folder` can't be read, or a link in it leads to a folder that `folder` lies in.
    """
    found = [folder / entry.name for entry in _scan(folder) if Path(entry.path).is_dir()]
    for path in found:
        if path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
            raise UserError(f'{readable(str(path))} is a link to a folder that it lies in; take the link away')
    return found


def files(folder: Path, endings: frozenset[str]) -> list[Path]:
    """The files in a folder that have one of these endings, sorted.

    Raises:
      UserError: the folder can't be read.
    """
    return [folder / entry.name for entry in _scan(folder) if _ending(entry.name) in endings and _is_file(entry)]


def describe(left_out: Sequence[Path]) -> str:
    """The numbers of files of each kind that are left out, for a message: '2 .txt, 1 link to a folder'."""
    return ', '.join(f'{number} {kind}' for kind, number in Counter(map(_kind, left_out)).most_common())


def some(paths: Sequence[Path], root: Path) -> str:
    """The first three of many paths, relative to `root`, for a message."""
    return few([os.path.relpath(path, root) for path in paths], 3)


def few(names: Sequence[str], most: int = 10) -> str:
    """The first `most` of many names, for a message."""
    return ', '.join(map(readable, names[:most])) + (', ...' if len(names) > most else '')


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder that are not passed over, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            seen = (entry for entry in entries if not entry.name.startswith('.') and entry.name not in _SYSTEM)
            return sorted(seen, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{readable(str(folder))}: this folder can't be read ({error.strerror}); mend that, or move it away"
        ) from error


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_file(entry: os.DirEntry[str]) -> bool:
    # `entry.is_file` needs no system call for most entries, but raises an error at a link that leads in a circle.
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _kind(path: Path) -> str:
    if path.is_file():
        return readable(path.suffix.lower()) or 'without ending'
    if path.is_dir():
        return 'link to a folder'
    return 'pipe or device' if path.exists() else 'broken link'
