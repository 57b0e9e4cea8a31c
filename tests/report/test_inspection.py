"""Inspecting a made dataset in which it is known what is wrong, and its page."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data_prep import folder, motion
from data_prep.convert import convert
from data_prep.options import Options
from tests.stored import store
from vidcls.data.dataset import open_dataset
from vidcls.errors import UserError
from vidcls.report import inspect_page, inspection, page, pictures
from vidcls.report.duplicates import Alike
from vidcls.report.looks import look
from vidcls.run.stored_results import load

MARKED = '<b>right & é'  # a class
SIZE, FRAMES = 64, 16


def _clip(kind: str, seed: int) -> np.ndarray:
    return motion.draw_motion(kind, np.random.default_rng(seed), SIZE, FRAMES)


def _scene(row: int) -> np.ndarray:
    """A small square that moves along a row, over a background that is always the same."""
    video = np.repeat(motion._blobs(np.random.default_rng(9), SIZE, 6, 0.4)[None], FRAMES, axis=0)
    for frame in range(FRAMES):
        video[frame, row : row + 3, 3 * frame : 3 * frame + 3] += 40
    return video


def _copy(video: np.ndarray) -> np.ndarray:
    """Encoded again at a low quality, half as large, and a little brighter."""
    found = []
    for frame in video:
        file = io.BytesIO()
        Image.fromarray(frame).resize((48, 48)).save(file, 'JPEG', quality=40)
        found.append(np.asarray(Image.open(file)))
    return np.clip(np.array(found).astype(int) + 12, 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp('inspected')
    first, moving = _clip('horizontal', 1), _clip('turning', 4)
    clips = {
        'train/left/first': first,
        'test/left/same_bytes': first,
        'test/left/copied': _copy(first),
        'test/left/other': _clip('horizontal', 2),
        'train/left/scene': _scene(8),
        f'test/{MARKED}/scene_too': _scene(48),
        f'train/{MARKED}/black': np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8),
        f'test/{MARKED}/black_too': np.full((FRAMES + 1, SIZE, SIZE, 3), 4, np.uint8),
        f'train/{MARKED}/frozen': np.concatenate([moving[:8], np.repeat(moving[8:9], 14, axis=0)]),
        f'test/{MARKED}/short': _clip('vertical', 5)[:3],
    }
    for name, frames in clips.items():
        (out / 'videos' / name).mkdir(parents=True)
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(out / 'videos' / name / f'{number:03d}.png')
    return open_dataset(convert(folder.read(out / 'videos', name='made'), out, Options(workers=1)))


@pytest.fixture(scope='module')
def found(dataset):
    return inspection.inspect(dataset)


def _names(found, groups):
    return [{str(found.dataset.index.ids[clip]).rpartition('/')[2] for clip in each.clips} for each in groups]


def test_equal_bytes_copies_and_scenes_are_told_apart(found):
    assert _names(found, found.equal) == [{'first', 'same_bytes'}]
    assert _names(found, found.copies) == [{'first', 'copied'}]
    assert _names(found, found.scenes) == [{'scene', 'scene_too'}]
    assert found.num_more == 0
    assert found.crossed(found.equal) == found.equal
    assert found.relabelled(found.equal) == []
    assert len(found.relabelled(found.scenes)) == 1


def test_every_clip_of_a_group_is_named(found, tmp_path, monkeypatch):
    every = dataclasses.replace(found, equal=[Alike(tuple(range(10)))])
    ids = found.dataset.index.ids.tolist()
    assert every.crossed(every.equal) == every.relabelled(every.equal) == every.equal
    assert inspection.as_json(every)['same_bytes'][0]['ids'] == ids
    assert f'  {ids[0]} and {ids[1]} and 8 more (train and test)' in inspection.summary(every)

    def card():
        inspect_page.write(tmp_path / 'page.html', every)
        return (tmp_path / 'page.html').read_text().partition('Same bytes, across splits: 1')[2].partition('<h3>')[0]

    assert card().count('<span>and</span>') == 9
    monkeypatch.setattr(inspect_page, '_MEMBERS', 3)
    assert card().count('<span>and</span>') == 4 and '6 more, which the JSON file' in card()


def test_frames_that_show_nothing(found):
    kinds = {what: {str(found.dataset.index.ids[clip]).rpartition('/')[2] for clip in clips}
             for what, clips in inspection.problems(found).items()}  # fmt: skip
    assert kinds == {
        'clips with frozen frames': {'frozen', 'black', 'black_too'},
        'clips with black frames': {'black', 'black_too'},
        'clips with frames of one colour': set(),
        'clips with frames that are broken': set(),
        'clips with fewer than 8 frames': {'short'},
    }
    by_name = {name.rpartition('/')[2]: looks for name, looks in zip(found.dataset.index.ids.tolist(), found.looks)}
    assert (by_name['black'].black, by_name['black_too'].black) == (16, 17)
    assert by_name['frozen'].frozen == (8, 14)
    assert by_name['first'].frozen == (0, 0)


def test_a_frame_that_is_broken_is_one_line_of_the_page(dataset, tmp_path):
    copied = tmp_path / 'copied'
    shutil.copytree(dataset.folder, copied)
    index, clip = dataset.index, 0
    with open(copied / str(index.shards[index.shard[clip]]), 'r+b') as file:
        for frame in range(index.first[clip], index.first[clip + 1]):
            file.seek(int(index.offset[frame]) + 2)
            file.write(bytes(100))
    broken = open_dataset(copied)
    looks = look(broken)
    assert [bool(each.broken) for each in looks] == [True] + [False] * (len(looks) - 1)
    inspect_page.write(tmp_path / 'page.html', inspection.inspect(broken))
    assert 'can not be decoded' in (tmp_path / 'page.html').read_text()


def test_unlikely_labels_are_those_of_the_stored_evaluation(dataset, tmp_path):
    clips = dataset.clips('test')
    ids, labels = dataset.index.ids[clips].tolist(), dataset.index.labels[clips]
    logits = 4.0 * np.eye(2)[labels]
    logits[1] = logits[1][::-1]  # this one is wrong, with a probability of 1 / (1 + e^4)
    logits[0] = np.nan
    protocol = {'split': 'test', 'dataset_digest': dataset.digest('test')}
    judged = load(store(tmp_path / 'judge', ids, labels, logits, list(dataset.labels), **protocol))
    (suspect,) = inspection.find_suspects(dataset, judged)
    assert suspect.clip == clips[1]
    assert suspect.probability == pytest.approx(1 / (1 + np.exp(4)), rel=1e-4)
    assert suspect.ranking[0][0] == dataset.labels[1 - labels[1]]
    other = load(store(tmp_path / 'judge', ids, labels, logits, list(dataset.labels), split='test'))
    with pytest.raises(UserError, match="was evaluated on '0badcafe'"):
        inspection.find_suspects(dataset, other)


def test_the_page_and_the_summary_have_what_was_found(found, tmp_path):
    path = tmp_path / 'page.html'
    inspect_page.write(path, found)
    text = path.read_text()
    assert MARKED not in text
    assert '&lt;b&gt;right &amp; é: 5 clips' in text
    for title in ('Same bytes, across splits: 1', 'Same pictures, across splits: 1', 'Same scene, across splits: 1'):
        assert title in text
    assert text.count('data:image/jpeg;base64,') == 3 + 2  # pairs and classes
    lines = inspection.summary(found)
    assert lines[0].startswith('made 1.0.0: 10 clips of 2 classes, ')
    assert 'same bytes: 1 group, 0 with different labels' in lines
    assert 'clips with black frames: 2 (' in '\n'.join(lines)
    page.write_json(tmp_path / 'page.json', inspection.as_json(found))
    saved = json.loads((tmp_path / 'page.json').read_text())
    assert saved['same_scene'][0]['labels'] in (['left', MARKED], [MARKED, 'left'])
    assert saved['same_bytes'][0]['crosses'] in (['train and test'], ['test and train'])


def test_a_sheet_stays_within_its_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (12, 120, 160, 3), np.uint8)
    cells = [Image.fromarray(each) for each in noise]
    large, small = pictures.sheet(cells, 6), pictures.sheet(cells, 6, 60_000)
    assert len(small) < len(large)
    assert Image.open(io.BytesIO(small)).size == (6 * 164 - 4, 2 * 124 - 4)
