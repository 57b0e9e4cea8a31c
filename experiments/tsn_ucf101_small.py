"""TSN (ResNet-50, RGB) from scratch on UCF101 or another small dataset; seven classes take half an hour on two cores.

    python -m experiments.tsn_ucf101_small --workdir=runs/small --config.data.dir=datasets/ucf101

The optimizer is AdamW with warm-up and a cosine schedule. `tsn_ucf101` has SGD with a stepwise schedule; from scratch,
its loss stays above the loss of guessing until the learning rate first falls. With three seeds each, AdamW classified
57 to 65 % of the test clips of seven classes correctly, and SGD 47 to 55 % (docs/results.md). Crops have 112 x 112
pixels. If you have published weights, take `tsn_ucf101`.
"""

from experiments import launch
from vidcls.config import AugmentConfig, Config, OptimConfig, SamplingConfig


def config() -> Config:
    return Config(
        sampling=SamplingConfig(num_segments=3, test_segments=7),
        augment=AugmentConfig(short_side=128, crop_size=112),
        optim=OptimConfig(name='adamw', learning_rate=5e-4, weight_decay=0.05, schedule='cosine', warmup_epochs=2.0),
        epochs=45,
        batch_size=10,
    )


if __name__ == '__main__':
    launch.main(config(), __doc__)
