"""Rollout against the product of whole matrices; gradients of attention against autodiff; clips whose evidence is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.explain import seeing
from vidcls import models
from vidcls.explain import Explainer, rollout
from vidcls.models.vit import Attention

T, N, DEPTH = 3, 4, 3  # frames, patches, blocks


def rows(rng, *shape):
    x = rng.random(shape)
    return (x / x.sum(-1, keepdims=True)).astype(np.float64)


@pytest.mark.parametrize('add_frames', [False, True])
def test_divided_is_the_row_of_a_product_of_whole_matrices(add_frames):
    """Tokens are CLS and (patch, frame); each block is one matrix [1+n*t 1+n*t], written element by element."""
    rng = np.random.default_rng(0)
    space = [(rows(rng, T, 1 + N, 1 + N) + np.eye(1 + N)) / 2 for _ in range(DEPTH)]
    time = [(rows(rng, N, T, T) + np.eye(T)) / 2 for _ in range(DEPTH)]
    token = lambda k, q: 1 + (k - 1) * T + q
    total = np.eye(1 + N * T)
    for s, tt in zip(space, time):
        w = np.zeros((1 + N * T, 1 + N * T))
        for t in range(T):
            own = np.eye(1 + N)[0]
            cls = own / T + (s[t, 0] - own) if add_frames else s[t, 0] / T
            w[0, 0] += cls[0]
            for p in range(1, 1 + N):
                w[token(p, t), 0] = s[t, p, 0]
            for k in range(1, 1 + N):
                for q in range(T):
                    w[0, token(k, q)] += cls[k] * tt[k - 1, t, q]
                    for p in range(1, 1 + N):
                        w[token(p, t), token(k, q)] = s[t, p, k] * tt[k - 1, t, q]
        total = w @ total
    if not add_frames:
        np.testing.assert_allclose(total.sum(-1), 1)
    found = rollout.divided([jnp.asarray(x) for x in time], [jnp.asarray(x) for x in space], add_frames)
    np.testing.assert_allclose(found, total[0, 1:].reshape(N, T).T, atol=1e-6)


def test_joint_and_space_are_rows_of_products():
    rng = np.random.default_rng(1)
    whole = [rows(rng, 1 + N * T, 1 + N * T) for _ in range(DEPTH)]
    product = whole[2] @ whole[1] @ whole[0]
    found = rollout.joint([jnp.asarray(x) for x in whole], T)
    np.testing.assert_allclose(found, product[0, 1:].reshape(N, T).T, atol=1e-6)
    space = [rows(rng, T, 1 + N, 1 + N) for _ in range(DEPTH)]
    product = space[2] @ space[1] @ space[0]
    found = rollout.per_frame([jnp.asarray(x) for x in space])
    np.testing.assert_allclose(found, product[:, 0, 1:] / T, atol=1e-6)


def test_gradients_of_attention_are_those_of_autodiff(monkeypatch):
    """The other route: attention with its weights written out, a zero added to them, and the gradient by this zero."""
    model = models.build(
        'timesformer_tiny',
        3,
        num_frames=2,
        image_size=16,
        patch_size=8,
        width=8,
        depth=1,
        num_heads=2,
        embedding_std=0.5,
    )
    video = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 16, 16, 3)), jnp.float32)

    @jax.jit
    def run(video):
        variables = model.init(jax.random.key(0), video)
        # Larger weights, so that no gradient is near zero.
        variables = jax.tree.map(lambda x: 4 * x if x.ndim > 1 else x, variables)
        found = rollout.attended(model, variables, video, 1)
        ours = {place: rollout.relevance(one, 2) for place, one in found.items()}
        return variables, model.apply(variables, video), ours

    variables, expected, ours = run(video)
    assert sorted(ours) == [('blocks_0', 'attn'), ('blocks_0', 'temporal_attn')]

    def written_out(self, x):
        p = self.variables['params']
        one = rollout.Attended(x @ p['qkv']['kernel'] + p['qkv']['bias'], x)
        weights, values = rollout.attention(one, self.num_heads)
        place = self.path[0], self.name
        seen[place] = weights
        y = jnp.einsum('...mnk,...mkd->...nmd', weights + added[place], values)
        return y.reshape(x.shape) @ p['proj']['kernel'] + p['proj']['bias']

    seen, added = {}, {}

    def logits(zeros):
        added.update(zeros)
        return model.apply(variables, video)[0], dict(seen)

    @jax.jit
    def run_written_out():
        zeros = {place: jnp.zeros(one.shape[:-2] + (2,) + one.shape[-2:]) for place, one in ours.items()}
        found, weights = logits(zeros)
        return found, weights, jax.grad(lambda zeros: logits(zeros)[0][1])(zeros)

    monkeypatch.setattr(Attention, '__call__', written_out)
    found, weights, gradients = run_written_out()
    np.testing.assert_allclose(found, expected[0], atol=1e-4)  # the same network
    for place, one in ours.items():
        product = np.maximum(np.asarray(gradients[place] * weights[place]), 0).mean(-3)
        assert product.max() > 1e-4
        np.testing.assert_allclose(one, np.eye(product.shape[-1]) + product, rtol=1e-3, atol=1e-6)


@functools.cache
def classifier(attention):
    shape = {'width': 8, 'depth': 1, 'num_heads': 1, 'patch_size': 16, 'attention': attention}
    model = models.build('timesformer_tiny', 2, num_frames=4, image_size=64, **shape)
    params = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 4, 64, 64, 3), jnp.float32))[
        'params'
    ]
    return seeing.classifier('timesformer_tiny', {'params': seeing.timesformer(params)}, 4, **shape)


VIDEO = seeing.clip(4, np.s_[1:2, 16:32, 32:48], np.s_[2:3, 32:48, 0:16])
RED, GREEN = np.s_[1:2, 8:40, 24:56], np.s_[2:3, 24:56, 0:24]


@pytest.mark.parametrize('attention', ['divided', 'joint', 'space'])
def test_gradients_find_the_region_and_the_moment_of_each_class(attention):
    seen = classifier(attention)
    if attention != 'divided':  # for time: one compilation less
        seen.logits_of = lambda views: np.zeros((1, 2), np.float32)
    explainer = Explainer(seen)
    red, green = explainer.explain(VIDEO, 'red'), explainer.explain(VIDEO, 'green')
    assert red.method == 'gradient_rollout' and red.map.shape == (4, 64, 64)
    assert seeing.share(red.map, RED) > 0.95 and seeing.share(green.map, GREEN) > 0.95
    np.testing.assert_allclose(red.weights, [0, 1, 0, 0], atol=0.05)


def test_rollout_is_the_same_for_every_class_and_weighs_every_frame_alike():
    """Within a frame it finds the square; it finds neither the class nor the moment: docs/explaining.md warns of it."""
    explainer = Explainer(classifier('divided'), 'rollout')
    red, green = explainer.explain(VIDEO, 'red'), explainer.explain(VIDEO, 'green')
    np.testing.assert_array_equal(red.map, green.map)
    np.testing.assert_allclose(red.weights, 0.25, atol=0.02)
    assert np.unravel_index(red.cells['patches'][1].argmax(), (4, 4)) == (1, 2)
    assert seeing.share(red.map, RED) < 0.3
