"""The files of an explanation: `<video>-<label>-<method>` with four endings, each written whole or not at all.

.png    the strip: the frames with the map over them
.mp4    the animation over the whole video
.json   label, probability, method, view, the time and the weight of each frame
.npz    the numbers:

map      float32[t h w]     the map, a value for each pixel of the window
frames   uint8[t h w c]     the pixels of the window, RGB
times    float64[t]         seconds
weights  float32[t]         the fraction of the map's sum that lies in each frame
window   int32[5]           top, left, height, width in the stored frame, and 1 if the network saw it mirrored
cells_*  float32[t h w]     the cells of each branch of the network, on its own grid; signed if the method has signs
"""

import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidcls.errors import UserError
from vidcls.explain import pictures
from vidcls.explain.maps import Explanation
from vidcls.text import whole_file
from vidcls.text.bounded_file import read_json
from vidcls.text.whole_file import replacing

_MOST_JSON = 1 << 20  # bytes
_SAME = (
    'video',
    'run',
    'label',
    'method',
    'views',
    'cells',
)  # a newer explanation replaces an older one that has the same values of these fields
_MOST_NAME = 80  # bytes: the video's name and the label may each have so many in a file's name


def save(
    explanation: Explanation, folder: Path, film: Sequence[bytes], film_times: np.ndarray, run: Path, name: str = ''
) -> Path:
    """Writes the four files, and returns the path of the strip.

    An earlier explanation is replaced if it has the same video file, run, label, method, number of views and grid. No
    other file is replaced.

    Args:
      run: the work directory of the network.
      film: stored frames of the whole video for the animation, as JPEGs.
      film_times: float64[t], when these frames appear, seconds.
      name: the beginning of the files' names; '' means the video's name.
    """
    pictures.check_libraries()
    folder.mkdir(parents=True, exist_ok=True)
    described = {'run': str(run.absolute())} | description(explanation)
    base = free_path(folder, name or Path(explanation.video).stem or 'frames', described)
    to = {ending: base.with_name(f'{base.name}.{ending}') for ending in ('json', 'png', 'mp4', 'npz')}
    text = json.dumps(described, indent=2) + '\n'
    # The JSON comes first. If this save is cut short, the next save reads there that the files may be replaced.
    whole_file.write_text(to['json'], text)
    with replacing(to['png']) as path:
        pictures.strip(explanation).save(path)
    with replacing(to['mp4']) as path:
        pictures.write_film(path, explanation, film, film_times)
    with replacing(to['npz']) as path:
        np.savez_compressed(path, **arrays(explanation))
    return to['png']


def description(explanation: Explanation) -> dict[str, Any]:
    """The content of the JSON file, except the run."""
    return {
        'video': os.path.abspath(explanation.video) if explanation.video else '',
        'label': explanation.label,
        'probability': explanation.probability,
        'method': explanation.method,
        'view': explanation.view,
        'views': explanation.views,
        'window': explanation.window._asdict() | {'flip': bool(explanation.window.flip)},
        'times': explanation.times.round(6).tolist(),
        'weights': explanation.weights.astype(np.float64).round(6).tolist(),
        'cells': {part: list(cells.shape) for part, cells in explanation.cells.items()},
    }


def arrays(explanation: Explanation) -> dict[str, Any]:
    """The arrays of the .npz file."""
    return {
        'map': explanation.map,
        'frames': explanation.seen,
        'times': explanation.times,
        'weights': explanation.weights,
        'window': np.array(explanation.window, np.int32),
        **{f'cells_{part}': cells for part, cells in explanation.cells.items()},
    }


def free_path(folder: Path, name: str, described: dict[str, Any]) -> Path:
    """The path of the files, without an ending. A number is added if files of another explanation have the name."""
    stem = '-'.join((safe(name), safe(described['label']), described['method']))
    names = itertools.chain([stem], (f'{stem}-{number}' for number in itertools.count(2)))
    return next(folder / one for one in names if _is_free(folder / one, described))


def safe(name: str) -> str:
    """Returns `name` with only letters, digits and _-+=. in at most `_MOST_NAME` bytes, for use in a file's name.

    Every other character becomes _, and so does a dot in front, so that no file is hidden.
    """
    name = re.sub(r'[^\w.+=-]', '_', name).encode()[:_MOST_NAME].decode(errors='ignore')
    return re.sub(r'^\.', '_', name) or '_'


def _is_free(base: Path, described: dict[str, Any]) -> bool:
    if not any(os.path.lexists(f'{base}{ending}') for ending in ('.png', '.mp4', '.npz', '.json')):
        return True
    try:
        there = read_json(base.with_name(f'{base.name}.json'), _MOST_JSON)
    except (UserError, OSError):  # files that this module did not write
        return False
    # Frames in memory have no name by which they could be recognised.
    return bool(described['video']) and all(there.get(key) == described[key] for key in _SAME)
