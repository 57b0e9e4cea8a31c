import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import eco_golden as golden
from vidcls.models import build

LEAVES = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}


def published_name(path):
    """('backbone', 'inception_3a', '1x1', 'kernel') -> 'inception_3a_1x1.weight'."""
    module = '_'.join('fc_final' if part == 'head' else part for part in path[:-1] if part not in ('backbone', 'tail'))
    return f'{module}.{LEAVES.get(path[-1], "weight")}'


def published(path, leaf):
    """The golden's values for one of our arrays, in our layout."""
    order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1), 5: (4, 3, 0, 1, 2)}[leaf.ndim]
    values = golden.drawn(published_name(path), tuple(np.array(leaf.shape)[list(order)]))
    return jnp.asarray(values.transpose(np.argsort(order)))


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
    return model, {name: flax.traverse_util.path_aware_map(published, tree) for name, tree in shapes.items()}


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
        pictures = jax.jit(lambda v, x: model.apply(v, x, method='pictures'))(variables, video[:1])
        assert jax.tree.leaves(pictures)[0].min() == 0  # the tap is after its ReLU
        classify = jax.jit(lambda v, x: model.apply(v, x, method='classify'))
        # The second clip is the first in reverse: its pictures are computed already.
        logits = classify(variables, jax.tree.map(lambda x: jnp.concatenate([x, x[:, ::-1]]), pictures))
    expected = np.load(golden.FILE)[kind]
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    order_matters = np.abs(expected[0] - expected[1]).max() > 0.1
    assert order_matters == (kind != 'tsn_bninception')
