"""Which runs a run may start from, by what both look at."""

from pathlib import Path

import pytest

from vidcls.config import Config, InitConfig, SamplingConfig
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError
from vidcls.run.workdir import Run
from vidcls.training import first_state


def check(ours: tuple[str, int], theirs: tuple[str, int]) -> None:
    config, other = (Config(sampling=SamplingConfig(modality=m, seg_len=n)) for m, n in (ours, theirs))
    config.init = InitConfig(run='runs/other')
    first_state._check_modality(config, Run(Path('runs/other'), other, ('a', 'b'), FrameStorage()))


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        (('flow', 5), ('rgb', 1)),  # by the mean over the colours
        (('rgbdiff', 5), ('rgb', 1)),
        (('flow', 5), ('flow', 5)),
    ],
)
def test_these_may(ours, theirs):
    check(ours, theirs)


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        (('rgb', 1), ('flow', 5)),
        (('flow', 3), ('flow', 5)),  # a mean would mix x and y
        (('flow', 3), ('rgb', 2)),  # 6 channels each, which no mean would be taken of
    ],
)
def test_these_may_not(ours, theirs):
    with pytest.raises(
        UserError, match=f'--config.init.run=runs/other: that run looks at {theirs[0]}, {theirs[1]} frames'
    ):
        check(ours, theirs)
