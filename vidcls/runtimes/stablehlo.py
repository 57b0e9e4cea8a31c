"""Opens a StableHLO program with jax, which compiles the program anew for each size of the input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vidcls.errors import UserError

# The functions that an exported program calls although they are no operations of StableHLO. They are part of XLA.
CALLS = frozenset({'Sharding', 'shape_assertion'})


def open_program(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function frames uint8[b t h w c] -> probabilities float32[b k] of a StableHLO file.

    Raises:
      UserError: the program calls functions that are not in `CALLS`.
    """
    import jax
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))
    check_calls(path, exported.mlir_module_serialized)
    call = jax.jit(exported.call)
    return lambda frames: np.asarray(call(frames))


def check_calls(path: Path, module: bytes) -> None:
    """Raises UserError if a serialised StableHLO module calls functions, by name, that are not in `CALLS`."""
    from jax.extend.mlir import ir
    from jax.extend.mlir.dialects import stablehlo

    found = set()

    def note(operation: Any) -> Any:
        if operation.name == 'stablehlo.custom_call':
            found.add(ir.StringAttr(operation.attributes['call_target_name']).value)
        return ir.WalkResult.ADVANCE

    with ir.Context() as context:
        stablehlo.register_dialect(context)
        stablehlo.deserialize_portable_artifact(context, module).operation.walk(note)
    if foreign := found - CALLS:
        raise UserError(f'{path}: calls {min(foreign)!r:.80}, which is no part of StableHLO; it was not run')
