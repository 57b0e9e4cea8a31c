"""The command, and `predict` on what it wrote."""

import json
import subprocess
import sys

import pytest

from tests.export import small_runs
from tests.made_videos import scenery, write_video
from vidcls.predict import Classifier


def script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', f'experiments.{name}', *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_run_is_exported_and_predicts(tmp_path):
    run, out = small_runs.make(tmp_path / 'run', 'timesformer'), tmp_path / 'out'
    command = (f'--workdir={run.folder}', '--format=stablehlo', f'--out={out}', '--clips=2')
    done = script('export', *command)
    assert done.returncode == 0 and 'stablehlo of step 7' in done.stderr, done.stderr
    again = script('export', *command)
    assert (again.returncode, again.stderr.splitlines()[-1]) == (
        1, f'error: --out={out}: is there already; name another folder, or remove it',
    )  # fmt: skip
    video = write_video(tmp_path / 'moving.mp4', scenery(30, (64, 80)))
    predicted = script('predict', f'--workdir={out}', '--format=json', str(video))
    assert predicted.returncode == 0, predicted.stderr
    right = Classifier.load(run.folder, clips=2).classify(video)
    for found, (label, probability) in zip(json.loads(predicted.stdout)['labels'], right, strict=True):
        assert (found['label'], found['probability']) == (label, pytest.approx(probability, abs=1e-5))
    refused = script('stream', f'--workdir={out}', str(video))
    assert (
        refused.returncode == 1 and 'work directory of the run' in refused.stderr and 'Traceback' not in refused.stderr
    )
