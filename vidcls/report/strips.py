"""Clips as strips of a few small frames, read from the dataset that they were evaluated on.

A dataset from elsewhere is not trusted, so decoding is bounded. A JPEG is decoded at an eighth, a quarter, a half or
the whole of its size: the smallest of these that is not below the size shown. Pillow refuses pictures of more than 179
million pixels.
"""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.frame_reader import FrameReader
from vidcls.errors import UserError
from vidcls.report import intervals
from vidcls.report.intervals import Units
from vidcls.run.stored_results import StoredResult, values_of

FRAMES = 4
_HEIGHT, _MIN_WIDTH, _MAX_WIDTH = 90, 30, 200  # pixels of a frame
_QUALITY = 75


class Clips(NamedTuple):
    """The clips of an evaluation in their dataset.

    Attributes:
      number: int64[n], the number of each clip in the dataset's index.
    """

    dataset: Dataset
    reader: FrameReader
    number: np.ndarray

    @property
    def num_frames(self) -> np.ndarray:
        """The number of stored frames of each clip, int64[n]."""
        return np.diff(self.dataset.index.first)[self.number]

    @property
    def seconds(self) -> np.ndarray:
        """The length of each clip by its stored frames, float64[n], seconds."""
        return self.num_frames / self.dataset.index.fps[self.number].astype(np.float64)

    def units(self) -> Units:
        """The units that the bootstrap draws: the dataset's groups of clips, or else single clips.

        Raises:
          UserError, OSError: as in `Dataset.clip_groups`.
        """
        groups = self.dataset.clip_groups()
        if groups is None:
            return intervals.each_clip(len(self.number))
        return intervals.of_groups(groups.of, groups.number[self.number])

    def strip(self, clip: int) -> bytes | None:
        """A JPEG of four frames side by side, from the middles of the clip's quarters; None if they can't be read.

        Args:
          clip: the clip's place among the evaluation's clips.
        """
        number = int(self.number[clip])
        count = min(FRAMES, self.dataset.index.num_frames(number))
        wanted = ((np.arange(count) + 0.5) * self.dataset.index.num_frames(number) / count).astype(int)
        try:
            frames = [_small(jpeg) for jpeg in self.reader.read(number, wanted)]
        except (UserError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            logging.warning('no frames of %s: %s', self.dataset.index.ids[number], error)
            return None
        strip = Image.new('RGB', (sum(frame.width for frame in frames) + 2 * (count - 1), _HEIGHT))
        left = 0
        for frame in frames:
            strip.paste(frame, (left, 0))
            left += frame.width + 2
        file = io.BytesIO()
        strip.save(file, 'JPEG', quality=_QUALITY)
        return file.getvalue()


def find_clips(stored: StoredResult, data_dir: str = '') -> Clips:
    """Finds the clips of an evaluation in the dataset that was evaluated.

    Args:
      data_dir: the dataset's folder; '' means the folder that the evaluation read. A fusion read several folders; the
        first of them that exists is taken.

    Raises:
      UserError: the folder has no dataset, or its dataset is not the evaluation's.
      OSError: the dataset can't be read.
    """
    folders = [data_dir] if data_dir else values_of(stored.scores, 'data_dir')
    if not all(isinstance(folder, str) and folder for folder in folders):
        raise UserError(f'{stored.path}: names no dataset')
    dataset = open_dataset(next((folder for folder in folders if Path(folder).is_dir()), folders[0]))
    if dataset.digest(stored.scores['split']) not in values_of(stored.scores, 'dataset_digest'):
        raise UserError(f'{dataset.folder}: is another dataset than the one that was evaluated')
    place = {name: number for number, name in enumerate(dataset.index.ids.tolist())}
    missing = [name for name in stored.predictions.ids.tolist() if name not in place]
    if missing:
        raise UserError(f'{dataset.folder}: lacks the clip {missing[0]!r}')
    return Clips(dataset, dataset.reader(), np.array([place[name] for name in stored.predictions.ids.tolist()]))


def _small(jpeg: bytes) -> Image.Image:
    """A frame scaled to the height of a strip."""
    with warnings.catch_warnings(), Image.open(io.BytesIO(jpeg), formats=['JPEG']) as image:
        warnings.simplefilter('ignore')
        width = min(max(round(_HEIGHT * image.width / image.height), _MIN_WIDTH), _MAX_WIDTH)
        image.draft('RGB', (width, _HEIGHT))
        return image.convert('RGB').resize((width, _HEIGHT), Image.Resampling.LANCZOS)
