"""Finds those splits of a dataset that the settings name.

The name `train` means `train1` in a dataset that has official splits alone.
"""

import dataclasses
import re
from collections.abc import Container

from vidcls.config import DataConfig

ROLES = ('train', 'validation', 'test')


def resolved(data: DataConfig, splits: Container[str]) -> DataConfig:
    """The settings, with names of splits that the dataset has.

    A name without a number stays if the dataset has it, and otherwise becomes the name of official split 1. If
    `train_split` has a number, the other splits get the same number: `train2` goes with `validation2` and `test2`. A
    validation split that the dataset lacks, or whose clips are trained on, becomes '' (none). Any other name that the
    dataset lacks stays, so that a later error names it.

    Args:
      data: the settings.
      splits: the names of the dataset's splits.
    """
    number = re.match(r'train(\d+)', data.train_split)

    def find(role: str) -> str:
        names = (role + number[1], role) if number else (role, f'{role}1')
        return next((name for name in names if name in splits), '')

    def known(name: str) -> str:
        return name if name in splits or name not in ROLES else find(name)

    wanted = [name.strip() for name in data.train_split.split('+')]
    train = [known(name) or name for name in wanted if name != 'validation' or known(name)]
    validation = data.validation_split
    if validation == 'validation':
        validation = find(validation)
        validation = '' if validation in train else validation
    test = find('test') if data.test_split == 'test' else data.test_split
    return dataclasses.replace(
        data, train_split='+'.join(train), validation_split=validation, test_split=test or data.test_split
    )
