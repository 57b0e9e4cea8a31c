"""Evaluates a trained model on a split of its dataset, and stores the scores in the work directory.

    python -m experiments.evaluate --workdir=RUN [--split=test] [--checkpoint=best] [--clips=1] [--crops=1|3|10] [--noema]
        [--config.sampling.test_segments=25] [--config.augment.test_short_side=256] [--config.test.average=logits] [--noreport]

Prints a table, and writes RUN/eval/<dataset>-<split>-<digest>-step<step>-<clips>x<crops>.json with the scores and the
protocol that produced them. A .npz beside it has the logits of each clip (vidcls/run/results.py describes the arrays).
Settings that are given here become a part of the files' names, except --config.test.batch_size, the number of views
that a device computes at once: it changes no result.

A page beside these files, <name>.html, shows where the network fails (docs/reports.md). The page needs an extra: pip
install 'vidcls[report]'. --noreport leaves the page out.
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
