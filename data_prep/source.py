"""What the converter takes: a list of clips, their labels and their splits."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vidcls.errors import UserError
from vidcls.text.names import readable


@dataclasses.dataclass(frozen=True)
class Clip:
    """One example of the dataset.

    Attributes:
      id: the path in the source without its ending; unique.
      label: position in `Source.labels`.
      part: the disjoint TFDS split that stores the clip.
      files: the video; if the clip is a folder of images, the frames in order.
      is_images: whether `files` are frames.
      group: the name of what the clip was cut from, such as a film; '' if that isn't known.
      flow: the folder of published flow pictures that are stored as they are (see `data_prep.published_flow`). With
        None, flow is computed if the dataset is to have it.
    """

    id: str
    label: int
    part: str
    files: tuple[Path, ...]
    is_images: bool = False
    group: str = ''
    flow: Path | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """The clips of a conversion, with their labels and splits.

    Attributes:
      name: the dataset's name, a lower-case identifier.
      description: one sentence on where the clips come from and how they were split.
      labels: class names.
      clips: the clips, in any order. Each is stored once.
      splits: split name -> the names of its parts.
      grouped_by: what the clips' groups are, a word such as 'film' (`vidcls.data.groups`); '' without groups.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    clips: Sequence[Clip]
    splits: Mapping[str, Sequence[str]]
    grouped_by: str = ''


def clip_ids(files: Sequence[Path], root: Path) -> list[str]:
    """The ids of clips. An id is the clip's path below `root`, without its ending and with '/' between folders.

    A clip that lies elsewhere has its whole path as id. If two files differ only in their ending, both keep their
    ending. A folder of frames has no ending.

    Args:
      files: videos, or folders of frames.
      root: the folder of the source.

    Raises:
      UserError: two ids would be equal.
    """
    names = [readable((file.relative_to(root) if file.is_relative_to(root) else file).as_posix()) for file in files]
    stems = [name if file.is_dir() else os.path.splitext(name)[0] for file, name in zip(files, names)]
    count, whole = Counter(stems), set(names)
    ids = [stem if count[stem] == 1 and stem not in whole else name for stem, name in zip(stems, names)]
    for id, number in Counter(ids).items():
        if number > 1:
            raise UserError(f'{number} files below {root} are called {id} once their names are printable; rename one')
    return ids


def hash_order(names: Iterable[str], seed: int) -> list[str]:
    """The names in an order that depends only on the seed and on each name itself.

    So a class that is added or a clip that is lost does not reorder the other names, and the order does not depend on the
    version of a random generator.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f'{seed} {name}'.encode()).digest())
