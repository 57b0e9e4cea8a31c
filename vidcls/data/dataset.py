"""Opens a dataset on disk: a TFDS folder of JPEG-encoded videos, with its labels, its splits and its frame index.

The folder is `OUT/<name>/<version>/` as `data_prep` writes it, and `tfds.builder_from_directory` reads it too. Each
clip is stored once, in one of several disjoint TFDS splits ("parts"); the dataset's metadata maps the names that people
use (`train`, `test`, `validation2`) to sums of parts.
"""

import dataclasses
import functools
import hashlib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vidcls.data import description, frame_index, groups
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_index import FLOW, VIDEO, FrameIndex, Pictures
from vidcls.data.frame_reader import FrameReader
from vidcls.data.frame_storage import MAX_SHORT_SIDE, MIN_SHORT_SIDE, FrameStorage
from vidcls.errors import UserError
from vidcls.text import spelling
from vidcls.text.bounded_file import check_regular

_INDEX_BYTES = 1 << 20  # an index may have so many bytes, plus four times the bytes of its shards
_Check = Callable[[FrameIndex], None]  # raises UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset.

    Attributes:
      folder: OUT/<name>/<version>.
      name: the dataset's name and version, for messages and reports.
      labels: class names; a label is a position in this list.
      splits: split name -> int64 clip numbers in `index`, ascending.
      index: where every frame lies.
      storage: how the frames are stored, without their flow.
      flow: how the stored flow was computed; None for a dataset without flow.
    """

    folder: Path
    name: str
    labels: tuple[str, ...]
    splits: dict[str, np.ndarray]
    index: FrameIndex
    storage: FrameStorage
    flow: FlowSettings | None = None

    def clips(self, split: str, flag: str = '') -> np.ndarray:
        """The clip numbers int64[n], ascending, of a split or of a sum of splits such as 'train+validation'.

        Args:
          split: the split's name, or names joined by '+'.
          flag: the flag by which a user named the split, for messages; '' if there is none.

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
        """A digest of 8 hexadecimal digits, which tells datasets with equal names apart.

        It is made of the labels, the clips, and the size of each frame in bytes.
        """
        index, selected = self.index, self.clips(split)
        found = hashlib.sha256('\n'.join([*self.labels, *index.ids[selected].tolist()]).encode())
        for column in (index.labels, index.fps, index.height, index.width):
            found.update(column[selected].tobytes())
        for clip in selected:
            found.update(index.length[index.first[clip] : index.first[clip + 1]].tobytes())
        return found.hexdigest()[:8]

    def clip_groups(self) -> groups.Groups | None:
        """The groups of clips that were cut from one recording or film; None if the dataset does not tell.

        Raises:
          UserError, OSError: as in `groups.load`.
        """
        return groups.load(self.folder, self.index.ids)

    def reader(self) -> FrameReader:
        """A reader of single frames of this dataset."""
        return FrameReader(self.folder, self.index)

    def pictures(self, modality: str, expected: FlowSettings | None = None) -> tuple[FrameIndex, FrameReader]:
        """The index of the pictures that a run reads, and a reader of these pictures.

        Args:
          modality: the modality of the run. For 'flow', the pictures are two grey JPEGs for each frame, x and then y,
            in the size of the frames (see `FrameIndex`). For any other modality they are the frames.
          expected: how the flow must have been computed, such as the flow that the run was trained on. None accepts any
            flow.

        Raises:
          UserError: the dataset has no flow, or its flow was computed in another way than `expected`.
        """
        if modality != 'flow':
            return self.index, self.reader()
        self.stored(modality, expected)
        return self._flow_index, FrameReader(self.folder, self._flow_index, 'flow picture')

    def stored(self, modality: str, expected: FlowSettings | None = None) -> FrameStorage:
        """How the pictures that a run reads are stored.

        The result is `storage`. For the modality 'flow', it also says how the flow was computed.

        Args:
          modality, expected: as in `pictures`.

        Raises:
          UserError: as in `pictures`.
        """
        if modality != 'flow':
            return self.storage
        remedy = f'python -m data_prep.add_flow --dataset={shlex.quote(str(self.folder))}'
        remedy += f' {expected.flags()}' if expected else ''
        if self.flow is None:
            raise UserError(f'{self.folder}: has no flow; {remedy} adds it')
        if expected and expected != self.flow:
            raise UserError(
                f'{self.folder}: its flow is {self.flow.flags()}, and the run was trained on {expected.flags()}; '
                f'{remedy} computes that'
            )
        return dataclasses.replace(self.storage, flow=self.flow)

    @functools.cached_property
    def _flow_index(self) -> FrameIndex:
        """The index of the flow. It is loaded only when it is needed, since it has twice as many entries as `index`."""
        check = functools.partial(_check_flow, self.folder, self.index)
        return _load_index(self.folder, self.index.shards.tolist(), FLOW, check)


