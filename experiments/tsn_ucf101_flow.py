"""TSN (BN-Inception, optical flow) on UCF101, official split 1, as tsn-pytorch trains it.

    python -m data_prep.ucf101 --videos=UCF-101 --splits=ucfTrainTestlist --out=datasets --flow=dis
    python -m experiments.tsn_ucf101_flow --workdir=runs/ucf101_flow --config.data.dir=datasets/ucf101 \\
        --config.init.weights=bn_inception.pth

A clip has 3 segments of 5 flow fields each, with x and y. Training takes 340 epochs of SGD with batches of 128 and a
learning rate of 0.001, divided by ten after epochs 190 and 300. Gradients are clipped at a norm of 20, L2 is 5e-4 on
kernels, and dropout is 0.7. Crops are multi-scale, without the smallest scale. Biases learn at twice the rate, and the
first convolution at five times the rate. Testing takes 25 segments in 10 crops.

Every BatchNorm except the first is frozen, so training must start from weights of an image network
(docs/pretrained.md). In the first convolution, each of the ten input channels gets the mean of the network's weights
for red, green and blue. To train from random parameters, set --config.init.partial_bn=false. docs/protocols.md says
what differs from the published code.

This recipe was not run on the whole of UCF101 here. 87.9 % top-1 is reported for it on split 1 with TV-L1 flow.
"""

from experiments import launch
from vidcls.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    InitConfig,
    ModelConfig,
    OptimConfig,
    SamplingConfig,
)


def config() -> Config:
    return Config(
        model=ModelConfig(name='tsn_bninception', dropout=0.7),
        data=DataConfig(train_split='train+validation', validation_split=''),
        sampling=SamplingConfig(modality='flow', num_segments=3, test_segments=25, seg_len=5),
        augment=AugmentConfig(
            short_side=256, scales=(1.0, 0.875, 0.75), mean=(128 / 255,), std=(1 / 255,),
        ),
        init=InitConfig(partial_bn=True, bias_multiplier=2.0, first_multiplier=5.0),
        optim=OptimConfig(
            learning_rate=0.001, weight_decay=5e-4, decay_all=False, clip_norm=20.0, clips_per_device=32,
            milestones=(190.0, 300.0),
        ),
        test=EvalConfig(crops=10, average='logits'),
        epochs=340,
        batch_size=128,
    )  # fmt: skip


if __name__ == '__main__':
    launch.main(config(), __doc__)
