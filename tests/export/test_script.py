"""`label.py`: the frames that it chooses and cuts, beside those of testing."""

import numpy as np
import pytest

from tests.made_videos import scenery, write_video
from vidcls.config import AugmentConfig, Config, EvalConfig, SamplingConfig
from vidcls.data import sampling as sampling_lib
from vidcls.data import transform, video
from vidcls.data.frame_storage import FrameStorage
from vidcls.data.sampling import Sampler
from vidcls.data.windows import view_windows
from vidcls.export.script import chooses, label_script
from vidcls.runtimes.description import Description

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


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """90 frames of 96 x 126, which differ from one to the next."""
    return write_video(tmp_path_factory.mktemp('video') / 'moving.mp4', scenery(90, (96, 126)))


@pytest.mark.parametrize('format', ['savedmodel', 'onnx'])
@pytest.mark.parametrize('frames', [FrameStorage(64), FrameStorage(256), FrameStorage(256, 10.0)])
def test_the_frames_are_those_of_testing(path, frames, format):
    config = Config(
        sampling=SamplingConfig(scheme='dense', num_segments=4, sampling_rate=5),
        augment=AugmentConfig(short_side=40, crop_size=32),
        test=EvalConfig(clips=2),
    )
    size = None if format == 'savedmodel' else 32
    versions = {'vidcls': '0', 'tensorflow': '2', 'onnxruntime': '1'}
    described = Description(format, (None, 8, size, size, 3), 5, ('cpu',), {}, {}, 0.0, versions)
    found = {'__file__': str(path), '__name__': 'label'}
    (path.parent / 'labels.txt').write_text('a\n')
    exec(label_script(config, frames, described), found)  # noqa: S102

    sampler = Sampler(config.sampling, training=False)
    choose = lambda number, rate: np.concatenate([sampler.view(number, rate, view, 2) for view in range(2)]).tolist()
    _, jpegs = video.choose_jpegs(path, choose, short_side=frames.short_side, fps=frames.fps)
    right = video.pixels(jpegs)
    if size:
        (window,) = view_windows(*right.shape[1:3], config.augment, 1)
        right = transform.resized(right, window, size)
    ours = found['read'](path)
    assert ours.dtype == np.uint8 and ours.shape == right.shape
    differences = [
        np.abs(ours.astype(int) - other).mean(axis=(1, 2, 3)) for other in (right, np.roll(right, 1, axis=0))
    ]
    assert differences[0].max() < 6 and differences[1].min() > 30
