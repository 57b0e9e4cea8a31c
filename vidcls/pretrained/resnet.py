"""Tables of names for bottleneck ResNets, alone and as the backbone of TSN."""

import functools

from vidcls.pretrained.layout import TSN_PYTORCH_FLOW, Arrays, Layout, under

TORCHVISION = {
    'conv1': 'conv1',
    'bn1': 'bn1',
    'layer*_*/conv*': 'layer*.*.conv*',
    'layer*_*/bn*': 'layer*.*.bn*',
    'layer*_*/downsample_*': 'layer*.*.downsample.*',
}
# In mmaction2 a convolution and its norm are one module.
MMACTION2 = {
    'conv1': 'conv1.conv',
    'bn1': 'conv1.bn',
    'layer*_*/conv*': 'layer*.*.conv*.conv',
    'layer*_*/bn*': 'layer*.*.conv*.bn',
    'layer*_*/downsample_0': 'layer*.*.downsample.conv',
    'layer*_*/downsample_1': 'layer*.*.downsample.bn',
}


def _paddle(deep: bool) -> dict[str, str]:
    """Returns the table for PaddlePaddle's ResNet-50, or, if `deep`, for its ResNet-101 and ResNet-152.

    PaddlePaddle counts stages from 2 and calls blocks 'a', 'b', 'c', ... In the third stage of a deep network, blocks
    are called 'a', 'b1', 'b2', ...
    """
    table = {'conv1': 'conv._conv', 'bn1': 'conv._batch_norm'}
    for stage in range(1, 5):
        numbered = deep and stage == 3
        # Enough rows for ResNet-152 if `deep`, else for ResNet-50. Spare rows match nothing.
        for block in range(36 if numbered else 6 if stage == 3 else 8):
            name = f'res{stage + 1}' + (f'b{block}' if numbered and block else chr(ord('a') + block))
            for ours, theirs in (('conv1', 'conv0'), ('conv2', 'conv1'), ('conv3', 'conv2')):
                table[f'layer{stage}_{block}/{ours}'] = f'{name}.{theirs}._conv'
                table[f'layer{stage}_{block}/bn{ours[-1]}'] = f'{name}.{theirs}._batch_norm'
        first = f'res{stage + 1}a.short'
        table[f'layer{stage}_0/downsample_0'] = f'{first}._conv'
        table[f'layer{stage}_0/downsample_1'] = f'{first}._batch_norm'
    return table


# The key says whether the network has more than 50 layers.
PADDLE = {deep: _paddle(deep) for deep in (False, True)}
PADDLE_ENDINGS = {'kernel': '.weight', 'scale': '.weight', 'bias': '.bias', 'mean': '._mean', 'var': '._variance'}
PADDLE_AXES = {4: 'o i h w -> h w i o'}  # a linear layer's kernel is (in, out), as ours


def _has_numbers(deep: bool, arrays: Arrays) -> bool:
    """Whether these arrays need the table for `deep`. Only deep networks have numbered blocks."""
    return deep == any('res4b1.' in name for name in arrays)


LAYOUTS = (
    Layout(
        ('mmaction2',),
        'TSN of mmaction2',
        under('backbone.', MMACTION2, 'backbone/') | {'head': 'cls_head.fc_cls'},
        (r'^backbone\.layer1\.0\.conv1\.conv\.weight$',),
    ),
    Layout(
        ('tsn-pytorch',),
        'TSN of tsn-pytorch',
        under('base_model.', TORCHVISION, 'backbone/') | {'head': ('new_fc', 'base_model.fc')},
        (r'^base_model\.layer1\.0\.conv1\.weight$',),
        flow=TSN_PYTORCH_FLOW,
    ),
    *(
        Layout(
            ('paddlevideo',),
            'TSN of PaddleVideo',
            under('backbone.', table, 'backbone/') | {'head': 'head.fc'},
            (r'^backbone\.res2a\.conv0\._conv\.weight$',),
            endings=PADDLE_ENDINGS,
            axes=PADDLE_AXES,
            when=functools.partial(_has_numbers, deep),
        )
        for deep, table in PADDLE.items()
    ),
    *(
        Layout(
            ('paddle',),
            'ResNet of PaddlePaddle',
            under('', table, 'backbone/') | {'head': ('out', 'fc')},
            (r'^res2a\.conv0\._conv\.weight$',),
            starts='head/',
            endings=PADDLE_ENDINGS,
            axes=PADDLE_AXES,
            when=functools.partial(_has_numbers, deep),
        )
        for deep, table in PADDLE.items()
    ),
    Layout(
        ('torchvision', 'timm'),
        'ResNet of torchvision or timm',
        under('', TORCHVISION, 'backbone/') | {'head': 'fc'},
        (r'^layer1\.0\.conv1\.weight$',),
        starts='head/',
    ),
)
