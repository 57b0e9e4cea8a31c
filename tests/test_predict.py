"""One file's label against the evaluation of the same clip; the script's formats and exit status."""

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

import vidcls
from data_prep import convert
from data_prep import folder as folder_source
from tests import own_lines
from tests.made_videos import scenery, write_video
from vidcls import evaluate, train
from vidcls.config import AugmentConfig, Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, SamplingConfig
from vidcls.data import tree, video
from vidcls.data.dataset import open_dataset
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_storage import FrameStorage
from vidcls.distributed.devices import pmap, replicate
from vidcls.errors import UserError
from vidcls.models.configured import build_model, make_predict_step
from vidcls.predict import Classifier, find_videos
from vidcls.run import checkpoint, resource_errors, workdir


@pytest.fixture(scope='module')
def run_folder(motion_folder, tmp_path_factory):
    config = Config(
        model=ModelConfig(name='tsn_micro'),
        data=DataConfig(dir=str(motion_folder), validation_split=''),
        sampling=SamplingConfig(num_segments=2, test_segments=3),
        augment=AugmentConfig(crop='random', short_side=32, crop_size=24),
        test=EvalConfig(batch_size=4),
        optim=OptimConfig(learning_rate=0.5),
        batch_size=8,
        epochs=1.0,
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
    saved = np.load(next((run_folder / 'eval').glob(f'motion-test-*-{clips}x{crops}.npz')))
    classifier = Classifier.load(run_folder, clips=clips, crops=crops)
    assert np.ptp(saved['logits'], axis=0).max() > 0.1
    for clip_id, logits in zip(saved['ids'], saved['logits'], strict=True):
        ours = classifier.logits(videos / f'{clip_id}.mp4')
        assert np.abs(ours - logits).max() < 0.02 * max(np.abs(logits).max(), 1)


@pytest.fixture(scope='module')
def flow_run(flow_folder, tmp_path_factory):
    """A run that sees optical flow, of two frames a segment."""
    config = Config(
        model=ModelConfig(name='tsn_micro'),
        data=DataConfig(dir=str(flow_folder), validation_split=''),
        sampling=SamplingConfig(modality='flow', num_segments=2, test_segments=3, seg_len=2),
        augment=AugmentConfig(crop='random', short_side=32, crop_size=24),
        test=EvalConfig(batch_size=4),
        optim=OptimConfig(learning_rate=0.5),
        batch_size=8,
        epochs=1.0,
    )
    folder = tmp_path_factory.mktemp('flow_run')
    train.train(config, folder, jax.local_devices()[:1])
    return folder


def test_the_flow_of_a_file_is_that_of_its_stored_clip(flow_run, flow_folder):
    run = workdir.load(flow_run)
    assert run.frames.flow == FlowSettings()
    evaluate.evaluate(run, 'test', 'latest', 2, 10, devices=jax.local_devices()[:1])
    saved = np.load(next((flow_run / 'eval').glob('motion-test-*-2x10.npz')))
    classifier = Classifier.load(flow_run, clips=2, crops=10)
    apart = np.ptp(saved['logits'], axis=0).max()
    for clip_id, logits in zip(saved['ids'][:4], saved['logits'], strict=False):
        path = flow_folder.parents[1] / 'motion_videos' / f'{clip_id}.mp4'
        assert np.abs(classifier.logits(path) - logits).max() < 0.001 * apart


def test_a_real_file_gets_the_probabilities_of_its_stored_clip(run_folder, shared_data, tmp_path):
    """Ten clips of UCF101: what differs is the JPEG's loss."""
    folder = convert.convert(
        folder_source.read(_ten_videos(shared_data, tmp_path / 'videos'), name='real', seed=0),
        tmp_path,
        convert.Options(),
    )
    classifier = Classifier.load(run_folder)
    config = dataclasses.replace(workdir.load(run_folder).config, test=EvalConfig(batch_size=5))
    dataset = open_dataset(folder)
    step = pmap(make_predict_step(build_model(config, 8), config), jax.local_devices()[:1])
    variables = checkpoint.restore_model(run_folder / 'checkpoints', 'latest')[1]
    variables = replicate(variables, jax.local_devices()[:1])
    split = '+'.join(name for name, clips in dataset.splits.items() if len(clips))
    stored = evaluate.predict_split(step, variables, dataset, config, split, 1, 1, jax.local_devices()[:1])
    assert len(stored.ids) == 10
    for clip_id, logits in zip(stored.ids, stored.logits, strict=True):
        probabilities = np.asarray(jax.nn.softmax(logits)).mean(axis=0)
        ours = classifier.probabilities(tmp_path / 'videos' / f'{clip_id}.avi')
        assert np.abs(ours - probabilities).max() < 0.02


def _ten_videos(shared_data, folder):
    for group in sorted((shared_data / 'ucf101').iterdir())[:5]:
        (folder / group.name).mkdir(parents=True)
        for file in sorted(group.glob('*.avi'))[:2]:
            (folder / group.name / file.name).symlink_to(file)
    return folder


def test_classify_is_sorted_and_named(run_folder, videos):
    path = next(videos.rglob('*.mp4'))
    found = Classifier.load(run_folder).classify(path, top_k=3)
    probabilities = [probability for _, probability in found]
    assert len(found) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    everything = Classifier.load(run_folder).classify(path, top_k=100)
    assert sum(probability for _, probability in everything) == pytest.approx(1, abs=1e-5)
    assert {label for label, _ in everything} == set((run_folder / 'labels.txt').read_text().split())


def test_pictures_of_all_sizes_take_one_compilation(run_folder, tmp_path):
    classifier = Classifier.load(run_folder, crops=10)
    for number, size in enumerate([(32, 48), (26, 26), (300, 40), (24, 30)]):
        path = write_video(tmp_path / f'{number}.mp4', scenery(4, size))
        assert classifier.logits(path).shape == (10, 8)
    assert classifier._step._cache_size() == 1


def test_a_list_gets_what_each_gets_alone(run_folder, tmp_path):
    """At most 4 views go to the device together: 7 videos are 4, and 3 with one repeated; 2 are 2."""
    sizes = [(32, 48), (26, 26), (300, 40), (24, 30), (40, 32), (64, 48), (32, 32)]
    sources = [write_video(tmp_path / f'{number}.mp4', scenery(4, size)) for number, size in enumerate(sizes)]
    sources[1:3] = [video.read_frames(path, range(4)) for path in sources[1:3]]
    classifier = Classifier.load(run_folder)
    together = classifier.probabilities(sources)
    assert classifier._step._cache_size() == 1
    np.testing.assert_allclose(together[:2], classifier.probabilities(sources[:2]), atol=1e-6)
    assert classifier._step._cache_size() == 2
    alone = [classifier.probabilities(source) for source in sources]
    assert classifier._step._cache_size() == 3
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.ptp(together, axis=0).max() > 1e-3  # the videos differ
    names = [[label for label, _ in found] for found in classifier.classify(sources, top_k=2)]
    assert names == [[label for label, _ in classifier.classify(source, top_k=2)] for source in sources]
    assert classifier.classify([]) == []


def test_a_list_of_videos_with_more_views_than_fit(run_folder, videos):
    paths = sorted(videos.rglob('*.mp4'))[:3]
    classifier = Classifier.load(run_folder, clips=2, crops=3)  # 6 views in parts of 3
    logits = classifier.logits(paths)
    assert logits.shape == (3, 6, 8) and classifier._step._cache_size() == 1
    np.testing.assert_array_equal(logits, [classifier.logits(path) for path in paths])


def test_frames_in_memory_get_the_logits_of_their_file(run_folder, shared_data):
    """What differs is the loss of another JPEG."""
    classifier = Classifier.load(run_folder, crops=3)
    path = next((shared_data / 'ucf101').rglob('*.avi'))
    info = video.probe(path, short_side=1000)
    # Once in the size of the dataset's frames and once in the video's own, which is made smaller by the classifier.
    for short_side in (classifier.frames.short_side, 1000):
        frames = video.read_frames(path, range(info.num_frames), short_side=short_side)
        logits = classifier.logits(path)
        assert np.abs(classifier.logits(frames) - logits).max() < 0.02 * max(np.abs(logits).max(), 1)


def test_frames_at_another_rate_are_resampled(run_folder):
    """At 50 frames a second every second one is stored at 25."""
    run = dataclasses.replace(workdir.load(run_folder), frames=FrameStorage(32, 25.0))
    classifier = Classifier(run, checkpoint.restore_model(run.checkpoints, 'latest')[1])
    frames = np.random.default_rng(0).integers(0, 256, (14, 32, 40, 3), np.uint8)
    np.testing.assert_array_equal(classifier.logits(frames, fps=50.0), classifier.logits(frames[::2]))
    np.testing.assert_array_equal(classifier.logits(frames), classifier.logits(frames, fps=25.0))
    assert np.abs(classifier.logits(frames) - classifier.logits(frames, fps=50.0)).max() > 0
    with pytest.raises(ValueError, match='fps=0: must be greater than 0'):
        classifier.logits(frames, fps=0)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        (
            np.zeros((4, 32, 32, 3), np.float32),
            r'an array of float32\[4, 32, 32, 3\]: must be RGB frames uint8\[t h w 3\]',
        ),
        (np.zeros((32, 32, 3), np.uint8), r'uint8\[32, 32, 3\]: must be'),
        (np.zeros((4, 3, 32, 32), np.uint8), r'uint8\[4, 3, 32, 32\]: must be'),
        (np.zeros((0, 32, 32, 3), np.uint8), r'uint8\[0, 32, 32, 3\]: must be'),
        ([np.zeros((1, 32, 32, 3), np.uint8), None], 'number 1 of the list: NoneType: must be a path, RGB frames'),
        ([np.zeros((1, 32, 32, 3), np.uint8), 'absent.mp4'], 'absent.mp4: no such file'),
    ],
)
def test_what_cannot_be_classified_is_named(run_folder, source, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Classifier.load(run_folder).classify(source)


def test_other_views_than_the_runs(run_folder, videos):
    path = next(videos.rglob('*.mp4'))
    all_at_once = Classifier.load(run_folder, clips=2, crops=10, settings={'sampling.test_segments': 25})
    one_by_one = Classifier.load(
        run_folder, clips=2, crops=10, settings={'sampling.test_segments': 25, 'test.batch_size': 1}
    )
    assert all_at_once.logits(path).shape == (20, 8)
    np.testing.assert_allclose(one_by_one.logits(path), all_at_once.logits(path), atol=1e-6)


def test_too_little_memory_names_what_takes_less(run_folder, videos, monkeypatch):
    def full(*args):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 98765 bytes.')

    classifier = Classifier.load(run_folder)
    monkeypatch.setattr(classifier, '_step', full)
    with pytest.raises(resource_errors.OutOfMemory, match=r'test.batch_size \(now 4 views at once'):
        classifier.logits(next(videos.rglob('*.mp4')))


def test_views_are_checked_as_in_evaluation(run_folder):
    with pytest.raises(UserError, match='test.crops=7: must be one of'):
        Classifier.load(run_folder, crops=7)
    with pytest.raises(UserError, match='test.clips=-1'):
        Classifier.load(run_folder, clips=-1)


def test_threads_may_share_a_classifier(run_folder, videos):
    classifier, paths = Classifier.load(run_folder), sorted(videos.rglob('*.mp4'))[:4]
    one_by_one = [classifier.probabilities(path) for path in paths]
    with ThreadPoolExecutor(4) as threads:
        np.testing.assert_array_equal(list(threads.map(classifier.probabilities, paths)), one_by_one)


def test_a_folder_is_searched(videos):
    assert find_videos(videos) == tree.search(videos).clips
    assert len(find_videos(videos)) == 40
    with pytest.raises(UserError, match='no such file'):
        find_videos(videos / 'absent')


def _predict(run_folder, *args):
    command = [sys.executable, '-m', 'experiments.predict', f'--workdir={run_folder}', *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_goes_on_after_a_bad_file(run_folder, videos, tmp_path):
    bad = tmp_path / 'bad.mp4'
    bad.write_text('no video')
    good = sorted(videos.rglob('*.mp4'))[:2]
    strange = os.fsencode(tmp_path) + b'/caf\xe9.mp4'  # Latin-1: no valid UTF-8
    shutil.copy(good[1], strange)
    pipe, unknown = tmp_path / 'pipe.mp4', tmp_path / 'unknown.avi'
    os.mkfifo(pipe)
    write_video(unknown, scenery(3), codec='mpeg4')
    unknown.write_bytes(unknown.read_bytes().replace(b'FMP4', b'ZZZZ'))
    named = [good[0], bad, pipe, unknown, os.fsdecode(strange)]
    done = _predict(run_folder, *named, '--format=json', '--top_k=2')
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row['video'] for row in rows] == [str(good[0]), f'{tmp_path}/caf\udce9.mp4']
    assert all(len(row['labels']) == 2 for row in rows)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert [line.split(': ')[1] for line in errors] == [str(bad), str(pipe), str(unknown)]
    assert own_lines.foreign(done.stderr) == []


def test_a_stream_that_cannot_be_decoded_is_a_line(run_folder, tmp_path):
    bad = write_video(tmp_path / 'bad.avi', scenery(3), codec='mpeg4')
    bad.write_bytes(bad.read_bytes().replace(b'FMP4', b'ZZZZ'))
    command = [sys.executable, '-m', 'experiments.stream', f'--workdir={run_folder}', str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout and 'Traceback' not in done.stderr
    assert f'error: {bad}: the codec of its video stream is unknown to FFmpeg' in done.stderr.splitlines()


def test_a_damaged_file_is_used_in_part_and_warned_of(run_folder, tmp_path):
    whole = write_video(tmp_path / 'whole.avi', scenery(40, (96, 128)), codec='mpeg4')
    cut = tmp_path / 'cut.avi'
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = _predict(run_folder, whole, cut, '--format=json')
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    assert f'{cut}: damaged, used in part: it ends after' in done.stderr and f'{whole}: damaged' not in done.stderr


def test_the_script_writes_csv_and_joins_runs(run_folder, videos):
    """A run that is joined with itself says what it says alone."""
    path = next(videos.rglob('*.mp4'))
    done = _predict(run_folder, path, f'--workdir={run_folder}', '--weights=1,1.5', '--format=csv', '--top_k=2')
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert [(row[0], row[1]) for row in rows] == [(str(path), '1'), (str(path), '2')]
    alone = Classifier.load(run_folder).classify(path, top_k=2)
    assert [(row[2], float(row[3])) for row in rows] == [(label, pytest.approx(p, abs=2e-6)) for label, p in alone]
    assert (done.returncode, own_lines.foreign(done.stderr)) == (0, [])


def test_the_script_explains(run_folder, videos, tmp_path):
    same = [min((videos / name).glob('*.mp4')) for name in ('left', 'right')]
    linked = [tmp_path / name / 'clip.mp4' for name in ('a', 'b')]
    for link, path in zip(linked, same):
        link.parent.mkdir()
        link.symlink_to(path)
    out = tmp_path / 'out'
    done = _predict(run_folder, *linked, f'--explain={out}', '--explain_label=up', '--top_k=1', '--format=json')
    assert (done.returncode, own_lines.foreign(done.stderr), len(done.stdout.splitlines())) == (0, [], 2)
    names = [f'clip-up-gradcam{more}.{ending}' for more in ('', '-2') for ending in ('json', 'mp4', 'npz', 'png')]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    told = [json.loads((out / f'clip-up-gradcam{more}.json').read_text()) for more in ('', '-2')]
    assert [one['video'] for one in told] == list(map(str, linked))
    with np.load(out / 'clip-up-gradcam.npz') as saved:
        assert saved['map'].shape == (3, 24, 24) and saved['cells_backbone'].shape == (3, 6, 6)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--explain_label=up'], 'go with --explain='),
        (['--explain=DIR', '--explain_label=upp'], "no label 'upp' (did you mean up?)"),
        (['--explain=DIR', '--explain_method=rollout'], 'rollout needs attention, and tsn_micro has none'),
    ],
)
def test_flags_of_explaining_that_cannot_work_are_one_line(run_folder, videos, tmp_path, flags, message):
    done = _predict(run_folder, next(videos.rglob('*.mp4')), *[flag.replace('DIR', str(tmp_path)) for flag in flags])
    assert done.returncode == 1 and message in done.stderr and 'Traceback' not in done.stderr and not done.stdout


def test_predicting_needs_no_tensorflow():
    code = 'import sys, vidcls.predict; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_the_package_is_light_and_has_five_names():
    code = """
import sys, vidcls
assert not {'jax', 'tensorflow', 'numpy'} & set(sys.modules)
assert {'Classifier', 'Stream', 'models', 'train', 'evaluate'} <= set(dir(vidcls))
assert callable(vidcls.train.train) and callable(vidcls.evaluate.evaluate) and callable(vidcls.models.build)
from vidcls import Classifier, Stream, models, train, evaluate
assert callable(Classifier.load) and callable(Stream.push)
try:
    vidcls.classifier
except AttributeError as error:
    assert "'vidcls' has no attribute 'classifier'" in str(error)
"""
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_the_version_is_that_of_the_distribution():
    root = Path(vidcls.__file__).parents[1]
    project = tomllib.loads((root / 'pyproject.toml').read_text())['project']
    assert project.get('version', vidcls.__version__) == vidcls.__version__
