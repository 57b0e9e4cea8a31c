"""How a conversion is done: what the flags that all scripts share say."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vidcls.data.frame_storage import FrameStorage


@dataclasses.dataclass(frozen=True)
class Options:
    """How to convert.

    Attributes:
      storage: size and rate of the stored frames, and how their flow is computed.
      flow_from: the folder below which the folders of published flow pictures lie, each under its clip's id, that are
        stored in place of computed flow; `storage.flow` tells how they were made.
      strict: a video that cannot be used, or only in part, is an error.
      workers: processes that decode, beside the one that writes; 0 for one a core.
      clip_timeout: seconds without a decoded frame after which a clip is given up.
      overwrite: replace a dataset that is there.
      beam_runner: name of an Apache Beam runner that converts instead of `workers`.
      beam_options: 'key=value' for that runner.
      seed: of the order in which clips are stored.
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
