"""Writes a page about one or several trainings.

    python -m experiments.report RUN... [--out=FILE.html]

The page shows curves by step and by time, the best step, resumptions, and the settings that differ.

RUN is a work directory. The page of one run is RUN/training.html, which training itself writes when it ends. The page
of several runs is training.html in the current folder. The page is one file, and opens without an internet connection.
It needs an extra: pip install 'vidcls[report]'.
"""

from absl import flags

from experiments import launch
from vidcls import report
from vidcls.errors import UserError

_OUT = flags.DEFINE_string('out', '', 'The page to write; empty: as above.')


def main(argv: list[str]) -> None:
    if not argv:
        raise UserError('name the runs: one work directory or several')
    report.check_installed()
    from vidcls.report import training

    print(training.write(argv, launch.page_path(_OUT.value) if _OUT.value else None))


if __name__ == '__main__':
    launch.run(main, __doc__)
