"""Accuracy of a trained model on a split, from its work directory alone.

    python -m experiments.evaluate --workdir=RUN [--split=test] [--checkpoint=best] [--clips=1] [--crops=1|3|10] [--noema]
        [--config.sampling.test_segments=25] [--config.augment.test_short_side=256] [--config.test.average=logits] [--noreport]

Prints a table and writes RUN/eval/<dataset>-<split>-<digest>-step<step>-<clips>x<crops>.json, with the numbers and the protocol
that produced them, and beside it a .npz with the logits of each video (vidcls/run/results.py has the layout). The names of the
files have the settings that were given here. --config.test.batch_size, the number of views that a device holds at once, changes
no result.

A page beside these files, <name>.html, shows where the network fails (docs/reports.md). It needs the extra: pip install
'vidcls[report]'. --noreport leaves it out.
"""

from absl import flags

from experiments import launch, testing_flags
from experiments.score_table import table
from vidcls.errors import UserError

_WORKDIR = flags.FLAGS['workdir']  # defined in launch
_SPLIT = flags.DEFINE_string('split', 'test', 'train, validation or test as configured, or a split of the dataset.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (by validation top-1), latest, or a step.')
_CLIPS = flags.DEFINE_integer('clips', 0, 'Views in time; 0: as configured.', lower_bound=0)
_CROPS = flags.DEFINE_enum('crops', '', ['', '1', '3', '10'], 'Views in space; empty: as configured.')
_SETTINGS = testing_flags.define()
_JOIN = launch.multihost()
_EMA = flags.DEFINE_bool('ema', True, 'Test the moving averages of the parameters, if training kept any.')
_DATA = flags.DEFINE_string('data', '', 'Folder of the dataset, if it is not where it was in training.')
_REPORT = flags.DEFINE_bool('report', True, 'Write the page beside the result.')


def main(argv: list[str]) -> None:
    if argv:
        raise UserError(f'unexpected argument {argv[0]!r}')
    _JOIN()
    from vidcls.distributed import processes
    from vidcls.evaluate import evaluate
    from vidcls.run import workdir

    run = workdir.load(_WORKDIR.value)
    crops, saved = int(_CROPS.value or 0), []
    result = evaluate(
        run, _SPLIT.value, _CHECKPOINT.value, _CLIPS.value, crops, _DATA.value, _EMA.value, settings=_SETTINGS(),
        on_saved=saved.append,
    )  # fmt: skip
    if processes.is_first():
        print(table(result))
    for path in saved:
        if _REPORT.value:
            launch.write_page('evaluation', path, _DATA.value)


if __name__ == '__main__':
    flags.mark_flags_as_required(['workdir'])
    launch.run(main, __doc__)
