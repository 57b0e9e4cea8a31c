"""Which splits of a dataset the settings name, and that every recipe finds its own in any dataset."""

import importlib
import pkgutil

import pytest

import experiments
from vidcls.config import DataConfig
from vidcls.data.splits import resolved

OFFICIAL = {f'{role}{number}' for role in ('train', 'validation', 'test') for number in (1, 2, 3)}
OWN = {'train', 'validation', 'test'}


@pytest.mark.parametrize(
    ('given', 'has', 'expected'),
    [
        (('train', 'validation', 'test'), OWN, ('train', 'validation', 'test')),
        (('train', 'validation', 'test'), OFFICIAL, ('train1', 'validation1', 'test1')),
        (('train', 'validation', 'test'), OFFICIAL | OWN, ('train', 'validation', 'test')),
        (('train', 'validation', 'test'), {'train'}, ('train', '', 'test')),
        # One official split goes with its own validation, whose clips other splits train on.
        (('train2', 'validation', 'test'), OFFICIAL, ('train2', 'validation2', 'test2')),
        (('train2', 'validation', 'test'), OFFICIAL | OWN, ('train2', 'validation2', 'test2')),
        (('train1+validation1', 'validation', 'test'), OFFICIAL, ('train1+validation1', '', 'test1')),
        (('train+validation', '', 'test'), OFFICIAL, ('train1+validation1', '', 'test1')),
        (('train+validation', '', 'test'), OWN, ('train+validation', '', 'test')),
        (('train+validation', '', 'test'), {'train', 'test'}, ('train', '', 'test')),
        # What the dataset lacks stays, to be named.
        (('trian', 'validation3', 'test4'), OWN, ('trian', 'validation3', 'test4')),
        (('train', '', 'test'), {'all'}, ('train', '', 'test')),
    ],
)
def test_by_hand(given, has, expected):
    found = resolved(DataConfig('', *given), has)
    assert (found.train_split, found.validation_split, found.test_split) == expected
    assert resolved(found, has) == found


RECIPES = [
    module.config
    for module in (
        importlib.import_module(f'experiments.{found.name}')
        for found in pkgutil.iter_modules(experiments.__path__)
        if found.name.startswith(('tsn_', 'eco_', 'timesformer_'))
    )
]


@pytest.mark.parametrize('has', [OFFICIAL, OWN, {'train'}])
@pytest.mark.parametrize('recipe', RECIPES)
def test_every_recipe_finds_its_splits_in_every_dataset(recipe, has):
    found = resolved(recipe().data, has)
    assert set(found.train_split.split('+')) <= has and found.validation_split in has | {''}
    assert found.test_split in has or has == {'train'}
