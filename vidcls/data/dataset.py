"""What lies on disk: a TFDS folder of JPEG-encoded videos, its labels, its splits and its frame index.

The folder is `OUT/<name>/<version>/` as `data_prep` writes it, and `tfds.builder_from_directory` reads it too. Each
clip is stored once, in one of several disjoint TFDS splits ("parts"); the dataset's metadata maps the names that people
use (`train`, `test`, `validation2`) to sums of parts.
"""

import dataclasses
import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vidcls.data import description, frame_index, groups
from vidcls.data.frame_reader import FrameReader
from vidcls.data.frame_storage import MAX_SHORT_SIDE, MIN_SHORT_SIDE, FrameStorage
from vidcls.errors import UserError
from vidcls.text import spelling
from vidcls.text.bounded_file import check_regular

_INDEX_BYTES = 1 << 20  # that an index may have beside four times the bytes of its shards


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset.

    Attributes:
      folder: OUT/<name>/<version>.
      name: the dataset's name and version, for messages and reports.
      labels: class names; a label is a position in this list.
      splits: split name -> int64 clip numbers in `index`, ascending.
      index: where every frame lies.
      storage: how the frames are stored.
    """

    folder: Path
    name: str
    labels: tuple[str, ...]
    splits: dict[str, np.ndarray]
    index: frame_index.FrameIndex
    storage: FrameStorage

    def clips(self, split: str, flag: str = '') -> np.ndarray:
        """Clip numbers of a split, or of a sum of splits ('train+validation'): int64[n], ascending.

        Args:
          split: the split's name, or names joined by '+'.
          flag: the flag that names the split, for messages.

        Raises:
          UserError: the dataset has no such split, or the split is empty.
        """
        names = [name.strip() for name in split.split('+')]
        unknown = [name for name in names if name not in self.splits]
        if unknown:
            where = f'{flag}={split}: ' if flag else ''
            near = spelling.hint(unknown[0], self.splits)
            has = ', '.join(sorted(self.splits))
            raise UserError(f'{where}{self.name} has no split {unknown[0]!r}{near}; it has {has}')
        clips = np.unique(np.concatenate([self.splits[name] for name in names]))
        if not len(clips):
            raise UserError(f'split {split!r} of {self.name} in {self.folder} is empty')
        return clips

    def digest(self, split: str) -> str:
        """8 hexadecimal digits of the labels, the clips and each frame's size in bytes: they tell equal names apart."""
        index, selected = self.index, self.clips(split)
        found = hashlib.sha256('\n'.join([*self.labels, *index.ids[selected].tolist()]).encode())
        for column in (index.labels, index.fps, index.height, index.width):
            found.update(column[selected].tobytes())
        for clip in selected:
            found.update(index.length[index.first[clip] : index.first[clip + 1]].tobytes())
        return found.hexdigest()[:8]

    def clip_groups(self) -> groups.Groups | None:
        """Which clips of the index were cut from one recording or film; None where the dataset does not tell.

        Raises:
          UserError, OSError: as of `groups.load`.
        """
        return groups.load(self.folder, self.index.ids)

    def pictures(self, modality: str) -> tuple[frame_index.FrameIndex, FrameReader]:
        """Where the pictures of a modality lie, and what reads them."""
        if modality == 'flow':
            raise UserError(f'{self.folder}: has no optical flow; make it with data_prep.add_flow')
        return self.index, self.reader()

    def reader(self) -> FrameReader:
        """Reads single frames of this dataset."""
        return FrameReader(self.folder, self.index)


def find_folder(path: str | Path) -> Path:
    """The version folder at `path`, or the only one below it (`OUT`, `OUT/<name>` or `OUT/<name>/<version>`).

    Raises:
      UserError: no dataset lies there, or several do.
    """
    path = Path(path).expanduser()
    found = [
        info.parent
        for pattern in ('', '*/', '*/*/')
        for info in sorted(path.glob(f'{pattern}dataset_info.json'))
        if not any(part.startswith('.') for part in info.relative_to(path).parts)
    ]
    if not found:
        _point_to_replaced(path)
        raise UserError(f'{path}: no dataset (a folder with dataset_info.json) here or below; make one with data_prep')
    if len(found) > 1:
        raise UserError(f'{path}: several datasets, name one of {", ".join(map(str, found))}')
    return found[0]


