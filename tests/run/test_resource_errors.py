"""A full disk and too little memory: what is said, and what is left."""

import dataclasses
import errno
import os
import subprocess

import jax
import numpy as np
import pytest

from vidcls import train
from vidcls.config import AugmentConfig, Config, ModelConfig, OptimConfig
from vidcls.run import checkpoint, resource_errors


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip('a small tmpfs cannot be mounted here')
    yield folder
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def test_a_checkpoint_that_will_not_fit_is_not_begun(disk):
    checkpoints = checkpoint.Checkpoints(disk / 'checkpoints', keep_best=False)
    with pytest.raises(resource_errors.DiskFull, match=r'a checkpoint of 8\.0 MB does not fit, 4\.\d MB are free'):
        checkpoints.save(1, {'params': np.zeros(10**6, np.float32)}, [np.zeros(10**6, np.float32)])
    checkpoints.close()
    assert list((disk / 'checkpoints').iterdir()) == []


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_the_latest_checkpoint_and_the_run_resumes(config, disk, monkeypatch):
    longer, run, devices = dataclasses.replace(config, epochs=3.0), disk / 'run', jax.local_devices()[:1]
    original = train.Checkpoints.save

    def fill_and_save(self, step, *args):
        if step == 6:
            self._manager.wait_until_finished()
            space = os.statvfs(disk)
            (disk / 'ballast').write_bytes(bytes(space.f_bavail * space.f_frsize - 40_000))
        original(self, step, *args)

    with monkeypatch.context() as patched:
        patched.setattr(train.Checkpoints, 'save', fill_and_save)
        patched.setattr(resource_errors, 'check_disk', lambda *args: None)  # it fills up only while they write
        with pytest.raises(
            resource_errors.DiskFull, match=f'no space left in {run}.*: .*MB are free. Make space .*resumes'
        ):
            train.train(longer, run, devices)
    assert checkpoint.steps(run / 'checkpoints') == [3]
    assert checkpoint.restore_model(run / 'checkpoints', 'latest')[0] == 3
    (disk / 'ballast').unlink()
    assert train.train(longer, run, devices)
    assert checkpoint.steps(run / 'checkpoints')[-1] == 9


def test_the_disk_is_seen_behind_the_error_of_closing(tmp_path):
    @resource_errors.explained
    def work(config, folder):
        try:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        finally:
            raise RuntimeError('closed already')

    with pytest.raises(resource_errors.DiskFull, match=f'no space left in {tmp_path}: '):
        work(Config(), tmp_path)


def test_a_step_that_does_not_fit_names_what_takes_less(config, tmp_path, monkeypatch):
    def step(*args):
        raise jax.errors.JaxRuntimeError(
            'RESOURCE_EXHAUSTED: Out of memory while trying to allocate 98765 bytes.\nmore'
        )

    monkeypatch.setattr(train, 'make_train_step', lambda *args: step)
    with pytest.raises(resource_errors.OutOfMemory) as found:
        train.train(config, tmp_path, jax.local_devices()[:1])
    message = str(found.value)
    assert '\n' not in message
    for text in (
        'allocate 98765 bytes', '--config.optim.clips_per_device (now 0, a device', '--config.model.remat=true', '--config.batch_size (now 8)',
        'resumes with other values of remat', '--config.augment.crop_size (now 24)', '--config.sampling.num_segments (now 2)', 'dtype=bfloat16 on an accelerator',
    ):  # fmt: skip
        assert text in message


def test_what_is_set_already_is_not_named(tmp_path):
    config = Config(
        model=ModelConfig(remat=True, dtype='bfloat16'),
        optim=OptimConfig(clips_per_device=4),
        augment=AugmentConfig(crop_size=96),
    )

    @resource_errors.explained
    def work(config, folder):
        raise MemoryError('Unable to allocate 3 GiB')

    with pytest.raises(
        resource_errors.OutOfMemory, match=r'3 GiB.*clips_per_device \(now 4;.*crop_size \(now 96\)'
    ) as found:
        work(config, tmp_path)
    assert 'model.remat' not in str(found.value) and 'dtype' not in str(found.value)


@pytest.mark.parametrize('error', [ValueError('a wrong value'), jax.errors.JaxRuntimeError('INTERNAL: a bug')])
def test_other_errors_pass(error, tmp_path):
    @resource_errors.explained
    def work(config, folder):
        raise error

    with pytest.raises(type(error), match=str(error)):
        work(Config(), tmp_path)
