"""TSN (BN-Inception, optical flow) on HMDB51, official split 1, with the solver that the authors published for it.

    python -m data_prep.hmdb51 --videos=hmdb51 --splits=testTrainMulti_7030_splits --out=datasets --flow=dis
    python -m experiments.tsn_hmdb51_flow --workdir=runs/hmdb51_flow --config.data.dir=datasets/hmdb51 \\
        --config.init.weights=bn_inception.pth

The settings are those of `tsn_ucf101_flow`, except the schedule. The schedule is taken from the authors' Caffe code:
7000 steps of 128 clips with a learning rate of 0.005, divided by ten after 4000 and after 6000 steps.

This recipe was not run on the whole of HMDB51 here.
"""

import dataclasses

from experiments import launch, tsn_ucf101_flow
from vidcls.config import Config

_STEP = 1000 * 128 / 3570  # 1000 steps, in epochs: the training list of split 1 has 3570 clips


def config() -> Config:
    config = tsn_ucf101_flow.config()
    optim = dataclasses.replace(config.optim, learning_rate=0.005, milestones=(4 * _STEP, 6 * _STEP))
    return dataclasses.replace(config, optim=optim, epochs=7 * _STEP)


if __name__ == '__main__':
    launch.main(config(), __doc__)
