"""TSN (ResNet-50, RGB) on HMDB51, with the settings of the course book's configuration.

    python -m experiments.tsn_hmdb51 --workdir=runs/tsn_hmdb51 --config.data.dir=datasets/hmdb51

Training samples 3 segments of a clip and testing 7. The short side has 240 pixels and the crop 224. Training takes 45
epochs of SGD with learning rate 0.01, momentum 0.9 and L2 1e-4. The learning rate is divided by ten at milestones,
after 60 % and 85 % of the run; this is our choice, because the book does not say where its milestones are. The split is
the official split 1. With --config.data.train_split=train2 or train3 it is split 2 or 3, in validation and testing too.

This recipe was not run to the end on the whole of HMDB51 here. On split 1 with 8 segments, mmaction2 0.x reports 49.0 %
top-1 from ImageNet weights and 56.1 % from Kinetics-400 weights. From scratch expect far less.
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
