"""Makes synthetic clips whose classes differ only in motion, as video files and as a dataset.

    python -m data_prep.motion --out DIR [--clips_per_class=250 --size=64 --frames=16]

A light textured shape moves over a dark textured background. The eight classes are four pairs. A clip
played backwards is exactly a clip of the partner class: look, place and speed have the same
distribution in both classes, and the clips of one of them are rendered in reverse. Within a pair, only
the order of frames shows the class. A model that averages over frames can tell the pair, but not the
class within the pair, so that it gets half of the clips right at best.

The script writes DIR/motion_videos/<class>/*.mp4 (H.264) and DIR/motion/<version>/.
"""

import dataclasses
import functools
import shutil
import time
from pathlib import Path

import av
import numpy as np
from absl import flags, logging

from data_prep import command, folder, pool
from data_prep.convert import convert, find_destination
from data_prep.options import Options
from data_prep.publish import publish
from data_prep.source import Source
from vidcls.errors import UserError

# class -> (kind of motion, whether the class is that motion backwards)
CLASSES = {
    'right': ('horizontal', False),
    'left': ('horizontal', True),
    'down': ('vertical', False),
    'up': ('vertical', True),
    'clockwise': ('turning', False),
    'counter_clockwise': ('turning', True),
    'growing': ('scaling', False),
    'shrinking': ('scaling', True),
}
RATE = 16  # frames per second of the videos
_DEFAULTS = Options()
_BATCH = 32  # clips that a worker makes at a time


@dataclasses.dataclass(frozen=True)
class Look:
    """The properties of the clips to make.

    Attributes:
      clips_per_class: the number of clips of each class. If it is below some hundreds, a network memorises the
        backgrounds.
      size: the height and width in pixels; an even number.
      frames: the number of frames of each clip.
      seed: the seed of all random numbers.
    """

    clips_per_class: int = 250
    size: int = 64
    frames: int = 16
    seed: int = 0


def make(out: str | Path, look: Look = Look(), options: Options = _DEFAULTS) -> Path:
    """Makes the videos and converts them to a dataset.

    Returns:
      The dataset's folder, `out`/motion/<version>.

    Raises:
      UserError: as in `convert`; or `size` is odd, which H.264 cannot store, or is too small for a shape.
    """
    return convert(make_videos(Path(out), look, options), Path(out), options)


def make_videos(out: Path, look: Look, options: Options) -> Source:
    """Writes the videos, `out`/motion_videos/<class>/<class>_00000.mp4 and so on, and returns them as a `Source`."""
    find_destination(out, 'motion', options.overwrite)  # fails before videos are made if a dataset is in the way
    if look.size % 2 or look.size < 16:
        raise UserError(f'--size={look.size}: H.264 needs an even size, and a shape 16 pixels')
    videos, partial = out / 'motion_videos', out / '.motion_videos.partial'
    if videos.exists() and not options.overwrite:
        raise UserError(f'{videos} exists; --overwrite replaces it')
    shutil.rmtree(partial, ignore_errors=True)
    for name in CLASSES:
        (partial / name).mkdir(parents=True)
    start = time.monotonic()
    batches = [
        (name, range(first, min(first + _BATCH, look.clips_per_class)))
        for first in range(0, look.clips_per_class, _BATCH)
        for name in CLASSES
    ]
    for _ in pool.map_in_order(functools.partial(_write_batch, partial, look), batches, options.workers):
        pass
    publish(partial, videos)
    number, seconds = look.clips_per_class * len(CLASSES), time.monotonic() - start
    logging.info('%s: %d videos in %.1f s', videos, number, seconds)
    return folder.read(videos, name='motion', seed=look.seed)


def _write_batch(videos: Path, look: Look, batch: tuple[str, range]) -> None:
    name, numbers = batch
    for number in numbers:
        write_video(videos / name / f'{name}_{number:05d}.mp4', render(name, number, look))


def render(name: str, number: int, look: Look) -> np.ndarray:
    """Returns clip `number` of the class `name`, uint8[t h w c]."""
    kind, backwards = CLASSES[name]
    # The partner class has other random numbers: the same backgrounds in both would give the test set away.
    rng = np.random.default_rng([look.seed, list(CLASSES).index(name), number])
    frames = draw_motion(kind, rng, look.size, look.frames)
    return frames[::-1] if backwards else frames


