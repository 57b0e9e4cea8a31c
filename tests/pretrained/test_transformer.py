"""TimeSformers and ViTs. Hugging Face's is proven by tests/models/test_timesformer.py; the others are renamings of it, or of a
ViT that Flax computes here."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import published
from vidcls import models, pretrained

jit = lambda function: jax.jit(function, compiler_options={'xla_backend_optimization_level': 0})


@pytest.fixture(scope='module', params=['divided', 'joint', 'space'])
def net(request):
    model, start = published.timesformer(request.param)
    arrays = published.drawn(model, start, 'huggingface')
    return model, start, arrays, pretrained.convert(arrays, model, start)


AUTHORS = (
    ('timesformer.embeddings.patch_embeddings.projection', 'patch_embed.proj'),
    ('timesformer.embeddings.position_embeddings', 'pos_embed'),
    ('timesformer.embeddings.time_embeddings', 'time_embed'),
    ('timesformer.embeddings.', ''),
    ('timesformer.encoder.layer.', 'blocks.'),
    ('timesformer.layernorm', 'norm'),
    ('classifier', 'head'),
    ('temporal_layernorm', 'temporal_norm1'),
    ('temporal_attention.attention.qkv', 'temporal_attn.qkv'),
    ('temporal_attention.output.dense', 'temporal_attn.proj'),
    ('temporal_dense', 'temporal_fc'),
    ('layernorm_before', 'norm1'),
    ('layernorm_after', 'norm2'),
    ('attention.attention.qkv', 'attn.qkv'),
    ('attention.output.dense', 'attn.proj'),
    ('intermediate.dense', 'mlp.fc1'),
    ('output.dense', 'mlp.fc2'),
)


def authors(name):
    for theirs, ours in AUTHORS:
        name = name.replace(theirs, ours)
    return name


MMACTION2_DIVIDED = {
    'temporal_norm1': 'attentions.0.norm', 'temporal_attn': 'attentions.0.attn', 'temporal_fc': 'attentions.0.temporal_fc',
    'norm1': 'attentions.1.norm', 'attn': 'attentions.1.attn', 'norm2': 'ffns.0.norm',
}  # fmt: skip
MMACTION2 = {'norm1': 'norms.0', 'attn': 'attentions.0.attn', 'norm2': 'norms.1'}


def mmaction2(name, divided):
    """torch.nn.MultiheadAttention has its first projection beside itself, not in a module."""
    parts = authors(name).replace('mlp.fc1', 'ffns.0.layers.0.0').replace('mlp.fc2', 'ffns.0.layers.1').split('.')
    if parts[0] == 'head':
        return '.'.join(('cls_head.fc_cls', parts[1]))
    if parts[0] == 'blocks':
        modules = MMACTION2_DIVIDED if divided else MMACTION2
        parts[:3] = ['transformer_layers.layers', parts[1], modules.get(parts[2], parts[2])]
    name = '.'.join(('backbone', *parts)).replace('patch_embed.proj', 'patch_embed.projection')
    return name.replace('.qkv.', '.in_proj_').replace('attn.proj', 'attn.out_proj')


def linear_transposed(name, array):
    return array.T if array.ndim == 2 and name.endswith('weight') else array


def renamed(arrays, layout):
    divided = any('temporal_dense' in name for name in arrays)
    if layout == 'facebookresearch':
        return {f'model.{authors(name)}': array for name, array in arrays.items()}
    if layout == 'mmaction2':
        return {mmaction2(name, divided): array for name, array in arrays.items()}
    paddle = {authors(name): linear_transposed(name, array) for name, array in arrays.items()}
    return {
        name.replace('head.', 'head.fc.') if name.startswith('head') else f'backbone.{name}': array
        for name, array in paddle.items()
    }


@pytest.mark.parametrize('layout', ['facebookresearch', 'mmaction2', 'paddlevideo'])
def test_other_libraries_names_give_the_same(net, layout):
    model, start, arrays, converted = net
    theirs = renamed(arrays, layout)
    assert len(theirs) == len(arrays) and not set(theirs) & set(arrays)
    again = pretrained.convert(theirs, model, start)
    assert again.layout is not converted.layout and not again.started and not again.unused
    published.assert_same(again.variables, converted.variables)


def test_names_written_by_hand():
    """Of the divided TimeSformers' second block, from the libraries' sources."""
    model, start = published.timesformer()
    arrays = published.drawn(model, start, 'huggingface')
    assert {'model.blocks.1.temporal_attn.qkv.weight', 'model.blocks.1.temporal_norm1.bias', 'model.time_embed',
            'model.patch_embed.proj.weight', 'model.head.weight'} <= set(renamed(arrays, 'facebookresearch'))  # fmt: skip
    layer = 'backbone.transformer_layers.layers.1.'
    assert {layer + name for name in (
        'attentions.0.attn.in_proj_weight', 'attentions.0.attn.in_proj_bias', 'attentions.0.attn.out_proj.weight',
        'attentions.0.norm.weight', 'attentions.0.temporal_fc.bias', 'attentions.1.attn.in_proj_weight',
        'attentions.1.norm.bias', 'ffns.0.norm.weight', 'ffns.0.layers.0.0.weight', 'ffns.0.layers.1.bias',
    )} <= set(renamed(arrays, 'mmaction2'))  # fmt: skip
    assert {'backbone.blocks.1.temporal_fc.weight', 'backbone.pos_embed', 'head.fc.bias'} <= set(
        renamed(arrays, 'paddlevideo')
    )


# ---- Vision Transformers


class GoogleBlock(nn.Module):
    """Encoder1DBlock of google-research/vision_transformer, with the exact GELU that its weights are used with."""

    heads: int

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(name='LayerNorm_0')(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name='MultiHeadDotProductAttention_1')(y, y)
        return x + GoogleMLP(name='MlpBlock_3')(nn.LayerNorm(name='LayerNorm_2')(x))


class GoogleMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(4 * x.shape[-1], name='Dense_0')(x), approximate=False)
        return nn.Dense(x.shape[-1], name='Dense_1')(y)


class GoogleEncoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + self.param('posembed_input/pos_embedding', nn.initializers.zeros, (1, *x.shape[1:]))
        for i in range(published.TINY['depth']):
            x = GoogleBlock(published.TINY['num_heads'], name=f'encoderblock_{i}')(x)
        return nn.LayerNorm(name='encoder_norm')(x)


class GoogleViT(nn.Module):
    """Pictures [n h w c] -> logits [n k]."""

    @nn.compact
    def __call__(self, x):
        width, patch = published.TINY['width'], published.TINY['patch_size']
        x = nn.Conv(width, (patch, patch), (patch, patch), padding='VALID', name='embedding')(x)
        x = x.reshape(len(x), -1, width)
        cls = self.param('cls', nn.initializers.zeros, (1, 1, width))
        x = jnp.concatenate([jnp.tile(cls, (len(x), 1, 1)), x], axis=1)
        return nn.Dense(5, name='head')(GoogleEncoder(name='Transformer')(x)[:, 0])


@pytest.fixture(scope='module')
def google():
    """Its parameters, as its .npz files name them, an image and the logits of the image."""
    net = GoogleViT()
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32) * 0.4, shapes['params'])
    arrays = {'/'.join(part.key for part in path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    return arrays, image, jit(net.apply)({'params': params}, image)


def as_timm(arrays):
    """Written out apart from the tables: qkv has rows q, k, v, each head by head."""
    found = {
        'cls_token': arrays['cls'],
        'pos_embed': arrays['Transformer/posembed_input/pos_embedding'],
        'patch_embed.proj.weight': arrays['embedding/kernel'].transpose(3, 2, 0, 1),
        'patch_embed.proj.bias': arrays['embedding/bias'],
        'norm.weight': arrays['Transformer/encoder_norm/scale'],
        'norm.bias': arrays['Transformer/encoder_norm/bias'],
        'head.weight': arrays['head/kernel'].T,
        'head.bias': arrays['head/bias'],
    }
    for i in range(2):
        block = f'Transformer/encoderblock_{i}/'
        for norm, theirs in (('norm1', 'LayerNorm_0'), ('norm2', 'LayerNorm_2')):
            found[f'blocks.{i}.{norm}.weight'] = arrays[f'{block}{theirs}/scale']
            found[f'blocks.{i}.{norm}.bias'] = arrays[f'{block}{theirs}/bias']
        for layer, theirs in (('fc1', 'Dense_0'), ('fc2', 'Dense_1')):
            found[f'blocks.{i}.mlp.{layer}.weight'] = arrays[f'{block}MlpBlock_3/{theirs}/kernel'].T
            found[f'blocks.{i}.mlp.{layer}.bias'] = arrays[f'{block}MlpBlock_3/{theirs}/bias']
        attention = f'{block}MultiHeadDotProductAttention_1/'
        qkv = [arrays[f'{attention}{name}/kernel'] for name in ('query', 'key', 'value')]
        found[f'blocks.{i}.attn.qkv.weight'] = np.concatenate([x.reshape(16, 16).T for x in qkv])
        qkv = [arrays[f'{attention}{name}/bias'] for name in ('query', 'key', 'value')]
        found[f'blocks.{i}.attn.qkv.bias'] = np.concatenate([x.reshape(16) for x in qkv])
        found[f'blocks.{i}.attn.proj.weight'] = arrays[f'{attention}out/kernel'].reshape(16, 16).T
        found[f'blocks.{i}.attn.proj.bias'] = arrays[f'{attention}out/bias']
    return found


@pytest.mark.parametrize('form', ['google', 'timm', 'paddle'])
@pytest.mark.parametrize('attention', ['divided', 'space'])
def test_a_still_clip_gets_the_logits_of_the_image(google, form, attention):
    """A TimeSformer that starts from a ViT is that ViT where nothing moves."""
    arrays, image, logits = google
    if form != 'google':
        arrays = as_timm(arrays)
    if form == 'paddle':
        arrays = {name: linear_transposed(name, array) for name, array in arrays.items()}
    model, start = published.timesformer(attention)
    start = jax.tree.map(np.zeros_like, start)
    converted = pretrained.convert(arrays, model, start)
    new = {f'blocks_{i}/temporal_fc/{leaf}' for i in range(2) for leaf in ('kernel', 'bias')} | {'time_embed'}
    assert set(converted.started) == (new if attention == 'divided' else set()) and not converted.unused
    clip = jnp.repeat(image[:, None], model.num_frames, axis=1)
    ours = jit(model.apply)(converted.variables, clip)
    np.testing.assert_allclose(ours, logits, atol=1e-4 * np.abs(logits).max())


def test_attention_over_time_starts_as_that_over_space(google):
    model, start = published.timesformer()
    block = pretrained.convert(google[0], model, start).variables['params']['blocks_1']
    published.assert_same(block['temporal_attn'], block['attn'])
    published.assert_same(block['temporal_norm1'], block['norm1'])
    assert block['temporal_attn']['qkv']['kernel'].std() > 0.1
    assert (block['temporal_fc']['kernel'] == 77).all()


# ---- Other sizes


def test_embeddings_are_resized():
    model, start = published.timesformer()
    arrays = published.drawn(model, start, 'huggingface')
    larger, start = published.timesformer(num_frames=8, image_size=(32, 24))
    converted = pretrained.convert(arrays, larger, start)
    assert converted.started == {
        'pos_embed': 'resized from 2 x 2 patches to 4 x 3',
        'time_embed': 'resized from 4 frames to 8',
    }
    time = converted.variables['params']['time_embed'][0]
    theirs = arrays['timesformer.embeddings.time_embeddings'][0]
    np.testing.assert_allclose(time[:2], [theirs[0], 0.75 * theirs[0] + 0.25 * theirs[1]], rtol=1e-5)
    place = converted.variables['params']['pos_embed'][0]
    theirs = arrays['timesformer.embeddings.position_embeddings'][0]
    np.testing.assert_array_equal(place[[0, 1, 3, -3, -1]], theirs[[0, 1, 2, 3, 4]])


def test_full_size():
    """Names and shapes of facebook/timesformer-base-finetuned-k400: 121 M parameters in 256 arrays."""
    model = models.build('timesformer_base', 400)
    shapes = published.shapes(model, 8, 224, 224, 3)
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    arrays = pretrained.export(zeros, model, 'huggingface')
    assert len(arrays) == 12 * 20 + 9
    layer = 'timesformer.encoder.layer.11.'
    assert arrays[layer + 'temporal_attention.attention.qkv.weight'].shape == (2304, 768)
    assert arrays[layer + 'intermediate.dense.weight'].shape == (3072, 768)
    assert arrays['timesformer.embeddings.patch_embeddings.projection.weight'].shape == (768, 3, 16, 16)
    assert sum(array.size for array in arrays.values()) == 121_566_352
    assert not pretrained.convert(arrays, model, shapes).started
