"""TSN (ResNet-50, RGB) on HMDB51, with the settings of the course book's configuration.

    python -m experiments.tsn_hmdb51 --workdir=runs/tsn_hmdb51 --config.data.dir=datasets/hmdb51

Training samples 3 segments and testing 7, the short side is 240 and the crop 224. Training takes 45 epochs of SGD with learning
rate 0.01, momentum 0.9 and L2 1e-4; the rate is divided by ten at milestones. The book does not say where they are; 60 %
and 85 % of the run are our choice. The split is the official split 1, unless --config.data.train_split=train2 or train3 is
given; validation and test follow.

This recipe was not run to the end on the whole of HMDB51 here. Others report 49.0 % (ImageNet weights) and 56.1 %
(Kinetics-400) top-1 on split 1 with 8 segments (mmaction2 0.x); from scratch expect far less.
"""

from experiments import launch
from vidcls.config import Config, OptimConfig, SamplingConfig


def config() -> Config:
    return Config(
        sampling=SamplingConfig(num_segments=3, test_segments=7),
        optim=OptimConfig(learning_rate=0.01, weight_decay=1e-4, milestones=(27.0, 38.25)),
        epochs=45,
        batch_size=10,
    )


if __name__ == '__main__':
    launch.main(config(), __doc__)
