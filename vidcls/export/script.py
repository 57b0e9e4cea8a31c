"""The texts of an exported folder: `label.py`, which runs the file without this library, and `README.md`.

`label.py` decodes with PyAV, chooses the frames that a test of the run chooses, and calls the library of the format. It
is plain code that users may keep and change, and has the numbers of the run in it.
"""

import string
from collections.abc import Sequence
from typing import NamedTuple

from vidcls.config import Config, SamplingConfig
from vidcls.data.frame_storage import FrameStorage
from vidcls.data.sampling import Sampler
from vidcls.runtimes.description import FILES, Description
from vidcls.text.names import readable


class Library(NamedTuple):
    """How `label.py` runs a format.

    Attributes:
      install: the packages that `pip install` gets.
      opening: the lines of the function `model`, which opens the file.
      result: the expression for the probabilities.
    """

    install: str
    opening: str
    result: str


LIBRARIES = {
    'stablehlo': Library(
        'jax=={jax}',
        """\
    from jax import export

    return export.deserialize(bytearray((HERE / {file!r}).read_bytes()))""",
        'np.asarray(model().call(frames))',
    ),
    'savedmodel': Library(
        'tensorflow-cpu=={tensorflow}',
        """\
    import tensorflow as tf

    return tf.saved_model.load(str(HERE / {file!r}))""",
        "model().signatures['serving_default'](frames=frames)['probabilities'].numpy()",
    ),
    'tflite': Library(
        'pillow ai-edge-litert=={ai_edge_litert}',
        """\
    import os

    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(HERE / {file!r}), num_threads=os.cpu_count()).get_signature_runner()""",
        "model()(frames=frames)['probabilities']",
    ),
    'onnx': Library(
        'pillow onnxruntime=={onnxruntime}',
        """\
    import onnxruntime

    return onnxruntime.InferenceSession(str(HERE / {file!r}))""",
        "model().run(['probabilities'], {{'frames': frames}})[0]",
    ),
}

_LABEL = string.Template('''\
"""The labels of videos, by the network in this folder, without vidcls. It is yours to change.

    pip install numpy av $install
    python label.py VIDEO...
"""

import functools
import sys
from pathlib import Path

import av
import numpy as np

HERE = Path(__file__).resolve().parent
LABELS = (HERE / 'labels.txt').read_text(encoding='utf-8').removesuffix('\\n').split('\\n')


@functools.cache
def model():
$opening


def run(frames):
    """Frames uint8[b $t $size 3], red first, of b clips -> the probability of each label, float32[b $k]."""
$run


def choose(number, rate):
    """Which of the `number` frames of a video, `rate` a second, the network looks at."""
$choose


def pixels(frame):
    """A frame of PyAV as uint8[$size 3]."""
$pixels


def read(path):
    """The frames of a video that the network looks at, uint8[$t $size 3]."""
    times = [frame.time for frame in decoded(path)]
    with av.open(str(path)) as video:
        rate = float(video.streams.video[0].average_rate or 25)
$chosen
    wanted = set(chosen)
    kept = {i: pixels(frame) for i, frame in enumerate(decoded(path)) if i in wanted}
    return np.stack([kept[i] for i in chosen])


def decoded(path):
    with av.open(str(path)) as video:
        yield from video.decode(video=0)


if __name__ == '__main__':
    for path in sys.argv[1:]:
        probabilities = run(read(path)[None])[0]
        print(path)
        for k in np.argsort(-probabilities)[:5]:
            print(f'  {100 * probabilities[k]:6.2f} %  {LABELS[k]}')
''')
_ANY_BATCH = '    return {result}'
_FIXED_BATCH = """\
    padded = np.concatenate([frames, np.repeat(frames[-1:], -len(frames) % {batch}, axis=0)])
    parts = [padded[first : first + {batch}] for first in range(0, len(padded), {batch})]
    return np.concatenate([{result} for frames in parts])[: len(frames)]"""
_WHOLE = """\
    scale = min(1, {stored} / min(frame.width, frame.height))
    frame = frame.reformat(round(scale * frame.width), round(scale * frame.height), 'rgb24', interpolation='BICUBIC')
    return np.rot90(frame.to_ndarray(), round(frame.rotation / 90))"""
_CROPPED = """\
    image = frame.to_image().rotate(frame.rotation, expand=True)
    scale = min(image.size) / {short}  # the middle {size} of a short side of {short}
    side = round({size} * scale)
    left, top = (round(round((round(length / scale) - {size}) / 2) * scale) for length in image.size)
    return np.asarray(image.resize(({size}, {size}), 2, (left, top, left + side, top + side)))  # 2: bilinear"""
_SEGMENTS = """\
    where = (np.arange({views}).reshape(-1, 1, 1) + 0.5) / {views}
    starts = np.floor(max(number - {less}, 1) * (np.arange({segments})[:, None] + where) / {segments})
    return np.minimum(starts + np.arange({length}), number - 1).astype(int).ravel()"""
_STRIDED = """\
    span = {span}
    free = max(number - span, 0)
    starts = np.reshape({starts}, (-1, 1))
    frames = np.floor(starts + (span - 1) * np.arange({count}) / {intervals})
    return np.clip(frames, 0, number - 1).astype(int).ravel()"""
