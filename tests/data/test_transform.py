"""The device's resize against PIL's on the same window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vidcls.config import AugmentConfig, Config, SamplingConfig
from vidcls.data import transform
from vidcls.data.transform import Views
from vidcls.data.windows import Window
from vidcls.models import build

RNG = np.random.default_rng(0)


def _config(size: int, mean=(0.0,), std=(1 / 255,), **sampling) -> Config:
    """Without other mean and deviation, the values are those of the pixels."""
    return Config(augment=AugmentConfig(crop_size=size, mean=mean, std=std), sampling=SamplingConfig(**sampling))


def _run(views: Views, size: int, **sampling) -> np.ndarray:
    return np.asarray(jax.jit(lambda views: transform.transform(views, _config(size, **sampling)))(views))


def _smooth(height: int, width: int) -> np.ndarray:
    noise = RNG.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.BICUBIC))


@pytest.mark.parametrize('window', [Window(3, 9, 50, 41), Window(0, 0, 64, 64), Window(10, 5, 20, 24, True)])
def test_resizing_is_pils_bilinear(window):
    frames = np.stack([_smooth(64, 80) for _ in range(2)])
    clips = transform.on_canvas([frames], [window], 64)
    ours = _run(clips, 32)
    assert ours.shape == (1, 2, 32, 32, 3)
    top, left, height, width, flip = window
    for frame, got in zip(frames, ours[0]):
        cut = Image.fromarray(frame[top : top + height, left : left + width])
        expected = np.asarray(cut.resize((32, 32), Image.BILINEAR), np.float32)
        expected = expected[:, ::-1] if flip else expected
        assert np.abs(got - expected).max() <= 1  # PIL rounds to whole levels, twice


def test_windows_of_a_batch_differ_and_the_rest_of_the_canvas_is_not_seen():
    canvas = np.full((2, 1, 12, 12, 3), 255, np.uint8)
    canvas[0, :, :6, :4] = 10
    canvas[1, :, :12, :12] = 20
    clips = Views(canvas, np.array([[(0, 0, 6, 4, 0)], [(0, 0, 12, 12, 1)]], np.int32))
    video = _run(clips, 8)
    np.testing.assert_allclose(video[0], 10, rtol=1e-6)
    np.testing.assert_allclose(video[1], 20, rtol=1e-6)


def test_normalisation_by_hand():
    canvas = np.broadcast_to(np.array([0, 51, 255], np.uint8), (1, 1, 4, 4, 3))
    clips = Views(canvas, np.array([[(0, 0, 4, 4, 0)]], np.int32))
    video = transform.transform(clips, _config(4, (0.5, 0.2, 0.5), (0.25, 0.1, 0.5)))
    np.testing.assert_allclose(np.asarray(video)[0, 0, 0, 0], [-2.0, 0.0, 1.0], atol=1e-6)


def test_rows_of_the_resize_matrix_are_averages():
    weights = np.asarray(transform.resize_matrix(np.array([0, 0]), np.array([4, 3], np.int32), 2, 6))
    # Shrinking 4 to 2: triangles of half width 2 around 1 and 3.
    np.testing.assert_allclose(weights[0], [[3 / 7, 3 / 7, 1 / 7, 0, 0, 0], [0, 1 / 7, 3 / 7, 3 / 7, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert (weights[1, :, 3:] == 0).all()
    # From pixel 2 on: the same weights, two columns further right.
    moved = np.asarray(transform.resize_matrix(np.array([2, 2]), np.array([4, 3], np.int32), 2, 6))
    np.testing.assert_array_equal(moved[:, :, 2:], weights[:, :, :4])
    assert (moved[:, :, :2] == 0).all()


def test_windows_of_one_canvas_are_those_that_were_cut_out_before():
    frames = np.stack([_smooth(64, 80) for _ in range(2)])
    windows = [Window(0, 0, 50, 41), Window(14, 39, 50, 41), Window(7, 3, 50, 41, True)]
    together = _run(Views(frames[None], np.array([windows], np.int32)), 32)
    apart = _run(transform.on_canvas([frames] * 3, windows, 64), 32)
    assert together.shape == (3, 2, 32, 32, 3)
    np.testing.assert_allclose(together, apart, atol=1e-3)  # of 255: sums in another order


def test_a_window_in_the_corner_has_the_bits_of_before_there_were_places():
    """Training's pixels: the products that resize them, written out without an offset."""

    def matrix(length, out, side):
        length = length.astype(jnp.float32)[:, None, None]
        scale = length / out
        centre = (jnp.arange(out)[:, None] + 0.5) * scale
        pixel = jnp.arange(side)[None, :]
        weights = jnp.maximum(1 - jnp.abs(pixel + 0.5 - centre) / jnp.maximum(scale, 1), 0)
        weights = jnp.where(pixel < length, weights, 0)
        return weights / weights.sum(-1, keepdims=True)

    def plain(canvas, windows):
        rows, columns = matrix(windows[:, 2], 32, 64), matrix(windows[:, 3], 32, 64)
        video = jnp.einsum('b p y, b t y x c -> b t p x c', rows, canvas.astype(jnp.float32), precision='highest')
        return jnp.einsum('b q x, b t p x c -> b t p q c', columns, video, precision='highest')

    canvas = RNG.integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    windows = np.array([(0, 0, 50, 41, 0), (0, 0, 64, 33, 0)], np.int32)
    ours = _run(Views(canvas, windows[:, None]), 32)
    np.testing.assert_array_equal(ours, jax.jit(plain)(canvas, windows))


