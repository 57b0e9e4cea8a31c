"""The files of an explanation: names, contents, and that no other video's are overwritten."""

import dataclasses
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.made_videos import scenery
from vidcls.data.windows import Window
from vidcls.errors import UserError
from vidcls.explain import maps, pictures, saving

HOSTILE = '<script>$x^2$</script> \u202egnp.exe Ünïcode 动作' + 60 * 'long'


def explained(video='clips/a.mp4', label='left', frames=3, size=(48, 64)):
    stored = scenery(frames, size)
    window = Window(4, 10, 40, 40)
    values = np.random.default_rng(0).random((frames, 40, 40)).astype(np.float32)
    return maps.Explanation(
        video,
        label,
        0.75,
        'gradcam',
        0,
        1,
        stored,
        window,
        np.arange(frames) / 10,
        values,
        {'backbone': values[:, :2, :2]},
        True,
    )


def save(folder, name='', run='runs/one', **changed):
    explanation = explained(**changed)
    return saving.save(explanation, folder, explanation.frames, explanation.times, Path(run), name)


def test_the_files_have_what_they_say(tmp_path):
    path = save(tmp_path / 'new' / 'folder', frames=5)
    assert path.name == 'a-left-gradcam.png'
    assert sorted(file.name for file in path.parent.iterdir()) == [
        f'a-left-gradcam.{ending}' for ending in ('json', 'mp4', 'npz', 'png')
    ]
    ours = explained(frames=5)
    told = json.loads(path.with_suffix('.json').read_text())
    assert (told['label'], told['probability'], told['method'], told['times']) == (
        'left',
        0.75,
        'gradcam',
        [0, 0.1, 0.2, 0.3, 0.4],
    )
    assert told['window'] == {'top': 4, 'left': 10, 'height': 40, 'width': 40, 'flip': False}
    with np.load(path.with_suffix('.npz')) as saved:
        np.testing.assert_array_equal(saved['map'], ours.map)
        np.testing.assert_array_equal(saved['frames'], ours.frames[:, 4:44, 10:50])
        np.testing.assert_allclose(saved['weights'], ours.map.sum((1, 2)) / ours.map.sum(), rtol=1e-6)
        assert saved['cells_backbone'].shape == (5, 2, 2)
    assert Image.open(path).width == pictures.WIDTH
    with av.open(str(path.with_suffix('.mp4'))) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ('h264', 'yuv420p')
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_no_other_explanation_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, 'write_film', lambda path, *args: path.write_text('film'))  # for time
    names = [save(tmp_path, video=video, label=label).name for video, label in [
        ('x/a.mp4', 'left'), ('y/a.mp4', 'left'), ('x/a.mp4', 'right'), ('y/a.mp4', 'left'), ('x/a.mp4', 'left'),
    ]]  # fmt: skip
    assert names == [
        f'a-{one}-gradcam{more}.png'
        for one, more in [('left', ''), ('left', '-2'), ('right', ''), ('left', '-2'), ('left', '')]
    ]
    assert save(tmp_path, video='x/a.mp4', run='runs/two').name == 'a-left-gradcam-3.png'
    assert [save(tmp_path, video='').name for _ in range(2)] == [
        f'frames-left-gradcam{more}.png' for more in ('', '-2')
    ]
    (tmp_path / 'b-left-gradcam.png').write_text('mine')
    assert save(tmp_path, video='b.mp4').name == 'b-left-gradcam-2.png'
    assert (tmp_path / 'b-left-gradcam.png').read_text() == 'mine'


def test_hostile_names_are_safe_and_drawn(tmp_path):
    path = save(tmp_path, video=f'clips/{HOSTILE}.mp4'.replace('/', '_'), label=HOSTILE, frames=1)
    assert path.parent == tmp_path and len(path.name.encode()) < 250
    assert not set('<>$ /\u202e') & set(path.name)
    assert json.loads(path.with_suffix('.json').read_text())['label'] == HOSTILE
    assert [saving.safe(name) for name in ('', '..', '.hidden', 'a/../b', 'ok-1.2')] == [
        '_',
        '_.',
        '_hidden',
        'a_.._b',
        'ok-1.2',
    ]


def test_a_save_that_fails_leaves_whole_files_and_is_repeated(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(pictures, 'write_film', fail)
    with pytest.raises(OSError, match='disk full'):
        save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['a-left-gradcam.json', 'a-left-gradcam.png']
    monkeypatch.undo()
    assert save(tmp_path).name == 'a-left-gradcam.png' and len(list(tmp_path.iterdir())) == 4


def test_without_the_extra_a_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(UserError, match=r"pip install 'vidcls\[report\]'"):
        save(tmp_path)


@pytest.mark.parametrize('size', [(40, 40), (44, 400), (400, 50)])
def test_pictures_of_every_shape(size):
    explanation = explained(frames=1, size=size)
    explanation = dataclasses.replace(explanation, window=Window(0, 0, 40, 40), map=np.zeros((1, 40, 40), np.float32))
    assert pictures.strip(explanation).width == pictures.WIDTH
    paint = pictures.Painter(explanation, size, explanation.times)
    picture = paint(explanation.frames[0], 0.0)
    assert picture.shape == (*paint.size[::-1], 3) and not any(side % 2 for side in paint.size)


def test_the_map_of_a_film_is_interpolated_in_time():
    explanation = dataclasses.replace(explained(frames=2), map=np.stack([np.full((40, 40), 2), np.full((40, 40), 6)]))
    paint = pictures.Painter(explanation, (48, 64), np.linspace(0, 0.2, 5))
    found = [paint.map_at(time)[0, 0] for time in (-1, 0, 0.025, 0.1, 0.5)]
    np.testing.assert_allclose(found, [2, 2, 3, 6, 6])


def test_the_map_of_a_film_follows_the_times_of_frames_that_overlap():
    """Stacked frames of a short clip: the third one lies between the others."""
    levels = np.stack([np.full((40, 40), level) for level in (2, 6, 4)])
    explanation = dataclasses.replace(explained(frames=3), map=levels, times=np.array([0.0, 0.2, 0.1]))
    paint = pictures.Painter(explanation, (48, 64), np.linspace(0, 0.2, 5))
    np.testing.assert_allclose([paint.map_at(time)[0, 0] for time in (0, 0.05, 0.1, 0.15, 0.3)], [2, 3, 4, 5, 6])
