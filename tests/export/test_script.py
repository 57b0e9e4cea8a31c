"""The lines of `label.py` that choose frames, beside the samplers that they stand for."""

import numpy as np
import pytest

from vidcls.config import SamplingConfig
from vidcls.data import sampling as sampling_lib
from vidcls.data.sampling import Sampler
from vidcls.export.script import chooses

SAMPLINGS = (
    SamplingConfig(),
    SamplingConfig(num_segments=3, test_segments=25),
    SamplingConfig(num_segments=4, seg_len=5),
    SamplingConfig(scheme='dense', num_segments=8, sampling_rate=32),
    SamplingConfig(scheme='dense', num_segments=1),
    SamplingConfig(scheme='linspace', num_segments=8, sampling_rate=32, view_offset='start'),
    SamplingConfig(scheme='linspace', num_segments=4, sampling_rate=3),
)


@pytest.mark.parametrize('views', [1, 2, 3])
@pytest.mark.parametrize('sampling', SAMPLINGS)
def test_the_same_frames_as_in_testing(sampling, views):
    found = {'np': np}
    exec(f'def choose(number, rate):\n{chooses(sampling, views)}', found)  # noqa: S102
    sampler = Sampler(sampling, training=False)
    for number in (1, 2, 5, 29, 64, 107, 300, 1001):
        for rate in (12.5, 25, 30000 / 1001):
            right = [sampler.view(number, rate, view, views) for view in range(views)]
            np.testing.assert_array_equal(found['choose'](number, rate), np.concatenate(right))


def test_a_scheme_of_ones_own_is_left_to_its_owner(monkeypatch):
    monkeypatch.setitem(sampling_lib.SCHEMES, 'mine', sampling_lib.SCHEMES['dense'])
    assert "NotImplementedError(\"the sampling scheme 'mine' is one of your own" in chooses(
        SamplingConfig(scheme='mine'), 1
    )
