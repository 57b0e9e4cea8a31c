"""Sharding and compilation on eight faked devices."""

import jax
import numpy as np
import pytest

from vidcls import parallel


@pytest.fixture
def devices():
    assert len(jax.local_devices()) == 8
    return jax.local_devices()


def test_a_step_compiles_once(devices):
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compilations.append(name) if name.endswith('backend_compile_duration') else None
    )
    step = lambda state, batch: state + jax.lax.pmean(batch.sum(), parallel.AXIS)
    run = parallel.pmap(step, devices, donate=(0,))
    state = parallel.replicate(np.float32(1), devices)
    for batch in parallel.feed([np.arange(16, dtype=np.float32)] * 3, devices):
        state = run(state, batch)
    assert len(compilations) == 1
    # The mean over devices of the sum of two numbers each, three times.
    assert parallel.unreplicate(state) == 1 + 3 * np.arange(16).sum() / 8


def test_sharding_and_gathering_are_inverse(devices):
    batch = {'a': np.arange(16), 'b': np.arange(32).reshape(16, 2)}
    sharded = parallel.place(parallel.shard(batch, 8), devices)
    assert sharded['b'].shape == (8, 2, 2)
    for name, array in parallel.gather(sharded).items():
        np.testing.assert_array_equal(array, batch[name])


def test_feeding_gives_every_batch_in_order(devices):
    batches = [np.full(8, number) for number in range(5)]
    assert [int(batch[0, 0]) for batch in parallel.feed(batches, devices)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ('size', 'parts', 'shares', 'nearest'),
    [
        (12, 1, '8 devices', '8 and 16'),
        (3, 1, '8 devices', '8'),
        (40, 2, '8 devices of 2 parts each', '32 and 48, or another --config.optim.accumulation than 2'),
    ],
)
def test_a_batch_that_does_not_divide_names_what_would(size, parts, shares, nearest):
    with pytest.raises(ValueError, match=f'batch_size={size} is not divided by {shares}; .*: {nearest}$'):
        parallel.check_batch('batch_size', size, 8, parts)
