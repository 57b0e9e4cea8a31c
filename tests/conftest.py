"""Eight faked CPU devices for the tests of parallelism, and the real clips where they lie beside the checkout."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # where there is an accelerator too

# Small networks run for moments and compile for minutes: unoptimised code is what makes the suite short.
_FLAGS = ' --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0'
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + _FLAGS
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import sys
import tempfile
from pathlib import Path

import pytest

# Many tests compile the same small networks; children, pytest's workers too, share the folder through the environment.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix='vidcls-compiled-')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'


@pytest.fixture(scope='module', autouse=True)
def _bounded_memory():
    """Drops compiled programs after each file: those of all files together take gigabytes."""
    yield
    if 'jax' in sys.modules:
        sys.modules['jax'].clear_caches()


SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of real clips; a test that uses it skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'the real clips are not at {SHARED_DATA}')
    return SHARED_DATA


@pytest.fixture(scope='session')
def motion_folder(tmp_path_factory) -> Path:
    """A small made dataset: 8 classes of 5 clips, 8 frames of 32 x 32; 24 train, 8 validation, 8 test."""
    from data_prep import motion

    out = tmp_path_factory.mktemp('motion')
    return motion.make(out, motion.Look(clips_per_class=5, size=32, frames=8))


@pytest.fixture(scope='session')
def motion_dataset(motion_folder):
    from vidcls.data.dataset import open_dataset

    return open_dataset(motion_folder)


@pytest.fixture(scope='session')
def flow_folder(tmp_path_factory) -> Path:
    """The same clips with their optical flow."""
    from data_prep import motion
    from data_prep.options import Options
    from vidcls.data.flow import FlowSettings
    from vidcls.data.frame_storage import FrameStorage

    out, look = tmp_path_factory.mktemp('flow'), motion.Look(clips_per_class=5, size=32, frames=8)
    return motion.make(out, look, Options(storage=FrameStorage(flow=FlowSettings())))


@pytest.fixture(scope='session')
def config(motion_folder):
    """Training of a tiny network on it: 3 steps an epoch of 8 clips."""
    from vidcls.config import AugmentConfig, Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, SamplingConfig

    return Config(
        model=ModelConfig(name='tsn_micro', dropout=0.0, sync_batch_norm=True),
        data=DataConfig(dir=str(motion_folder)),
        sampling=SamplingConfig(num_segments=2),
        augment=AugmentConfig(crop='random', short_side=32, crop_size=24, flip=False),
        optim=OptimConfig(learning_rate=0.01, schedule='cosine'),
        test=EvalConfig(batch_size=8),
        batch_size=8,
        epochs=1.0,
        log_every_steps=2,
    )
