"""Measures the time from the command to the first training step, and how much of the time after it is spent on waiting.

    python -m benchmarks.start

Runs `experiments.timesformer_motion` three times for an epoch of generated clips, each time in a process of its own.
The first run fills the file cache, compiles the Python files and leaves compiled XLA programs. The second run uses
these programs, and the third run has none. The time goes from the command until metrics.jsonl has the first step; it
includes the start of Python, imports, opening the dataset and compiling. The fraction of time that is spent on waiting
for data is measured in the second run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app

from benchmarks.table import print_table

_CLIPS_PER_CLASS = 160  # 1,024 training clips: 32 steps of 32
_PATIENCE = 600  # seconds for a first step


def run() -> list[dict]:
    """The rows of the table: name, unit, ours, peer and ratio. The ratio is peer / ours, because less is better."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ('data_prep.motion', f'--out={folder}', f'--clips_per_class={_CLIPS_PER_CLASS}')
        subprocess.run([sys.executable, '-m', *command], check=True)
        _train(folder, 'first', 'kept')
        warm, rows = _train(folder, 'warm', 'kept')
        cold, _ = _train(folder, 'cold', 'empty')
    # The first row is left out: its time is spent on compiling.
    waits = [row['train/data_wait'] for row in rows[1:]]
    waiting = max(sum(waits) / len(waits), 1e-4)
    return [
        {
            'name': 'command to first step, compiled before / not yet',
            'unit': 's',
            'ours': warm,
            'peer': cold,
            'ratio': cold / warm,
        },
        {
            'name': 'timesformer_motion train: waiting for data / all time',
            'unit': 'of 1',
            'ours': waiting,
            'peer': 1.0,
            'ratio': 1 / waiting,
        },
    ]


def _train(folder: Path, run: str, cache: str) -> tuple[float, list[dict]]:
    """Trains. Returns the seconds from the command to the first step, and the rows of metrics.jsonl."""
    path = folder / run / 'metrics.jsonl'
    environment = os.environ | {
        'JAX_COMPILATION_CACHE_DIR': str(folder / cache),
        # Compiled Python files go here, so that they are kept even if the installation can't be written to.
        'PYTHONPYCACHEPREFIX': str(folder / 'python'),
        'PYTHONDONTWRITEBYTECODE': '',
    }
    command = [
        sys.executable, '-m', 'experiments.timesformer_motion', f'--workdir={folder / run}',
        f'--config.data.dir={folder / "motion"}', '--config.data.validation_split=',
        '--config.epochs=1', '--config.log_every_steps=1',
    ]  # fmt: skip
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment) as process:
        while not (path.exists() and path.stat().st_size):
            if process.poll() is not None or time.perf_counter() - started > _PATIENCE:
                process.kill()
                raise RuntimeError(f'{run}: no step was logged; the exit status is {process.wait()}')
            time.sleep(0.01)
        seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f'{run}: training ended with {process.returncode}')
    return seconds, [json.loads(line) for line in path.read_text().splitlines()]


def main(argv):
    del argv
    print_table(run())


if __name__ == '__main__':
    app.run(main)
