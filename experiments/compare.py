"""Tells whether one run is better than another, by their evaluations of the same clips (experiments.evaluate).

    python -m experiments.compare RUN_A RUN_B... [--split=test] [--out=compare.html] [--any_protocol]

RUN is a work directory, whose newest evaluation of the split is taken, or the .json file of an evaluation. The later
runs are each compared with the first.

Prints a line for each pair: the difference of top-1, its 95 % interval by a paired bootstrap, and McNemar's exact test.
--out is a page with the differences of each class and the clips that changed; the .json beside the page has all
numbers.

Runs with different clips, labels or splits are refused. Runs that were evaluated on different stored frames, or with
different numbers of views, are refused too, unless --any_protocol is given.
"""

from absl import flags, logging

from experiments import launch
from vidcls import report
from vidcls.errors import UserError
from vidcls.text.names import readable_lines

_MOST_RUNS = 10
_SPLIT = flags.DEFINE_string('split', 'test', 'The split whose evaluations are compared.')
_OUT = flags.DEFINE_string('out', 'compare.html', 'The page to write; one that is there is replaced.')
_ANY = flags.DEFINE_bool('any_protocol', False, 'Compare evaluations with other stored frames or views, too.')
_DATA = flags.DEFINE_string('data', '', "The dataset's folder, whose groups are drawn, if it is not where it was.")


def main(argv: list[str]) -> None:
    if not 2 <= len(argv) <= _MOST_RUNS:
        raise UserError(f'{len(argv)} runs were named; from 2 to {_MOST_RUNS} can be compared')
    out = launch.page_path(_OUT.value, '"top1_a"')
    report.check_installed('scipy')
    from vidcls.report import compare_page, comparison
    from vidcls.run import stored_results

    results = stored_results.on_the_same_clips([stored_results.find(name, _SPLIT.value) for name in argv])
    for other in results[1:]:
        different = stored_results.differing(results[0], other, comparison.SAME)
        if different and not _ANY.value:
            raise UserError(
                f'{results[0].path} and {other.path} were evaluated differently: {"; ".join(different)}. Evaluate them '
                'alike, or give --any_protocol if this is the comparison that you want'
            )
    units = comparison.units_of(results, _DATA.value)
    pairs = [comparison.compare(results[0], other, units) for other in results[1:]]
    for line in compare_page.write(out, pairs):
        print(readable_lines(line))
    logging.info('%s has the page, %s the numbers', out, out.with_suffix('.json').name)


if __name__ == '__main__':
    launch.run(main, __doc__)
