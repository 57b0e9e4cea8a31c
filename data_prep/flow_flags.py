"""The flags that say how flow is computed. All converters have them, and so has `add_flow`."""

from collections.abc import Callable

from absl import flags

from vidcls.data.flow import ALGORITHMS, BOUND, MAX_BOUND, PRESETS, FlowSettings
from vidcls.errors import UserError


def define(default: str | None) -> Callable[[], FlowSettings | None]:
    """Defines the flags.

    Args:
      default: the default of --flow.

    Returns:
      A function to call when the flags are parsed. It returns their settings, or None if no flow is to be stored.
    """
    algorithm = flags.DEFINE_enum(
        'flow', default, ALGORITHMS, 'Optical flow between frames is computed by this algorithm.'
    )
    preset = flags.DEFINE_enum('flow_preset', None, PRESETS, 'Of --flow=dis: faster or finer.')
    bound = flags.DEFINE_float(
        'flow_bound', None, f'Motion is cut off at this many pixels a frame; {BOUND:g} if not given.'
    )
    flags.register_validator(
        'flow_bound',
        lambda v: v is None or 0 < v <= MAX_BOUND,
        f'--flow_bound must be more than 0 and at most {MAX_BOUND:g}',
    )

    def settings() -> FlowSettings | None:
        if algorithm.value is None:
            if preset.value or bound.value is not None:
                raise UserError('--flow_preset and --flow_bound are of --flow, which is not given')
            return None
        return FlowSettings(algorithm.value, preset.value or '', BOUND if bound.value is None else bound.value)

    return settings