def find_folder(path: str | Path) -> Path:
    """Finds the folder of a dataset's version: `path` itself, or the only such folder below `path`.

    Args:
      path: OUT, OUT/<name> or OUT/<name>/<version>.

    Raises:
      UserError: there is no dataset, or there are several.
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
    """Raises UserError if a conversion was killed between the two renames of --overwrite (data_prep/publish.py)."""
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
    """Opens the dataset at `path` (see `find_folder`), and indexes its frames if it has no index that fits.

    Raises:
      UserError: there is no dataset, its description is not as data_prep writes it, a shard is missing, or a clip has a
        label that the dataset lacks.
    """
    folder = find_folder(path)
    described = description.read(folder)
    part_of_shard: dict[str, int] = {}
    clips_of_shard: dict[str, int] = {}
    for number, shards in enumerate(described.parts.values()):
        clips_of_shard |= shards
        part_of_shard |= dict.fromkeys(shards, number)
    _check_shards(folder, list(clips_of_shard))
    check = functools.partial(_check_description, folder, clips_of_shard, described.short_side or MAX_SHORT_SIDE)
    index = _load_index(folder, list(clips_of_shard), VIDEO, check)
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
        flow=described.flow,
    )


def _check_shards(folder: Path, shards: list[str]) -> None:
    for name in shards:
        try:
            check_regular(folder / name)
        except FileNotFoundError as error:
            raise UserError(f'{folder / name} is missing; convert the dataset again') from error


def _check_labels(folder: Path, index: FrameIndex, names: Sequence[str]) -> None:
    wrong = np.flatnonzero((index.labels < 0) | (index.labels >= len(names)))
    if len(wrong):
        raise UserError(
            f'{folder}: {len(wrong)} of {len(index)} clips have a label that is not one of the {len(names)}, 0 to '
            f'{len(names) - 1}: {index.ids[wrong[0]]} has {index.labels[wrong[0]]}; convert the dataset again'
        )


def _load_index(folder: Path, shards: list[str], pictures: Pictures, check: _Check) -> FrameIndex:
    """The index in the folder, if it passes `check` and fits the shards; otherwise a new one, which is saved there."""
    path = folder / pictures.filename
    if path.exists():
        try:
            index = _read_index(folder, shards, pictures)
            check(index)
            if list(index.shards) == shards and index.matches(folder):
                return index
            reason = 'it is stale'
        except UserError as error:
            reason = str(error)
        logging.warning('%s: indexing the %s again: %s', path, pictures.feature, reason)
    index = frame_index.build(folder, shards, pictures)
    check(index)
    try:
        index.save(folder, pictures)
    except OSError as error:
        logging.warning('%s: the index could not be kept (%s)', path, error)
    return index


def _read_index(folder: Path, shards: list[str], pictures: Pictures) -> FrameIndex:
    path = folder / pictures.filename
    if path.stat().st_size > _INDEX_BYTES + 4 * sum((folder / name).stat().st_size for name in shards):
        raise UserError(f'{path}: is larger than what it could be an index of')
    return FrameIndex.load(folder, pictures)


def _check_description(folder: Path, clips_of_shard: dict[str, int], short_side: int, index: FrameIndex) -> None:
    """Refuses an index if its number of clips or the size of its frames is not as the description states."""
    counted = np.bincount(index.shard, minlength=len(clips_of_shard)).tolist()
    for (name, stated), found in zip(clips_of_shard.items(), counted, strict=True):
        if stated != found:
            raise UserError(f'{folder / name}: has {found} clips, and dataset_info.json states {stated}; convert again')
    if _short_side(index) > short_side:
        raise UserError(f'{folder}: has frames whose short side is {_short_side(index)} pixels, over {short_side}')


def _check_flow(folder: Path, frames: FrameIndex, index: FrameIndex) -> None:
    """Refuses an index of flow that doesn't fit the index of frames.

    Each frame must have two pictures of flow, in the size of the frame.
    """
    expected = {'first': frames.first * FLOW.per_frame} | {
        n: getattr(frames, n) for n in ('ids', 'labels', 'fps', 'height', 'width')
    }
    for name, values in expected.items():
        if not np.array_equal(getattr(index, name), values):
            raise UserError(f"{folder}: the flow doesn't fit the frames: {name} differs; convert again")


def _short_side(index: FrameIndex) -> int:
    return int(np.minimum(index.height, index.width).max())
