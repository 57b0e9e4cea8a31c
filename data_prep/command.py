"""What all scripts of this folder share on the command line: flags, messages, exit status.

The exit status is 0 if the dataset was written. Videos that cannot be read are skipped and listed, unless --strict is
given. The exit status is 1 if the dataset was not written, and the message says why. It is 130 after an interrupt.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags, logging

from data_prep import flow_flags
from data_prep.convert import convert
from data_prep.options import Options
from data_prep.source import Source
from vidcls.data import frame_storage
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError
from vidcls.run import script, signals


def main(read_source: Callable[[Path, Options], Source], closing: str = '') -> None:
    """Defines the shared flags, then parses all flags, reads the source and converts it.

    Args:
      read_source: a function that makes the source, from the folder --out and the options.
      closing: a text to log when the dataset is written.
    """
    defaults = Options()
    out = flags.DEFINE_string('out', None, 'Folder of datasets to write to.', required=True)
    short_side = flags.DEFINE_integer(
        'short_side',
        defaults.storage.short_side,
        'Frames are shrunk until their short side has at most this many pixels.',
        lower_bound=frame_storage.MIN_SHORT_SIDE,
        upper_bound=frame_storage.MAX_SHORT_SIDE,
    )
    fps = flags.DEFINE_float('fps', defaults.storage.fps, 'Store frames at this rate; all frames if not given.')
    flow = flow_flags.define(default=None)
    flow_from = flags.DEFINE_string(
        'flow_from',
        None,
        'Take published flow pictures, from a folder of this one for each clip, in place of computing them.',
    )
    strict = flags.DEFINE_bool('strict', defaults.strict, 'A video that cannot be read whole is an error, not skipped.')
    workers = flags.DEFINE_integer(
        'workers', defaults.workers, 'Processes that decode; 0 for one a core.', lower_bound=0
    )
    clip_timeout = flags.DEFINE_float(
        'clip_timeout', defaults.clip_timeout, 'A clip is skipped if no frame of it is decoded for so many seconds.'
    )
    overwrite = flags.DEFINE_bool('overwrite', defaults.overwrite, 'Replace a dataset in --out.')
    beam_runner = flags.DEFINE_string(
        'beam_runner', defaults.beam_runner, 'Convert with this Apache Beam runner (extra `beam`).'
    )
    beam_options = flags.DEFINE_list('beam_options', defaults.beam_options, "key=value,... for Beam's runner.")
    seed = flags.DEFINE_integer('seed', defaults.seed, 'Of random splits and of the order of clips.', lower_bound=0)
    flags.register_validator(
        'clip_timeout', lambda v: 0 < v <= 1e6, '--clip_timeout must be more than 0 and at most 1000000 seconds'
    )
    flags.register_validator(
        'fps',
        lambda v: v is None or 0 < v <= frame_storage.MAX_FPS,
        f'--fps must be more than 0 and at most {frame_storage.MAX_FPS:g}',
    )

    def work(_) -> int:
        options = Options(
            storage=FrameStorage(short_side.value, fps.value, flow()),
            flow_from=Path(flow_from.value).expanduser().absolute() if flow_from.value else None,
            strict=strict.value,
            workers=workers.value,
            clip_timeout=clip_timeout.value,
            overwrite=overwrite.value,
            beam_runner=beam_runner.value,
            beam_options=tuple(beam_options.value),
            seed=seed.value,
        )
        if options.flow_from and not options.storage.flow:
            raise UserError('--flow_from: say by --flow how its pictures were made, tvl1 for most published ones')
        try:
            folder = Path(out.value).expanduser()
            with signals.raised():
                convert(read_source(folder, options), folder, options)
            if closing:
                logging.info('%s', closing)
        except KeyboardInterrupt:
            logging.error('interrupted; no dataset was written to %s', out.value)
            raise
        return 0

    script.run(work, sys.modules['__main__'].__doc__ or '', shared_flags=(__name__, flow_flags.__name__))
