"""The only place that knows about devices: pmap over the local devices of every host.

`devices` are those of all hosts, the same list on each. A sharded array has a leading axis of the local ones; a
replicated tree too, the same values on each device. The step functions are written for one device and average over
`AXIS`, which goes over all.
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
    """The devices of all hosts, host by host.

    Raises:
      UserError: one host has more than another, so that a batch can't be shared evenly.
    """
    devices = sorted(jax.devices(), key=lambda device: device.process_index)
    counts = collections.Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        raise UserError(f'every host must have as many devices; they have {", ".join(map(str, counts.values()))}')
    return devices


def local_devices(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Those of this host."""
    return [device for device in devices if device.process_index == jax.process_index()]


def dividing(devices: Sequence[jax.Device], batch_size: int) -> list[jax.Device]:
    """As many of the devices as divide the batch into equal shares, the same number of every host's; warns of idle ones.

    Raises:
      UserError: there are more hosts than clips, or no number of devices divides the batch.
    """
    hosts = collections.defaultdict(list)
    for device in devices:
        hosts[device.process_index].append(device)
    each = min(map(len, hosts.values()))
    used = next((n for n in range(each, 0, -1) if batch_size % (n * len(hosts)) == 0), 0)
    step = len(devices)
    nearest = ' and '.join(str(size) for size in (batch_size // step * step, (batch_size // step + 1) * step) if size)
    said = f'--config.batch_size={batch_size} is not divided by {len(devices)} devices'
    if not used:
        raise UserError(f'{said}, nor by fewer on each of {len(hosts)} hosts; the nearest that are: {nearest}')
    if used < each and jax.process_index() == 0:
        logging.warning('%s: %d of them are used. The nearest for all: %s', said, used * len(hosts), nearest)
    return [device for local in hosts.values() for device in local[:used]]


def pmap(function: Callable, devices: Sequence[jax.Device], donate: tuple[int, ...] = ()) -> Callable:
    """`function` on every device; each argument has a leading device axis, those in `donate` are given up."""
    return jax.pmap(function, axis_name=AXIS, devices=devices, donate_argnums=donate)


def place(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Arrays with a leading axis of local devices, on these, sharded as the outputs of `pmap` are.

    Any other sharding that means the same would make a step compile twice: for its first input, and for its own output.
    """
    return jax.device_put(tree, NamedSharding(Mesh(np.array(local_devices(devices)), (AXIS,)), PartitionSpec(AXIS)))


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """The same values on every device."""
    count = len(local_devices(devices))
    return place(jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), tree), devices)


def unreplicate(tree: Any) -> Any:
    """A copy in numpy of the first local device's values (`x[0]` would gather the whole array)."""
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data)[0], tree)


def shard(batch: Any, num_devices: int) -> Any:
    """Splits the leading axis of each array: [b ...] -> [devices, b / devices, ...]."""
    return jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)


def unshard(tree: Any) -> Any:
    """Undoes `shard` for a step's outputs on this host, as numpy."""
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)


def feed(batches: Iterable[Any], devices: Sequence[jax.Device]) -> Iterator[Any]:
    """This host's batches, sharded, on its devices, one ahead of the step that uses them."""
    ahead = collections.deque()
    for batch in batches:
        ahead.append(place(shard(batch, len(local_devices(devices))), devices))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead
