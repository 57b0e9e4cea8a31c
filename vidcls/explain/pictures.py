"""Draws an explanation: a strip of frames with the map over them, and an animation over the whole video.

The colours are matplotlib's `inferno`. Its lightness rises evenly, so that it can be read in grey and by colour-blind
people. Where the map is low, the frame shows through. The frame is nearly grey, so that whatever has a colour is the
map. All frames share one scale, whose top is the largest value of the map.

Between the frames that the network saw, the animation interpolates the map in time.
"""

import functools
import importlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import simplejpeg

from vidcls.errors import UserError
from vidcls.explain.maps import Explanation
from vidcls.text.names import readable

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

TITLES = {
    'gradcam': 'Grad-CAM',
    'gradient_rollout': 'attention rollout, weighted by gradients',
    'rollout': 'attention rollout',
}  # only the methods whose title differs from their name
WIDTH = 1400  # pixels, of the strip
COLUMNS, MOST_SHOWN = 4, 16  # frames of the strip: in a row, and in all
MARGIN = GAP = 20
TITLE, CAPTION = 42, 32  # pixels, sizes of the text: they become 12 and 9 where the strip is shown 400 pixels wide
FILM_SIDE = 640  # pixels, the longer side of a film's frames
FPS = (8.0, 30.0)  # the least and the most frames a second of a film
INK, FAINT, PAPER = (26, 26, 26), (190, 190, 190), (255, 255, 255)
OUTSIDE = 0.4  # brightness of what the network did not see
# CLEAR and SOLID are fractions of the map's maximum. Up to CLEAR the map is transparent. From there to SOLID its
# opacity rises to OPACITY, where it stays.
CLEAR, SOLID, OPACITY = 0.1, 0.7, 0.7


def check_libraries() -> None:
    """Raises UserError if the libraries that draw are not installed."""
    try:
        for name in ('PIL', 'matplotlib'):
            importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"pictures need {error.name}: pip install 'vidcls[report]'") from error


