"""Scores several runs together, by the weighted mean of their logits or probabilities for the same clips.

    python -m experiments.fuse --workdir=OUT RUN_A RUN_B... --weights=1,1.5 [--on=logits|probabilities] [--split=test]
    python -m experiments.fuse --workdir=OUT RUN_A RUN_B... --search

RUN is a work directory, whose newest evaluation of the split is taken, or the .json file of an evaluation. --search
finds the weights by the runs' evaluations of the validation split; make these evaluations first, with
experiments.evaluate --split=validation. Weights are never searched on the clips that are scored. The runs may have been
trained on different stored frames, such as colours and optical flow, as long as clips, labels and split are the same.

Prints the table of experiments.evaluate, and writes OUT/eval/fused-<split>-<on>-weights=<weights>.json and .npz. The
.html beside them is the page of an evaluation. experiments.compare and experiments.fuse take the result as they take a
run's.
"""

from pathlib import Path

from absl import flags

from experiments import launch
from experiments.score_table import table
from vidcls.errors import UserError

_WORKDIR = flags.FLAGS['workdir']  # defined in launch
_WEIGHTS = flags.DEFINE_list('weights', [], 'A weight of each run, in their order; only the ratios matter.')
_SEARCH = flags.DEFINE_bool('search', False, 'Search the weights on the validation split.')
_ON = flags.DEFINE_enum('on', 'logits', ['logits', 'probabilities'], 'What is added: before or after the softmax.')
_SPLIT = flags.DEFINE_string('split', 'test', 'The split that is scored, as in experiments.evaluate.')
_REPORT = flags.DEFINE_bool('report', True, 'Write the page beside the result.')
_DATA = flags.DEFINE_string('data', '', "The dataset's folder for the page, if it is not where it was.")


def main(argv: list[str]) -> None:
    if bool(_WEIGHTS.value) == _SEARCH.value:
        raise UserError('give either --weights=..., a number for each run, or --search')
    weights = launch.weights(_WEIGHTS.value)
    from vidcls.fuse import check_number, fuse
    from vidcls.run import stored_results

    check_number(len(argv))
    runs = [stored_results.find(name, _SPLIT.value) for name in argv]
    validation = [stored_results.find(run.path.parents[1], 'validation', like=run) for run in runs if _SEARCH.value]
    saved: list[Path] = []
    print(table(fuse(runs, _WORKDIR.value, _ON.value, weights, validation, saved.append)))
    for path in saved:
        if _REPORT.value:
            launch.write_page('evaluation', path, _DATA.value)


if __name__ == '__main__':
    flags.mark_flags_as_required(['workdir'])
    launch.run(main, __doc__)
