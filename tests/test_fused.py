"""Several classifiers as one, on networks whose answers are known."""

import flax.linen as nn
import numpy as np
import pytest

from vidcls import models
from vidcls.config import AugmentConfig, Config, ModelConfig, SamplingConfig
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError
from vidcls.fused import Fused, FusedStream
from vidcls.predict import Classifier
from vidcls.run.workdir import Run

LABELS = ('red', 'green', 'blue')


class Scaled(nn.Module):
    """Logits are the mean red, green and blue of what is seen, times `width`."""

    num_classes: int = 3
    width: int = 1

    def __call__(self, video, train: bool = False):
        return self.classify(self.encode_frames(video, train), train)

    def encode_frames(self, video, train: bool = False):
        return video.mean((2, 3))

    def classify(self, features, train: bool = False):
        return self.width * features.mean(1)


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, 'scaled', (Scaled, {}, {}))

    def made(width=1, labels=LABELS, short_side=16, **sampling):
        config = Config(
            model=ModelConfig(name='scaled', width=width),
            sampling=SamplingConfig(**{'num_segments': 2, **sampling}),
            augment=AugmentConfig(short_side=16, crop_size=8, mean=(0.0,), std=(1.0,)),
        )
        return Classifier(Run(tmp_path, config, labels, FrameStorage(short_side, None)), {})

    return made


def _video(*colours) -> np.ndarray:
    """A plain frame of each colour, uint8[t h w c]."""
    return np.stack([np.full((16, 16, 3), colour, np.uint8) for colour in colours])


def test_logits_are_the_weighted_mean(classifier):
    colours, differences = classifier(2), classifier(10, modality='rgbdiff')
    video = _video((51, 0, 102), (51, 102, 102))  # 0.2, 0.2, 0.4 on average; the difference is 0, 0.4, 0 and then none
    fused = Fused([colours, differences], (1, 3))
    np.testing.assert_allclose(colours.logits(video), [[0.4, 0.4, 0.8]], atol=0.02)
    np.testing.assert_allclose(differences.logits(video), [[0, 4, 0]], atol=0.15)
    expected = (colours.logits(video)[0] + 3 * differences.logits(video)[0]) / 4
    np.testing.assert_allclose(fused.logits(video), expected, atol=1e-6)
    found = fused.probabilities(video)
    np.testing.assert_allclose(found, np.exp(expected) / np.exp(expected).sum(), rtol=1e-5)
    assert fused.classify(video, top_k=1)[0][0] == 'green'
    assert colours.classify(video, top_k=1)[0][0] == 'blue'
    several = fused.classify([video, video[::-1].copy()], top_k=3)
    assert several[0] == fused.classify(video, top_k=3) and several[1] != several[0]


def test_a_member_of_weight_zero_is_not_looked_at(classifier):
    fused = Fused([classifier(2), classifier(2)], (1, 0))
    np.testing.assert_array_equal(fused.mean([np.array([1.0, 2.0]), np.array([np.nan, 0])]), [1.0, 2.0])


@pytest.mark.parametrize(
    ('labels', 'weights', 'message'),
    [
        (('red', 'green'), (), 'have other labels'),
        (('green', 'red', 'blue'), (), 'or in another order'),
        (LABELS, (1,), 'has 1 weights for 2 runs'),
        (LABELS, (0, 0), 'not all 0'),
        (LABELS, (1, float('nan')), 'must be numbers'),
    ],
)
def test_what_can_not_be_fused_is_refused(classifier, labels, weights, message):
    with pytest.raises(UserError, match=message):
        Fused([classifier(), classifier(labels=labels)], weights)


def test_a_stream_averages_what_the_members_say_together(classifier):
    fused = Fused([classifier(2), classifier(10, modality='rgbdiff')], (1, 3))
    stream = FusedStream(fused)
    frames = _video(*[(0, 0, 0)] * 4, *[(0, 51, 0)] * 4)
    updates = [stream.push(frame) for frame in frames]
    assert updates == [False, False, False, True] * 2
    first = np.ones(3) / 3
    logits = np.array([0, 2 * 0.1, 0]) / 4  # half of the memory is green by 0.2; no snippet holds a difference
    second = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([dict(stream.prediction)[label] for label in LABELS], (first + second) / 2, atol=2e-3)
    assert not stream.flush()


def test_a_stream_has_frames_of_one_size(classifier):
    with pytest.raises(UserError, match='other sizes or rates'):
        FusedStream(Fused([classifier(), classifier(short_side=32)]))
