"""TimeSformer in training: gradients, recomputation, what is dropped, and the compute type."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.small_timesformer import (
    ATTENTION,
    compiled,
    gradients,
    jit,
    key,
    parameters,
    small,
    two_clips,
)
from vidcls.models import build
from vidcls.models.vit import drop_path


@pytest.fixture(scope='module')
def video():
    return two_clips()


@pytest.mark.parametrize('attention, depth', [('divided', 2), ('joint', 1)])
def test_every_parameter_gets_a_gradient(attention, depth, video):
    settings = {'depth': depth, 'drop_path': 0.2, 'dropout': 0.1}
    params = parameters(small(attention, **settings))
    kept = gradients(small(attention, **settings), params, video)
    for path, leaf in jax.tree.leaves_with_path(kept):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


@pytest.mark.parametrize('attention', ['divided', 'space'])
def test_remat_gives_the_same_gradients(attention, video):
    params = parameters(small(attention))
    kept, again = (gradients(small(attention, drop_path=0.0, remat=remat), params, video) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), kept, again)


def test_remat_draws_the_same_twice(video):
    """The slope along the gradient is the gradient's, so both passes dropped the same paths."""
    model = small(drop_path=0.5, remat=True)
    params = parameters(model)

    def loss(params):
        return (model.apply({'params': params}, video, True, rngs={'dropout': key(3)}) ** 2).mean()

    gradient = jit(jax.grad(loss))(params)
    length = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    moved = jit(lambda by: loss(jax.tree.map(lambda p, g: p + by * g / length, params, gradient)))
    assert (moved(1e-2) - moved(-1e-2)) / 2e-2 == pytest.approx(length, rel=1e-2)


@pytest.mark.slow
def test_remat_takes_less_memory():
    """On the CPU too, where `nn.remat` takes more."""
    temporary = {}
    for remat in (False, True):
        model = small(depth=6, drop_path=0.0, remat=remat)
        params = parameters(model)

        def loss(params, video, model=model):
            return model.apply({'params': params}, video, True).mean()

        step = jax.jit(jax.grad(loss)).lower(params, jnp.zeros((8, 4, 8, 12, 3))).compile()
        temporary[remat] = step.memory_analysis().temp_size_in_bytes
    assert temporary[True] < temporary[False] / 2


def test_drop_path_scales_the_sequences_it_keeps():
    class Drop(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x, train):
            return drop_path(x, 0.2, train)

    x = jnp.ones((1000, 4, 2, 3))  # 1000 clips of 4 sequences
    y = np.asarray(Drop().apply({}, x, True, rngs={'dropout': jax.random.key(0)}))
    np.testing.assert_allclose(np.unique(y), [0, 1.25])
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1, :1], y.shape))
    kept = y[:, :, 0, 0] > 0
    assert kept.mean() == pytest.approx(0.8, abs=0.02)  # three deviations of the mean of 4000
    # Independent of each other: of four sequences all are kept by 0.8 ** 4 of the clips.
    assert kept.all(1).mean() == pytest.approx(0.8**4, abs=0.05)
    np.testing.assert_array_equal(Drop().apply({}, x, False), x)


# A patch's frames are a sequence, and so are a frame's patches: 6 patches, 4 frames. The last is the MLP.
@pytest.mark.parametrize(
    'attention, sequences', [('divided', [(8, 6), (8, 4), (8,)]), ('joint', [(8,), (8,)]), ('space', [(8, 4), (8, 4)])]
)
def test_paths_are_dropped_for_each_sequence_by_itself(attention, sequences, video):
    """The masks of the published blocks: [(b h w) 1 1], [(b t) 1 1] and [b 1 1]."""
    model, dropped = small(attention, drop_path=0.5), []

    def see(run, args, kwargs, context):
        out = run(*args, **kwargs)
        if isinstance(context.module, flax.linen.Dropout) and context.module.rate == 0.5:
            dropped.append((np.asarray(args[0]), np.asarray(out)))
        return out

    params, clips = parameters(model), jnp.repeat(video[:1], 8, axis=0)
    with flax.linen.intercept_methods(see):
        model.apply({'params': params}, clips, True, rngs={'dropout': key(3)})
    assert [x.shape[:-2] for x, _ in dropped] == sequences
    for x, out in dropped:
        kept = (out != 0).any((-2, -1))
        np.testing.assert_allclose(out, 2 * x * kept[..., None, None], rtol=1e-6)
        assert 0 < kept.sum() < kept.size
        if kept.ndim > 1:
            assert (kept.any(1) & ~kept.all(1)).any()  # not a clip as a whole


def test_drop_path_rises_linearly_over_the_blocks(video):
    model = build('timesformer_base', 5, width=16, num_heads=2, image_size=32)
    rates = []

    def see(run, args, kwargs, context):
        if isinstance(context.module, flax.linen.Dropout):
            rates.append(context.module.rate)
        return run(*args, **kwargs)

    with flax.linen.intercept_methods(see):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 32, 32, 3))))
    *rates, features = rates
    # 0, .0091, ... .1: three paths in each of twelve blocks.
    np.testing.assert_allclose(np.reshape(rates, (12, 3)), np.repeat(np.arange(12) / 110, 3).reshape(12, 3))
    assert features == 0


def test_dropout_acts_on_the_features_in_training_only(video):
    model = small('space', dropout=0.5, drop_path=0.0)
    params = parameters(model)
    params['head'] = {'kernel': jnp.eye(16), 'bias': jnp.zeros(16)}  # the logits are the features
    model = model.clone(num_classes=16)
    features = compiled(model)(params, video)
    train = jit(lambda: model.apply({'params': params}, video, True, rngs={'dropout': key(2)}))
    dropped = train()
    kept = dropped != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(dropped[kept], 2 * features[kept], rtol=1e-4)


@pytest.mark.parametrize('attention', ['divided', 'space'])
def test_bfloat16_is_close_to_float32(attention, video):
    model = small(attention, dtype=jnp.bfloat16)
    created = jax.eval_shape(model.init, jax.random.key(0), video)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(created))
    params = parameters(small(attention))
    logits, rounded = compiled(small(attention))(params, video), compiled(model)(params, video)
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, logits, atol=0.02 * np.abs(logits).max())
    assert np.abs(rounded - logits).max() > 0


def test_the_implementation_of_attention_is_handed_on(video):
    for attention in ATTENTION:
        model = small(attention, attention_implementation='nonesuch')
        with pytest.raises(ValueError, match='nonesuch'):
            jax.eval_shape(model.init, jax.random.key(0), video)
