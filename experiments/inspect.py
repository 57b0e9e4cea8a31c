"""Shows what a converted dataset has, and what may be wrong with it.

    python -m experiments.inspect DATASET [--workdir=RUN] [--split=test] [--out=inspect.html]

Finds clips that are in the dataset twice: with the same bytes, or with the same look in two splits that must have
nothing in common. Finds frames that are black, of one colour or frozen, and clips that are very short. With --workdir,
it also finds the clips whose labels are least likely by the run's stored evaluation of --split. --workdir may be the
.json file of an evaluation too.

Prints a summary. --out is a page with the counts, pictures of what was found and a sheet of clips of each class; the
.json beside the page names every clip that was found.
"""

from absl import flags, logging

from experiments import launch
from vidcls import report
from vidcls.errors import UserError

_WORKDIR = flags.FLAGS['workdir']  # defined in launch
_SPLIT = flags.DEFINE_string('split', 'test', 'With --workdir: the split whose evaluation is used.')
_OUT = flags.DEFINE_string('out', 'inspect.html', 'The page to write; one that is there is replaced.')
_EVERY = 1000  # clips between lines of progress


def main(argv: list[str]) -> None:
    if len(argv) != 1:
        raise UserError('name one dataset: the folder that data_prep wrote')
    out = launch.page_path(_OUT.value, '"splits"')
    report.check_installed('imagehash')
    from vidcls.data.dataset import open_dataset
    from vidcls.report import inspect_page, inspection, page
    from vidcls.run import stored_results

    judged = stored_results.find(_WORKDIR.value, _SPLIT.value) if _WORKDIR.value else None
    dataset = open_dataset(argv[0])

    def progress(done: int) -> None:
        if done % _EVERY == 0:
            logging.info('%d of %d clips', done, len(dataset.index))

    found = inspection.inspect(dataset, judged, progress)
    inspect_page.write(out, found)
    print('\n'.join(inspection.summary(found)))
    page.write_json(out.with_suffix('.json'), inspection.as_json(found))
    logging.info('%s has the page, %s the clips', out, out.with_suffix('.json').name)


if __name__ == '__main__':
    launch.run(main, __doc__)
