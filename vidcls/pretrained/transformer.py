"""Tables of names for TimeSformer, and for the Vision Transformers of images that TimeSformer starts from."""

from vidcls.pretrained.layout import HALF, KINETICS, Beside, Layout, under

TIMM = {
    'cls_token': 'cls_token',
    'pos_embed': 'pos_embed',
    'patch_embed/proj': 'patch_embed.proj',
    'blocks_*/norm1': 'blocks.*.norm1',
    'blocks_*/attn/qkv': 'blocks.*.attn.qkv',
    'blocks_*/attn/proj': 'blocks.*.attn.proj',
    'blocks_*/norm2': 'blocks.*.norm2',
    'blocks_*/mlp/fc1': 'blocks.*.mlp.fc1',
    'blocks_*/mlp/fc2': 'blocks.*.mlp.fc2',
    'norm': 'norm',
}
AUTHORS = TIMM | {
    'time_embed': 'time_embed',
    'blocks_*/temporal_norm1': 'blocks.*.temporal_norm1',
    'blocks_*/temporal_attn/qkv': 'blocks.*.temporal_attn.qkv',
    'blocks_*/temporal_attn/proj': 'blocks.*.temporal_attn.proj',
    'blocks_*/temporal_fc': 'blocks.*.temporal_fc',
}

_GOOGLE = 'Transformer/encoderblock_*/'
_ATTENTION = _GOOGLE + 'MultiHeadDotProductAttention_1/'
GOOGLE = {
    'cls_token': 'cls',
    'pos_embed': 'Transformer/posembed_input/pos_embedding',
    'patch_embed/proj': 'embedding',
    'blocks_*/norm1': _GOOGLE + 'LayerNorm_0',
    'blocks_*/attn/qkv': Beside(_ATTENTION + name for name in ('query', 'key', 'value')),
    'blocks_*/attn/proj': _ATTENTION + 'out',
    'blocks_*/norm2': _GOOGLE + 'LayerNorm_2',
    'blocks_*/mlp/fc1': _GOOGLE + 'MlpBlock_3/Dense_0',
    'blocks_*/mlp/fc2': _GOOGLE + 'MlpBlock_3/Dense_1',
    'norm': 'Transformer/encoder_norm',
    'head': 'head',
}
GOOGLE_ENDINGS = {'kernel': '/kernel', 'scale': '/scale', 'bias': '/bias'}

_HF = 'timesformer.encoder.layer.*.'
HUGGING_FACE = {
    'cls_token': 'timesformer.embeddings.cls_token',
    'pos_embed': 'timesformer.embeddings.position_embeddings',
    'time_embed': 'timesformer.embeddings.time_embeddings',
    'patch_embed/proj': 'timesformer.embeddings.patch_embeddings.projection',
    'blocks_*/temporal_norm1': _HF + 'temporal_layernorm',
    'blocks_*/temporal_attn/qkv': _HF + 'temporal_attention.attention.qkv',
    'blocks_*/temporal_attn/proj': _HF + 'temporal_attention.output.dense',
    'blocks_*/temporal_fc': _HF + 'temporal_dense',
    'blocks_*/norm1': _HF + 'layernorm_before',
    'blocks_*/attn/qkv': _HF + 'attention.attention.qkv',
    'blocks_*/attn/proj': _HF + 'attention.output.dense',
    'blocks_*/norm2': _HF + 'layernorm_after',
    'blocks_*/mlp/fc1': _HF + 'intermediate.dense',
    'blocks_*/mlp/fc2': _HF + 'output.dense',
    'norm': 'timesformer.layernorm',
    'head': 'classifier',
}

_MM = 'backbone.transformer_layers.layers.*.'
_MMACTION2 = {
    'cls_token': 'backbone.cls_token',
    'pos_embed': 'backbone.pos_embed',
    'time_embed': 'backbone.time_embed',
    'patch_embed/proj': 'backbone.patch_embed.projection',
    'blocks_*/mlp/fc1': _MM + 'ffns.0.layers.0.0',
    'blocks_*/mlp/fc2': _MM + 'ffns.0.layers.1',
    'norm': 'backbone.norm',
    'head': 'cls_head.fc_cls',
}


