"""What a converted dataset has, and what may be wrong with it.

    python -m experiments.inspect DATASET [--workdir=RUN] [--split=test] [--out=inspect.html]

Finds clips that are in it twice, by their bytes or by their look, also across splits that must have nothing in common; frames
that are black, of one colour or frozen; and clips that are very short. With --workdir, which may be the .json file of an
evaluation too, also the clips whose label the run finds least likely, from its stored evaluation of --split.

Prints a summary. --out is a page with the counts, pictures of what was found and a sheet of clips of each class; the .json beside it
names every clip that was found.
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
