"""A page of one or several trainings: curves by step and by time, the best step, resumptions, differing settings.

    python -m experiments.report RUN... [--out=FILE.html]

RUN is a work directory. The page of one run is RUN/training.html, which training writes too when it ends; that of several is
training.html in the current folder. It is one file, which opens without a network. It needs the extra: pip install
'vidcls[report]'.
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
