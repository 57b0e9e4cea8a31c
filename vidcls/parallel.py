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


def local(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Those of this host."""
    return [device for device in devices if device.process_index == jax.process_index()]


def check_batch(name: str, batch_size: int, num_devices: int, parts: int = 1) -> None:
    """Refuses a batch that the devices, and the parts each works through, do not divide.

    Raises:
      UserError: names the numbers and the nearest sizes that work.
    """
    shares = num_devices * parts
    if batch_size % shares:
        below = batch_size // shares * shares
        valid = [size for size in (below, below + shares) if size]
        divisor = f'{num_devices} devices' + (f' of {parts} parts each' if parts > 1 else '')
        remedy = f', or another --config.optim.accumulation than {parts}' if parts > 1 else ''
        nearest = ' and '.join(map(str, valid))
        raise UserError(f'{name}={batch_size} is not divided by {divisor}; the nearest that are: {nearest}{remedy}')


def pmap(function: Callable, devices: Sequence[jax.Device], donate: tuple[int, ...] = ()) -> Callable:
    """`function` on every device; each argument has a leading device axis, those in `donate` are given up."""
    return jax.pmap(function, axis_name=AXIS, devices=devices, donate_argnums=donate)


def place(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Arrays with a leading axis of local devices, on these, sharded as the outputs of `pmap` are.

    Any other sharding that means the same would make a step compile twice: for its first input, and for its own output.
    """
    return jax.device_put(tree, NamedSharding(Mesh(np.array(local(devices)), (AXIS,)), PartitionSpec(AXIS)))


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """The same values on every device."""
    count = len(local(devices))
    return place(jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), tree), devices)


def unreplicate(tree: Any) -> Any:
    """A copy in numpy of the first local device's values (`x[0]` would gather the whole array)."""
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data)[0], tree)


def shard(batch: Any, num_devices: int) -> Any:
    """Splits the leading axis of each array: [b ...] -> [devices, b / devices, ...]."""
    return jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)


def gather(tree: Any) -> Any:
    """Undoes `shard` for a step's outputs on this host, as numpy."""
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)


def feed(batches: Iterable[Any], devices: Sequence[jax.Device]) -> Iterator[Any]:
    """This host's batches, sharded, on its devices, one ahead of the step that uses them."""
    ahead = collections.deque()
    for batch in batches:
        ahead.append(place(shard(batch, len(local(devices))), devices))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead
