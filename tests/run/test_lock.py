"""One training at a time in a work directory, and a lock that ends with its process."""

import os
import signal
import subprocess
import sys

import pytest

from vidcls import train
from vidcls.config import Config
from vidcls.errors import UserError
from vidcls.run import lock

# Holds the lock of argv[1], starts a child that outlives it, says the child's number, and waits to be killed.
HOLDER = """
import os, subprocess, sys, time
from vidcls.run import lock
with lock.held(sys.argv[1]):
    if sys.argv[2] == 'fork':
        child = os.fork()
        if not child:
            time.sleep(100)
    else:
        child = subprocess.Popen(['sleep', '100'], stdout=subprocess.DEVNULL, close_fds=False).pid
    print(child, flush=True)
    time.sleep(100)
"""


def test_the_second_is_told_of_the_first(tmp_path):
    folder = tmp_path / 'run'
    with lock.held(folder):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(
            UserError, match=rf'trained in by process {os.getpid()} on \S+ since \d+-.*another --workdir'
        ):
            train.train(Config(), folder)
        assert sorted(path.name for path in folder.iterdir()) == before == ['lock']
    assert not folder.exists()  # nothing was made in it
    with lock.held(folder):
        (folder / 'config.json').touch()
    assert [path.name for path in folder.iterdir()] == ['config.json']


@pytest.mark.parametrize('way', ['fork', 'exec'])
def test_a_killed_process_leaves_no_lock_though_its_children_live(way, tmp_path):
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, str(tmp_path), way], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError, match=f'process {holder.pid} on'), lock.held(tmp_path):
            pass
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
        assert (tmp_path / 'lock').exists()
        os.kill(child, 0)  # it lives
        with lock.held(tmp_path):
            pass
        assert not (tmp_path / 'lock').exists()
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
        holder.stdout.close()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def flock(*args):
        raise OSError(lock.errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(lock.fcntl, 'flock', flock)
    with lock.held(tmp_path):
        pass
    assert 'this file system has no locks' in caplog.text
