import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidcls.models import build

SMALL = {'stage_sizes': (1, 1), 'width': 8}


def normal(shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def init(model, video):
    """Variables in which nothing is zero: what starts at zero would hide what it multiplies."""
    variables = jax.jit(model.init)(jax.random.key(1), video)
    return {**variables, 'params': jax.tree.map(lambda x: jnp.where(x == 0, 0.5, x), variables['params'])}


@functools.partial(jax.jit, static_argnums=0)
def train(model, variables, video, key):
    return model.apply(variables, video, True, mutable=['batch_stats'], rngs={'dropout': key})


@pytest.fixture(scope='module')
def video():
    return normal((2, 3, 32, 32, 3))


@pytest.fixture(scope='module')
def small(video):
    """A small network at evaluation, and variables whose running statistics are not the first ones."""
    model = build('tsn_tiny', 5, **SMALL)
    variables = init(model, video)
    _, updated = train(model, variables, video, jax.random.key(2))
    return jax.jit(model.apply), {**variables, **updated}


# torchvision's counts (25,557,032; 44,549,160; 60,192,808) with 51 classes in place of 1000.
@pytest.mark.parametrize(
    'name, parameters',
    [
        ('tsn_resnet50', 23_612_531),
        ('tsn_resnet101', 42_604_659),
        ('tsn_resnet152', 58_248_307),
    ],
)
def test_parameter_counts(name, parameters):
    model = build(name, 51)
    video = jnp.zeros((1, 3, 224, 224, 3))
    logits, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), video))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters
    assert logits.shape == (1, 51) and logits.dtype == jnp.float32


def test_segment_order_does_not_matter(small, video):
    apply, variables = small
    shuffled = video[:, jnp.array([2, 0, 1])]
    assert np.abs(video - shuffled).max() > 1
    np.testing.assert_allclose(apply(variables, shuffled), apply(variables, video), atol=1e-6)


def test_feature_average_equals_the_published_logit_average(small, video):
    apply, variables = small
    per_segment = jnp.stack([apply(variables, video[:, i : i + 1]) for i in range(3)])
    assert np.std(per_segment, axis=0).max() > 1e-3
    np.testing.assert_allclose(apply(variables, video), per_segment.mean(0), atol=1e-6)


def test_trained_with_three_segments_evaluated_with_seven(small, video):
    apply, variables = small
    seven = jnp.concatenate([video, video, video[:, :1]], axis=1)
    weights = np.array([3, 2, 2]) / 7
    expected = sum(weight * apply(variables, video[:, i : i + 1]) for i, weight in enumerate(weights))
    np.testing.assert_allclose(apply(variables, seven), expected, atol=1e-6)


def test_seg_len_stacks_consecutive_frames_on_the_channels():
    settings = {'stage_sizes': (1,), 'width': 8}
    model = build('tsn_tiny', 5, seg_len=2, **settings)
    video = normal((1, 4, 32, 32, 3))
    variables = init(model, video)
    kernel = variables['params']['backbone']['conv1']['kernel']
    assert kernel.shape == (7, 7, 6, 8)
    # A first convolution that sees only the second frame of each pair is a seg_len-1 network
    # over frames 1 and 3.
    variables['params']['backbone']['conv1']['kernel'] = kernel.at[:, :, :3].set(0)
    single = jax.tree.map(lambda leaf: leaf, variables)
    single['params']['backbone']['conv1'] = {'kernel': kernel[:, :, 3:]}
    expected = jax.jit(build('tsn_tiny', 5, **settings).apply)(single, video[:, jnp.array([1, 3])])
    np.testing.assert_allclose(jax.jit(model.apply)(variables, video), expected, atol=1e-6)


def test_every_parameter_gets_a_gradient_with_or_without_remat():
    video = normal((2, 1, 32, 32, 3))
    rngs = {'dropout': jax.random.key(2)}

    def gradients(remat):
        model = build('tsn_tiny', 5, remat=remat, **SMALL)
        variables = init(model, video)

        @jax.jit
        def grad(params):
            def loss(params):
                logits, _ = model.apply(
                    {**variables, 'params': params}, video, True, mutable=['batch_stats'], rngs=rngs
                )
                labels = jnp.array([1, 3])
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            return jax.grad(loss)(params)

        return grad(variables['params'])

    kept, computed_again = gradients(False), gradients(True)
    for path, leaf in jax.tree.leaves_with_path(kept):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), kept, computed_again)


def test_dropout_acts_in_training_only(small, video):
    apply, variables = small
    model = build('tsn_tiny', 5, **SMALL)
    one, other, again = (train(model, variables, video, jax.random.key(k))[0] for k in (2, 3, 2))
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(apply(variables, video), apply(variables, video))


def test_head_starts_as_mmaction2_has_it():
    model = build('tsn_tiny', 400, stage_sizes=(1,), width=128)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 1, 32, 32, 3)))
    head = variables['params']['head']
    assert head['kernel'].shape == (512, 400)
    assert np.std(head['kernel']) == pytest.approx(0.01, rel=0.02)
    assert not head['bias'].any()


def test_bfloat16_is_close_to_float32(small, video):
    apply, variables = small
    logits = apply(variables, video)
    half = build('tsn_tiny', 5, dtype=jnp.bfloat16, **SMALL)
    created = jax.eval_shape(lambda: half.init(jax.random.key(0), video))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(created))
    rounded = jax.jit(half.apply)(variables, video)
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, logits, atol=0.03 * np.abs(logits).max())
    assert np.abs(rounded - logits).max() > 0


@pytest.mark.parametrize(
    'shape, message',
    [((3, 32, 32, 3), 'five axes.*3, 32, 32, 3'), ((1, 5, 32, 32, 3), '5 frames.*seg_len=2')],
)
def test_wrong_videos_are_refused(shape, message):
    model = build('tsn_tiny', 5, seg_len=2)
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), jnp.zeros(shape))


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(ValueError, match='tsn_resnet51.*known: .*tsn_resnet50'):
        build('tsn_resnet51', 5)
    with pytest.raises(ValueError, match='tsn_resnet50 has no setting drop, segments; known: .*dropout'):
        build('tsn_resnet50', 5, segments=3, drop=0.1)
