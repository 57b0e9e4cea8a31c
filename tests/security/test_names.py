"""Hostile names, and what a folder of videos may hold beside videos: refused or harmless, and nothing opened."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.security.confined import attack, check_refused
from vidcls.text.names import readable

HOSTILE = ('a\nb', 'a\rb', '\x1b[2J', 'a\x9b31mb', 'a\u2028b', '\u202etxt', ' a', 'a\u00a0', 'caf\udce9', 'a\x85b')


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _read(*args, **kwargs):
    from data_prep import folder

    return folder.read(*args, **kwargs)


def _read_lists(videos, lists, classes=None):
    return _read(videos, lists={'train': lists}, classes=classes)


def _read_official(source, videos, lists):
    import importlib

    return importlib.import_module(f'data_prep.{source}').read(videos, lists)


@pytest.mark.parametrize('name', HOSTILE)
def test_class_folders(tmp_path, name):
    outcome = attack(_read, touch(tmp_path, 'good/1.mp4', f'{name}/1.mp4'))
    check_refused(outcome)
    assert repr(name) in outcome.message and 'rename' in outcome.message
    assert readable(outcome.message) == outcome.message


@pytest.mark.parametrize('name', ['a\x1b[2Jb', 'a\x9b31m', 'a\u202eb', 'caf\udce9'])
def test_labels_of_lists_and_class_files(tmp_path, name):
    def write(file, text):
        (tmp_path / file).write_text(text, encoding='utf-8', errors='surrogateescape')
        return tmp_path / file

    check_refused(attack(_read_lists, tmp_path, write('list', f'1.mp4\t{name}\n')))
    classes = write('classes', f'0 good\n1 {name}\n')
    outcome = attack(_read_lists, tmp_path, write('numbers', '1.mp4 0\n'), classes)
    check_refused(outcome)
    assert 'classes, line 2' in outcome.message
    write('classInd.txt', f'1 {name}\n')
    check_refused(attack(_read_official, 'ucf101', tmp_path, tmp_path))
    (tmp_path / f'{name}_test_split1.txt').touch()
    check_refused(attack(_read_official, 'hmdb51', tmp_path, tmp_path))


def _convert_source_of_somebody(label):
    """A source that does not come from our readers."""
    from data_prep.convert import convert
    from data_prep.source import Clip, Source

    clips = [Clip('1', 0, 'train', (Path('1.mp4'),))]
    convert(Source('x', 'x', (label, 'b'), clips, {'train': ['train']}), Path('/nowhere'))


def test_labels_of_any_source():
    outcome = attack(_convert_source_of_somebody, 'a\nb')
    check_refused(outcome)
    assert "'a\\nb'" in outcome.message


@pytest.mark.parametrize('special', ['pipe', 'device', 'loop'])
def test_lists_that_are_no_files(tmp_path, special):
    path, good = _make(tmp_path / 'special', special), tmp_path / 'list'
    good.write_text('1.mp4 0\n')
    check_refused(attack(_read_lists, tmp_path, path))
    check_refused(attack(_read_lists, tmp_path, good, path))
    _make(tmp_path / 'classInd.txt', special)
    check_refused(attack(_read_official, 'ucf101', tmp_path, tmp_path))
    _make(tmp_path / 'a_test_split1.txt', special)
    check_refused(attack(_read_official, 'hmdb51', tmp_path, tmp_path))


@pytest.mark.parametrize('special', ['pipe', 'device'])
def test_a_list_that_names_no_file(tmp_path, special):
    _make(tmp_path / '1.mp4', special)
    (tmp_path / 'list').write_text('1.mp4 0\n')
    outcome = attack(_read_lists, tmp_path, tmp_path / 'list')
    check_refused(outcome)
    assert 'list, line 1: 1.mp4 is a pipe or a device' in outcome.message


@pytest.mark.parametrize('text', ['\0', 'a\0.mp4 0\n', f'{"a/" * 3000}x.mp4 0\n', f'1.mp4 {"9" * 5000}\n2.mp4 8\n'])
def test_lists_of_nonsense(tmp_path, text):
    """Refused, or a line that the system refuses for its length, or kept as a label."""
    (tmp_path / 'list').write_text(text)
    outcome = attack(_read_lists, tmp_path, tmp_path / 'list')
    assert outcome.error in ('UserError', 'OSError', '') and outcome.seconds < 5, outcome


def _make(path, special):
    if special == 'pipe':
        os.mkfifo(path)
    else:
        path.symlink_to('/dev/zero' if special == 'device' else path.name)
    return path


def _convert(videos, out):
    from data_prep import folder
    from data_prep.convert import Options, convert

    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
    made = convert(folder.read(videos, name='clips'), out, Options(workers=1))
    index = np.load(made / 'frame_index.npz')
    assert sorted(index['ids'].tolist()) == ['=1+1/\\x1b[2J', '=1+1/frames'], index['ids']
    assert (made / 'label.labels.txt').read_text() == '=1+1\n'


def test_a_folder_of_videos_with_pipes_devices_and_loops(tmp_path):
    """None of them is opened (a pipe would wait for ever, the device fill the memory); the rest is converted."""
    from tests.data_prep.test_folder import save_frames
    from tests.made_videos import grey_levels, write_video

    label = tmp_path / 'clips' / '=1+1'
    write_video(label / '1.mp4', grey_levels([10, 20])).rename(label / '\x1b[2J.mp4')
    save_frames(label / 'frames', [1, 2])
    for number, special in enumerate(('pipe', 'device', 'loop')):
        _make(label / f'{special}.mp4', special)
        _make(label / 'frames' / f'{number}0.png', special)
        _make(tmp_path / 'clips' / f'{special}.mp4', special)
    (label / 'round').symlink_to('..')
    (label / 'frames' / 'round').symlink_to('.')
    (tmp_path / 'clips' / 'loop').symlink_to('loop')
    outcome = attack(_convert, tmp_path / 'clips', tmp_path / 'out')
    assert (outcome.error, outcome.status) == ('', 0), outcome
    assert outcome.peak_bytes < 2 << 30


def test_a_class_that_links_to_all_classes(tmp_path):
    (touch(tmp_path / 'clips', 'a/1.mp4') / 'b').symlink_to(tmp_path)
    outcome = attack(_read, tmp_path / 'clips')
    check_refused(outcome)
    assert 'clips/b is a link to a folder that it lies in' in outcome.message


def _write_predictions():
    """The labels of a work directory that somebody made, and files whose names somebody chose."""
    from experiments import predict

    found = [('\x1b]0;title\x07', 0.5), ('=cmd()', 0.3), ('a\nb', 0.2)]
    path = Path('-x/\x1b[2J\udce9\n.mp4')
    written = {}
    for name in ('_text', '_csv', '_json'):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            getattr(predict, name)(path, found)
        written[name] = out.getvalue()
        assert all(line.isprintable() for line in written[name].split('\n')), written[name]
    assert written['_text'].split('\n')[0] == '-x/\\x1b[2J\\xe9\\n.mp4'
    rows = list(csv.reader(io.StringIO(written['_csv'])))
    assert [row[2] for row in rows] == ['\\x1b]0;title\\x07', "'=cmd()", 'a\\nb']
    assert rows[0][0] == "'-x/\\x1b[2J\\xe9\\n.mp4"
    exact = json.loads(written['_json'])
    assert exact['video'] == str(path) and [row['label'] for row in exact['labels']] == [label for label, _ in found]


def _write_stream():
    from experiments import stream

    for write in (stream._text, stream._json):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            write(0.0, '\x1b[2J\n', 0.5, 0.01)
        assert out.getvalue().removesuffix('\n').isprintable(), out.getvalue()


@pytest.mark.parametrize('write', [_write_predictions, _write_stream])
def test_predictions(write):
    outcome = attack(write)
    assert (outcome.error, outcome.status) == ('', 0), outcome


def _fail_as_a_script(message):
    from absl import flags, logging

    from vidcls.errors import UserError
    from vidcls.run import script

    def work(_):
        logging.warning('left out: %s', message)
        raise UserError(message)

    flags.FLAGS(['x'])
    with contextlib.redirect_stderr(io.StringIO()) as err:
        logging.get_absl_handler().python_handler.stream = err
        assert script._guarded(work, []) == 1
    assert err.getvalue().count('\\x1b[2J') == 2 and '\x1b' not in err.getvalue(), err.getvalue()


def test_errors_and_warnings_of_scripts():
    outcome = attack(_fail_as_a_script, 'of \x1b[2J.mp4')
    assert (outcome.error, outcome.status) == ('', 0), outcome
