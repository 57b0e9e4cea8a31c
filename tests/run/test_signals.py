"""Ctrl-C and SIGTERM outside of training: the process ends at once, wherever its main thread is, with one line."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

SECONDS = 120
BOTH = pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
# Native code that Python's handlers wait for, as they do for XLA's compiler: minutes of it.
NATIVE = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
COMMAND = ['env', '--default-signal=INT', sys.executable]  # a shell has what it runs with & ignore the signal


def _start(body: str) -> subprocess.Popen:
    """A script whose work is `body`, when it has said 'ready'."""
    code = f"""
import os, signal
from experiments import launch
from vidcls.run import signals
def work(argv):
    print('a result')  # in a buffer
    os.write(2, b'ready\\n')
    {body}
launch.run(work, '', 'nothing was lost')
"""
    process = subprocess.Popen([*COMMAND, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert os.read(process.stderr.fileno(), len('ready\n')) == b'ready\n'
    return process


def _end(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, out.decode(), err.decode()


@BOTH
def test_native_code_does_not_delay_the_end(signum):
    process = _start(NATIVE)
    time.sleep(0.5)
    process.send_signal(signum)
    assert _end(process) == (128 + signum, 'a result\n', f'{signum.name}: ended at once; nothing was lost\n')


def test_a_callback_swallows_no_signal():
    process = _start("""class Object:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)
    Object()""")
    assert _end(process) == (130, 'a result\n', 'SIGINT: ended at once; nothing was lost\n')


def test_the_second_signal_ends_training_from_native_code():
    process = _start(f'with signals.Listener():\n        {NATIVE}')
    for _ in range(2):
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    assert _end(process) == (130, 'a result\n', 'SIGINT: ended at once; the last whole checkpoint is kept\n')


def test_work_that_cleans_up_gets_the_exception_and_the_rest_the_quick_end():
    process = _start("""try:
        with signals.raised():
            signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        import time; time.sleep(0.3)
        print('cleaned up', flush=True)
    signal.raise_signal(signal.SIGTERM)""")
    assert _end(process) == (143, 'a result\ncleaned up\n', 'SIGTERM: ended at once; nothing was lost\n')


def test_a_signal_that_the_shell_has_it_ignore_is_ignored():
    code = 'from vidcls.run import signals\nsignals.end_at_once()\nimport signal; signal.raise_signal(signal.SIGINT)'
    ignoring = ['env', '--ignore-signal=INT', sys.executable, '-c', code]
    assert subprocess.run(ignoring, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@BOTH
def test_the_first_seconds_of_training_end_at_once(signum, motion_folder, tmp_path):
    """Ten tries at moments of the first 15 seconds: imports, compilation, callbacks of jax."""
    seed = random.SystemRandom().randrange(1000)
    print(f'seed {seed}')
    draw = random.Random(seed)
    for number in range(10):
        delay = draw.uniform(0.2, 15)
        argv = [f'--workdir={tmp_path / str(number)}', f'--config.data.dir={motion_folder}', '--config.epochs=1000']
        process = subprocess.Popen(
            [*COMMAND, '-m', 'experiments.tsn_motion', *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {'JAX_ENABLE_COMPILATION_CACHE': '0'},
        )
        time.sleep(delay)
        began = time.monotonic()
        process.send_signal(signum)
        status, _, err = _end(process)
        print(f'{delay:.1f} s: {status} within {time.monotonic() - began:.1f} s, {err.splitlines()[-1]}')
        assert status == 128 + signum
        assert 'Traceback' not in err
        assert err.count(signum.name) == 1
