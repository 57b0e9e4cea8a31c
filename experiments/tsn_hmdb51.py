"""TSN (ResNet-50, RGB) on HMDB51, with the settings of the textbook's configuration.

    python -m experiments.tsn_hmdb51 --workdir=runs/tsn_hmdb51 --config.data.dir=datasets/hmdb51

3 segments in training and 7 in testing, short side 240, crop 224, 45 epochs of SGD (0.01, momentum 0.9, L2 1e-4, one
tenth at milestones). The textbook does not say where its rate falls; 60 % and 85 % of the run is our choice. Official
split 1 unless --config.data.train_split=train2 says otherwise; validation2 and test2 go with it.

Not run to the end here on the whole of HMDB51. Others report 49.0 (ImageNet weights) and 56.1 (Kinetics-400) top-1 on
split 1 with 8 segments (mmaction2 0.x); from scratch expect far less.
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
