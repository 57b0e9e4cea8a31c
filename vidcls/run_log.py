"""What a run reports while it goes on: metrics.jsonl, TensorBoard and the terminal, under the same names."""

import json
import sys
from pathlib import Path

import tensorboardX
import tqdm
from absl import logging


class RunLog:
    """Writes rows of metrics.

    Args:
      folder: the work directory.
      step: the step a run continues from; rows of later steps, of a run that was cut off, are dropped.
      num_steps: the last step, for the progress bar.
    """

    def __init__(self, folder: Path, step: int, num_steps: int):
        path = folder / 'metrics.jsonl'
        kept = [line for line in _lines(path) if json.loads(line)['step'] <= step]
        path.write_text(''.join(kept))
        self._file = open(path, 'a')  # noqa: SIM115, closed by close()
        self._tensorboard = tensorboardX.SummaryWriter(str(folder / 'tensorboard'), purge_step=step + 1)
        # A bar on a terminal, plain lines elsewhere.
        self._bar = tqdm.tqdm(total=num_steps, initial=step, unit='step', disable=not sys.stderr.isatty())

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row. Names are 'train/loss', 'validation/top1' and the like."""
        self._file.write(json.dumps({'step': step, **values}) + '\n')
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)
        text = ' '.join(f'{name.split("/")[-1]} {value:.4g}' for name, value in values.items())
        group = next(iter(values)).split('/')[0]
        if self._bar.disable:
            logging.info('step %d/%d %s: %s', step, self._bar.total, group, text)
        elif group == 'train':
            self._bar.set_postfix_str(text)
        else:
            self._bar.write(f'step {step} {group}: {text}', file=sys.stderr)

    def advance(self) -> None:
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
        self._file.close()
        self._tensorboard.close()


def _lines(path: Path) -> list[str]:
    """The whole lines of a file that may have been cut off in its last one."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]
