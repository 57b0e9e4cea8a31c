"""Tells in about 3 minutes whether a change made anything slower. `make bench-quick` runs it.

    python -m benchmarks.quick [--against=REVISION]

Compares this checkout with another revision, in three ways: a train step of each family (full networks, 112 x 112
pixels), reading, and the time from `predict` to its first label. The two revisions take turns, each in processes of its
own, so that a busy machine slows both. Without --against, the other revision is the last commit if the checkout has
changes, and otherwise the commit before the last. A ratio below 1 is slower. The word 'slower' or 'faster' stands
beside a ratio only if all rounds agree and the difference is large enough.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import app, flags

from benchmarks import machine
from benchmarks.probe import CASES, READING
from benchmarks.table import print_table, row

_AGAINST = flags.DEFINE_string('against', '', 'The revision to compare with; empty: the commit before.')
_ROOT = Path(__file__).resolve().parents[1]
_ROUNDS = 5
_START = 'predict to the first label'
_NOTICED = 0.03  # smaller differences get no word


class Side:
    """A checkout of one revision, and the process that measures it."""

    def __init__(self, root: Path, folder: Path, dataset: Path):
        self._root, self._run = root, folder / 'run'
        # Both sides share a cache, so that programs that did not change are compiled once.
        self._env = os.environ | {
            'PYTHONPATH': str(root), 'PROBE_DATASET': str(dataset), 'JAX_COMPILATION_CACHE_DIR': str(folder.parent / 'compiled'),
            'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1', 'TF_CPP_MIN_LOG_LEVEL': '2',
        }  # fmt: skip
        self._call(
            'experiments.tsn_motion',
            f'--config.data.dir={dataset}',
            '--config.epochs=0.1',
            '--config.data.validation_split=',
        )
        self._video = next((dataset.parent / 'motion_videos').rglob('*.mp4'))
        self._probe = subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.probe'], cwd=root, env=self._env, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._answer()

    def measure(self, name: str) -> float:
        """Measures once, and returns a rate: more is faster."""
        if name == _START:
            start = time.perf_counter()
            self._call('experiments.predict', str(self._video))
            return 1 / (time.perf_counter() - start)
        print(name, file=self._probe.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        self._probe.kill()
        self._probe.wait()

    def _answer(self) -> str:
        answer = self._probe.stdout.readline().strip()
        if not answer:
            raise SystemExit(f'error: python -m benchmarks.probe ended in {self._root}; run it there to see why')
        return answer

    def _call(self, module: str, *arguments: str) -> None:
        command = [sys.executable, '-m', module, f'--workdir={self._run}', *arguments]
        done = subprocess.run(command, cwd=self._root, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f'error: {module} failed in {self._root}:\n{done.stderr[-2000:]}')


def compare(against: str, rounds: int = _ROUNDS) -> list[dict]:
    """The rows of the table: name, unit, ours, peer and ratio. Ours is the checkout; the peer is the other revision."""
    names = (*CASES, READING, _START)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        old = stack.enter_context(_checkout(against, folder / 'before'))
        subprocess.run(
            [sys.executable, '-m', 'data_prep.motion', f'--out={folder}', '--size=240', '--frames=48', '--clips_per_class=8'],
            cwd=_ROOT, check=True, capture_output=True,
        )  # fmt: skip
        sides = []
        for which, root in (('now', _ROOT), ('then', old)):
            (folder / which).mkdir()
            sides.append(stack.enter_context(contextlib.closing(Side(root, folder / which, folder / 'motion'))))
        found = {name: [[side.measure(name) for side in sides] for _ in range(rounds + 1)][1:] for name in names}
    units = dict.fromkeys(CASES, 'steps/s') | {READING: 'frames/s', _START: '1/s'}
    rows = [row(name, units[name], *zip(*found[name])) for name in names]
    return [made | {'name': f'{made["name"]}{_verdict(found[made["name"]])}'} for made in rows]


def _verdict(rounds: Sequence[Sequence[float]]) -> str:
    """', slower' or ', faster' if all rounds agree and the difference is more than `_NOTICED`; otherwise ''."""
    ratios = [now / then for now, then in rounds]
    if max(ratios) < 1 and statistics.median(ratios) < 1 - _NOTICED:
        return ', slower'
    if min(ratios) > 1 and statistics.median(ratios) > 1 + _NOTICED:
        return ', faster'
    return ''


@contextlib.contextmanager
def _checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A context with the files of a revision in `folder`, which is removed when the context ends."""
    git = ['git', '-C', str(_ROOT), 'worktree']
    subprocess.run([*git, 'add', '--quiet', '--detach', str(folder), revision], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, 'remove', '--force', str(folder)], check=True)


def _commit_before() -> str:
    changed = subprocess.run(
        ['git', '-C', str(_ROOT), 'status', '--porcelain', '-uno'], capture_output=True, text=True, check=True
    )
    return 'HEAD' if changed.stdout else 'HEAD~1'


def main(argv):
    del argv
    against = _AGAINST.value or _commit_before()
    print(f'ours: this checkout; peer: {against}; {machine.describe()["processor"]}')
    print_table(compare(against))


if __name__ == '__main__':
    app.run(main)