def test_the_devices_share_is_small_beside_a_resnet50():
    """Resizing, mirroring and normalising take under 3 % of the forward pass, by XLA's count of operations."""
    side = 240  # the canvas of UCF101 and HMDB51
    clips = Views(np.zeros((1, 1, side, side, 3), np.uint8), np.array([[(0, 0, side, side, 1)]], np.int32))
    ours = _flops(lambda clips: transform.transform(clips, _config(224)), clips)
    model = build('tsn_resnet50', 51)
    video = jax.ShapeDtypeStruct((1, 1, 224, 224, 3), np.float32)
    network = _flops(model.apply, jax.eval_shape(model.init, jax.random.key(0), video), video)
    # By hand: two products of 3 channels, then (x - mean) / std.
    assert ours == pytest.approx(2 * 3 * (224 * side * side + 224 * 224 * side), rel=0.02)
    assert network > 7e9  # 4.1 G multiply-adds, of which the CPU's form saves some
    assert ours < 0.03 * network


def test_flow_is_x_and_y_of_each_frame_and_mirroring_turns_x_round():
    pictures = RNG.integers(0, 256, (1, 6, 8, 8, 1), dtype=np.uint8)  # x1 y1 x2 y2 x3 y3
    views = Views(pictures, np.array([[(0, 0, 8, 8, 0), (0, 0, 8, 8, 1)]], np.int32))
    plain, mirrored = _run(views, 8, modality='flow', seg_len=3)
    x, y = pictures[0, 0::2, ..., 0].astype(np.float32), pictures[0, 1::2, ..., 0].astype(np.float32)
    np.testing.assert_allclose(plain, np.stack([x, y], -1), atol=1e-3)
    np.testing.assert_allclose(mirrored, np.stack([255 - x, y], -1)[:, :, ::-1], atol=1e-3)


def test_no_motion_is_zero_by_default():
    views = Views(np.full((1, 2, 8, 8, 1), 128, np.uint8), np.array([[(0, 0, 8, 8, 0)]], np.int32))
    config = Config(augment=AugmentConfig(crop_size=8), sampling=SamplingConfig(modality='flow'))
    np.testing.assert_allclose(transform.transform(views, config), 0, atol=1e-6)


def test_difference_is_within_segments():
    levels = np.array([10, 20, 50, 200, 190, 190], np.uint8)  # two segments of 2 + 1 frames
    frames = np.broadcast_to(levels[None, :, None, None, None], (1, 6, 8, 8, 3))
    views = Views(frames, np.array([[(0, 0, 8, 8, 1)]], np.int32))
    video = _run(views, 4, modality='rgbdiff', num_segments=2, seg_len=2)
    assert video.shape == (1, 4, 4, 4, 3)
    np.testing.assert_allclose(video[0, :, 0, 0, 0], [10, 30, -10, 0], atol=1e-3)
    config = Config(augment=AugmentConfig(crop_size=4), sampling=SamplingConfig(modality='rgbdiff', seg_len=2))
    usual = transform.transform(views, config)  # the difference of two normalised frames
    np.testing.assert_allclose(usual[0, 1, 0, 0], 30 / 255 / np.array([0.229, 0.224, 0.225]), rtol=1e-4)


def _flops(function, *args) -> float:
    return jax.jit(function).lower(*args).cost_analysis()['flops']
