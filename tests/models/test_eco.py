import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import eco_golden as golden
from vidcls import pretrained
from vidcls.models import build


@pytest.fixture(scope='module')
def video():
    return jnp.asarray(golden.video())


@pytest.fixture(scope='module', params=golden.KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope='module')
def full_size(kind, video):
    """A network of the published width, and the golden's variables for it."""
    model = build(kind, golden.CLASSES)
    shapes = jax.eval_shape(lambda: {**model.init(jax.random.key(0), video)})
    empty = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes)
    names = pretrained.export(empty, model, 'bn-inception' if kind == 'tsn_bninception' else 'eco-pytorch')
    names = {name.replace('last_linear', 'fc_final'): array.shape for name, array in names.items()}
    converted = pretrained.convert({name: golden.drawn(name, shape) for name, shape in names.items()}, model, shapes)
    assert not converted.started and not converted.unused
    return model, converted.variables


# Counted from the published prototxts, convolution biases included.
@pytest.mark.parametrize('name, parameters', [('eco_full', 47_042_565), ('eco_lite', 37_350_469)])
def test_parameter_counts(name, parameters):
    model = build(name, 101)
    frames = jnp.zeros((1, model.num_segments, 224, 224, 3))
    logits, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), frames))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters
    assert logits.shape == (1, 101) and logits.dtype == jnp.float32
    assert model.num_segments == 16


def test_published_layout_gives_what_pytorch_gives_and_frames_can_be_kept(kind, full_size, video):
    model, variables = full_size
    if kind == 'tsn_bninception':
        logits = jax.jit(model.apply)(variables, video)
    else:
        features = jax.jit(lambda v, x: model.apply(v, x, method='encode_frames'))(variables, video[:1])
        assert jax.tree.leaves(features)[0].min() == 0  # the tap is after its ReLU
        classify = jax.jit(lambda v, x: model.apply(v, x, method='classify'))
        # The second clip is the first in reverse: its features are computed already.
        logits = classify(variables, jax.tree.map(lambda x: jnp.concatenate([x, x[:, ::-1]]), features))
    if kind == 'eco_lite':
        np.testing.assert_allclose(jax.jit(model.apply)(variables, video), logits, atol=1e-5)
    expected = np.load(golden.FILE)[kind]
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    order_matters = np.abs(expected[0] - expected[1]).max() > 0.1
    assert order_matters == (kind != 'tsn_bninception')


SMALL = {'width': 4}
MAPS = jnp.asarray(np.random.default_rng(0).random((2, 4, 4, 4, 6)), jnp.float32)
FEATURES = jnp.asarray(np.random.default_rng(1).random((2, 4, 64)), jnp.float32)


def drawn(shapes):
    """Values near one for vectors, of He's deviation for kernels: nothing is zero, nothing dies."""
    draw = np.random.default_rng(0).normal

    def leaf(shape):
        if len(shape) == 1:
            return 1 + 0.1 * draw(size=shape)
        return draw(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))

    return jax.tree.map(lambda x: jnp.asarray(leaf(x.shape), jnp.float32), {**shapes})


@pytest.mark.slow
def test_every_parameter_gets_a_gradient(monkeypatch):
    # At evaluation, because in training the norms cancel the convolutions' biases. XLA's forms and no
    # optimisation, because hundreds of small operations take a minute to compile otherwise.
    monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
    model = build('eco_full', 5, **SMALL)
    video = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 32, 32, 3)), jnp.float32)
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), video)))

    def loss(params):
        return (model.apply({**variables, 'params': params}, video) ** 2).sum()

    lowered = jax.jit(jax.grad(loss)).lower(variables['params'])
    grads = lowered.compile(compiler_options={'xla_backend_optimization_level': 0})(variables['params'])
    for path, leaf in jax.tree.leaves_with_path(grads):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-4, path


@pytest.mark.parametrize('dropout, frame_dropout', [(0.5, 0.0), (0.0, 0.6)])
def test_each_dropout_acts_in_training_only(dropout, frame_dropout):
    model = build('eco_full', 5, dropout=dropout, frame_dropout=frame_dropout, **SMALL)
    features = MAPS, FEATURES
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), features, method='classify')))

    @functools.partial(jax.jit, static_argnums=0)
    def classify(train, key):
        rngs = {'dropout': jax.random.key(key)}
        return model.apply(variables, features, train, method='classify', mutable=['batch_stats'], rngs=rngs)[0]

    one, other, again = (classify(True, key) for key in (2, 3, 2))
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(classify(False, 2), classify(False, 3))


def test_frame_dropout_is_one_mask_a_frame():
    # With the mean first, one mask would zero a channel or scale it by 1 / 0.4; a mask for each of four
    # frames scales it by 0, 1, 2, 3 or 4 quarters of that.
    model = build('eco_full', 64, dropout=0.0, **SMALL)
    vectors = jnp.ones_like(FEATURES)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), (MAPS, vectors), method='classify'))
    variables = jax.tree.map(lambda x: jnp.zeros(x.shape), {**shapes})
    variables['params']['head']['kernel'] = jnp.eye(64 + 32, 64)  # the 2-D vector comes first
    rngs = {'dropout': jax.random.key(0)}
    logits, _ = jax.jit(
        lambda v: model.apply(v, (MAPS, vectors), True, method='classify', mutable=['batch_stats'], rngs=rngs)
    )(variables)
    np.testing.assert_allclose(np.unique(logits.round(4)), np.arange(5) / 4 / 0.4, atol=1e-4)


def test_dropout_is_the_published_one():
    full, lite = build('eco_full', 5), build('eco_lite', 5)
    assert (full.dropout, full.frame_dropout, lite.dropout) == (0.5, 0.6, 0.6)


@pytest.mark.parametrize('frames, nearest', [(1, 4), (6, 8), (13, 12)])
@pytest.mark.parametrize('name', ['eco_lite', 'eco_full'])
def test_segments_must_be_a_multiple_of_four(name, frames, nearest):
    model = build(name, 5, **SMALL)
    with pytest.raises(ValueError, match=f'{frames} segments.*multiple of 4, such as {nearest}'):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, frames, 32, 32, 3))))


@pytest.mark.parametrize('name', ['eco_lite', 'eco_full', 'tsn_bninception', 'eco_tiny'])
def test_settings_reach_the_networks(name):
    model = build(name, 5, width=8, dtype=jnp.bfloat16, remat=True, seg_len=2, axis_name='d')
    video = jnp.zeros((1, 24, 56, 56, 3))
    logits, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), video))
    assert logits.shape == (1, 5) and logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    params = variables['params']
    assert params['backbone']['conv1_7x7_s2']['kernel'].shape == (7, 7, 6, 8)
    plain = build(name, 5, width=8, seg_len=2)
    assert jax.eval_shape(lambda: plain.init(jax.random.key(0), video)) == variables
    jaxpr = str(jax.make_jaxpr(lambda v: model.apply(v, video))(variables))
    assert 'bf16' in jaxpr and 'remat' in jaxpr
    parts = [model.backbone] if name == 'tsn_bninception' else [model.backbone, model.tail]
    assert all(part.axis_name == 'd' for part in parts)


def test_the_head_starts_with_caffes_xavier():
    model = build('eco_full', 400, **SMALL)

    @jax.jit
    def head():
        return model.init(jax.random.key(0), (MAPS, FEATURES), method='classify')['params']['head']['kernel']

    assert head().shape == (64 + 32, 400)
    assert np.abs(head()).max() == pytest.approx(np.sqrt(3 / (64 + 32)), rel=0.01)
