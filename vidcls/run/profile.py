"""Makes a `jax.profiler` trace of a few steps, such as `--config.profile_steps=20,25`, to show where time goes."""

from pathlib import Path
from typing import Any

import jax
from absl import logging


class Profile:
    """Makes a trace of some consecutive steps.

    Args:
      folder: the folder of the trace, `profile/` of a work directory.
      steps: (first step, last step), or () for no trace.
    """

    def __init__(self, folder: Path, steps: tuple[int, ...]):
        self._folder, self._steps, self._running = folder, steps, False

    def before(self, step: int, state: Any) -> None:
        """Starts or ends the trace if it is time.

        Must be called before each step, with the state that the step takes.
        """
        if not self._steps:
            return
        first, last = self._steps
        if self._running and step > last:
            jax.block_until_ready(state)  # jax returns from a step long before the device has computed it
            self.close()
        elif not self._running and first <= step <= last:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            logging.info('the trace of steps %d to %d is in %s', *self._steps, self._folder)
