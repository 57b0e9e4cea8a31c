"""A `jax.profiler` trace of a few steps, which shows where their time goes: `--config.profile_steps=20,25`."""

from pathlib import Path
from typing import Any

import jax
from absl import logging


class Profile:
    """Traces the steps from `first` to `last`.

    Args:
      folder: of the trace, `profile/` of a work directory.
      steps: (first, last), or () for no trace.
    """

    def __init__(self, folder: Path, steps: tuple[int, ...]):
        self._folder, self._steps, self._running = folder, steps, False

    def before(self, step: int, state: Any) -> None:
        """Starts or ends the trace. To be called before each step, with the state that the step takes."""
        if not self._steps:
            return
        first, last = self._steps
        if self._running and step > last:
            jax.block_until_ready(state)  # jax returns from a step long before the device has made it
            self.close()
        elif not self._running and first <= step <= last:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            logging.info('the trace of steps %d to %d is in %s', *self._steps, self._folder)
