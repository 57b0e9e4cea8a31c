"""Folders for the hub: what another library and a new run load of them, from a local cache of the hub and no network."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import yaml
from huggingface_hub import constants

from tests.export import small_runs
from vidcls import pretrained
from vidcls.config import InitConfig
from vidcls.errors import UserError
from vidcls.export import hub
from vidcls.models.configured import build_model
from vidcls.pretrained import own
from vidcls.run import checkpoint
from vidcls.training.first_state import first_state
from vidcls.training.step import new_state

LAYOUTS = {'tsn': 'mmaction2', 'eco': 'eco-pytorch', 'timesformer': 'huggingface'}
EVALUATED = {
    'top1': 0.8125, 'checkpoint_step': 7, 'dataset': 'mine: "1.0" | x', 'split': 'test', 'clips': 1, 'crops': 3, 'num_videos': 16,
}  # fmt: skip


@pytest.fixture(scope='module', params=['tsn', 'timesformer', pytest.param('eco', marks=pytest.mark.slow)])
def exported(request, tmp_path_factory):
    """(family, the run, the folder for the hub)."""
    place = tmp_path_factory.mktemp(request.param)
    run = small_runs.make(place / 'run', request.param)
    (run.folder / 'eval').mkdir()
    (run.folder / 'eval' / 'a.json').write_text(json.dumps(EVALUATED))
    (run.folder / 'eval' / 'b.json').write_text(json.dumps(EVALUATED | {'checkpoint_step': 3, 'top1': 0.5}))
    hub.export(run, place / 'out')
    return request.param, run, place / 'out'


def trained(run):
    return own.named(checkpoint.restore_model(run.checkpoints, 'best')[1])


def test_both_files_have_the_weights_of_the_run(exported):
    family, run, out = exported
    model = build_model(run.config, 5)
    start, right = zeros(run), trained(run)
    for name, key in (('model.safetensors', LAYOUTS[family]), ('vidcls.safetensors', 'vidcls')):
        found = pretrained.load(out / name, model, start)
        assert key in found.layout.keys and not found.started and not found.unused
        for path, value in own.named(found.for_rgb()).items():
            np.testing.assert_array_equal(value, right[path], path)


def test_a_run_starts_from_an_address_of_the_hub(exported, tmp_path, monkeypatch):
    """The cache is laid out as huggingface_hub does it: what was fetched once is found again without a network."""
    _, run, out = exported
    repository = tmp_path / 'models--me--mine'
    shutil.copytree(out, repository / 'snapshots' / 'abc')
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('abc')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    model = build_model(run.config, 5)
    state = new_state(0, *(zeros(run).get(part, {}) for part in ('params', 'batch_stats')), {}, run.config)
    for address in ('hf://me/mine', 'hf://me/mine/vidcls.safetensors'):
        config = dataclasses.replace(run.config, init=InitConfig(weights=address))
        first, origin = first_state(config, model, state, run.labels)
        assert origin['file'] == address and not origin['started']
        found = own.named({'params': first.params, 'batch_stats': first.batch_stats})
        for path, value in trained(run).items():
            np.testing.assert_array_equal(found[path], value, path)


def zeros(run):
    return jax.tree.map(np.zeros_like, checkpoint.restore_model(run.checkpoints, 'best')[1])


def test_the_card(exported):
    family, run, out = exported
    text = (out / 'README.md').read_text()
    _, front, page = text.split('---\n', 2)
    front = yaml.safe_load(front)
    assert front['pipeline_tag'] == 'video-classification'
    (result,) = front['model-index'][0]['results']
    assert result['dataset']['name'] == EVALUATED['dataset'] and result['metrics'][0]['value'] == 0.8125
    assert '81.2 %' in page and '50.0 %' not in page and r'mine: "1.0" \| x' in page
    assert checkpoint.digest(run.checkpoints, 7) in page
    mean = '0.45,0.45,0.45' if family == 'timesformer' else '0.485,0.456,0.406'
    seg_len = run.config.sampling.seg_len
    assert f'--config.augment.mean={mean} ' in page
    assert f'--config.sampling.modality=rgb --config.sampling.seg_len={seg_len}\n' in page
    assert (out / 'labels.txt').read_text().splitlines() == list(small_runs.LABELS)
    settings = json.loads((out / 'config.json').read_text())
    assert settings['vidcls']['augment']['crop_size'] == 32
    assert settings.get('model_type') == ('timesformer' if family == 'timesformer' else None)


def test_a_network_that_no_library_has_is_under_our_names(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, '_LIBRARIES', ())
    run = small_runs.make(tmp_path / 'run', 'tsn')
    hub.export(run, tmp_path / 'out')
    found = pretrained.read(tmp_path / 'out' / 'model.safetensors')
    assert found.keys() == trained(run).keys() and 'params/head/kernel' in found
    assert not (tmp_path / 'out' / 'vidcls.safetensors').exists()


def test_a_folder_is_not_replaced(exported):
    _, run, out = exported
    with pytest.raises(UserError, match='is there already'):
        hub.export(run, out)