def strip(explanation: Explanation) -> 'Image.Image':
    """A picture of the frames that the network saw, row by row, with their times and weights.

    If there are more than `MOST_SHOWN` frames, so many of them are shown, evenly chosen.
    """
    from PIL import Image, ImageDraw

    count = len(explanation.times)
    shown = np.unique(np.linspace(0, count - 1, min(count, MOST_SHOWN)).round().astype(int))
    columns = min(COLUMNS, len(shown))
    side = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns
    height, width = explanation.seen.shape[1:3]
    size = side, max(round(side * height / width), 1)
    rows, top = -(-len(shown) // columns), 2 * MARGIN + TITLE + CAPTION + 16
    step = size[1] + CAPTION + 42
    picture = Image.new('RGB', (WIDTH, top + rows * step + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(picture)
    _title(draw, explanation, f'{len(shown)} of {count} frames' if count > len(shown) else '')
    tint = Tint(explanation)
    for place, number in enumerate(shown):
        x = MARGIN + place % columns * (side + GAP)
        y = top + place // columns * step
        picture.paste(Image.fromarray(tint(explanation.seen[number], explanation.map[number], size)), (x, y))
        _caption(draw, (x, y + size[1]), side, explanation.times[number], explanation.weights, number)
    return picture


def _title(draw: 'ImageDraw.ImageDraw', explanation: Explanation, note: str) -> None:
    """Draws the label and its probability; below them the method, and what the colours mean."""
    _label(draw, explanation, (MARGIN, MARGIN), WIDTH - 2 * MARGIN, TITLE)
    y = MARGIN + TITLE + 14
    what = ', '.join(filter(None, (TITLES.get(explanation.method, explanation.method), note)))
    draw.text((MARGIN, y), what, INK, font(CAPTION))
    bar, more = 240, font(CAPTION).getlength('more')
    x = WIDTH - MARGIN - more - 12 - bar
    draw.text((x - 12 - font(CAPTION).getlength('less'), y), 'less', INK, font(CAPTION))
    draw.text((x + bar + 12, y), 'more', INK, font(CAPTION))
    grey = np.full((bar, 3), 120.0)
    for column, colour in enumerate(blend(grey, np.linspace(0, 1, bar)).astype(int).tolist()):
        draw.line([(x + column, y + 8), (x + column, y + CAPTION)], tuple(colour))


def _label(draw: 'ImageDraw.ImageDraw', explanation: Explanation, at: tuple[int, int], room: float, size: int) -> None:
    """Draws the label in bold, and its probability. The label is cut so that both fit into `room` pixels."""
    probability, bold = f'  {100 * explanation.probability:.1f} %', font(size, bold=True)
    label = fitted(readable(explanation.label), bold, room - font(size).getlength(probability))
    draw.text(at, label, INK, bold)
    draw.text((at[0] + bold.getlength(label), at[1]), probability, INK, font(size))


def _caption(
    draw: 'ImageDraw.ImageDraw', at: tuple[int, int], side: int, time: float, weights: np.ndarray, number: int
) -> None:
    """Draws what stands below a frame: a bar whose length shows the frame's weight; then the time and the weight."""
    (x, y), weight = at, float(weights[number])
    most = float(weights.max()) or 1.0
    draw.rectangle([x, y + 6, x + side - 1, y + 11], FAINT)
    if weight:
        draw.rectangle([x, y + 6, x + max(round(weight / most * side) - 1, 0), y + 11], INK)
    share = f'{100 * weight:.0f} %'
    draw.text((x, y + 16), f'{time:.2f} s', INK, font(CAPTION))
    draw.text((x + side - font(CAPTION).getlength(share), y + 16), share, INK, font(CAPTION))


class Tint:
    """Lays maps of one explanation over frames, all on one scale.

    A call takes (frame uint8[h w c], map float32[h w], size) and returns uint8[h w c].
    """

    def __init__(self, explanation: Explanation):
        self._most = float(explanation.map.max()) or 1.0
        self._how: Any = _resampling().BILINEAR if explanation.smooth else _resampling().NEAREST

    def __call__(self, frame: np.ndarray, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The frame with the map `values` over it, scaled to `size` (width, height), pixels."""
        from PIL import Image

        pixels = np.asarray(Image.fromarray(frame).resize(size, _resampling().BICUBIC), np.float32)
        share = Image.fromarray((values / self._most).astype(np.float32)).resize(size, self._how)
        return blend(faded(pixels), np.clip(np.asarray(share), 0, 1)).round().astype(np.uint8)


def faded(pixels: np.ndarray) -> np.ndarray:
    """Frames [... c] without most of their colour."""
    grey = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return 0.25 * pixels + 0.75 * grey


def blend(pixels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Returns the pixels float[... c] with the colours of the map over them.

    Args:
      share: [...], the map as a fraction of its maximum, from 0 to 1.
    """
    clear, colours = _table()
    place = (share * (len(clear) - 1) + 0.5).astype(np.uint8)
    return np.take(clear, place, axis=0) * pixels + np.take(colours, place, axis=0)


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """The table of `blend`, with a row for each of 256 fractions of the map's maximum, from 0 to 1.

    Returns:
      float32[256 1], how much of the frame shows through; and float32[256 3], the colour that is added.
    """
    from matplotlib import colormaps

    share = np.linspace(0, 1, 256, dtype=np.float32)
    opacity = OPACITY * np.clip((share - CLEAR) / (SOLID - CLEAR), 0, 1)[:, None]
    # The first quarter of the colours is nearly black, and would look like a shadow.
    colours = 255 * colormaps['inferno'](0.25 + 0.75 * share)[:, :3].astype(np.float32)
    return 1 - opacity, opacity * colours


def write_film(path: Path, explanation: Explanation, film: Sequence[bytes], times: np.ndarray) -> None:
    """Writes the animation, H.264 in MP4: whole frames with the map in the window, and below them a bar of time.

    The bar shows the weight of each frame that the network saw. The film plays at the video's own pace, or faster if
    the video is longer than the film's frames allow.

    Args:
      film: stored frames of the whole video, as JPEGs. They are decoded one by one.
      times: float64[t], when these frames appear, seconds.
    """
    span = float(times[-1] - times[0])
    rate = min(max((len(film) - 1) / span if span else FPS[0], FPS[0]), FPS[1])
    paint = Painter(explanation, explanation.frames.shape[1:3], times)
    with av.open(str(path), 'w', format='mp4', options={'movflags': 'faststart'}) as container:
        stream = container.add_stream('libx264', rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = *paint.size, 'yuv420p'
        stream.options = {'crf': '20', 'preset': 'veryfast'}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        for jpeg, time in zip(film, times):
            picture = av.VideoFrame.from_ndarray(paint(simplejpeg.decode_jpeg(jpeg), time), format='rgb24')
            container.mux(stream.encode(picture.reformat(format='yuv420p', dst_colorspace='ITU709')))
        container.mux(stream.encode())


class Painter:
    """Makes the pictures of a film.

    A call takes (whole frame uint8[h w c], its time) and returns uint8[h w c] of `size`.

    Attributes:
      size: width and height, pixels, both even.
    """

    BAR, SCALE, TEXT = 56, 26, 24  # pixels: heights of the bar of time and of the line below it, size of the text above

    def __init__(self, explanation: Explanation, shape: tuple[int, int], times: np.ndarray):
        scale = FILM_SIDE / max(shape)
        height, width = (2 * max(round(side * scale / 2), 1) for side in shape)
        self._inner = width, height
        self._explanation, self._tint = explanation, Tint(explanation)
        self._top = self.TEXT + 16
        self.size = max(self._inner[0], 2 * FILM_SIDE // 3), self._top + self._inner[1] + self.BAR + self.SCALE
        self._left = (self.size[0] - self._inner[0]) // 2 // 2 * 2
        top, left, rows, columns, _ = explanation.window
        # The edges of the window in a frame of the film, in whole pixels.
        edges = np.array([left, top, left + columns, top + rows]) * np.tile(self._inner, 2) / np.tile(shape[::-1], 2)
        self._box = edges.round().astype(int)
        self._span = float(times[0]), max(float(times[-1]), float(times[0]) + 1e-6)
        self._ground = self._drawn_ground()

    def __call__(self, frame: np.ndarray, time: float) -> np.ndarray:
        from PIL import Image

        picture = self._ground.copy()
        pixels = np.asarray(Image.fromarray(frame).resize(self._inner, _resampling().BICUBIC), np.float32)
        inner = OUTSIDE * faded(pixels)
        left, top, right, bottom = self._box
        seen = self._cut(frame)
        inner[top:bottom, left:right] = self._tint(seen, self.map_at(time), (right - left, bottom - top))
        y = slice(self._top, self._top + self._inner[1])
        picture[y, self._left : self._left + self._inner[0]] = inner.round()
        x = self._x(time)
        picture[self._top + self._inner[1] + 2 : 2 - self.SCALE, x - 1 : x + 2] = INK
        return picture

    def _cut(self, frame: np.ndarray) -> np.ndarray:
        top, left, height, width, _ = self._explanation.window
        return frame[top : top + height, left : left + width]

    def map_at(self, time: float) -> np.ndarray:
        """The map float32[h w] at a time: linear between the frames that the network saw, constant before and after."""
        maps = self._explanation.map
        order = np.argsort(self._explanation.times, kind='stable')  # stacked frames of a short clip overlap
        times = self._explanation.times[order]
        after = int(np.clip(np.searchsorted(times, time), 1, max(len(times) - 1, 1)))
        if len(times) == 1:
            return maps[0]
        one, other = maps[order[after - 1]], maps[order[after]]
        gap = times[after] - times[after - 1]
        part = np.clip((time - times[after - 1]) / gap, 0, 1) if gap else 1.0
        return (1 - part) * one + part * other

    def _x(self, time: float) -> int:
        """The place of a time on the bar, pixels from the left."""
        first, last = self._span
        return round(12 + (self.size[0] - 25) * (time - first) / (last - first))

    def _drawn_ground(self) -> np.ndarray:
        """The background of all pictures: the label above the frame, and the bar of time below it.

        Each frame that the network saw is a mark on the bar. The height of the mark shows the frame's weight.
        """
        from PIL import Image, ImageDraw

        picture = Image.new('RGB', self.size, PAPER)
        draw = ImageDraw.Draw(picture)
        explanation = self._explanation
        _label(draw, explanation, (12, 6), self.size[0] - 24, self.TEXT)
        bottom, high = self.size[1] - self.SCALE - 2, self.BAR - 10
        draw.line([(12, bottom), (self.size[0] - 13, bottom)], FAINT, 2)
        first, last = (f'{time:.1f} s' for time in self._span)
        draw.text((12, self.size[1] - self.SCALE), first, INK, font(self.SCALE - 6))
        end = self.size[0] - 12 - font(self.SCALE - 6).getlength(last)
        draw.text((end, self.size[1] - self.SCALE), last, INK, font(self.SCALE - 6))
        most = float(explanation.weights.max()) or 1.0
        for time, weight in zip(explanation.times, explanation.weights):
            x, top = self._x(time), bottom - max(round(high * float(weight) / most), 2)
            draw.rectangle([x - 3, top, x + 3, bottom], ORANGE)
        return np.asarray(picture)


ORANGE = (213, 94, 0)  # vermilion of Okabe & Ito 2008


@functools.cache
def font(size: int, bold: bool = False) -> 'ImageFont.FreeTypeFont':
    """DejaVu Sans, which comes with matplotlib and has more scripts than Pillow's own font."""
    import matplotlib
    from PIL import ImageFont

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / name), size)


def fitted(text: str, face: 'ImageFont.FreeTypeFont', room: float) -> str:
    """The text, or as much of it as fits into `room` pixels with an ellipsis."""
    if face.getlength(text) <= room:
        return text
    text = text[:200]  # no picture has room for more
    while text and face.getlength(text + '…') > room:
        text = text[:-1]
    return text + '…'


def _resampling() -> Any:
    from PIL import Image

    return Image.Resampling
