"""TSN (BN-Inception, differences of frames) on UCF101, official split 1, as tsn-pytorch trains it.

    python -m experiments.tsn_ucf101_rgbdiff --workdir=runs/ucf101_rgbdiff --config.data.dir=datasets/ucf101 \\
        --config.init.weights=bn_inception.pth

A clip has 7 segments of 5 differences each. Training takes 180 epochs, and the learning rate is divided by ten after
epochs 80 and 160. Gradients are clipped at a norm of 40, dropout is 0.8, and the first convolution learns at the rate
of the others. The other settings are those of `tsn_ucf101_flow`. The dataset needs no flow.

This recipe was not run on the whole of UCF101 here.
"""

import dataclasses

from experiments import launch, tsn_ucf101_flow
from vidcls.config import Config, ModelConfig, SamplingConfig


def config() -> Config:
    config = tsn_ucf101_flow.config()
    return dataclasses.replace(
        config,
        model=ModelConfig(name='tsn_bninception', dropout=0.8),
        sampling=SamplingConfig(modality='rgbdiff', num_segments=7, test_segments=25, seg_len=5),
        augment=dataclasses.replace(config.augment, mean=(0.0,)),
        init=dataclasses.replace(config.init, first_multiplier=1.0),
        optim=dataclasses.replace(config.optim, clip_norm=40.0, clips_per_device=16, milestones=(80.0, 160.0)),
        epochs=180,
    )


if __name__ == '__main__':
    launch.main(config(), __doc__)
