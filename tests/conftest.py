"""Eight faked CPU devices for the tests of parallelism, and the real clips where they lie beside the checkout."""

import os

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of real clips; a test that uses it skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'the real clips are not at {SHARED_DATA}')
    return SHARED_DATA
