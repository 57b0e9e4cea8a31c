"""A `jax.profiler` trace of a few steps, to see where their time goes: `--config.profile_steps=20,25`."""

from pathlib import Path
from typing import Any

import jax
from absl import logging


class Profile:
    """Traces while steps `first` to `last` run; nothing where no steps are given.

    Args:
      folder: of the trace, `profile/` of a work directory.
      steps: (), or (first, last).
    """

    def __init__(self, folder: Path, steps: tuple[int, ...]):
        self._folder, self._steps, self._running = folder, steps, False

    def before(self, step: int, state: Any) -> None:
        """To be called before each step, with the state that it starts from."""
        if not self._steps:
            return
        first, last = self._steps
        if self._running and step > last:
            jax.block_until_ready(state)  # steps are begun long before they end
            self.close()
        elif not self._running and first <= step <= last:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            logging.info('the trace of steps %d to %d is in %s', *self._steps, self._folder)
