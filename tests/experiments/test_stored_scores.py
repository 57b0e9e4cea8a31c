"""`compare` and `fuse` as a user runs them, on evaluations made by hand."""

import subprocess
import sys

import numpy as np
import pytest

from tests.stored import store
from vidcls.run.stored_results import find


def _script(name, *arguments):
    command = [sys.executable, '-m', f'experiments.{name}', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_runs_are_compared_and_fused_and_what_differs_is_one_line(tmp_path):
    ids, labels, classes = ['x', 'y'], [0, 1], ['a', 'b']
    one = tmp_path / 'one'
    two = tmp_path / 'two'
    store(one, ids, labels, [[3, 0], [2, 0]], classes)
    store(two, ids, labels, np.array([[[0, 1]] * 3, [[0, 4]] * 3]), classes, crops=3)
    page = tmp_path / 'page.html'

    refused = _script('compare', one, two, f'--out={page}')
    assert (refused.returncode, refused.stdout, page.exists()) == (1, '', False)
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith('error: ')]
    assert 'were evaluated differently: crops: 1 and 3. ' in line

    done = _script('compare', one, two, f'--out={page}', '--any_protocol')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('B (two) against A (one): top-1 50.00 % against 50.00 %, +0.00 points')
    assert page.exists() and page.with_suffix('.json').exists()

    done = _script('fuse', one, two, f'--workdir={tmp_path / "both"}', '--weights=1,1', '--split=test')
    assert done.returncode == 0, done.stderr
    assert f'{"top1":22} 100.00 %' in done.stdout  # (3, 1) / 2 and (2, 4) / 2
    fused = find(tmp_path / 'both', 'test')
    np.testing.assert_allclose(fused.predictions.logits[:, 0], [[1.5, 0.5], [1, 2]])
    assert fused.path.with_suffix('.html').exists()
    # Agrees with either run, for it has the views of both.
    assert _script('compare', two, tmp_path / 'both', f'--out={page}').returncode == 0
