"""A demo of all steps: making clips, converting, training, evaluating, predicting and explaining.

    python -m experiments.demo [--out=runs/demo]

`make demo` runs it, in a few minutes on two cores. The demo prints each command before running it, and says at the end
what the network learned.
"""

import importlib.util
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags

from experiments import launch
from vidcls.errors import UserError

PAIRS = ('left', 'right', 'up', 'down', 'clockwise', 'counter_clockwise', 'growing', 'shrinking')
_OUT = flags.DEFINE_string('out', 'runs/demo', 'Folder to work in; a demo that is there already is resumed.')


def main(argv: list[str]) -> None:
    if argv:
        raise UserError(f'unexpected argument {argv[0]!r}')
    started = time.monotonic()
    out = Path(_OUT.value)
    run, dataset = out / 'timesformer', out / 'motion'
    if not dataset.is_dir():
        _call('data_prep.motion', f'--out={out}', '--clips_per_class=400', '--overwrite')
    _call('experiments.timesformer_motion', f'--workdir={run}', f'--config.data.dir={dataset}')
    _call('experiments.evaluate', f'--workdir={run}')
    videos = [out / 'motion_videos' / name / f'{name}_00000.mp4' for name in ('left', 'clockwise')]
    draws = importlib.util.find_spec('plotly') is not None  # part of the extra `report`, which `make demo` installs
    explain = [f'--explain={out / "pictures"}'] if draws else []
    _call('experiments.predict', f'--workdir={run}', *map(str, videos), '--top_k=3', *explain)
    print(f'\n{lesson(run)}\n\nThe demo took {time.monotonic() - started:.0f} s; everything is in {out}.')
    if draws:
        page = _newest(run).with_suffix('.html')
        print(f'To look at: {page}, {run / "training.html"} and {out / "pictures"}.')


def _call(module: str, *args: str) -> None:
    command = [sys.executable, '-m', module, *args]
    print(f'\n$ python {shlex.join(command[1:])}', flush=True)
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        # The terminal sends Ctrl-C to the command too. The command then saves its step and ends.
        signal.signal(signal.SIGINT, lambda *_: None)
        process.wait()
    if status := process.returncode:
        sys.exit(status if status > 0 else 128 - status)


def _newest(run: Path) -> Path:
    """The path of the logits of the newest evaluation on the test split."""
    return max((run / 'eval').glob('*-test-*.npz'), key=lambda path: path.stat().st_mtime)


def lesson(run: Path) -> str:
    """A text about the test result: the accuracy for the kinds of motion and the accuracy for the classes."""
    predictions = _newest(run)
    top1 = json.loads(predictions.with_suffix('.json').read_text())['top1']
    labels = (run / 'labels.txt').read_text().splitlines()
    with np.load(predictions) as saved:
        found, true = saved['logits'].mean(axis=1).argmax(axis=-1), saved['labels']
    pair = {name: number // 2 for number, name in enumerate(PAIRS)}
    kinds = np.array([pair[label] for label in labels])
    kind = float((kinds[found] == kinds[true]).mean())
    return (
        f'Of {len(true)} test clips, TimeSformer named the kind of motion of {100 * kind:.0f} % (chance 25 %) and the exact '
        f'class of {100 * top1:.0f} % (chance 12.5 %).\n'
        'The classes are four kinds of motion, each in two directions, and a clip of one direction is a clip of the '
        'other played backwards. A network that does not see the order of the frames must guess the direction, and names '
        'half of the clips at best. Try --config.model.attention=space in another --workdir, or experiments.tsn_motion.'
    )


if __name__ == '__main__':
    launch.run(main, __doc__)