_EVERY_FRAME = '    chosen = choose(len(times), rate).tolist()'
_AT_A_RATE = """\
    moments = times[0] + np.arange(max(1, round((times[-1] - times[0] + 1 / rate) * {fps}))) / {fps}
    shown = np.searchsorted(times, moments + 1e-3, side='right') - 1  # the frame on screen at each of them
    chosen = shown[choose(len(shown), {fps})].tolist()"""


def label_script(config: Config, frames: FrameStorage, described: Description) -> str:
    """The text of `label.py`.

    Args:
      config: the run's configuration for testing.
      frames: how the run's dataset stored frames.
      described: the exported file.
    """
    library, batch = LIBRARIES[described.format], described.input[0]
    augment = config.augment
    size = augment.crop_size
    result = library.result.format()
    if described.whole_frames:
        pixels = _WHOLE.format(stored=frames.short_side)
    else:
        pixels = _CROPPED.format(size=size, short=augment.test_short_side or augment.short_side)
    return _LABEL.substitute(
        install=library.install.format(**described.versions),
        opening=library.opening.format(file=FILES[described.format]),
        t=described.input[1],
        k=described.classes,
        size='h w' if described.whole_frames else f'{size} {size}',
        run=_ANY_BATCH.format(result=result) if batch is None else _FIXED_BATCH.format(result=result, batch=batch),
        choose=chooses(config.sampling, config.test.clips),
        pixels=pixels,
        chosen=_EVERY_FRAME if frames.fps is None else _AT_A_RATE.format(fps=frames.fps),
    )


def chooses(sampling: SamplingConfig, views: int) -> str:
    """The lines of code that compute int[t], the frames that `vidcls.data.sampling` chooses, from `number` and `rate`.

    Args:
      views: the number of views in time.
    """
    sampler = Sampler(sampling, training=False)
    count = sampler.num_frames
    if sampling.scheme == 'segments':
        return _SEGMENTS.format(
            views=views, less=sampling.seg_len - 1, segments=sampler.num_segments, length=sampling.seg_len
        )
    span = {
        'dense': f'{(count - 1) * sampling.sampling_rate + 1}',
        'linspace': f'{sampling.sampling_rate * count} * rate / {sampling.target_fps}',
    }.get(sampling.scheme)
    if span is None:
        return f'    raise NotImplementedError("the sampling scheme {readable(sampling.scheme)!r} is one of your own: write it here")'
    if sampling.view_offset == 'start':
        starts = f'free * np.arange({views}) / {views}'
    else:
        starts = f'free * (np.arange({views}) / {views - 1})' if views > 1 else 'free * 0.5'
    return _STRIDED.format(span=span, starts=starts, count=count, intervals=max(count - 1, 1))


_README = string.Template("""\
# $name

A network that names what happens in a video, one of $k labels (`labels.txt`). Written by vidcls $version from step $step of a run.

    pip install numpy av $install
    python label.py VIDEO...

From Python: `import label; label.run(label.read('video.mp4')[None])`. `label.py` is plain code without vidcls, for you to change.

| | |
|---|---|
| file | `$file`, for $platforms |
| takes | frames uint8[$b $t $size 3], red first: $batch, and $t frames of each |
| frames | $frames |
| gives | probabilities float32[b $k], in the order of `labels.txt` |
| sampling | `choose` in `label.py`: scheme $scheme, $views |
| score | the mean of the $average over the views |
| checkpoint | step $step, SHA-256 $digest |
| seen when it was written | at most $difference from jax, of a probability |

All settings of the run are in `config.json`. With vidcls, `Classifier.load` opens this folder.$more
""")
_SERVING = """

TensorFlow Serving takes the folder `model`:

    tensorflow_model_server --rest_api_port=8501 --model_name=video --model_base_path=$PWD/model"""


def readme(name: str, config: Config, described: Description) -> str:
    """The text of `README.md`.

    Args:
      name: the name of the network.
      config: the run's configuration for testing.
      described: the exported file.
    """
    test, augment = config.test, config.augment
    size, batch = augment.crop_size, described.input[0]
    short = augment.test_short_side or augment.short_side
    if described.whole_frames:
        frames = f'whole ones of any size; they are cropped to {size} of {short} and resized to {size} x {size} within'
    else:
        frames = f'{size} x {size}, the middle {size} of a short side of {short}: `pixels` in `label.py`'
    return _README.substitute(
        name=readable(name),
        k=described.classes,
        t=described.input[1],
        version=described.versions['vidcls'],
        step=described.checkpoint['step'],
        digest=described.checkpoint['sha256'],
        install=LIBRARIES[described.format].install.format(**described.versions),
        file=FILES[described.format],
        platforms=_listed(described.platforms),
        b='b' if batch is None else batch,
        size='h w' if described.whole_frames else f'{size} {size}',
        batch='any number of clips' if batch is None else f'{batch} clips at once',
        frames=frames,
        scheme=config.sampling.scheme,
        views=f'views in time: {test.clips}, in space: {test.crops}',
        average=test.average,
        difference=f'{described.difference:.1e}',
        more=_SERVING if described.format == 'savedmodel' else '',
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f'{", ".join(names[:-1])} and {names[-1]}'
