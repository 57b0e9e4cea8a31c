"""Tables of names for BN-Inception, for TSN with BN-Inception, and for ECO.

The weights are published under the names of Caffe's layers, in some files with the prefix `base_model.`.
"""

from vidcls.models.bn_inception import BLOCKS
from vidcls.models.resnet3d import ROWS
from vidcls.pretrained.layout import CAFFE, CAFFE_DIFFERENCE, CAFFE_FLOW, Layout, perhaps_under

STEM = ('conv1_7x7_s2', 'conv2_3x3_reduce', 'conv2_3x3')
BRANCHES = ('1x1', '3x3_reduce', '3x3', 'double_3x3_reduce', 'double_3x3_1', 'double_3x3_2', 'pool_proj')
# The layers of a block of the 3-D part, `vidcls.models.resnet3d`.
LAYERS = ('1', '1_bn', '2', 'down', 'bn')

FLAT = {f'backbone/{name}{norm}': f'{name}{norm}' for name in STEM for norm in ('', '_bn')} | {
    f'backbone/{block}/{branch}{norm}': f'{block}_{branch}{norm}'
    for block in BLOCKS
    for branch in BRANCHES
    for norm in ('', '_bn')
}
FLAT_3D = {f'tail/{block}/{layer}': f'{block}_{layer}' for block, _, _ in ROWS for layer in LAYERS}

IMAGE_NETWORK = perhaps_under('base_model.', FLAT)
TAIL = perhaps_under('base_model.', FLAT_3D)
HEAD: dict[str, tuple[str, ...]] = {'head': ('fc_final', 'base_model.fc_final', 'new_fc')}
IMAGE_HEAD: dict[str, tuple[str, ...]] = {'head': ('last_linear', 'fc', 'fc_final', 'base_model.fc', 'new_fc')}

_2D = r'^(base_model\.)?conv1_7x7_s2\.weight$'
_3D = r'^(base_model\.)?res3a_2\.weight$'

LAYOUTS = (
    Layout(('eco-pytorch',), 'ECO of ECO-pytorch', IMAGE_NETWORK | TAIL | HEAD, (_2D, _3D), inputs=CAFFE),
    Layout(('eco-pytorch-3d',), "ECO-pytorch's 3-D part", TAIL | HEAD, (_3D,), starts='backbone/|head/', inputs=CAFFE),
    Layout(
        ('bn-inception', 'cadene'),
        'BN-Inception of tsn-pytorch or pretrained-models.pytorch',
        IMAGE_NETWORK | IMAGE_HEAD,
        (_2D,),
        starts='tail/|head/',
        inputs=CAFFE,
        flow=CAFFE_FLOW,
        difference=CAFFE_DIFFERENCE,
    ),
)
