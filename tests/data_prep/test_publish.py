"""A process killed at any moment of a replacement: the old or the new dataset is at its place, or the next run puts it there."""

import fcntl
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess

import pytest

from data_prep.publish import partial_folder, publish, repair
from vidcls.data.dataset import find_folder
from vidcls.errors import UserError

FILES = {'dataset_info.json', 'shard', 'last'}
NEVER = 1000


def write(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('dataset_info.json', 'shard', 'last'):
        (folder / name).write_text(content)
    return folder


def content(folder) -> str:
    """What the dataset there is, 'old' or 'new'; fails if it is not whole."""
    assert {file.name for file in folder.iterdir()} == FILES
    (text,) = {file.read_text() for file in folder.iterdir()}
    return text


def replace(destination):
    repair(destination, 'last')
    with partial_folder(destination) as partial:
        write(partial, 'new')
        publish(partial, destination)


def kill_at(call: int, function, *args) -> bool:
    """Runs `function` in a process that ends, as by SIGKILL, before its `call`-th change of a name; whether it came so far."""

    def run():
        calls = iter(range(NEVER))

        def count(change):
            def counted(*args, **kwargs):
                if next(calls) == call:
                    os._exit(9)
                return change(*args, **kwargs)

            return counted

        for name in ('rename', 'unlink', 'rmdir', 'mkdir'):
            setattr(os, name, count(getattr(os, name)))
        function(*args)
        os._exit(0)

    process = multiprocessing.get_context('fork').Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, 9)
    return process.exitcode == 9


def test_a_replacement_killed_at_any_moment(tmp_path):
    found = []
    for call in range(NEVER):
        destination = write(tmp_path / str(call) / 'clips' / '1.0.0', 'old')
        killed = kill_at(call, replace, destination)
        there = destination.exists()
        if there:
            assert content(find_folder(destination)) in ('old', 'new')
        else:
            check_that_opening_says_what_to_do(tmp_path / str(call), destination)
        repair(destination, 'last')
        found.append((there, content(destination)))
        replace(destination)
        assert content(destination) == 'new'
        assert [p.name for p in destination.parent.iterdir()] == ['1.0.0']
        assert [p.name for p in destination.parent.parent.iterdir()] == ['clips']
        if not killed:
            break
    # Old until it is renamed; between the renames nowhere, and repaired to the new one; then new.
    steps = [state for n, state in enumerate(found) if n == 0 or state != found[n - 1]]
    assert steps == [(True, 'old'), (False, 'new'), (True, 'new')]
    assert len(found) > 8


def check_that_opening_says_what_to_do(out, destination):
    for path in (destination, destination.parent, out):
        with pytest.raises(UserError, match='no dataset here: a conversion was killed while it replaced') as error:
            find_folder(path)
    command = re.search('mv .*', str(error.value))[0]
    copy = shutil.copytree(out, out.parent / 'copy')
    subprocess.run(shlex.split(command.replace(str(out), str(copy))), check=True)
    assert content(find_folder(copy)) == 'old'
    shutil.rmtree(copy)


def test_a_repair_killed_at_any_moment(tmp_path):
    for whole in (True, False):
        for call in range(NEVER):
            destination = tmp_path / f'{whole}{call}' / 'clips' / '1.0.0'
            write(destination.with_name('.1.0.0.replaced'), 'old')
            partial = write(destination.parent.parent / '.clips-1.0.0.partial', 'new')
            if not whole:
                (partial / 'last').unlink()
            killed = kill_at(call, repair, destination, 'last')
            repair(destination, 'last')
            assert content(destination) == ('new' if whole else 'old')
            if not killed:
                break
        assert call > 1


def test_what_is_half_deleted_is_never_brought_back(tmp_path):
    """The new dataset came to be, the old one is being deleted, and somebody deletes the new one by hand."""
    for call in range(NEVER):
        destination = write(tmp_path / str(call) / 'clips' / '1.0.0', 'old')
        killed = kill_at(call, replace, destination)
        if destination.exists() and content(destination) == 'new':
            shutil.rmtree(destination)
            repair(destination, 'last')
            assert not destination.exists() or content(destination) == 'old'
        if not killed:
            break


def test_an_error_between_the_renames_brings_the_old_one_back(tmp_path, monkeypatch):
    destination = write(tmp_path / 'clips' / '1.0.0', 'old')
    rename = os.rename

    def fail(source, target):
        if str(source).endswith('.partial'):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, 'rename', fail)
    with pytest.raises(KeyboardInterrupt):
        replace(destination)
    assert content(destination) == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['clips']


def test_a_replacement_in_progress_is_no_work_for_another(tmp_path):
    destination = tmp_path / 'clips' / '1.0.0'
    write(destination.with_name('.1.0.0.replaced'), 'old')
    partial = write(tmp_path / '.clips-1.0.0.partial', 'new')
    lock = os.open(partial, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(UserError, match='another process is writing'):
        repair(destination, 'last')
    assert not destination.exists()
    os.close(lock)


def test_a_link_among_leftovers_is_not_followed(tmp_path):
    kept = write(tmp_path / 'kept', 'kept')
    destination = tmp_path / 'out' / 'clips' / '1.0.0'
    (tmp_path / 'out' / '.clips-1.0.0.partial').mkdir(parents=True)
    (tmp_path / 'out' / '.clips-1.0.0.partial' / 'link').symlink_to(kept)
    replace(destination)
    assert content(kept) == 'kept' and content(destination) == 'new'
