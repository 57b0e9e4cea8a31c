"""ResNets with bottleneck blocks, and TSN with them, as other libraries publish them."""

from vidcls.pretrained.layout import Layout, under

TORCHVISION = {
    'conv1': 'conv1',
    'bn1': 'bn1',
    'layer*_*/conv*': 'layer*.*.conv*',
    'layer*_*/bn*': 'layer*.*.bn*',
    'layer*_*/downsample_*': 'layer*.*.downsample.*',
}
# A convolution and its norm are one module.
MMACTION2 = {
    'conv1': 'conv1.conv',
    'bn1': 'conv1.bn',
    'layer*_*/conv*': 'layer*.*.conv*.conv',
    'layer*_*/bn*': 'layer*.*.conv*.bn',
    'layer*_*/downsample_0': 'layer*.*.downsample.conv',
    'layer*_*/downsample_1': 'layer*.*.downsample.bn',
}


def _paddle() -> dict[str, tuple[str, ...]]:
    """Stages count from 2 and blocks are letters, or 'a' and 'b1', 'b2', ... in the long third stage of 101 and 152."""
    table = {'conv1': ('conv._conv',), 'bn1': ('conv._batch_norm',)}
    for stage in range(1, 5):
        for block in range(36):
            letters = [chr(ord('a') + block)] if block < 26 else []
            blocks = [f'res{stage + 1}{name}' for name in (*letters, f'b{block}')]
            for ours, theirs in (('conv1', 'conv0'), ('conv2', 'conv1'), ('conv3', 'conv2')):
                table[f'layer{stage}_{block}/{ours}'] = tuple(f'{name}.{theirs}._conv' for name in blocks)
                table[f'layer{stage}_{block}/bn{ours[-1]}'] = tuple(f'{name}.{theirs}._batch_norm' for name in blocks)
        first = f'res{stage + 1}a.short'
        table[f'layer{stage}_0/downsample_0'] = (f'{first}._conv',)
        table[f'layer{stage}_0/downsample_1'] = (f'{first}._batch_norm',)
    return table


PADDLE = _paddle()
PADDLE_ENDINGS = {'kernel': '.weight', 'scale': '.weight', 'bias': '.bias', 'mean': '._mean', 'var': '._variance'}
PADDLE_AXES = {4: 'o i h w -> h w i o'}  # a linear layer's kernel is (in, out), as ours


def _trunk(table: dict, theirs: str) -> dict:
    return {
        f'backbone/{key}': tuple(theirs + name for name in value) if isinstance(value, tuple) else theirs + value
        for key, value in table.items()
    }


LAYOUTS = (
    Layout(
        ('mmaction2',),
        'TSN of mmaction2',
        _trunk(MMACTION2, 'backbone.') | {'head': 'cls_head.fc_cls'},
        (r'^backbone\.layer1\.0\.conv1\.conv\.weight$',),
    ),
    Layout(
        ('tsn-pytorch',),
        'TSN of tsn-pytorch',
        under('base_model.', TORCHVISION, 'backbone/') | {'head': ('new_fc', 'base_model.fc')},
        (r'^base_model\.layer1\.0\.conv1\.weight$',),
    ),
    Layout(
        ('paddlevideo',),
        'TSN of PaddleVideo',
        _trunk(PADDLE, 'backbone.') | {'head': 'head.fc'},
        (r'^backbone\.res2a\.conv0\._conv\.weight$',),
        endings=PADDLE_ENDINGS,
        axes=PADDLE_AXES,
    ),
    Layout(
        ('paddle',),
        'ResNet of PaddlePaddle',
        _trunk(PADDLE, '') | {'head': ('out', 'fc')},
        (r'^res2a\.conv0\._conv\.weight$',),
        starts='head/',
        endings=PADDLE_ENDINGS,
        axes=PADDLE_AXES,
    ),
    Layout(
        ('torchvision', 'timm'),
        'ResNet of torchvision or timm',
        under('', TORCHVISION, 'backbone/') | {'head': 'fc'},
        (r'^layer1\.0\.conv1\.weight$',),
        starts='head/',
    ),
)
