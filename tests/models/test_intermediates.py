"""Intermediate features by flax's `capture_intermediates`, as the docstring of `vidcls.models` shows."""

import functools

import einops
import jax
import jax.numpy as jnp
import numpy as np

from vidcls import models

FAST = {'xla_backend_optimization_level': 0}  # the networks are compiled here to run once


def captured(model, shape, *wanted):
    """The head's parameters, logits [b k] and the intermediates by path, of a random video [b t h w c]."""

    @functools.partial(jax.jit, compiler_options=FAST)
    def run(video):
        variables = model.init(jax.random.key(0), video)
        logits, found = model.apply(
            variables,
            video,
            capture_intermediates=lambda module, method: (module.name, method) in wanted,
            mutable=['intermediates'],
        )
        return variables['params'], logits, found['intermediates']

    video = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return jax.tree.map(np.asarray, run(video))


def dense(params, x):
    return x @ params['kernel'] + params['bias']


def test_tsn_gives_the_features_of_each_segment():
    params, logits, found = captured(models.build('tsn_micro', 5), (2, 3, 32, 32, 3), ('backbone', '__call__'))
    features = found['backbone']['__call__'][0]
    assert features.shape == (2 * 3, 4 * 4)
    mean = features.reshape(2, 3, -1).mean(1)
    np.testing.assert_allclose(dense(params['head'], mean), logits, atol=1e-5)


def test_eco_gives_the_maps_of_frames_and_the_features_of_the_clip():
    params, logits, found = captured(
        models.build('eco_tiny', 5), (2, 4, 32, 32, 3), ('backbone', 'tap'), ('tail', '__call__')
    )
    assert found['backbone']['tap'][0].shape == (2 * 4, 32 // 8, 32 // 8, 96 * 16 // 64)
    features = found['tail']['__call__'][0]
    assert features.shape == (2, 8 * 16)
    np.testing.assert_allclose(dense(params['head'], features), logits, atol=1e-5)


def test_eco_full_gives_the_features_of_both_branches():
    model = models.build('eco_full', 5, width=16)
    video = jax.ShapeDtypeStruct((2, 4, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), video)
    chosen = lambda module, method: (module.name, method) in {('backbone', 'tap_and_features'), ('tail', '__call__')}
    run = lambda v, x: model.apply(v, x, capture_intermediates=chosen, mutable=['intermediates'])
    found = jax.eval_shape(run, variables, video)[1]['intermediates']
    maps, features = found['backbone']['tap_and_features'][0]
    assert (maps.shape, features.shape) == ((2 * 4, 4, 4, 24), (2 * 4, 1024 // 4))
    assert found['tail']['__call__'][0].shape == (2, 512 // 4)


def test_timesformer_gives_its_features_and_its_attention():
    # 32 pixels in patches of 16: 4 patches and CLS; 4 heads of 24.
    model = models.build('timesformer_tiny', 5, image_size=32)
    names = (('norm', '__call__'), ('qkv', '__call__'), ('attn', '__call__'))
    params, logits, found = captured(model, (2, 8, 32, 32, 3), *names)
    features = found['norm']['__call__'][0]
    assert features.shape == (2, 96)
    np.testing.assert_allclose(dense(params['head'], features), logits, atol=1e-5)
    assert found['blocks_0']['temporal_attn']['qkv']['__call__'][0].shape == (2, 4, 8, 3 * 96)
    qkv = found['blocks_2']['attn']['qkv']['__call__'][0]
    assert qkv.shape == (2, 8, 1 + 4, 3 * 96)

    q, k, v = (einops.rearrange(x, 'b t n (m d) -> b t m n d', m=model.num_heads) for x in np.split(qkv, 3, -1))
    weights = np.asarray(jax.nn.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5))
    assert weights.shape == (2, 8, 4, 5, 5)
    # They are the weights that the network attends with: applied to the values they give what `attn` returned.
    seen = einops.rearrange(weights @ v, 'b t m n d -> b t n (m d)')
    attended = found['blocks_2']['attn']['__call__'][0]
    np.testing.assert_allclose(dense(params['blocks_2']['attn']['proj'], seen), attended, atol=1e-5)


def test_a_network_of_ones_own_is_a_row_more(monkeypatch):
    row = (models.TSN, {'backbone': models.ResNet}, {'stage_sizes': (2, 2, 2, 2)})
    monkeypatch.setitem(models.MODELS, 'mine', row)
    model = models.build('mine', 5, width=16)
    assert (model.backbone.stage_sizes, model.backbone.width, model.num_classes) == ((2, 2, 2, 2), 16, 5)
