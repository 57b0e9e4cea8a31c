"""ECO Full on UCF101, official split 1, with the solver that the authors published for it.

    python -m experiments.eco_ucf101 --workdir=runs/eco_ucf101 --config.data.dir=datasets/ucf101

The settings are those of ECO_full/ucf101 in the authors' Caffe code. A clip has 16 segments. The optimizer has Nesterov
momentum 0.9 and L2 5e-4 on kernels. The learning rate is 0.001, divided by ten every 1000 steps; there are 4500 steps
of 32 clips, in two halves whose gradients are accumulated. Gradients are clipped at a norm of 20, which is Caffe's 40
for the sum of the two halves. docs/protocols.md says what differs from the authors' code.

The training clips are the whole official list, which is train1 and validation1. For another dataset they are train, and
validation if there is one. `eco_ucf101_textbook` has the course book's settings. --config.model.name=eco_lite trains
the 3-D branch alone.

This recipe was not run on the whole of UCF101 here. The authors start from Kinetics weights and report 92.8 % top-1
for the three splits. From scratch, 53.4 % was reported for 16 segments.
"""

from experiments import launch
from vidcls.config import Config, DataConfig, ModelConfig, OptimConfig, SamplingConfig

_STEP = 1000 * 32 / 9537  # 1000 steps, in epochs: the training list of split 1 has 9537 clips


def config() -> Config:
    return Config(
        model=ModelConfig(name='eco_full'),
        data=DataConfig(train_split='train+validation', validation_split=''),
        sampling=SamplingConfig(num_segments=16),
        optim=OptimConfig(
            learning_rate=0.001, nesterov=True, weight_decay=5e-4, clip_norm=20.0, clips_per_device=16,
            decay_all=False,
            milestones=(_STEP, 2 * _STEP, 3 * _STEP, 4 * _STEP),
        ),
        epochs=4.5 * _STEP,
        batch_size=32,
    )  # fmt: skip


if __name__ == '__main__':
    launch.main(config(), __doc__)