def _attention(ours: str, theirs: str) -> dict[str, str]:
    """Returns rows for a torch.nn.MultiheadAttention, whose first projection is two parameters instead of a module."""
    return {
        f'blocks_*/{ours}/qkv/kernel': f'{_MM}{theirs}.attn.in_proj_weight',
        f'blocks_*/{ours}/qkv/bias': f'{_MM}{theirs}.attn.in_proj_bias',
        f'blocks_*/{ours}/proj': f'{_MM}{theirs}.attn.out_proj',
    }


MMACTION2_DIVIDED = {
    **_MMACTION2,
    **_attention('temporal_attn', 'attentions.0'),
    'blocks_*/temporal_norm1': _MM + 'attentions.0.norm',
    'blocks_*/temporal_fc': _MM + 'attentions.0.temporal_fc',
    **_attention('attn', 'attentions.1'),
    'blocks_*/norm1': _MM + 'attentions.1.norm',
    'blocks_*/norm2': _MM + 'ffns.0.norm',
}
MMACTION2_JOINT_OR_SPACE = {
    **_MMACTION2,
    **_attention('attn', 'attentions.0'),
    'blocks_*/norm1': _MM + 'norms.0',
    'blocks_*/norm2': _MM + 'norms.1',
}


def _also_over_time(table: dict) -> dict:
    """Returns an image network's table with added rows, so that its attention also starts our attention over time.

    Attention over space and attention over time thus start alike, as published (facebookresearch, models/helpers.py).
    """
    over_time = {
        key.replace('/norm1', '/temporal_norm1').replace('/attn/', '/temporal_attn/'): value
        for key, value in table.items()
    }
    return {**over_time, **table}


# Parameters that an image network doesn't have. They start as TimeSformer initialises them: at zero, as published.
_OF_TIME = r'time_embed|blocks_\d+/temporal_fc/|head/'


def _inputs_first(arrays) -> bool:
    """Whether kernels of linear layers are (in, out). The kernel of qkv tells: it has more outputs than inputs."""
    shape = arrays['blocks.0.attn.qkv.weight'].shape
    return len(shape) == 2 and shape[0] < shape[1]


LAYOUTS = (
    Layout(
        ('huggingface',),
        'TimeSformer of Hugging Face',
        HUGGING_FACE,
        (r'^timesformer\.encoder\.layer\.0\.attention\.attention\.qkv\.weight$',),
        inputs=KINETICS,
    ),
    Layout(
        ('mmaction2',),
        'TimeSformer of mmaction2, divided',
        MMACTION2_DIVIDED,
        (r'^backbone\.transformer_layers\.layers\.0\.attentions\.1\.attn\.in_proj_weight$',),
        inputs=HALF,
    ),
    Layout(
        ('mmaction2-joint', 'mmaction2-space'),
        'TimeSformer of mmaction2, joint or space-only',
        MMACTION2_JOINT_OR_SPACE,
        (r'^backbone\.transformer_layers\.layers\.0\.attentions\.0\.attn\.in_proj_weight$',),
        inputs=HALF,
    ),
    Layout(
        ('paddlevideo',),
        'TimeSformer of PaddleVideo',
        under('backbone.', AUTHORS) | {'head': 'head.fc'},
        (r'^backbone\.blocks\.0\.attn\.qkv\.weight$',),
        axes={4: 'o i h w -> h w i o'},
        inputs=KINETICS,
    ),
    Layout(
        ('facebookresearch',),
        'TimeSformer of its authors (facebookresearch)',
        AUTHORS | {'head': 'head'},
        (r'^blocks\.0\.attn\.qkv\.weight$', r'^time_embed$'),
        inputs=KINETICS,
    ),
    Layout(
        ('paddle',),
        'ViT of PaddlePaddle',
        _also_over_time(TIMM | {'head': 'head'}),
        (r'^blocks\.0\.attn\.qkv\.weight$',),
        starts=_OF_TIME,
        axes={4: 'o i h w -> h w i o'},
        inputs=HALF,
        when=_inputs_first,
    ),
    Layout(
        ('timm',),
        'ViT of timm',
        _also_over_time(TIMM | {'head': 'head'}),
        (r'^blocks\.0\.attn\.qkv\.weight$',),
        starts=_OF_TIME,
        inputs=HALF,
    ),
    Layout(
        ('google',),
        'ViT of Google (vision_transformer)',
        _also_over_time(GOOGLE),
        (r'^Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel$',),
        starts=_OF_TIME,
        endings=GOOGLE_ENDINGS,
        axes={},
        inputs=HALF,
    ),
)
