"""A small TSN on the generated motion clips (data_prep.motion); it trains for minutes on two cores.

    python -m experiments.tsn_motion --workdir=runs/motion --config.data.dir=datasets/motion

The classes of these clips are four motions, each in two directions. TSN averages over frames and loses their order, so
it can reach about 50 % top-1 at most. It reached 40.9 % on the test clips of the demo. Given optical flow, stacked over
five frames, it sees the direction and reaches 99.7 % after two epochs (docs/results.md has the flags).
"""

from experiments import launch
from vidcls.config import AugmentConfig, Config, ModelConfig, OptimConfig, SamplingConfig


def config() -> Config:
    return Config(
        model=ModelConfig(name='tsn_tiny', dropout=0.0),
        sampling=SamplingConfig(num_segments=4),
        augment=AugmentConfig(crop='random', short_side=64, crop_size=56, flip=False),
        optim=OptimConfig(learning_rate=0.05, schedule='cosine', warmup_epochs=0.5),
        epochs=8,
        batch_size=32,
    )


if __name__ == '__main__':
    launch.main(config(), __doc__)
