"""Blended clips and targets: shares by hand, the same for all frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcls.data.mixup import boxes, mix_clips

TARGETS = jnp.eye(4)


def _constant_clips():
    """Clip i holds the value i everywhere: [4 t h w c]."""
    return jnp.broadcast_to(jnp.arange(4.0)[:, None, None, None, None], (4, 2, 6, 8, 1))


def test_mixup_blends_with_the_neighbour_and_so_does_the_target():
    video, targets = mix_clips(jax.random.key(0), _constant_clips(), TARGETS, 1.0, 0.0)
    own = np.asarray(targets)[np.arange(4), np.arange(4)]
    neighbour = np.array([3.0, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(np.asarray(targets)[np.arange(4), neighbour.astype(int)], 1 - own, rtol=1e-6)
    expected = own * np.arange(4) + (1 - own) * neighbour
    np.testing.assert_allclose(
        np.asarray(video), np.broadcast_to(expected[:, None, None, None, None], video.shape), rtol=1e-5
    )
    assert len(set(own.tolist())) == 4  # a draw for each clip


def test_cutmix_takes_a_box_and_its_area_is_the_share():
    video, targets = mix_clips(jax.random.key(1), _constant_clips(), TARGETS, 0.0, 1.0)
    video = np.asarray(video)
    for clip in range(4):
        theirs = video[clip, 0, :, :, 0] != clip
        assert set(np.unique(video[clip])) <= {float(clip), float((clip - 1) % 4)}
        assert np.asarray(targets)[clip, clip] == pytest.approx(1 - theirs.mean(), abs=1e-6)
        rows, columns = np.flatnonzero(theirs.any(1)), np.flatnonzero(theirs.any(0))
        assert theirs.sum() == len(rows) * len(columns)  # a full rectangle
        np.testing.assert_array_equal(video[clip, 0], video[clip, 1])


def test_a_box_by_hand():
    # A quarter of the area is half of each side; the centre is drawn, so only sizes away from the border are known.
    found = np.asarray(boxes(jax.random.key(3), jnp.full(200, 0.25), 8, 12))
    assert found.shape == (200, 8, 12)
    assert found.sum((1, 2)).max() == 4 * 6


def test_with_both_each_clip_draws_which():
    clips = jnp.broadcast_to(jnp.arange(64.0)[:, None, None, None, None], (64, 1, 8, 8, 1))
    video = np.asarray(mix_clips(jax.random.key(0), clips, jnp.eye(64), 1.0, 1.0)[0])
    blended = np.array([len(np.unique(clip)) == 1 and clip.flat[0] != number for number, clip in enumerate(video)])
    assert 16 < blended.sum() < 48
