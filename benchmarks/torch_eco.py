"""A peer: ECO and TSN's BN-Inception in PyTorch, layer by layer as published, under the published names.

Zolfaghari et al. 2018 (arXiv:1804.09066). Frames [b t c h w] -> logits [b k].
"""

import torch
from torch import nn
from torch.nn import functional as F

# A row has the name of the block; then the channels of 1x1; of 3x3_reduce and 3x3; of double_3x3_reduce, and of
# double_3x3_1 and double_3x3_2; the kind of pooling and the channels of pool_proj; and the stride.
INCEPTIONS = [
    ('3a', 64, 64, 64, 64, 96, 'ave', 32, 1),
    ('3b', 64, 64, 96, 64, 96, 'ave', 64, 1),
    ('3c', None, 128, 160, 64, 96, 'max', None, 2),
    ('4a', 224, 64, 96, 96, 128, 'ave', 128, 1),
    ('4b', 192, 96, 128, 96, 128, 'ave', 128, 1),
    ('4c', 160, 128, 160, 128, 160, 'ave', 128, 1),
    ('4d', 96, 128, 192, 160, 192, 'ave', 128, 1),
    ('4e', None, 128, 192, 192, 256, 'max', None, 2),
    ('5a', 352, 192, 320, 160, 224, 'ave', 128, 1),
    ('5b', 352, 192, 320, 192, 224, 'max', 128, 1),
]


class Net(nn.Module):
    """A network, frames [b t c h w] -> logits [b k].

    Args:
      kind: eco_full, eco_lite or tsn_bninception.
      num_classes: the number of classes, k.
      width: the number of channels of the first convolution, 64 as published.
    """

    def __init__(self, kind, num_classes, width=64):
        super().__init__()
        self.kind, self.width = kind, width
        self._conv2d('conv1_7x7_s2', 3, 64, 7, 2, 3)
        self._conv2d('conv2_3x3_reduce', 64, 64, 1)
        self._conv2d('conv2_3x3', 64, 192, 3, 1, 1)
        channels = 192
        for block, one, reduce3, three, reduced, double, _, projection, stride in INCEPTIONS:
            name = f'inception_{block}_'
            self._conv2d(name + 'double_3x3_reduce', channels, reduced, 1)
            self._conv2d(name + 'double_3x3_1', reduced, double, 3, 1, 1)
            if kind == 'eco_lite' and block == '3c':
                break
            self._conv2d(name + 'double_3x3_2', double, double, 3, stride, 1)
            self._conv2d(name + '3x3_reduce', channels, reduce3, 1)
            self._conv2d(name + '3x3', reduce3, three, 3, stride, 1)
            if one:
                self._conv2d(name + '1x1', channels, one, 1)
                self._conv2d(name + 'pool_proj', channels, projection, 1)
            channels = three + double + (one + projection if one else channels)
        features = self._channels(1024) if kind != 'eco_lite' else 0
        if kind != 'tsn_bninception':
            self._conv3d('res3a_2', 'res3a_bn', 96, 128)
            self._conv3d('res3b_1', 'res3b_1_bn', 128, 128)
            self._conv3d('res3b_2', 'res3b_bn', 128, 128)
            for stage, inputs, outputs in ((4, 128, 256), (5, 256, 512)):
                self._conv3d(f'res{stage}a_1', f'res{stage}a_1_bn', inputs, outputs, 2)
                self._conv3d(f'res{stage}a_2', f'res{stage}a_bn', outputs, outputs)
                self._conv3d(f'res{stage}a_down', None, inputs, outputs, 2)
                self._conv3d(f'res{stage}b_1', f'res{stage}b_1_bn', outputs, outputs)
                self._conv3d(f'res{stage}b_2', f'res{stage}b_bn', outputs, outputs)
            features += self._channels(512)
        self.fc_final = nn.Linear(features, num_classes)

    def _channels(self, published):
        return published * self.width // 64 if published != 3 else 3

    def _conv2d(self, name, inputs, outputs, *window):
        inputs, outputs = self._channels(inputs), self._channels(outputs)
        setattr(self, name, nn.Conv2d(inputs, outputs, *window))
        setattr(self, name + '_bn', nn.BatchNorm2d(outputs))

    def _conv3d(self, name, norm, inputs, outputs, stride=1):
        inputs, outputs = self._channels(inputs), self._channels(outputs)
        setattr(self, name, nn.Conv3d(inputs, outputs, 3, stride, 1))
        if norm:
            setattr(self, norm, nn.BatchNorm3d(outputs))

    def _unit(self, name, x):
        return F.relu(getattr(self, name + '_bn')(getattr(self, name)(x)))

    def forward(self, frames):
        b, t = frames.shape[:2]
        x = self._unit('conv1_7x7_s2', frames.flatten(0, 1))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self._unit('conv2_3x3', self._unit('conv2_3x3_reduce', x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for block, one, _, _, _, _, pool, _, stride in INCEPTIONS:
            name = f'inception_{block}_'
            double = self._unit(name + 'double_3x3_1', self._unit(name + 'double_3x3_reduce', x))
            if block == '3c':
                tap = double
                if self.kind == 'eco_lite':
                    return self.fc_final(self._res3d(tap, b))
            double = self._unit(name + 'double_3x3_2', double)
            three = self._unit(name + '3x3', self._unit(name + '3x3_reduce', x))
            if not one:
                x = torch.cat([three, double, F.max_pool2d(x, 3, 2, ceil_mode=True)], 1)
                continue
            pooled = F.avg_pool2d(x, 3, 1, 1) if pool == 'ave' else F.max_pool2d(x, 3, 1, 1)
            x = torch.cat([self._unit(name + '1x1', x), three, double, self._unit(name + 'pool_proj', pooled)], 1)
        features = x.mean((2, 3)).view(b, t, -1).mean(1)
        if self.kind == 'eco_full':
            features = torch.cat([features, self._res3d(tap, b)], 1)
        return self.fc_final(features)

    def _res3d(self, tap, b):
        x = tap.view(b, -1, *tap.shape[1:]).transpose(1, 2)
        res3a = self.res3a_2(x)
        res3b = self.res3b_2(F.relu(self.res3b_1_bn(self.res3b_1(F.relu(self.res3a_bn(res3a)))))) + res3a
        x = F.relu(self.res3b_bn(res3b))
        for stage in (4, 5):
            layer = {name: getattr(self, f'res{stage}{name}') for name in
                     ('a_1', 'a_1_bn', 'a_2', 'a_down', 'a_bn', 'b_1', 'b_1_bn', 'b_2', 'b_bn')}  # fmt: skip
            a = layer['a_2'](F.relu(layer['a_1_bn'](layer['a_1'](x)))) + layer['a_down'](x)
            y = F.relu(layer['a_bn'](a))
            b_sum = layer['b_2'](F.relu(layer['b_1_bn'](layer['b_1'](y)))) + a
            x = F.relu(layer['b_bn'](b_sum))
        return x.mean((2, 3, 4))
