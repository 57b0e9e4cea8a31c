"""Every recipe of `experiments/` on 1, 2, 4 and 8 devices, by its numbers alone."""

import importlib
from pathlib import Path

import jax
import pytest

import experiments
from vidcls import config as config_lib
from vidcls.distributed.devices import dividing
from vidcls.training import setup
from vidcls.training.step import num_parts

# For 1, 2, 4 and 8 devices: how many take part, and in how many parts each works through its share.
EXPECTED = {
    'eco_motion': [(1, 1), (2, 1), (4, 1), (8, 1)],
    'eco_ucf101': [(1, 2), (2, 1), (4, 1), (8, 1)],
    'eco_ucf101_textbook': [(1, 1), (2, 1), (4, 1), (4, 1)],
    'timesformer_motion': [(1, 1), (2, 1), (4, 1), (8, 1)],
    'timesformer_ucf101': [(1, 16), (2, 8), (4, 4), (8, 2)],
    'timesformer_ucf101_small': [(1, 1), (2, 1), (4, 1), (8, 1)],
    'tsn_folder': [(1, 1), (2, 1), (2, 1), (5, 1)],
    'tsn_hmdb51': [(1, 1), (2, 1), (2, 1), (5, 1)],
    'tsn_hmdb51_flow': [(1, 4), (2, 2), (4, 1), (8, 1)],
    'tsn_motion': [(1, 1), (2, 1), (4, 1), (8, 1)],
    'tsn_ucf101': [(1, 1), (2, 1), (2, 1), (5, 1)],
    'tsn_ucf101_flow': [(1, 4), (2, 2), (4, 1), (8, 1)],
    'tsn_ucf101_rgbdiff': [(1, 8), (2, 4), (4, 2), (8, 1)],
    'tsn_ucf101_small': [(1, 1), (2, 1), (2, 1), (5, 1)],
}


def test_every_recipe_is_here():
    files = Path(experiments.__file__).parent.glob('*.py')
    assert {file.stem for file in files if 'launch.main(config()' in file.read_text()} == EXPECTED.keys()


@pytest.mark.parametrize('name', EXPECTED)
def test_a_recipe_runs_unchanged_on_any_number_of_devices(name):
    config = importlib.import_module(f'experiments.{name}').config()
    config_lib.validate(config)
    found = []
    for count in (1, 2, 4, 8):
        used = len(dividing(jax.local_devices()[:count], config.batch_size))
        share, rest = divmod(config.batch_size, used)
        parts = num_parts(share, config.optim.clips_per_device)
        assert rest == share % parts == 0
        assert share // parts <= (config.optim.clips_per_device or share)
        setup.check_mixing(config, used)
        found.append((used, parts))
    assert found == EXPECTED[name]
