"""Exports a trained network as a folder that runs without vidcls.

    python -m experiments.export --workdir=RUN --format=stablehlo|savedmodel|tflite|onnx|hub --out=DIR [--checkpoint=best]
        [--clips=1] [--crops=1|3|10] [--batch=1]

DIR gets the file of the network, labels.txt, and label.py, which runs the file on videos with the format's own library.
The file is first run and compared with jax; if the results differ, DIR is not made. --batch is the number of
clips at once for the formats that fix this number (tflite, onnx). The format hub writes weights and a model card for
the Hugging Face hub, and no program. --config.test.* and --config.sampling.test_segments are as in
experiments.evaluate. docs/export.md says which format runs where.
"""

import dataclasses

from absl import flags, logging

from experiments import launch, testing_flags
from vidcls import config as config_lib
from vidcls.errors import UserError
from vidcls.runtimes.description import FILES

_WORKDIR = flags.FLAGS['workdir']  # defined in launch
_FORMAT = flags.DEFINE_enum('format', None, (*FILES, 'hub'), 'What to write.')
_OUT = flags.DEFINE_string('out', None, 'The folder to make.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (by validation top-1), latest, or a step.')
_CLIPS = flags.DEFINE_integer('clips', 0, 'Views in time; 0: as configured.', lower_bound=0)
_CROPS = flags.DEFINE_enum('crops', '', ['', '1', '3', '10'], 'Views in space; empty: as configured.')
_BATCH = flags.DEFINE_integer('batch', 1, 'tflite, onnx: clips at once.', lower_bound=1, upper_bound=4096)
_SETTINGS = testing_flags.define()


def main(argv: list[str]) -> None:
    from vidcls.export import folder, hub
    from vidcls.run import workdir

    if argv:
        raise UserError(f'unexpected argument {argv[0]!r}')
    run = workdir.load(_WORKDIR.value)
    views = {
        name: int(value) for name, value in (('test.clips', _CLIPS.value), ('test.crops', _CROPS.value or 0)) if value
    }
    run = dataclasses.replace(run, config=config_lib.for_testing(run.config, _SETTINGS() | views))
    if _FORMAT.value == 'hub':
        hub.export(run, _OUT.value, _CHECKPOINT.value)
        logging.info('%s: put your name in README.md there, then `hf upload ORG/NAME %s`', _OUT.value, _OUT.value)
        return
    written = folder.export(run, _FORMAT.value, _OUT.value, _CHECKPOINT.value, _BATCH.value)
    logging.info(
        '%s: %s of step %d, within %.1e of jax; README.md there says how to run it',
        _OUT.value, written.format, written.checkpoint['step'], written.difference,
    )  # fmt: skip


if __name__ == '__main__':
    flags.mark_flags_as_required(['workdir', 'format', 'out'])
    launch.run(main, __doc__)
