"""The files of an explanation: names, contents, and that no other video's are overwritten."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.explain.explained import explained
from vidcls.errors import UserError
from vidcls.explain import pictures, saving

HOSTILE = '<script>$x^2$</script> \u202egnp.exe Ünïcode 动作' + 60 * 'long'


def save(folder, name='', run='runs/one', **changed):
    explanation = explained(**changed)
    film = [simplejpeg.encode_jpeg(frame) for frame in explanation.frames]
    return saving.save(explanation, folder, film, explanation.times, Path(run), name)


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
