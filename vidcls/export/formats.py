"""Writes a network as a file of a format. `vidcls.runtimes` opens these files.

stablehlo    made by jax.export; takes whole frames and any number of clips, on CPU, CUDA and TPU
savedmodel   made by jax2tf; takes the same as stablehlo. TensorFlow Serving takes the folder `model` as it is.
tflite       made by TensorFlow's converter; takes frames of the crop's size and a fixed number of clips
onnx         made by tf2onnx from a TFLite file; takes the same as tflite
"""

import contextlib
import logging as python_logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vidcls.errors import UserError
from vidcls.export.network import Network
from vidcls.runtimes.description import FILES

PLATFORMS = ('cpu', 'cuda', 'tpu')
_INPUT, _OUTPUT = 'frames', 'probabilities'  # names of the SavedModel's signature
_OPSET = 18  # the version of ONNX's operators
_MOST_BYTES = 2_000_000_000  # a TFLite file is one flat buffer and an ONNX file one protobuf message: both have a limit


class Format(NamedTuple):
    """How a format is written.

    Attributes:
      write: a function (network, number of clips, path) that writes the file.
      needs: the modules that writing needs beside those of the core.
      whole_frames: whether the file takes whole frames and any number of clips. Otherwise it takes frames of the crop's
        size and a fixed number of clips.
      platforms: where the file runs.
      tolerance: the largest difference from a probability of jax that is accepted.
    """

    write: Callable[[Network, int, Path], None]
    needs: tuple[str, ...]
    whole_frames: bool
    platforms: tuple[str, ...]
    tolerance: float


def stablehlo(network: Network, batch: int, path: Path) -> None:
    from jax import export

    function = network.function(whole_frames=True, which='each')
    frames = jax.ShapeDtypeStruct(export.symbolic_shape(f'b, {network.frames}, h, w, 3'), np.uint8)
    exported = export.export(jax.jit(lambda frames: function(network.variables, frames)), platforms=PLATFORMS)(frames)
    path.write_bytes(exported.serialize())


def savedmodel(network: Network, batch: int, path: Path) -> None:
    import tensorflow as tf

    module, serve = _in_tensorflow(network, None, PLATFORMS)
    tf.saved_model.save(module, str(path), signatures={'serving_default': serve})


def tflite(network: Network, batch: int, path: Path) -> None:
    import tensorflow as tf

    _check_size(network, 'tflite')
    module, serve = _in_tensorflow(network, batch, ('cpu',))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], module)
    with _explained('tflite'):
        path.write_bytes(converter.convert())


def onnx(network: Network, batch: int, path: Path) -> None:
    import tf2onnx.convert

    _check_size(network, 'onnx')
    python_logging.getLogger('tf2onnx').setLevel(python_logging.ERROR)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.') as folder:
        lite = Path(folder) / 'model.tflite'
        tflite(network, batch, lite)
        with _explained('onnx'):
            model, _ = tf2onnx.convert.from_tflite(str(lite), opset=_OPSET)
    (given,), (result,) = model.graph.input, model.graph.output
    _rename(model.graph, {given.name: _INPUT, result.name: _OUTPUT})
    path.write_bytes(model.SerializeToString())


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Renames values of an ONNX graph, such as 'serving_default_frames:0', which becomes 'frames'.

    Args:
      names: the new name for each old name.
    """
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]


def _in_tensorflow(network: Network, batch: int | None, platforms: tuple[str, ...]) -> tuple[Any, Any]:
    """A TensorFlow module that has the variables, and the module's function that becomes the serving signature.

    Args:
      batch: the number of clips that the function takes, with frames of the crop's size. None means any number of clips
        with whole frames.
    """
    import tensorflow as tf
    from jax.experimental import jax2tf

    tf.config.set_visible_devices([], 'GPU')  # otherwise TensorFlow takes all memory of the GPU
    size = None if batch is None else network.config.augment.crop_size
    shape = (batch, network.frames, size, size, 3)
    converted = jax2tf.convert(
        network.function(whole_frames=batch is None, which='xla'),
        polymorphic_shapes=[None, f'b, {network.frames}, h, w, 3' if batch is None else None],
        native_serialization_platforms=platforms,
        with_gradient=False,
    )
    module = tf.Module()
    module.weights = tf.nest.map_structure(tf.Variable, network.variables)
    module.serve = tf.function(
        lambda frames: {_OUTPUT: converted(module.weights, frames)},
        input_signature=[tf.TensorSpec(shape, tf.uint8, _INPUT)],
        autograph=False,
    )
    return module, module.serve


@contextlib.contextmanager
def _explained(format: str) -> Iterator[None]:
    """Turns any exception of a converter, which each has its own, into a UserError of one line."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f'{format} can not express this network: {reason:.500}; take another format') from error


def _check_size(network: Network, format: str) -> None:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(network.variables))
    if size > _MOST_BYTES:
        raise UserError(
            f'{format}: the network has {size:,} bytes, and a file {_MOST_BYTES:,} at most; take savedmodel'
        )


FORMATS = {
    'stablehlo': Format(stablehlo, (), True, PLATFORMS, 1e-5),
    'savedmodel': Format(savedmodel, ('tensorflow',), True, PLATFORMS, 1e-5),
    'tflite': Format(tflite, ('tensorflow', 'ai_edge_litert'), False, ('cpu',), 5e-5),
    'onnx': Format(onnx, ('tensorflow', 'tf2onnx', 'onnxruntime'), False, ('cpu',), 5e-5),
}
assert set(FORMATS) == set(FILES)
