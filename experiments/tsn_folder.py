"""TSN (ResNet-50, RGB) on clips of your own, as data_prep.folder wrote them.

    python -m experiments.tsn_folder --workdir=runs/mine --config.data.dir=datasets/mine

The settings are those of `tsn_hmdb51`. Set --config.augment.flip=false if some classes differ only in left and right.
"""

from experiments import launch
from experiments.tsn_hmdb51 import config

if __name__ == '__main__':
    launch.main(config(), __doc__)
