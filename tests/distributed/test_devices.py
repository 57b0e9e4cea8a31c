"""Sharding and compilation on eight faked devices."""

import types

import jax
import numpy as np
import pytest

from vidcls.distributed.devices import AXIS, dividing, feed, place, pmap, replicate, shard, unreplicate, unshard


@pytest.fixture
def devices():
    assert len(jax.local_devices()) == 8
    return jax.local_devices()


def test_a_step_compiles_once(devices):
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compilations.append(name) if name.endswith('backend_compile_duration') else None
    )
    step = lambda state, batch: state + jax.lax.pmean(batch.sum(), AXIS)
    run = pmap(step, devices, donate=(0,))
    state = replicate(np.float32(1), devices)
    for batch in feed([np.arange(16, dtype=np.float32)] * 3, devices):
        state = run(state, batch)
    assert len(compilations) == 1
    # The mean over devices of the sum of two numbers each, three times.
    assert unreplicate(state) == 1 + 3 * np.arange(16).sum() / 8


def test_sharding_and_gathering_are_inverse(devices):
    batch = {'a': np.arange(16), 'b': np.arange(32).reshape(16, 2)}
    sharded = place(shard(batch, 8), devices)
    assert sharded['b'].shape == (8, 2, 2)
    for name, array in unshard(sharded).items():
        np.testing.assert_array_equal(array, batch[name])


def test_feeding_gives_every_batch_in_order(devices):
    batches = [np.full(8, number) for number in range(5)]
    assert [int(batch[0, 0]) for batch in feed(batches, devices)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ('size', 'count', 'used', 'nearest'),
    [(16, 8, 8, ''), (12, 8, 6, '8 and 16'), (10, 4, 2, '8 and 12'), (3, 8, 3, '8'), (7, 4, 1, '4 and 8')],
)
def test_a_batch_takes_the_devices_that_divide_it(devices, caplog, size, count, used, nearest):
    assert dividing(devices[:count], size) == devices[:used]
    said = (
        f'--config.batch_size={size} is not divided by {count} devices: {used} of them are used. The nearest for all: '
    )
    assert [record.getMessage() for record in caplog.records] == [said + nearest] * bool(nearest)


def test_every_process_takes_as_many_devices():
    devices = [types.SimpleNamespace(process_index=number // 4) for number in range(8)]
    assert dividing(devices, 12) == [*devices[:3], *devices[4:7]]
    assert dividing(devices, 2) == [devices[0], devices[4]]
    with pytest.raises(ValueError, match='batch_size=5 is not divided by 8 .* each of 2 processes; the nearest .*: 8$'):
        dividing(devices, 5)
