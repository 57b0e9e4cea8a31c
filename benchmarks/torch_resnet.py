"""A peer: ResNet with bottleneck blocks in PyTorch, as in torchvision, under torchvision's names.

He et al. 2015 (arXiv:1512.03385), with the stride in the 3x3 convolution. Images [n c h w] -> logits [n k].
"""

from torch import nn


def conv(inputs, outputs, size, stride=1, padding=0):
    return nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, 1), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            self.downsample = nn.Sequential(*shortcut)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self, stage_sizes, width, num_classes):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, 7, 2, 3), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.stages = [f'layer{i + 1}' for i in range(len(stage_sizes))]
        channels = width
        for i, (stage, blocks) in enumerate(zip(self.stages, stage_sizes)):
            layers = []
            for j in range(blocks):
                layers.append(Bottleneck(channels, width * 2**i, 2 if i and not j else 1))
                channels = 4 * width * 2**i
            setattr(self, stage, nn.Sequential(*layers))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean((2, 3)))
