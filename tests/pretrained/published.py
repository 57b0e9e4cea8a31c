"""Arrays under other libraries' names, for the tests: drawn by name and shape, or renamed from such."""

import jax
import jax.numpy as jnp
import numpy as np

from vidcls import models, pretrained

TINY = {'num_frames': 4, 'image_size': 16, 'patch_size': 8, 'width': 16, 'depth': 2, 'num_heads': 2}


def shapes(model, *video):
    """The model's variables as shapes, for a video of t, h, w and c."""
    return jax.eval_shape(lambda: {**model.init(jax.random.key(0), jnp.zeros((1, *video)))})


def variables(model, *video):
    """The same with values that no file has, so that what was loaded shows."""
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 77.0, np.float32), shapes(model, *video))


def resnet(classes=5, **settings):
    """A TSN-ResNet with a stage of two blocks, and its variables."""
    model = models.build('tsn_resnet50', classes, stage_sizes=(1, 2), width=4, **settings)
    return model, variables(model, model.seg_len, 16, 16, 3)


def eco(name, classes=5, **settings):
    model = models.build(name, classes, width=4, **settings)
    return model, variables(model, 4 * settings.get('seg_len', 1), 32, 32, 3)


def timesformer(attention='divided', classes=5, **settings):
    model = models.build('timesformer_tiny', classes, attention=attention, **{**TINY, **settings})
    return model, variables(model, model.num_frames, *model.frame_size, 3)


def drawn(model, start, layout):
    """Random arrays under the names of a layout, for a network of these variables."""
    random = np.random.default_rng(0)
    return {
        name: random.normal(size=array.shape).astype(np.float32)
        for name, array in pretrained.export(start, model, layout).items()
    }


def assert_same(ours, theirs):
    """The same structure and the same bits."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, a), (_, b) in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves_with_path(theirs), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
