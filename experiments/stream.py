"""Gives the labels of a live stream. Needs nothing but the work directory of a run.

    python -m experiments.stream --workdir=RUN [--workdir=RUN2 --weights=1,1.5] SOURCE [--every=16] [--format=text|json] [--realtime]

SOURCE is a video file, the number of a camera, or an address that FFmpeg opens (rtsp://, http://...). Each update prints a
line: the stream's time, the label, the label's probability, and how long the update took. With --realtime, frames that
come while the network is busy are dropped and counted; without it, every frame is used. If the stream breaks off, the
last prediction is printed and the exit status is 1. Ctrl-C has the same effect as the end of the stream. Several runs
answer together, as in experiments.predict.
"""

import sys
import time

from absl import flags

from experiments import launch, several_runs
from vidcls.errors import UserError
from vidcls.run import signals
from vidcls.text.names import as_json, readable

_EVERY = flags.DEFINE_integer('every', 0, 'Frames between updates; 0: as many as the network sees.', lower_bound=0)
_FORMAT = flags.DEFINE_enum('format', 'text', ['text', 'json'], 'json: one object a line.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (by validation top-1), latest, or a step.')
_REALTIME = flags.DEFINE_bool('realtime', False, 'Drop frames rather than fall behind.')


def main(argv: list[str]) -> int:
    from vidcls.data import live
    from vidcls.data.container import VideoError
    from vidcls.fused import Fused, FusedStream
    from vidcls.stream import Stream

    if len(argv) != 1:
        raise UserError('name one stream: a file, the number of a camera or an address')
    classifier = several_runs.load(_CHECKPOINT.value)
    fused = isinstance(classifier, Fused)
    stream = FusedStream(classifier, _EVERY.value) if fused else Stream(classifier, _EVERY.value)
    write = {'text': _text, 'json': _json}[_FORMAT.value]
    clock = _Clock() if _REALTIME.value else None
    error, moment = None, 0.0
    frames = classifier.members[0].frames if fused else classifier.frames
    try:
        with signals.raised():
            for moment, frame in live.watch(argv[0], short_side=frames.short_side, fps=frames.fps):
                if clock and not clock.frames:
                    clock.start(moment)  # before compiling: frames that come during it are late
                    stream.warm_up(frame)
                if clock and clock.is_late(moment):
                    continue
                start = time.perf_counter()
                if stream.push(frame):
                    write(moment, *stream.prediction[0], time.perf_counter() - start)
    except VideoError as broken:
        error = broken
    except KeyboardInterrupt:  # the only end that a camera's stream has
        pass
    start = time.perf_counter()
    if stream.flush():
        write(moment, *stream.prediction[0], time.perf_counter() - start)
    if clock:
        print(f'{clock.dropped} of {clock.frames} frames were dropped', file=sys.stderr)
    if error:
        print(f'error: {readable(str(error))}', file=sys.stderr)
    return int(error is not None)


class _Clock:
    """Paces a stream by the wall clock: waits until a frame is due, and says whether the frame is too late for use."""

    def __init__(self):
        self.frames = self.dropped = 0
        self._start = self._previous = self._interval = 0.0

    def start(self, moment: float) -> None:
        self._start, self._previous = time.perf_counter() - moment, moment

    def is_late(self, moment: float) -> bool:
        ahead = moment - (time.perf_counter() - self._start)
        if moment > self._previous:  # a stream's times can go backwards
            self._interval, self._previous = moment - self._previous, moment
        self.frames += 1
        if ahead > 0:
            time.sleep(ahead)
        late = self.frames > 1 and ahead < -self._interval
        self.dropped += late
        return late


def _text(moment: float, label: str, probability: float, latency: float) -> None:
    print(f'{moment:8.2f} s  {100 * probability:6.2f} %  {readable(label)}  ({1000 * latency:.0f} ms)', flush=True)


def _json(moment: float, label: str, probability: float, latency: float) -> None:
    row = {'time': round(moment, 3), 'label': label, 'probability': round(probability, 6), 'latency': round(latency, 4)}
    print(as_json(row), flush=True)


if __name__ == '__main__':
    flags.mark_flags_as_required(['workdir'])
    launch.run(main, __doc__)
