import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models import resnet_golden as golden
from vidcls import pretrained
from vidcls.models import build
from vidcls.models.resnet import ResNet


def test_published_layout_gives_what_pytorch_gives():
    stored = np.load(golden.FILE)
    model = build('tsn_resnet50', golden.CLASSES, stage_sizes=golden.STAGE_SIZES, width=golden.WIDTH, dropout=0)
    video, labels = jnp.asarray(golden.video()), jnp.asarray(golden.LABELS)
    shapes = jax.eval_shape(lambda: {**model.init(jax.random.key(0), video)})
    empty = jax.tree.map(lambda leaf: np.empty(leaf.shape), shapes)
    names = pretrained.export(empty, model, 'torchvision')
    published = {name: golden.drawn(name, array.shape) for name, array in names.items()}
    converted = pretrained.convert(published, model, shapes)
    assert not converted.started and not converted.unused
    variables = converted.variables
    logits = jax.jit(model.apply)(variables, video)
    np.testing.assert_allclose(logits, stored['eval_logits'], atol=2e-5)

    @jax.jit
    def step(params):
        def loss(params):
            logits, updated = model.apply({**variables, 'params': params}, video, train=True, mutable=['batch_stats'])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), (logits, updated)

        return jax.grad(loss, has_aux=True)(params)

    grads, (logits, updated) = step(variables['params'])
    np.testing.assert_allclose(logits, stored['train_logits'], atol=2e-5)
    compared = {'eval_logits', 'train_logits'}
    for kind, tree in (('grad', {'params': grads}), ('stat', updated)):
        for name, ours in pretrained.export(tree, model, 'torchvision').items():
            theirs = stored[f'{kind} {name}']
            limit = 2e-5 * max(1, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, atol=limit, err_msg=name)
            compared.add(f'{kind} {name}')
    assert compared == set(stored.files)


@pytest.mark.parametrize('height, width, last', [(224, 224, (7, 7)), (65, 90, (3, 3))])
def test_every_stage_halves_the_image(height, width, last):
    net = ResNet((1, 1, 1, 1), width=4)
    x = jnp.zeros((2, height, width, 3))
    captured = jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), x, capture_intermediates=True))
    features, variables = captured
    assert features.shape == (2, 128) and features.dtype == jnp.float32
    (stage4,) = variables['intermediates']['layer4_0']['__call__']
    assert stage4.shape == (2, *last, 128)
