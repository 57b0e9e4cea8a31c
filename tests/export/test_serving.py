"""The server of docs/export.md, as it stands there: answers, many clients, bad requests."""

import concurrent.futures
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.export import small_runs
from vidcls.export import folder
from vidcls.predict import Classifier

pytestmark = pytest.mark.slow
DOCUMENT = Path(__file__).resolve().parents[2] / 'docs' / 'export.md'
CLIENTS, REQUESTS = 8, 200


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """(address, the exported folder) of a server that answers."""
    place = tmp_path_factory.mktemp('served')
    folder.export(small_runs.make(place / 'run', 'timesformer', stored=256), 'onnx', place / 'out', batch=4)
    (code,) = re.findall(r'```python\n(# serve\.py.*?)```', DOCUMENT.read_text(), re.DOTALL)
    (place / 'out' / 'serve.py').write_text(code)
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, 'serve.py', '--address=127.0.0.1', f'--port={port}', '--timeout=60000']
    environment = {'PATH': os.environ['PATH'], 'HOME': str(place)}
    with open(place / 'log', 'wb') as log:
        process = subprocess.Popen(command, cwd=place / 'out', env=environment, stdout=log, stderr=log)
    try:
        _wait(f'http://127.0.0.1:{port}/', process, place / 'log')
        yield f'http://127.0.0.1:{port}', place / 'out'
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=1)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def ask(address: str, data: bytes) -> dict[str, float]:
    with urllib.request.urlopen(f'{address}/inference', data, timeout=60) as response:
        return json.load(response)


def test_a_server_answers_and_lives(served, shared_data, capsys):
    address, out = served
    videos = sorted((shared_data / 'ucf101').rglob('*.avi'))[:10]
    classifier = Classifier.load(out)
    right = {path: dict(classifier.classify(path, 5)) for path in videos}
    asked = [videos[number % len(videos)] for number in range(REQUESTS)]
    seconds = []

    def client(path: Path) -> dict[str, float]:
        started = time.perf_counter()
        answer = ask(address, path.read_bytes())
        seconds.append(time.perf_counter() - started)
        return answer

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(client, asked))
    took = time.perf_counter() - started
    assert len(answers) == len(seconds) == REQUESTS
    for path, answer in zip(asked, answers):
        assert answer.keys() == right[path].keys()
        np.testing.assert_allclose([answer[name] for name in right[path]], list(right[path].values()), atol=0.03)
    with capsys.disabled():
        print(
            f'\n{REQUESTS} requests of {CLIENTS} clients: {REQUESTS / took:.1f} a second, median '
            f'{1e3 * statistics.median(seconds):.0f} ms, 95 % within {1e3 * sorted(seconds)[REQUESTS * 95 // 100]:.0f} ms'
        )


@pytest.mark.parametrize('data, status', [(b'no video', 400), (b'RIFF' + bytes(1000), 400), (bytes(11 << 20), 413)])
def test_a_bad_request_is_refused_and_the_server_lives(served, shared_data, data, status):
    address, _ = served
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(address, data)
    assert refused.value.code == status
    assert len(ask(address, next((shared_data / 'kth').rglob('*.avi')).read_bytes())) == 5
