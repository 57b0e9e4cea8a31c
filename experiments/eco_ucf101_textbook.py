"""ECO Full on UCF101, official split 1, with the settings of the course book.

    python -m experiments.eco_ucf101_textbook --workdir=runs/eco_textbook --config.data.dir=datasets/ucf101

Momentum is 0.9, the learning rate is constant at 0.005, and dropout is 0.5 after the 3-D branch and 0.6 after the 2-D
branch. The book reads the number of segments and the batch from a file that it does not print. So they are taken from
the PaddlePaddle project that the book follows: 24 segments and 4 clips. `eco_ucf101` has the authors' solver.
"""

from experiments import launch
from vidcls.config import Config, ModelConfig, OptimConfig, SamplingConfig


def config() -> Config:
    return Config(
        model=ModelConfig(name='eco_full'),
        sampling=SamplingConfig(num_segments=24),
        optim=OptimConfig(learning_rate=0.005, weight_decay=0.0),
        epochs=20,
        batch_size=4,
    )


if __name__ == '__main__':
    launch.main(config(), __doc__)
