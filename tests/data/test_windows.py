"""Windows in exact pixels."""

import numpy as np
import pytest

from vidcls.config import AugmentConfig
from vidcls.data.windows import Window, bounding_window, draw_window, fixed_offsets, multi_scale_sizes, view_windows


def test_multi_scale_sizes_are_the_published_pairs():
    # Short side 256: 256, 224 (0.875 exactly), 192, int(168.96) = 168; neighbours only: 4 + 2 * 3 = 10 pairs.
    sizes = multi_scale_sizes(256, 224, (1, 0.875, 0.75, 0.66))
    assert sizes == [
        (256, 256), (256, 224), (224, 256), (224, 224), (224, 192),
        (192, 224), (192, 192), (192, 168), (168, 192), (168, 168),
    ]  # fmt: skip


def test_a_size_near_the_output_becomes_the_output():
    assert multi_scale_sizes(226, 224, (1,)) == [(224, 224)]
    assert multi_scale_sizes(227, 224, (1,)) == [(227, 227)]


def test_thirteen_offsets():
    # (256 - 224) // 4 = 8 rows and (340 - 224) // 4 = 29 columns a step.
    offsets = fixed_offsets(256, 340, 224, 224)
    assert len(offsets) == len(set(offsets)) == 13
    assert offsets[:5] == [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
    assert offsets[5:9] == [(16, 0), (16, 116), (32, 58), (0, 58)]
    assert offsets[9:] == [(8, 29), (8, 87), (24, 29), (24, 87)]


def test_centre_crop_of_a_scaled_frame_is_mapped_to_stored_pixels():
    config = AugmentConfig(short_side=256, crop_size=224)
    # Stored at 240 x 320; scaled to 256 x 341 the crop lies at (16, 58); 240 / 256 = 0.9375.
    assert view_windows(240, 320, config, 1) == [Window(15, 54, 210, 210)]
    # Stored at the short side itself: no rounding.
    assert view_windows(256, 340, config, 1) == [Window(16, 58, 224, 224)]


def test_three_crops_follow_the_long_side():
    config = AugmentConfig(short_side=224, crop_size=224)
    assert [w[:2] for w in view_windows(224, 300, config, 3)] == [(0, 0), (0, 38), (0, 76)]
    assert [w[:2] for w in view_windows(300, 224, config, 3)] == [(0, 0), (38, 0), (76, 0)]
    # The middle of 77 places is rounded up (datasets/transform.py of TimeSformer, `uniform_crop`).
    assert [w[:2] for w in view_windows(224, 301, config, 3)] == [(0, 0), (0, 39), (0, 77)]


def test_ten_crops_are_five_and_their_mirror_images():
    config = AugmentConfig(short_side=256, crop_size=224)
    windows = view_windows(256, 340, config, 10)
    places = [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
    assert [w[:2] for w in windows] == places * 2
    assert [w.flip for w in windows] == [False] * 5 + [True] * 5
    # (343 - 224) // 4 = 29 columns a step: corners at 4 steps, centre at 2 (transforms.py of tsn-pytorch).
    assert [w[:2] for w in view_windows(256, 343, config, 10)] == places * 2


@pytest.mark.parametrize('crop', ['multi_scale', 'random'])
@pytest.mark.parametrize('size', [(240, 320), (320, 240), (33, 57), (1, 1)])
def test_windows_lie_inside_the_frame(crop, size):
    config = AugmentConfig(crop=crop, short_side=256, short_side_max=320 if crop == 'random' else 0)
    for seed in range(100):
        window = draw_window(*size, config, np.random.default_rng(seed))
        assert 0 <= window.top <= window.top + window.height <= size[0]
        assert 0 <= window.left <= window.left + window.width <= size[1]
        assert 1 <= window.height <= min(size)
        assert 1 <= window.width <= min(size)


def test_random_crop_draws_the_first_and_the_last_offset():
    config = AugmentConfig(crop='random', short_side=226, crop_size=224, flip=False)
    draws = {draw_window(226, 226, config, np.random.default_rng(seed))[:2] for seed in range(200)}
    assert draws == {(top, left) for top in range(3) for left in range(3)}


def test_scale_jitter_covers_its_range_and_nothing_else():
    config = AugmentConfig(crop='random', short_side=256, short_side_max=320, crop_size=224)
    sides = [draw_window(1000, 1000, config, np.random.default_rng(seed)).height for seed in range(500)]
    # 224 / 320 and 224 / 256 of a thousand pixels.
    assert min(sides) == 700
    assert max(sides) == 875


def test_no_flip_where_direction_is_the_label():
    off, on = AugmentConfig(flip=False), AugmentConfig(flip=True)
    draw = lambda config, seed: draw_window(240, 320, config, np.random.default_rng(seed)).flip
    assert not any(draw(off, seed) for seed in range(50))
    assert 60 < sum(draw(on, seed) for seed in range(200)) < 140


def test_the_rectangle_that_holds_all_windows():
    windows = [Window(3, 50, 20, 20), Window(10, 8, 20, 30, True), Window(12, 60, 5, 5)]
    assert bounding_window(windows) == Window(3, 8, 27, 62)  # rows 3 to 30, columns 8 to 70
    assert bounding_window(windows[:1]) == windows[0]
