"""From sources to datasets: what is stored, what is refused, what is left when it goes wrong."""

import dataclasses
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf
import tensorflow_datasets as tfds

from data_prep import beam, folder, records
from data_prep import convert as converting
from data_prep.convert import Options, convert
from tests.data_prep import failing
from tests.data_prep.test_folder import save_frames, touch
from tests.made_videos import grey_levels, scenery, turn_clockwise, write_gif, write_sound, write_video
from vidcls.data import dataset, frame_index, video
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError

ALONE = Options(workers=1)


def num_frames(data: dataset.Dataset) -> dict[str, int]:
    return dict(zip(data.index.ids.tolist(), np.diff(data.index.first).tolist(), strict=True))


def failures(made) -> dict[str, str]:
    lines = (made / 'failures.tsv').read_text().splitlines()
    return {os.path.basename(path): reason for path, reason in (li.split('\t') for li in lines)}


def examples(data_folder) -> dict[str, bytes]:
    """id -> its example, in the one form in which equal examples are equal bytes."""
    found = {}
    for shard in sorted(data_folder.glob('*.tfrecord-*')):
        for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            name = example.features.feature['id'].bytes_list.value[0].decode()
            found[name] = example.SerializeToString(deterministic=True)
    return found


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Two classes of what people have on their disks."""
    root = tmp_path_factory.mktemp('clips') / 'clips'
    eight = grey_levels(range(10, 250, 30))
    plain = ('whole', 'two words', 'файл', '-dash', 'same', '100%d', 'a:b')
    for name in plain:
        write_video(root / 'a' / f'{name}.mp4', eight)
    write_video(root / 'a' / 'same.avi', eight[:5], codec='mpeg4')
    write_video(root / 'a' / 'one.mp4', eight[:1])
    write_video(root / 'a' / 'three.mp4', eight[:3])
    write_video(root / 'a' / 'variable.mp4', eight[:5], times=[0, 1, 2, 10, 11])
    turn_clockwise(write_video(root / 'a' / 'turned.mp4', scenery(2, (48, 64))))
    write_video(root / 'b' / 'hevc.mp4', eight, codec='libx265', pixels='yuv420p')
    write_video(root / 'b' / 'av1.mkv', scenery(4, (64, 96)), codec='libsvtav1')
    write_video(root / 'b' / 'ten_bits.mkv', eight, pixels='yuv420p10le')
    write_video(root / 'b' / 'vertical.mp4', scenery(2, (400, 300)))
    write_video(root / 'b' / 'large.mp4', scenery(2, (1080, 1920)))
    save_frames(root / 'b' / 'frames', range(40, 52))
    (root / 'b' / 'zero.avi').touch()
    (root / 'b' / 'text.avi').write_text('version https://git-lfs.github.com/spec/v1\n')
    write_sound(root / 'b' / 'sound.mp4')
    whole = write_video(root / 'b' / 'cut.avi', scenery(40, (96, 128)), codec='mpeg4')
    os.truncate(whole, whole.stat().st_size // 2)
    (root / 'empty').mkdir()
    return root


EXPECTED = {
    'a/whole': 8, 'a/two words': 8, 'a/файл': 8, 'a/-dash': 8, 'a/100%d': 8, 'a/a:b': 8,
    'a/same.mp4': 8, 'a/same.avi': 5, 'a/one': 1, 'a/three': 3, 'a/variable': 5, 'a/turned': 2,
    'b/hevc': 8, 'b/av1': 4, 'b/ten_bits': 8, 'b/vertical': 2, 'b/large': 2, 'b/frames': 12,
}  # fmt: skip


@pytest.fixture(scope='module')
def made(videos, tmp_path_factory):
    return convert(folder.read(videos), tmp_path_factory.mktemp('out'), ALONE)


def test_what_can_be_read_is_stored(made):
    data = dataset.open_dataset(made)
    frames = num_frames(data)
    assert 10 <= frames.pop('b/cut') <= 25
    assert frames == EXPECTED
    assert data.labels == ('a', 'b')
    labels = dict(zip(data.index.ids, data.index.labels, strict=True))
    assert all(labels[name] == 'ab'.index(name[0]) for name in labels)
    index = list(data.index.ids)
    size = {n: (data.index.height[i], data.index.width[i]) for i, n in enumerate(index)}
    assert size['b/vertical'] == (341, 256) and size['b/large'] == (256, 455)
    assert size['a/turned'] == (64, 48) and size['a/whole'] == (32, 48)
    fps = dict(zip(index, data.index.fps.tolist(), strict=True))
    assert fps['a/whole'] == 10 and fps['b/frames'] == 25
    assert fps['a/variable'] == pytest.approx(4 / 1.1, rel=0.06)


def test_frames_of_images_are_stored_in_order(made):
    data = dataset.open_dataset(made)
    clip = list(data.index.ids).index('b/frames')
    stored = [simplejpeg.decode_jpeg(j).mean() for j in data.reader().read(clip, range(12))]
    assert np.round(stored).tolist() == list(range(40, 52))


def test_what_cannot_be_read_is_named_with_its_reason(made, videos):
    found = failures(made)
    assert found.keys() == {'zero.avi', 'text.avi', 'sound.mp4'}
    assert found['zero.avi'] == 'an empty file'
    assert found['sound.mp4'] == 'no video stream'
    assert found['text.avi'].startswith('Invalid data found')
    assert f'{videos}/b/zero.avi\t' in (made / 'failures.tsv').read_text()
    metadata = json.loads((made / 'metadata.json').read_text())
    assert metadata['num_clips_in_source'] == 22
    assert (metadata['num_failed'], metadata['num_damaged']) == (3, 1)
    assert (metadata['short_side'], metadata['fps']) == (256, None)


def test_prediction_sees_the_stored_frames(made, videos):
    data = dataset.open_dataset(made)
    clip = list(data.index.ids).index('b/large')
    stored = np.stack([simplejpeg.decode_jpeg(j) for j in data.reader().read(clip, [1, 0])])
    assert np.array_equal(video.read_frames(videos / 'b' / 'large.mp4', [1, 0]), stored)


def test_anyone_can_open_it_through_tfds(made):
    builder = tfds.builder_from_directory(made)
    assert builder.info.features['label'].names == ['a', 'b']
    assert builder.info.metadata['splits'] == {s: s for s in ('train', 'validation', 'test')}
    read = {}
    for example in builder.as_dataset(split='train+validation+test'):
        read[example['id'].numpy().decode()] = example['video'].shape
    assert read['b/vertical'] == (2, 341, 256, 3)
    assert len(read) == 19
    assert [p.name for p in made.parent.parent.iterdir()] == ['clips']


def test_the_index_is_that_of_the_reader(made, caplog):
    index = dataset.open_dataset(made).index
    assert 'stale' not in caplog.text
    built = dataclasses.asdict(frame_index.build(made, list(index.shards)))
    for name, array in dataclasses.asdict(index).items():
        assert np.array_equal(array, built[name]) and array.dtype == built[name].dtype, name


def test_processes_change_nothing(made, videos, tmp_path):
    other = convert(folder.read(videos), tmp_path, Options(workers=2))
    for file in made.iterdir():
        if file.name != 'frame_index.npz':  # a zip file holds the time of day
            assert file.read_bytes() == (other / file.name).read_bytes(), file.name


def test_beam_makes_the_same_records(made, videos, tmp_path):
    pytest.importorskip('apache_beam')
    other = convert(folder.read(videos), tmp_path, Options(beam_runner='DirectRunner'))
    assert examples(other) == examples(made)
    assert failures(other) == failures(made)
    metadata = [json.loads((d / 'metadata.json').read_text()) for d in (other, made)]
    assert metadata[0] == metadata[1]
    one, two = dataset.open_dataset(other), dataset.open_dataset(made)
    for split in ('train', 'validation', 'test'):
        ids = [set(d.index.ids[d.clips(split)]) for d in (one, two)]
        assert ids[0] == ids[1]
    assert [p.name for p in tmp_path.iterdir()] == ['clips']


def test_beam_that_is_not_installed(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'apache_beam', None)
    with pytest.raises(UserError, match=r"pip install 'vidcls\[beam\]'"):
        convert(folder.read(videos), tmp_path, Options(beam_runner='DirectRunner'))
    assert not list(tmp_path.iterdir())


def test_size_and_rate(videos, tmp_path):
    options = Options(FrameStorage(short_side=24, fps=5.0), workers=1)
    data = dataset.open_dataset(convert(folder.read(videos), tmp_path, options))
    frames = num_frames(data)
    assert (frames['a/whole'], frames['b/frames']) == (4, 12)  # images carry no clock
    assert set(data.index.fps) == {5.0} and data.storage == FrameStorage(24, 5.0)
    assert np.minimum(data.index.height, data.index.width).max() == 24


def test_shards_are_cut_and_named_as_tfds_does(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(records, 'SHARD_BYTES', 10_000)
    made = convert(folder.read(videos), tmp_path, ALONE)
    train = sorted(p.name for p in made.glob('*train.tfrecord*'))
    assert len(train) > 2
    assert train[0] == f'clips-train.tfrecord-00000-of-{len(train):05d}'
    assert len(list(tfds.builder_from_directory(made).as_dataset(split='train'))) == 16
    data = dataset.open_dataset(made)
    assert len(data.clips('train')) == 16
    built = frame_index.build(made, list(data.index.shards))
    assert np.array_equal(data.index.offset, built.offset)
    assert np.array_equal(data.index.shard, built.shard)


def test_a_part_of_which_nothing_is_left(tmp_path):
    clips = tmp_path / 'clips'
    write_video(clips / 'train' / 'a' / '1.mp4', grey_levels([10, 20]))
    (clips / 'test' / 'a').mkdir(parents=True)
    (clips / 'test' / 'a' / '2.mp4').touch()
    made = convert(folder.read(clips), tmp_path / 'out', ALONE)
    assert list(dataset.open_dataset(made).splits) == ['train']


def test_a_class_that_is_lost_is_an_error(tmp_path):
    clips = tmp_path / 'clips'
    write_video(clips / 'a' / '1.mp4', grey_levels([10, 20]))
    (clips / 'b').mkdir()
    (clips / 'b' / '2.mp4').touch()
    with pytest.raises(UserError, match=r'every video of b failed \(.*2.mp4: an empty file\)'):
        convert(folder.read(clips), tmp_path / 'out', ALONE)
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize(('name', 'reason'), [('zero.avi', 'an empty file'), ('cut.avi', 'it ends')])
def test_strict(videos, tmp_path, name, reason):
    clips = tmp_path / 'clips' / 'b'
    clips.mkdir(parents=True)
    for file in (name, 'hevc.mp4'):
        shutil.copy(videos / 'b' / file, clips)
    with pytest.raises(UserError, match=f'{name}: {reason}.*without --strict'):
        convert(folder.read(clips.parent), tmp_path / 'out', Options(workers=1, strict=True))
    assert not list((tmp_path / 'out').iterdir())


def test_an_error_of_ours_costs_its_clip(small, tmp_path, monkeypatch):
    monkeypatch.setattr(converting, 'convert_clip', failing.fail_on_2)
    made = convert(small, tmp_path / 'out', Options(workers=2))
    (reason,) = failures(made).values()
    assert re.fullmatch(r"internal error: TypeError at video.py:\d+: 'NoneType' object is not callable", reason)
    assert num_frames(dataset.open_dataset(made)).keys() == {'a/0', 'a/1', 'a/3'}
    metadata = json.loads((made / 'metadata.json').read_text())
    assert metadata['num_failed'] == 1


def test_an_error_of_ours_in_beam_costs_its_clip(small, tmp_path, monkeypatch):
    monkeypatch.setattr(video, 'encode', lambda *_, **__: {}['no such thing'])
    assert list(beam._examples(small.clips[0], FrameStorage(), tmp_path)) == []
    (note,) = tmp_path.glob('*.json')
    found = json.loads(note.read_text())
    assert found['skipped'] and found['id'] == small.clips[0].id
    assert found['reason'].startswith('internal error: KeyError at test_convert.py:')


@pytest.mark.parametrize(
    ('function', 'reason'),
    [(failing.crash_on_2, 'its worker process died of SIGSEGV'), (failing.hang_on_2, 'no progress for 2 s')],
)
def test_a_crash_or_a_standstill_costs_its_clip(small, tmp_path, monkeypatch, function, reason):
    monkeypatch.setattr(converting, 'convert_clip', function)
    made = convert(small, tmp_path / 'out', Options(workers=2, clip_timeout=2.0))
    assert failures(made)['2.mp4'].startswith(reason) and len(failures(made)) == 1
    assert num_frames(dataset.open_dataset(made)).keys() == {'a/0', 'a/1', 'a/3'}
    assert not (made / 'spool').exists()


def test_a_crash_under_strict(small, tmp_path, monkeypatch):
    monkeypatch.setattr(converting, 'convert_clip', failing.crash_on_2)
    with pytest.raises(UserError, match=r'2.mp4: its worker process died of SIGSEGV; without --strict'):
        convert(small, tmp_path / 'out', Options(workers=1, strict=True))
    assert not list((tmp_path / 'out').iterdir())


def test_a_list_that_names_a_missing_file(videos, tmp_path):
    lines = tmp_path / 'list'
    lines.write_text('a/whole.mp4 0\na/gone.mp4 0\na/one 0\n')
    source = folder.read(videos, lists={'train': lines})
    made = convert(source, tmp_path / 'out', ALONE)
    assert failures(made) == {'gone.mp4': 'no such file'}
    assert num_frames(dataset.open_dataset(made)) == {'a/whole': 8, 'a/one': 1}


@pytest.fixture
def small(tmp_path):
    for number in range(4):
        write_video(tmp_path / 'clips' / 'a' / f'{number}.mp4', grey_levels([10 * number]))
    return folder.read(tmp_path / 'clips')


def test_a_dataset_that_is_there_stays_unless_told(small, tmp_path):
    made = convert(small, tmp_path / 'out', ALONE)
    (made / 'mark').touch()
    with pytest.raises(UserError, match='clips/1.0.0 exists; --overwrite replaces it'):
        convert(small, tmp_path / 'out', ALONE)
    assert (made / 'mark').exists()
    convert(small, tmp_path / 'out', Options(workers=1, overwrite=True))
    assert not (made / 'mark').exists()
    assert len(dataset.open_dataset(made).index) == 4
    assert [p.name for p in made.parent.iterdir()] == ['1.0.0']


def test_overwriting_that_fails_leaves_the_old_one(small, tmp_path):
    made = convert(small, tmp_path / 'out', ALONE)
    for clip in small.clips:
        os.truncate(clip.files[0], 0)
    with pytest.raises(UserError, match='every video of a failed'):
        convert(small, tmp_path / 'out', Options(workers=1, overwrite=True))
    assert len(dataset.open_dataset(made).index) == 4


def test_a_replacement_that_was_killed_half_way_is_ended_first(small, tmp_path, caplog):
    made = convert(small, tmp_path / 'out', ALONE)
    (made / 'mark').touch()
    os.rename(made, made.with_name('.1.0.0.replaced'))  # a SIGKILL between the two renames, the new one not whole
    (tmp_path / 'out' / '.clips-1.0.0.partial').mkdir()
    with pytest.raises(UserError, match='a conversion was killed while it replaced'):
        dataset.open_dataset(tmp_path / 'out')
    with pytest.raises(UserError, match='clips/1.0.0 exists; --overwrite replaces it'):
        convert(small, tmp_path / 'out', ALONE)
    assert (made / 'mark').exists() and len(dataset.open_dataset(tmp_path / 'out').index) == 4
    assert 'the old dataset is there now' in caplog.text
    shutil.copytree(made, tmp_path / 'out' / '.clips-1.0.0.partial')
    os.rename(made, made.with_name('.1.0.0.replaced'))  # and with the new one whole
    (tmp_path / 'out' / '.clips-1.0.0.partial' / 'new').touch()
    with pytest.raises(UserError, match='clips/1.0.0 exists'):
        convert(small, tmp_path / 'out', ALONE)
    assert (made / 'new').exists() and len(dataset.open_dataset(tmp_path / 'out').index) == 4
    assert [p.name for p in made.parent.iterdir()] == ['1.0.0']


def test_a_conversion_ends_with_what_there_is(videos, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        convert(folder.read(videos), tmp_path, ALONE)
    # Of 12 and 10 clips, one each for validation and test; three of b can't be read.
    report = next(record.getMessage() for record in caplog.records if 'clips of each' in record.getMessage())
    rows = [line.split() for line in report.splitlines()[2:]]
    assert [row[0] for row in rows] == ['a', 'b', 'all'] and rows[0][-1] == '12' and rows[1][-1] == '7'
    assert rows[2] == ['all', '2', 'classes', *(str(int(x) + int(y)) for x, y in zip(rows[0][1:], rows[1][1:]))]


def test_names_in_the_table_of_failures(tmp_path):
    names = ['line\nbreak.mp4', '\x1b[2J.mp4', b'caf\xe9.mp4'.decode('utf-8', 'surrogateescape'), 'tab\t.mp4']
    source = folder.read(touch(tmp_path / 'clips', *(f'a/{name}' for name in names)))
    write_video(tmp_path / 'clips' / 'a' / '0.mp4', grey_levels([10]))
    made = convert(folder.read(tmp_path / 'clips'), tmp_path / 'out', ALONE)
    assert len(source.clips) == 4
    assert sorted(failures(made)) == ['\\x1b[2J.mp4', 'caf\\xe9.mp4', 'line\\nbreak.mp4', 'tab\\t.mp4']


def test_leftovers_of_a_killed_run_are_cleared(small, tmp_path):
    partial = tmp_path / 'out' / '.clips-1.0.0.partial'
    (partial / 'tfds').mkdir(parents=True)
    (partial / 'clips-train.tfrecord-00000').write_bytes(b'half of a rec')
    made = convert(small, tmp_path / 'out', ALONE)
    assert not partial.exists() and not (made / 'tfds').exists()
    assert len(dataset.open_dataset(made).index) == 4


def test_two_at_a_time_are_refused(small, tmp_path):
    partial = tmp_path / 'out' / '.clips-1.0.0.partial'
    partial.mkdir(parents=True)
    lock = os.open(partial, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(UserError, match='another process is writing'):
        convert(small, tmp_path / 'out', ALONE)
    os.close(lock)
    convert(small, tmp_path / 'out', ALONE)


def test_a_full_disk(tmp_path):
    clips = tmp_path / 'clips'
    for number in range(6):
        write_video(clips / 'a' / f'{number}.mp4', scenery(20, (256, 340), seed=number))
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=600k', 'tmpfs', str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip('a small tmpfs cannot be mounted here')
    try:
        with pytest.raises(UserError, match=f'no space left in {disk}: .* needs about .* MB'):
            convert(folder.read(clips), disk, ALONE)
        assert not list(disk.iterdir())
    finally:
        subprocess.run(['umount', str(disk)], check=True)


def test_an_interrupt_half_way(tmp_path):
    clips, out = tmp_path / 'clips', tmp_path / 'out'
    for number in range(3):
        write_video(clips / f'{number}.mp4', grey_levels([10 * number]))
    write_gif(clips / 'long.gif', (2000, 2000), 100_000)  # minutes of decoding
    lines = tmp_path / 'list'
    lines.write_text('0 x\n1 x\n2 x\nlong.gif x\n')
    # A shell has what it runs with & ignore the signal.
    command = ['env', '--default-signal=INT', sys.executable, '-m', 'data_prep.folder', '--workers=2', f'--out={out}']
    process = subprocess.Popen(
        [*command, f'--videos={clips}', f'--list={lines}'],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 300
    while not list(out.glob('.clips-1.0.0.partial/*.tfrecord-*')) and time.monotonic() < limit:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, log = process.communicate(timeout=180)
    assert process.returncode == 130
    assert 'interrupted; no dataset was written' in log
    assert not list(out.iterdir())
    with pytest.raises(ProcessLookupError):  # soon no worker is left
        while time.monotonic() < limit:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_exit_status_and_message(tmp_path):
    command = [sys.executable, '-m', 'data_prep.folder', f'--videos={tmp_path}/absent']
    command.append(f'--out={tmp_path}')
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 1
    assert f'{tmp_path}/absent: no such folder' in run.stderr and 'Traceback' not in run.stderr


def test_real_files(shared_data, tmp_path):
    """Every file of the collection comes out as its manifest says, or is named."""
    clips = tmp_path / 'clips' / 'misc'
    clips.mkdir(parents=True)
    for file in (shared_data / 'misc').iterdir():
        (clips / file.name).with_suffix('.mp4' if file.suffix == '.mp3' else file.suffix).symlink_to(file)
    rows = [line.split('\t') for line in (shared_data / 'MANIFEST.tsv').read_text().splitlines()]
    expected = {r[0].split('/')[1]: int(r[5]) for r in rows if r[0].startswith('misc/')}
    expected = {f'misc/{os.path.splitext(n)[0]}': frames for n, frames in expected.items() if frames}
    options = Options(FrameStorage(short_side=64), workers=0)
    made = convert(folder.read(clips.parent), tmp_path / 'out', options)
    assert num_frames(dataset.open_dataset(made)) == expected
    assert failures(made).keys() == {
        'derived_text_named.avi',
        'derived_zero_bytes.avi',
        'torchcodec_nasa_13013.mp4.audio.mp4',
    }
