"""TSN (ResNet-50, RGB) on UCF101, official split 1, with the settings of `tsn_hmdb51`.

    python -m experiments.tsn_ucf101 --workdir=runs/tsn_ucf101 --config.data.dir=datasets/ucf101

From scratch on a small dataset, `tsn_ucf101_small` learns more.
"""

from experiments import launch
from experiments.tsn_hmdb51 import config

if __name__ == '__main__':
    launch.main(config(), __doc__)
