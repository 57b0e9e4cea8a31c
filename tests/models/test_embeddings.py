import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcls.models import build
from vidcls.models.embeddings import resize_embeddings, resize_position, resize_time

CLS = [7.0, -7.0]


def position(values):
    """pos_embed of a grid [h w]: the values, and ten times them, as width 2."""
    values = np.asarray(values, np.float32).ravel()
    return jnp.asarray(np.concatenate([[CLS], np.stack([values, 10 * values], -1)])[None], jnp.float32)


def grid_of(embedding, grid):
    """The values [h w] of what `position` made, once its other parts are seen to be right."""
    np.testing.assert_array_equal(embedding[0, 0], CLS)
    np.testing.assert_allclose(embedding[0, 1:, 1], 10 * embedding[0, 1:, 0], rtol=1e-6)
    return np.asarray(embedding[0, 1:, 0]).reshape(grid)


def test_position_is_resized_in_both_directions():
    # Columns 0 4 to four: half-pixel centres lie at -.25, .25, .75, 1.25 of the old ones.
    # Rows 0 8 16 to two: the centres of the new ones lie at .25 and 1.75.
    old = position([[0, 4], [8, 12], [16, 20]])
    new = grid_of(resize_position(old, (3, 2), (2, 4)), (2, 4))
    np.testing.assert_allclose(new, [[2, 3, 5, 6], [14, 15, 17, 18]], atol=1e-5)


def test_position_of_a_square_grid_for_a_wide_one():
    # A value that says its row and column keeps saying them, away from the border.
    rows, columns = np.mgrid[:4, :4]
    new = grid_of(resize_position(position(100 * rows + columns), (4, 4), (4, 8)), (4, 8))
    np.testing.assert_allclose(new[:, 1:-1], 100 * np.arange(4)[:, None] + np.arange(1, 7) / 2 - 0.25, atol=1e-4)


def test_nearest_position_takes_the_floor():
    old = position([[0, 1, 2], [3, 4, 5]])
    new = grid_of(resize_position(old, (2, 3), (3, 4), 'nearest'), (3, 4))
    np.testing.assert_array_equal(new, [[0, 0, 1, 2], [0, 0, 1, 2], [3, 3, 4, 5]])


def test_nearest_flat_position_forgets_the_rows():
    # PyTorch's interpolate(size=16, mode='nearest') of the list 0 1 2 3.
    old = position([[0, 1], [2, 3]])
    new = grid_of(resize_position(old, (2, 2), (4, 4), 'nearest_flat'), (4, 4))
    np.testing.assert_array_equal(new, [[0] * 4, [1] * 4, [2] * 4, [3] * 4])


@pytest.mark.parametrize('method', ['bilinear', 'nearest', 'nearest_flat'])
def test_the_same_grid_keeps_the_position(method):
    old = position(np.arange(6))
    np.testing.assert_array_equal(resize_position(old, (2, 3), (2, 3), method), old)


# The centre of frame i of the new ones is at (i + .5) * old / new - .5, kept between first and last.
@pytest.mark.parametrize('num_frames', [4, 8, 16, 96])
def test_time_is_resized_linearly(num_frames):
    old = jnp.arange(8.0)[None, :, None] * jnp.array([1.0, -2.0])
    new = resize_time(old, num_frames)
    centres = np.clip((np.arange(num_frames) + 0.5) * 8 / num_frames - 0.5, 0, 7)
    np.testing.assert_allclose(new, centres[None, :, None] * [1, -2], atol=1e-5)


@pytest.mark.parametrize(
    'num_frames, index',
    [
        (4, [0, 2, 4, 6]),
        (8, range(8)),
        (12, [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7]),
        (16, np.arange(16) // 2),
        (96, np.arange(96) // 12),
    ],
)
def test_nearest_time_takes_the_floor(num_frames, index):
    old = jnp.arange(8.0)[None, :, None] * jnp.array([1.0, -2.0])
    np.testing.assert_array_equal(resize_time(old, num_frames, 'nearest'), old[:, np.array(index)])


def test_nearest_rounds_as_pytorch_does():
    # 41 * 8 / 82 is 4, but float32(8 / 82) * 41 falls short of it: PyTorch takes 3.
    new = resize_time(jnp.arange(8.0)[None, :, None], 82, 'nearest')
    assert new[0, 41, 0] == 3 and new[0, 42, 0] == 4


@pytest.mark.parametrize('attention', ['divided', 'space'])
@pytest.mark.parametrize('num_frames, size', [(4, (8, 12)), (16, (12, 8)), (96, (16, 16))])
def test_a_network_of_another_size_takes_the_resized_parameters(attention, num_frames, size):
    settings = {'patch_size': 4, 'width': 8, 'depth': 1, 'num_heads': 2, 'attention': attention}
    model = build('timesformer_tiny', 5, num_frames=8, image_size=8, **settings)
    created = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 8, 3)))['params']
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), created)
    other = build('timesformer_tiny', 5, num_frames=num_frames, image_size=size, **settings)
    video = jnp.zeros((1, num_frames, *size, 3))
    shapes = jax.eval_shape(other.init, jax.random.key(0), video)['params']
    resized = resize_embeddings(params, model.grid, other.grid, num_frames)
    assert jax.tree.map(jnp.shape, resized) == jax.tree.map(jnp.shape, shapes)
    assert jax.eval_shape(other.apply, {'params': resized}, video).shape == (1, 5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='6 patches beside CLS, which is not a grid of 3 x 3'):
        resize_position(position(np.arange(6)), (3, 3), (4, 4))
    with pytest.raises(ValueError, match="'bicubic'; known: bilinear, nearest, nearest_flat"):
        resize_position(position(np.arange(6)), (2, 3), (4, 4), 'bicubic')
    with pytest.raises(ValueError, match="'cubic'; known: linear, nearest"):
        resize_time(jnp.zeros((1, 4, 2)), 8, 'cubic')
