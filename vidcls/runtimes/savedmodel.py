"""Opens a SavedModel with TensorFlow, which compiles the StableHLO program in it anew for each size of the input.

A SavedModel is a graph of TensorFlow's operations. Some of these operations read and write files or call Python, and
loading may run them. An exported SavedModel only has a program of StableHLO, its variables, and the operations that
save and restore the variables. So a SavedModel with any other operation is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vidcls.errors import UserError
from vidcls.runtimes.stablehlo import check_calls

# The operations of the function that is called.
COMPUTING = frozenset((
    'Const', 'Identity', 'NoOp', 'PartitionedCall', 'Placeholder', 'PreventGradient', 'ReadVariableOp', 'StatefulPartitionedCall',
    'XlaCallModule',
))  # fmt: skip
# The operations of the whole file. TensorFlow adds functions that save to every SavedModel; neither loading nor serving
# calls them.
KNOWN = COMPUTING | {
    'AssignVariableOp', 'MergeV2Checkpoints', 'Pack', 'RestoreV2', 'SaveV2', 'Select', 'ShardedFilename',
    'StaticRegexFullMatch', 'StringJoin', 'VarHandleOp', 'DisableCopyOnRead',
}  # fmt: skip
# The kinds of objects that run nothing when they are loaded.
OBJECTS = frozenset({'bare_concrete_function', 'constant', 'function', 'user_object', 'variable'})


def open_program(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function frames uint8[b t h w c] -> probabilities float32[b k] of a SavedModel.

    Raises:
      UserError: the SavedModel has operations or objects that no export has.
    """
    import tensorflow as tf

    _check_file(path)
    tf.config.set_visible_devices([], 'GPU')  # otherwise TensorFlow takes all memory of the GPU
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures['serving_default']
    _check(path, serve.graph.as_graph_def(), COMPUTING)

    def run(frames: np.ndarray) -> np.ndarray:
        assert loaded  # keeps `loaded` alive, and with it the variables
        return serve(frames=tf.constant(frames))['probabilities'].numpy()

    return run


def _check_file(path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((path / 'saved_model.pb').read_bytes())
    for graph in saved.meta_graphs:
        _check(path, graph.graph_def, KNOWN)
        kinds = {node.WhichOneof('kind') for node in graph.object_graph_def.nodes}
        # TensorFlow takes a SavedModel without objects for one of TensorFlow 1, and loading such a SavedModel runs
        # operations.
        if foreign := kinds - OBJECTS or ({'no objects'} if not kinds else set()):
            raise UserError(f'{path}: has {min(map(str, foreign))!r:.80}, which no export has; it was not loaded')


def _check(path: Path, graph: Any, known: frozenset[str]) -> None:
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    for node in nodes:
        if node.op not in known:
            raise UserError(f'{path}: has the operation {node.op!r:.80}, which no export has; it was not run')
        if node.op == 'XlaCallModule':
            check_calls(path, node.attr['module'].s)
