"""What a work directory keeps of its dataset, and that a run is not resumed on other clips."""

import dataclasses
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from vidcls import train
from vidcls.data.dataset import Dataset
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError
from vidcls.run import trained_on, workdir


@pytest.fixture
def run(config, tmp_path) -> workdir.Run:
    return workdir.Run(tmp_path, config, tuple('abcdefgh'), FrameStorage(256, None))


def with_clips(dataset: Dataset, split: str, clips) -> Dataset:
    return dataclasses.replace(dataset, splits=dataset.splits | {split: np.sort(clips)})


def with_rows(dataset: Dataset, **columns) -> Dataset:
    return dataclasses.replace(dataset, index=dataclasses.replace(dataset.index, **columns))


def test_the_digest_is_that_of_ids_and_labels_in_order(run, motion_dataset):
    trained_on.save(run, motion_dataset)
    kept = json.loads((run.folder / 'dataset.json').read_text())
    assert set(kept) == {'train', 'validation'}
    index, clips = motion_dataset.index, motion_dataset.splits['train']
    lines = [f'["{index.ids[clip]}", {index.labels[clip]}]'.encode() for clip in clips]
    assert kept['train'] == {
        'split': 'train',
        'sha256': hashlib.sha256(b'\n'.join(lines)).hexdigest(),
        'clips': ''.join(hashlib.sha256(line).hexdigest()[:8] for line in lines),
    }


def test_what_does_not_matter_may_change(run, motion_dataset):
    trained_on.check(run, motion_dataset)  # begun before there was such a file
    trained_on.save(run, motion_dataset)
    fewer = with_clips(motion_dataset, 'test', motion_dataset.splits['test'][1:])
    trained_on.check(run, dataclasses.replace(fewer, folder=run.folder))


def test_what_differs_is_told(run, motion_dataset):
    trained_on.save(run, motion_dataset)
    index, train, validation = motion_dataset.index, motion_dataset.splits['train'], motion_dataset.splits['validation']
    more = np.sort([*train, *validation[:3]])
    first = next(index.ids[clip] for clip in more if clip in validation)
    labels = index.labels.copy()
    labels[train[5]] += 1
    swapped = index.ids.copy()
    swapped[train[:2]], labels_swapped = swapped[train[:2]][::-1], index.labels.copy()
    labels_swapped[train[:2]] = labels_swapped[train[:2]][::-1]
    for dataset, message in (
        (
            with_clips(motion_dataset, 'train', more),
            f"train had 24 and has 27: 3 are new or .*, the first '{first}', 0 are",
        ),
        (
            with_clips(motion_dataset, 'train', train[2:]),
            'train had 24 and has 22: 0 are new or have another label, 2 are gone',
        ),
        (with_clips(motion_dataset, 'validation', validation[1:]), 'validation had 8 and has 7'),
        (
            with_rows(motion_dataset, labels=labels),
            f"has 24: 1 are new or .*, the first '{index.ids[train[5]]}', 1 are gone",
        ),
        (with_rows(motion_dataset, ids=swapped, labels=labels_swapped), 'train has the same 24 in another order'),
    ):
        with pytest.raises(UserError, match=message):
            trained_on.check(run, dataset)


@pytest.mark.parametrize('text', ['{}', '{"train": 3}', '{"train": {"clips": 3}}', '[]', '{'])
def test_a_broken_file_is_named(run, motion_dataset, text):
    (run.folder / 'dataset.json').write_text(text)
    with pytest.raises(UserError, match=r'dataset\.json'):
        trained_on.check(run, motion_dataset)


def test_a_run_is_not_continued_on_a_dataset_that_changed(config, motion_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(motion_folder, tmp_path / 'motion' / '1.0.0')
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, dir=str(folder)))
    train.begin(config, tmp_path / 'run', jax.local_devices()[:1])
    assert (tmp_path / 'run' / 'dataset.json').exists()
    monkeypatch.setattr('vidcls.run.checkpoint.steps', lambda folder: [3])
    metadata = json.loads((folder / 'metadata.json').read_text())
    metadata['splits']['train'] = 'train+test'
    (folder / 'metadata.json').write_text(json.dumps(metadata))
    with pytest.raises(UserError, match='train had 24 and has 32: 8 are new'):
        train.begin(config, tmp_path / 'run', jax.local_devices()[:1])
    (tmp_path / 'run' / 'dataset.json').unlink()  # as of a run that began before there was one
    train.begin(config, tmp_path / 'run', jax.local_devices()[:1])
    assert (tmp_path / 'run' / 'dataset.json').exists()