def draw_motion(kind: str, rng: np.random.Generator, size: int, frames: int) -> np.ndarray:
    """Draws a clip of a shape that moves forwards, uint8[t h w c].

    Positions and lengths are in units of the frame's side. Time runs from -0.5 to 0.5.

    Args:
      kind: the kind of motion, as in `CLASSES`.
      rng: the generator of all random numbers, such as those for the look, the place and the speed.
      size: the height and width in pixels.
      frames: the number of frames.
    """
    background, foreground = _textures(rng, size)
    time_ = np.linspace(-0.5, 0.5, frames, dtype=np.float32)
    off = 0.05 if kind == 'turning' else 0.15  # the largest distance from the middle; a turning shape takes more room
    centre = np.full((frames, 2), rng.uniform(0.5 - off, 0.5 + off, 2), np.float32)  # t (x, y)
    angle = np.full(frames, rng.uniform(0, 2 * np.pi), np.float32)
    radius = np.full(frames, rng.uniform(0.18, 0.28), np.float32)
    if kind in ('horizontal', 'vertical'):
        centre[:, int(kind == 'vertical')] += rng.uniform(0.35, 0.6) * time_
    elif kind == 'turning':  # the shape turns about a point beside it, like the end of a clock's hand
        angle += rng.uniform(1.2, 1.7) * np.pi * time_  # y points down: clockwise to the eye
        centre += rng.uniform(0.22, 0.28) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    elif kind == 'scaling':
        radius *= rng.uniform(1.8, 2.6) ** time_
    else:
        raise ValueError(f'{kind!r} is not a kind of motion')
    u, v = _shape_coordinates(size, centre, angle, radius)
    inside = _inside(int(rng.integers(4)), u, v)
    columns, rows = (np.clip((x[inside] + 1) * (size / 2), 0, size - 1).astype(int) for x in (u, v))
    video = np.repeat(background[None], frames, axis=0)
    video[inside] = foreground[rows, columns]
    return video


def _shape_coordinates(
    size: int, centre: np.ndarray, angle: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns u and v, float32[t h w]: each pixel's place along the shape's axes. The shape lies within -1 to 1."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
    x = grid[None, :] - centre[:, :1]  # t w
    y = grid[None, :] - centre[:, 1:]  # t h
    u = (cos[:, None] * x)[:, None, :] + (sin[:, None] * y)[:, :, None]
    v = (cos[:, None] * y)[:, :, None] - (sin[:, None] * x)[:, None, :]
    return u, v


def _inside(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns bool[t h w]: which pixels are inside the shape. 0 is a disc, 1 a rectangle, 2 a triangle, 3 a cross."""
    if shape == 0:
        return u * u + v * v < 1
    u, v = np.abs(u), (np.abs(v) if shape != 2 else v)
    if shape == 1:
        return np.maximum(u, v * 1.5) < 0.9
    if shape == 2:
        return (v < 0.8) & (2 * u - v < 1)
    return (np.minimum(u, v) < 0.35) & (np.maximum(u, v) < 1)


def _textures(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the background and the foreground, uint8[h w c] each: coloured blobs, on average lighter in front.

    If chance decided which of the two is lighter, no linear map of a patch would tell where the shape is. A small
    TimeSformer would then train for minutes before it told the classes of a pair apart.
    """
    levels = rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.75)
    background, foreground = (_blobs(rng, size, int(rng.integers(4, 9)), level) for level in levels)
    return background, foreground


def _blobs(rng: np.random.Generator, size: int, cells: int, level: float) -> np.ndarray:
    """Returns uint8[h w c]: random colours around `level` on a grid of cells, interpolated linearly."""
    colours = rng.uniform(level - 0.25, level + 0.25, (cells, cells, 3))
    place = np.linspace(0, cells - 1, size)[:, None]
    weights = np.maximum(0, 1 - np.abs(place - np.arange(cells)))  # h cells
    smooth = np.einsum('hi,ijc,wj->hwc', weights, colours, weights, optimize=True)
    return np.round(255 * np.clip(smooth, 0, 1)).astype(np.uint8)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Writes `frames`, uint8[t h w c], as H.264 in an mp4 file, visually lossless."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        stream.options = {'preset': 'superfast', 'crf': '18'}
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())


if __name__ == '__main__':
    _LOOK = Look()
    _CLIPS = flags.DEFINE_integer('clips_per_class', _LOOK.clips_per_class, '', lower_bound=1)
    _SIZE = flags.DEFINE_integer('size', _LOOK.size, 'Height and width, pixels.')
    _FRAMES = flags.DEFINE_integer('frames', _LOOK.frames, 'Frames of a clip.', lower_bound=2)

    def _read(out: Path, options: Options) -> Source:
        look = Look(_CLIPS.value, _SIZE.value, _FRAMES.value, options.seed)
        return make_videos(out, look, options)

    command.main(_read)
