"""TSN (ResNet-50, RGB) on UCF101, official split 1, at the same settings as on HMDB51.

    python -m experiments.tsn_ucf101 --workdir=runs/tsn_ucf101 --config.data.dir=datasets/ucf101

For a smaller budget, 7 classes from scratch on the whole official training list: --config.augment.crop_size=112
--config.augment.short_side=128 --config.data.train_split=train1+validation1 --config.data.validation_split=
"""

from experiments import launch
from experiments.tsn_hmdb51 import config

if __name__ == '__main__':
    launch.main(config(), __doc__)