def _point_to_replaced(path: Path) -> None:
    """Raises UserError where a conversion was killed between the two renames of --overwrite (data_prep/publish.py)."""
    hidden = '.*.replaced'
    for found in (
        path.with_name(f'.{path.name}.replaced'),
        *sorted(path.glob(hidden)),
        *sorted(path.glob(f'*/{hidden}')),
    ):
        if (found / 'dataset_info.json').exists():
            place = found.with_name(found.name[1:].removesuffix('.replaced'))
            raise UserError(
                f'{path}: no dataset here: a conversion was killed while it replaced {place}. Run it again: it brings the '
                f'old or the new one there before it begins. Or bring the old one back: '
                f'mv {shlex.quote(str(found))} {shlex.quote(str(place))}'
            )


def open_dataset(path: str | Path) -> Dataset:
    """Opens the dataset at `path` (see `find_folder`), and indexes its frames where it has no index that fits.

    Raises:
      UserError: there is no dataset, its description is not as data_prep writes it, a shard is missing, or a clip's label
        is none of the dataset's.
    """
    folder = find_folder(path)
    described = description.read(folder)
    part_of_shard: dict[str, int] = {}
    clips_of_shard: dict[str, int] = {}
    for number, shards in enumerate(described.parts.values()):
        clips_of_shard |= shards
        part_of_shard |= dict.fromkeys(shards, number)
    _check_shards(folder, list(clips_of_shard))
    index = _load_index(folder, clips_of_shard, described.short_side or MAX_SHORT_SIDE)
    _check_labels(folder, index, described.labels)
    part_of_clip = np.array(list(part_of_shard.values()))[index.shard]
    number_of_part = {part: number for number, part in enumerate(described.parts)}
    return Dataset(
        folder=folder,
        name=f'{described.name} {described.version}',
        labels=described.labels,
        splits={
            split: np.flatnonzero(np.isin(part_of_clip, [number_of_part[part] for part in parts]))
            for split, parts in described.splits.items()
        },
        index=index,
        storage=FrameStorage(described.short_side or max(_short_side(index), MIN_SHORT_SIDE), described.fps),
    )


def _check_shards(folder: Path, shards: list[str]) -> None:
    for name in shards:
        try:
            check_regular(folder / name)
        except FileNotFoundError as error:
            raise UserError(f'{folder / name} is missing; convert the dataset again') from error


def _check_labels(folder: Path, index: frame_index.FrameIndex, names: Sequence[str]) -> None:
    wrong = np.flatnonzero((index.labels < 0) | (index.labels >= len(names)))
    if len(wrong):
        raise UserError(
            f'{folder}: {len(wrong)} of {len(index)} clips have a label that is not one of the {len(names)}, 0 to '
            f'{len(names) - 1}: {index.ids[wrong[0]]} has {index.labels[wrong[0]]}; convert the dataset again'
        )


def _load_index(folder: Path, clips_of_shard: dict[str, int], short_side: int) -> frame_index.FrameIndex:
    """The index in the folder, or a new one where the folder has none that fits the description and the shards."""
    shards, path = list(clips_of_shard), folder / frame_index.FILENAME
    if path.exists():
        try:
            index = _read_index(folder, clips_of_shard, short_side)
            if list(index.shards) == shards and index.matches(folder):
                return index
            reason = 'it is stale'
        except UserError as error:
            reason = str(error)
        logging.warning('%s: indexing the frames again: %s', path, reason)
    index = frame_index.build(folder, shards)
    _check_description(folder, index, clips_of_shard, short_side)
    try:
        index.save(folder)
    except OSError as error:
        logging.warning('%s: the frame index could not be kept (%s)', folder, error)
    return index


def _read_index(folder: Path, clips_of_shard: dict[str, int], short_side: int) -> frame_index.FrameIndex:
    path = folder / frame_index.FILENAME
    frames_bytes = sum((folder / name).stat().st_size for name in clips_of_shard)
    if path.stat().st_size > _INDEX_BYTES + 4 * frames_bytes:
        raise UserError(f'{path}: is larger than what it could be an index of')
    index = frame_index.FrameIndex.load(folder)
    _check_description(folder, index, clips_of_shard, short_side)
    return index


def _check_description(
    folder: Path, index: frame_index.FrameIndex, clips_of_shard: dict[str, int], short_side: int
) -> None:
    counted = np.bincount(index.shard, minlength=len(clips_of_shard)).tolist()
    for (name, stated), found in zip(clips_of_shard.items(), counted, strict=True):
        if stated != found:
            raise UserError(f'{folder / name}: has {found} clips, and dataset_info.json states {stated}; convert again')
    if _short_side(index) > short_side:
        raise UserError(f'{folder}: has frames whose short side is {_short_side(index)} pixels, over {short_side}')


def _short_side(index: frame_index.FrameIndex) -> int:
    return int(np.minimum(index.height, index.width).max())
