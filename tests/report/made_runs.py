"""Work directories as training leaves them, with curves and moments that are known."""

import json
from pathlib import Path
from unittest import mock

from vidcls.config import Config, OptimConfig
from vidcls.data.frame_storage import FrameStorage
from vidcls.run import workdir
from vidcls.run.log import RunLog

BEGIN = 1_800_000_000.0  # seconds


def make(folder: Path, learning_rate: float = 0.01, **settings) -> Path:
    """A work directory without rows."""
    config = Config(optim=OptimConfig(learning_rate=learning_rate), batch_size=8, **settings)
    workdir.create(workdir.Run(folder, config, ('a', 'b'), FrameStorage()))
    return folder


def log(folder: Path, first: int, last: int, at: float, pace: float = 2.0, every: int = 10, validate: int = 30) -> None:
    """A process that goes on after step `first`, `at` seconds after BEGIN, and takes `pace` seconds a step.

    A row stands at every tenth step; a validation at every thirtieth takes 5 seconds.
    """
    now = BEGIN + at
    with mock.patch('vidcls.run.tensorboard.time.time', lambda: now):
        rows = RunLog(folder, first, last)
        for step in range(first + 1, last + 1):
            now += pace
            if step % every == 0:
                values = {
                    'loss': 100 / (step + 20),
                    'top1': step / (step + 50),
                    'learning_rate': 0.01,
                    'grad_norm': 3.0,
                }
                rows.write(
                    step,
                    {f'train/{k}': v for k, v in values.items()}
                    | {'train/clips_per_second': 8 / pace, 'train/data_wait': 0.125},
                )
            if step % validate == 0:
                now += 5
                rows.write(step, {'validation/loss': 110 / (step + 20), 'validation/top1': min(step, 150) / 200})
        rows.close()


def change(folder: Path, step: int, **changes) -> None:
    """Notes settings that changed on resume, as `vidcls.run.workdir` does."""
    with open(folder / 'history.jsonl', 'a') as file:
        file.write(json.dumps({'step': step, 'changes': changes}) + '\n')
