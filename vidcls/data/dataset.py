"""What lies on disk: a TFDS folder of JPEG-encoded videos, its labels, its splits and its frame index.

`OUT/<name>/<version>/` as `data_prep` writes it, readable by anyone through `tfds.builder_from_directory`. Each clip is
stored once, in one of several disjoint TFDS splits ("parts"); the dataset's metadata maps the names that people use
(`train`, `test`, `validation2`) to sums of parts.
"""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
from absl import logging

from vidcls import spelling
from vidcls.data import frame_index
from vidcls.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset.

    Attributes:
      folder: the version's folder.
      name: the dataset's name and version, for messages and reports.
      labels: class names; a label is a position in this list.
      splits: split name -> int64 clip numbers in `index`, ascending.
      index: where every frame lies.
      short_side: the limit on the short side that the frames were stored with, pixels.
      target_fps: the rate the frames were resampled to, or None where every frame was kept.
    """

    folder: Path
    name: str
    labels: tuple[str, ...]
    splits: dict[str, np.ndarray]
    index: frame_index.FrameIndex
    short_side: int
    target_fps: float | None

    def clips(self, split: str, flag: str = '') -> np.ndarray:
        """Clip numbers of a split, or of a sum of splits ('train+validation').

        Args:
          flag: where the split was named, for messages.

        Raises:
          UserError: a name that the dataset does not have, or nothing in it.
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

    def reader(self) -> frame_index.FrameReader:
        return frame_index.FrameReader(self.folder, self.index)


def find_folder(path: str | Path) -> Path:
    """The version folder at `path`, or the only one below it (`OUT`, `OUT/<name>` or `OUT/<name>/<version>`).

    Raises:
      UserError: no dataset there, or several.
    """
    path = Path(path).expanduser()
    found = [
        info.parent
        for pattern in ('', '*/', '*/*/')
        for info in sorted(path.glob(f'{pattern}dataset_info.json'))
        if not any(part.startswith('.') for part in info.relative_to(path).parts)
    ]
    if not found:
        raise UserError(f'{path}: no dataset (a folder with dataset_info.json) here or below; make one with data_prep')
    if len(found) > 1:
        raise UserError(f'{path}: several datasets, name one of {", ".join(map(str, found))}')
    return found[0]


def open_dataset(path: str | Path) -> Dataset:
    """Opens the dataset at `path` (see `find_folder`), indexing its frames if that was not done yet.

    Raises:
      UserError: no dataset, or shards that its description names are missing.
      UserError: a clip's label is none of the dataset's.
    """
    import tensorflow_datasets as tfds

    folder = find_folder(path)
    info = tfds.builder_from_directory(folder).info
    parts = {name: split.filenames for name, split in info.splits.items() if split.num_examples}
    shards = [name for names in parts.values() for name in sorted(names)]
    missing = [name for name in shards if not (folder / name).exists()]
    if missing:
        raise UserError(f'{folder / missing[0]} is missing; convert the dataset again')
    index = _load_index(folder, shards)
    _check_labels(folder, index, info.features['label'].names)
    part_of_shard = {name: part for part, names in parts.items() for name in names}
    part_of_clip = np.array([part_of_shard[index.shards[shard]] for shard in index.shard])
    metadata = info.metadata or {}
    sums = metadata.get('splits') or {name: name for name in parts}
    return Dataset(
        folder=folder,
        name=f'{info.name} {info.version}',
        labels=tuple(info.features['label'].names),
        splits={name: np.flatnonzero(np.isin(part_of_clip, parts_sum.split('+'))) for name, parts_sum in sums.items()},
        index=index,
        short_side=metadata.get('short_side') or int(np.minimum(index.height, index.width).max()),
        target_fps=metadata.get('fps'),
    )


def _check_labels(folder: Path, index: frame_index.FrameIndex, names: list[str]) -> None:
    wrong = np.flatnonzero((index.labels < 0) | (index.labels >= len(names)))
    if len(wrong):
        raise UserError(
            f'{folder}: {len(wrong)} of {len(index)} clips have a label that is not one of the {len(names)}, 0 to '
            f'{len(names) - 1}: {index.ids[wrong[0]]} has {index.labels[wrong[0]]}; convert the dataset again'
        )


def _load_index(folder: Path, shards: list[str]) -> frame_index.FrameIndex:
    if (folder / frame_index.FILENAME).exists():
        try:
            index = frame_index.FrameIndex.load(folder)
            if list(index.shards) == shards and index.matches(folder):
                return index
            reason = 'it is stale'
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = f'it is damaged: {error}'
        logging.warning('%s: indexing the frames again, %s', folder / frame_index.FILENAME, reason)
    index = frame_index.build(folder, shards)
    try:
        index.save(folder)
    except OSError as error:
        logging.warning('%s: the frame index could not be kept (%s)', folder, error)
    return index
