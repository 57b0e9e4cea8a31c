"""A classifier of videos that runs a file which `experiments.export` wrote, without the network's code."""

from typing import Any

import numpy as np

from vidcls.data import transform
from vidcls.data.sampling import Sampler
from vidcls.errors import UserError
from vidcls.ranking import Ranks
from vidcls.run.workdir import Run
from vidcls.runtimes import opening
from vidcls.runtimes.description import Description
from vidcls.viewing import Source, Viewer, listed


class ExportedClassifier(Ranks):
    """A classifier that runs an exported file (see `vidcls.runtimes`). `predict.Classifier.load` makes one.

    Streams and explanations can't use it: they look into the network, and so need the work directory of the run.

    Args:
      run: the configuration, the labels and the storage of frames, which stand beside the exported file.

    Raises:
      UserError: the file can't be opened, or does not fit the labels or the configuration.

    Attributes:
      folder, labels, config, frames: as in `predict.Classifier`.
    """

    def __init__(self, run: Run):
        self.folder, self.labels, self.frames, self.config = run.folder, run.labels, run.frames, run.config
        self._exported = opening.open_exported(run.folder)
        classes = self._exported.description.classes
        if len(run.labels) != classes:
            raise UserError(f'{run.folder}: {len(run.labels)} labels for the {classes} classes of the file')
        self._check_input(self._exported.description)
        self._viewer = Viewer(run.config, run.frames)

    def _check_input(self, described: Description) -> None:
        """Checks that the file takes what the configuration beside it makes of a video."""
        config, whole = self.config, described.whole_frames
        frames = Sampler(config.sampling, training=False).num_frames * config.test.clips
        size = None if whole else config.augment.crop_size
        fits = described.input[1:] == (frames, size, size, 3) and (whole or config.test.crops == 1)
        if not fits or config.sampling.modality != 'rgb':
            raise UserError(f'{self.folder}: config.json is not that of the file (export.json); export the run again')

    def probabilities(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        found = [self._probabilities(one, fps) for one in listed(source, fps)]
        if isinstance(source, list):
            return np.stack(found) if found else np.zeros((0, len(self.labels)), np.float32)
        return found[0]

    def _probabilities(self, source: Source, fps: float | None) -> np.ndarray:
        views = self._viewer.views(source, fps)
        if self._exported.description.whole_frames:  # the file cuts the windows out of the frames of each view in time
            frames = [view.frames for view in views[:: self.config.test.crops]]
        else:
            frames = [transform.resized(view.frames, view.window, self.config.augment.crop_size) for view in views]
        return self._exported(np.concatenate(frames)[None])[0]
