"""The devices of all processes, and pmap over them. No other module decides where a step runs.

The argument `devices` lists the devices of all processes; the list is the same in each process. Sharded and replicated
arrays have a leading axis of the process's own (local) devices. A step function is written for one device, and averages
over `AXIS`, the axis of all devices.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidcls.errors import UserError

AXIS = 'devices'


def all_devices() -> list[jax.Device]:
    """Returns the devices of all processes, in the order of the processes.

    Raises:
      UserError: the processes have different numbers of devices, so that their shares of a batch would differ.
    """
    devices = sorted(jax.devices(), key=lambda device: device.process_index)
    counts = collections.Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        raise UserError(f'every process must have as many devices; they have {", ".join(map(str, counts.values()))}')
    return devices


def local_devices(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Returns the devices that belong to this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def dividing(devices: Sequence[jax.Device], batch_size: int) -> list[jax.Device]:
    """Returns as many devices as can have equal shares of the global batch, the same number from each process.

    Warns of devices that stay idle.

    Raises:
      UserError: there are more processes than clips, or no number of devices divides the global batch.
    """
    by_process = collections.defaultdict(list)
    for device in devices:
        by_process[device.process_index].append(device)
    each = min(map(len, by_process.values()))
    used = next((n for n in range(each, 0, -1) if batch_size % (n * len(by_process)) == 0), 0)
    step = len(devices)
    nearest = ' and '.join(str(size) for size in (batch_size // step * step, (batch_size // step + 1) * step) if size)
    said = f'--config.batch_size={batch_size} is not divided by {len(devices)} devices'
    if not used:
        raise UserError(f'{said}, nor by fewer on each of {len(by_process)} processes; the nearest that are: {nearest}')
    if used < each and jax.process_index() == 0:
        logging.warning('%s: %d of them are used. The nearest for all: %s', said, used * len(by_process), nearest)
    return [device for local in by_process.values() for device in local[:used]]


def pmap(function: Callable, devices: Sequence[jax.Device], donate: tuple[int, ...] = ()) -> Callable:
    """Returns a function that runs `function` on every device. All arguments have a leading axis of local devices.

    Args:
      donate: the positions of arguments whose memory the outputs may take. The caller must not use these arguments
        again.
    """
    return jax.pmap(function, axis_name=AXIS, devices=devices, donate_argnums=donate)


def place(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Puts arrays with a leading axis of local devices on these devices, sharded as the outputs of `pmap` are.

    With a sharding that is equivalent but of another form, a step would be compiled twice: for its first input and
    again for its own output.
    """
    return jax.device_put(tree, NamedSharding(Mesh(np.array(local_devices(devices)), (AXIS,)), PartitionSpec(AXIS)))


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Puts a copy of the values on every local device: [...] -> [devices ...]."""
    count = len(local_devices(devices))
    return place(jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), tree), devices)


def unreplicate(tree: Any) -> Any:
    """Returns the values on the first local device as numpy arrays.

    `x[0]` would first gather the values of all devices.
    """
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data)[0], tree)


def shard(batch: Any, num_devices: int) -> Any:
    """Splits the leading axis of each array: [(devices b) ...] -> [devices b ...]."""
    return jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)


def unshard(tree: Any) -> Any:
    """Undoes `shard` for the outputs of a step on the local devices: [devices b ...] -> [(devices b) ...], in numpy."""
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)


def feed(batches: Iterable[Any], devices: Sequence[jax.Device]) -> Iterator[Any]:
    """Shards this process's batches and puts them on its devices, one batch ahead of the step that uses them."""
    ahead: collections.deque[Any] = collections.deque()
    for batch in batches:
        ahead.append(place(shard(batch, len(local_devices(devices))), devices))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead
