"""One file's label against the evaluation of the same clip; the script's formats and exit status."""

import csv
import io
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from vidcls import evaluate, train, workdir
from vidcls.config import AugmentConfig, Config, DataConfig, EvalConfig, ModelConfig, SamplingConfig
from vidcls.predict import Classifier, find_videos


@pytest.fixture(scope='module')
def run_folder(motion_folder, tmp_path_factory):
    config = Config(
        model=ModelConfig(name='tsn_tiny', width=4),
        data=DataConfig(dir=str(motion_folder), validation_split=''),
        sampling=SamplingConfig(num_segments=2, test_segments=3),
        augment=AugmentConfig(crop='random', short_side=32, crop_size=24),
        test=EvalConfig(batch_size=4),
        batch_size=8,
        epochs=0.5,
    )
    folder = tmp_path_factory.mktemp('run')
    train.train(config, folder, jax.local_devices()[:1])
    return folder


@pytest.fixture(scope='module')
def videos(motion_folder):
    return motion_folder.parents[1] / 'motion_videos'


@pytest.mark.parametrize(('clips', 'crops'), [(1, 1), (2, 10)])
def test_a_file_gets_the_logits_of_its_stored_clip(run_folder, videos, clips, crops):
    evaluate.evaluate(workdir.load(run_folder), 'test', 'latest', clips, crops, devices=jax.local_devices()[:1])
    saved = np.load(next((run_folder / 'eval').glob(f'test-*-{clips}x{crops}.npz')))
    classifier = Classifier.load(run_folder, clips=clips, crops=crops)
    for clip_id, logits in zip(saved['ids'], saved['logits'], strict=True):
        ours = classifier.logits(videos / f'{clip_id}.mp4')
        assert np.abs(ours - logits).max() < 0.02 * max(np.abs(logits).max(), 1)


def test_classify_is_sorted_and_named(run_folder, videos):
    path = next(videos.rglob('*.mp4'))
    found = Classifier.load(run_folder).classify(path, top_k=3)
    probabilities = [probability for _, probability in found]
    assert len(found) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    everything = Classifier.load(run_folder).classify(path, top_k=100)
    assert sum(probability for _, probability in everything) == pytest.approx(1, abs=1e-5)
    assert {label for label, _ in everything} == set((run_folder / 'labels.txt').read_text().split())


def test_a_folder_is_searched(videos):
    assert len(find_videos(videos)) == 40
    with pytest.raises(FileNotFoundError, match='no such file'):
        find_videos(videos / 'absent')


def _predict(run_folder, *args):
    command = [sys.executable, '-m', 'experiments.predict', f'--workdir={run_folder}', *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_goes_on_after_a_bad_file(run_folder, videos, tmp_path):
    bad = tmp_path / 'bad.mp4'
    bad.write_text('no video')
    good = sorted(videos.rglob('*.mp4'))[:2]
    done = _predict(run_folder, good[0], bad, good[1], '--format=json', '--top_k=2')
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row['video'] for row in rows] == [str(path) for path in good]
    assert all(len(row['labels']) == 2 for row in rows)
    assert done.returncode == 1
    assert f'error: {bad}' in done.stderr


def test_the_script_writes_csv(run_folder, videos):
    path = next(videos.rglob('*.mp4'))
    done = _predict(run_folder, path, '--format=csv', '--top_k=2')
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert [(row[0], row[1]) for row in rows] == [(str(path), '1'), (str(path), '2')]
    assert done.returncode == 0


def test_predicting_needs_no_tensorflow():
    code = 'import sys, vidcls.predict; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
