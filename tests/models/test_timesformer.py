"""The network: its sizes, its logits beside another library and by hand, how it starts, what it refuses."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import erf

from tests.models import timesformer_golden as golden
from tests.models.small_timesformer import ATTENTION, compiled, gradients, jit, parameters, small, start, two_clips
from vidcls import pretrained
from vidcls.config import Config, SamplingConfig
from vidcls.models import build
from vidcls.run import model_summary


@pytest.fixture(scope='module')
def video():
    return two_clips()


# The counts of the authors' code. A number of classes more is 769 parameters more.
@pytest.mark.parametrize(
    'name, attention, classes, count',
    [
        ('timesformer_base', 'divided', 101, 121_336_421),
        ('timesformer_base', 'divided', 400, 121_566_352),
        ('timesformer_base', 'space', 400, 86_106_256),
        ('timesformer_base', 'joint', 400, 86_112_400),
        # 8 frames more, and 784 patches instead of 196.
        ('timesformer_hr', 'divided', 400, 121_566_352 + (8 + 588) * 768),
        ('timesformer_large', 'divided', 400, 121_566_352 + 88 * 768),
    ],
)
def test_parameter_counts(name, attention, classes, count):
    model = build(name, classes, attention=attention)
    video = jnp.zeros((1, model.num_frames, model.image_size, model.image_size, 3))
    logits, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), video))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count
    assert logits.shape == (1, classes) and logits.dtype == jnp.float32


def test_operations_of_the_forward_pass():
    # fvcore's count of the authors' code at 8 x 224 x 224: 195.8 G multiply-adds.
    model = build('timesformer_base', 400)
    video = jax.ShapeDtypeStruct((1, 8, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), video)
    config = Config(sampling=SamplingConfig(num_segments=8))
    assert model_summary.forward_flops(model, variables, config) == pytest.approx(2 * 195.8e9, rel=0.03)


# ---- Beside another library


@pytest.mark.parametrize('attention', ATTENTION)
def test_published_layout_gives_what_transformers_gives(attention):
    stored = np.load(golden.FILE)
    model = build(
        'timesformer_tiny', golden.CLASSES, num_frames=golden.FRAMES, image_size=golden.IMAGE, patch_size=golden.PATCH,
        width=golden.WIDTH, depth=golden.DEPTH, num_heads=golden.HEADS, attention=attention, drop_path=0.0,
    )  # fmt: skip
    video, labels = jnp.asarray(golden.video()), jnp.asarray(golden.LABELS)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), video))['params']

    empty = jax.tree.map(lambda leaf: np.empty(leaf.shape), {'params': shapes})
    names = pretrained.export(empty, model, 'huggingface')
    published = {name: golden.drawn(name, array.shape) for name, array in names.items()}
    converted = pretrained.convert(published, model, {'params': shapes})
    assert not converted.started and not converted.unused
    params = converted.variables['params']

    def loss(params):
        logits = model.apply({'params': params}, video, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    if attention != 'divided':
        logits = compiled(model)(params, video)
        np.testing.assert_allclose(logits, stored[f'logits {attention}'], atol=1e-4)
        return
    grads, logits = jit(jax.grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(logits, stored['logits divided'], atol=1e-4)
    compared = {f'logits {name}' for name in ATTENTION}
    for theirs, ours in pretrained.export({'params': grads}, model, 'huggingface').items():
        name = f'grad {theirs}'
        limit = 1e-4 * np.abs(stored[name]).max()
        np.testing.assert_allclose(ours, stored[name], atol=limit, err_msg=name)
        compared.add(name)
    assert compared == set(stored.files)


# ---- Beside the same by hand, patch by patch


def normalised(x, params):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * params['scale'] + params['bias']


def dense(x, params):
    return x @ params['kernel'] + params['bias']


def attended(x, params, heads=2):
    """Self-attention of one sequence [n d], head by head."""
    q, k, v = np.split(dense(x, params['qkv']), 3, axis=-1)
    size = x.shape[-1] // heads
    seen = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = np.exp(q[:, part] @ k[:, part].T / np.sqrt(size))
        seen.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
    return dense(np.concatenate(seen, -1), params['proj'])


def mlp(x, params):
    x = dense(x, params['fc1'])
    return dense(x * (1 + erf(x / np.sqrt(2))) / 2, params['fc2'])


def divided_by_hand(params, clip, temporal=True):
    """Logits of one clip [t h w c], 4 x 4 patches; the tokens are kept as x[frame, row, column]."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    frames, rows, columns = clip.shape[0], clip.shape[1] // 4, clip.shape[2] // 4
    kernel, position = params['patch_embed']['proj']['kernel'], params['pos_embed'][0]
    x = np.zeros((frames, rows, columns, kernel.shape[-1]))
    for t, i, j in np.ndindex(x.shape[:3]):
        patch = clip[t, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
        x[t, i, j] = np.einsum('pqc,pqcd->d', patch, kernel) + params['patch_embed']['proj']['bias']
        x[t, i, j] += position[1 + i * columns + j] + params['time_embed'][0, t]
    cls = params['cls_token'][0, 0] + position[0]
    for block in (params[f'blocks_{i}'] for i in range(2)):
        if temporal:
            for i, j in np.ndindex(rows, columns):
                seen = attended(normalised(x[:, i, j], block['temporal_norm1']), block['temporal_attn'])
                x[:, i, j] += dense(seen, block['temporal_fc'])
        seen_by_cls = []
        for t in range(frames):
            sequence = np.concatenate([cls[None], x[t].reshape(rows * columns, -1)])
            seen = attended(normalised(sequence, block['norm1']), block['attn'])
            seen_by_cls.append(seen[0])
            x[t] += seen[1:].reshape(x[t].shape)
        cls = cls + np.mean(seen_by_cls, axis=0)
        cls = cls + mlp(normalised(cls, block['norm2']), block['mlp'])
        x += mlp(normalised(x, block['norm2']), block['mlp'])
    return dense(normalised(cls, params['norm']), params['head'])


def test_divided_attention_is_that_by_hand(video):
    params = parameters(small())
    expected = [divided_by_hand(params, np.asarray(clip, np.float64)) for clip in video]
    logits = compiled(small())(params, video)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize('attention, matters', [('divided', True), ('joint', True), ('space', False)])
def test_order_of_frames_matters_to_all_but_space_only_attention(attention, matters, video):
    apply, params = compiled(small(attention)), parameters(small(attention))

    def difference(params):
        return np.abs(apply(params, video[:, ::-1]) - apply(params, video)).max()

    assert difference(params) > 0.05 if matters else difference(params) < 2e-5
    # It is the time embedding alone that tells one frame from another.
    assert difference({**params, 'time_embed': jnp.zeros((1, 4, 16))}) < 2e-5


# ---- The start


@pytest.fixture(scope='module')
def at_first(video):
    """The published start of a divided network, in which frames meet in CLS alone."""
    params = start(small())
    # Larger kernels, that the logits may be worth comparing; what starts at zero stays there.
    return jax.tree.map(lambda x: x if x.ndim == 1 else 10 * x, params)


def test_starts_as_an_image_network_whose_cls_is_averaged(at_first, video):
    expected = [divided_by_hand(at_first, np.asarray(clip, np.float64), temporal=False) for clip in video]
    assert np.abs(expected).max() > 0.1
    logits = compiled(small())(at_first, video)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(compiled(small())(at_first, video[:, ::-1]), logits, atol=1e-5)


def test_starts_as_the_space_only_network_where_nothing_moves(at_first, video):
    # Where frames differ the two part in the first block: space-only keeps a CLS for each frame.
    image_params = {name: value for name, value in at_first.items() if name != 'time_embed'}
    for block in ('blocks_0', 'blocks_1'):
        image_params[block] = {name: at_first[block][name] for name in ('norm1', 'attn', 'norm2', 'mlp')}
    still = jnp.repeat(video[:, :1], 4, axis=1)
    expected = compiled(small('space'))(image_params, still)
    np.testing.assert_allclose(compiled(small())(at_first, still), expected, atol=1e-5)
    moving = compiled(small('space'))(image_params, video)
    assert np.abs(compiled(small())(at_first, video) - moving).max() > 1e-3


def test_the_first_gradient_reaches_the_temporal_projection_and_not_the_attention_before_it(at_first, video):
    params = {name: value for name, value in at_first.items() if name != 'blocks_1'}
    grads = gradients(small(depth=1), params, video)
    for name in ('temporal_attn', 'temporal_norm1'):
        assert not any(leaf.any() for leaf in jax.tree.leaves(grads['blocks_0'][name]))
    assert np.abs(grads['blocks_0']['temporal_fc']['kernel']).max() > 1e-6
    assert np.abs(grads['time_embed']).max() > 1e-6


def test_deviations_at_first():
    def deviations(**settings):
        params = start(small(image_size=64, width=64, num_frames=8, depth=1, **settings))
        flat = flax.traverse_util.flatten_dict(params, sep='/')
        assert all((leaf == name.endswith('scale')).all() for name, leaf in flat.items() if leaf.ndim == 1)
        # PyTorch's convolution: uniform within 1 / sqrt(4 * 4 * 3).
        assert np.abs(flat['patch_embed/proj/kernel']).max() == pytest.approx(48**-0.5, rel=0.01)
        names = ('pos_embed', 'time_embed', 'blocks_0/temporal_fc/kernel', 'blocks_0/attn/qkv/kernel')
        return [np.std(flat[name]) for name in names]

    assert deviations() == pytest.approx([0.02, 0, 0, 0.02], rel=0.05)
    assert deviations(embedding_std=0.5) == pytest.approx([0.5, 0.5, 64**-0.5, 64**-0.5], rel=0.1)


# ---- Mistakes


@pytest.mark.parametrize(
    'settings, shape, message',
    [
        ({}, (4, 8, 12, 3), r'five axes.*4, 8, 12, 3'),
        ({}, (1, 5, 8, 12, 3), r'made for t, h, w = \(4, 8, 12\); got \(5, 8, 12\).*resize_embeddings'),
        ({}, (1, 4, 12, 8, 3), r'made for t, h, w = \(4, 8, 12\); got \(4, 12, 8\)'),
        ({'image_size': 30}, (1, 4, 30, 30, 3), r'image_size=30 is not a multiple of patch_size=4'),
        ({'image_size': (8, 10)}, (1, 4, 8, 10, 3), r'image_size=\(8, 10\) is not a multiple of patch_size=4'),
        ({'num_heads': 3}, (1, 4, 8, 12, 3), 'width=16 is not divisible by num_heads=3'),
        ({'attention': 'axial'}, (1, 4, 8, 12, 3), "attention='axial': must be one of divided, joint, space"),
    ],
)
def test_what_does_not_fit_is_refused(settings, shape, message):
    with pytest.raises(ValueError, match=message):
        small(**settings).init(jax.random.key(0), jnp.zeros(shape))
