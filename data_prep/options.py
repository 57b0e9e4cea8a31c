"""The options of a conversion, which all scripts take as flags."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vidcls.data.frame_storage import FrameStorage


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a conversion.

    Attributes:
      storage: the size and rate of the stored frames, and how their flow is computed.
      flow_from: the folder of published flow pictures, which has a folder for each clip, named by the clip's id. The
        pictures are stored in place of computed flow, and `storage.flow` tells how they were made.
      strict: whether it is an error if a video can't be used, or can be used only in part.
      workers: the number of processes that decode, beside the process that writes; 0 for one per core.
      clip_timeout: the seconds without a decoded frame after which a clip is given up.
      overwrite: whether to replace an existing dataset.
      beam_runner: the name of an Apache Beam runner that converts instead of the `workers`.
      beam_options: the options of that runner, each 'key=value'.
      seed: the seed of the order in which clips are stored.
    """

    storage: FrameStorage = dataclasses.field(default_factory=FrameStorage)
    flow_from: Path | None = None
    strict: bool = False
    workers: int = 0
    clip_timeout: float = 60.0
    overwrite: bool = False
    beam_runner: str = ''
    beam_options: Sequence[str] = ()
    seed: int = 0
