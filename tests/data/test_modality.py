"""What is read of a clip in each modality, by numbers."""

import numpy as np
import pytest

from vidcls.config import CHANNELS, SamplingConfig
from vidcls.data.modality import MODALITIES
from vidcls.data.sampling import Sampler


def test_every_modality_has_its_channels():
    assert MODALITIES.keys() == CHANNELS.keys()
    assert {name: one.pictures * one.depth for name, one in MODALITIES.items()} == {
        name: channels.number for name, channels in CHANNELS.items()
    }


@pytest.mark.parametrize(
    ('modality', 'rows'),
    [('rgb', [4, 5, 14, 15]), ('flow', [8, 9, 10, 11, 28, 29, 30, 31]), ('rgbdiff', [4, 5, 6, 13, 14, 15])],
)
def test_stored_pictures_of_two_segments_of_two_frames(modality, rows):
    """20 frames: segments start in the middle of the first and second half of the 19 or 18 places."""
    sampler = Sampler(SamplingConfig(modality=modality, num_segments=2, seg_len=2), training=False)
    frames = sampler.view(20, 25.0)
    assert MODALITIES[modality].rows(frames).tolist() == rows
    assert len(frames) == sampler.num_frames


def test_a_short_clip_repeats_its_last_frame():
    sampler = Sampler(SamplingConfig(modality='rgbdiff', num_segments=1, seg_len=3), training=True)
    assert sampler.draw(2, 25.0, np.random.default_rng(0)).tolist() == [0, 1, 1, 1]
