"""Opens an exported file with the library of its format.

An exported file is a program, and may come from elsewhere. It may compute what it likes, but do nothing else:
`stablehlo` and `savedmodel` refuse operations that reach out of the program. LiteRT and onnxruntime have no such
operations.
"""

import dataclasses
import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vidcls.errors import UserError
from vidcls.runtimes import description, savedmodel, stablehlo
from vidcls.runtimes.description import FILES, Description

Program = Callable[[np.ndarray], np.ndarray]  # frames uint8[b t h w c] -> probabilities float32[b k]
INSTALL = "pip install 'vidcls[export]'"


@dataclasses.dataclass(frozen=True)
class Exported:
    """The program of an exported folder, for any number of clips.

    Attributes:
      description: the description of the folder.
      program: the program itself, which takes as many clips as the description says.
    """

    description: Description
    program: Program

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """The probabilities float32[b k] of frames uint8[b t h w c].

        If the program takes a fixed number of clips, the last clip is repeated to fill this number.
        """
        batch = self.description.input[0]
        if batch is None:
            return self.program(frames)
        padded = np.concatenate([frames, frames[-1:].repeat(-len(frames) % batch, axis=0)])
        parts = [self.program(padded[first : first + batch]) for first in range(0, len(padded), batch)]
        return np.concatenate(parts)[: len(frames)]


def open_exported(folder: Path) -> Exported:
    """Opens an exported folder. The result takes any number of clips.

    Raises:
      UserError, OSError: as for `description.read` and `open_program`.
    """
    described = description.read(folder)
    return Exported(described, open_program(folder, described.format))


def open_program(folder: Path, format: str) -> Program:
    """Opens the file of an exported folder, and returns its program. Several threads may share the program.

    Raises:
      UserError: the library is missing, it can't open the file, or the program does more than compute.
    """
    needed, opener = RUNTIMES[format]
    check_installed(format, needed)
    path = folder / FILES[format]
    try:
        return opener(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each library has its own errors for a broken file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f'{path}: {needed} cannot open it ({reason:.300}); export again') from error


def check_installed(format: str, *modules: str) -> None:
    """Checks that the modules that a format needs are installed.

    Raises:
      UserError: a module is missing; the message says how to get it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'{format} needs {" and ".join(missing)}: {INSTALL}')


def _tflite(path: Path) -> Program:
    from ai_edge_litert.interpreter import Interpreter

    threads = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    one_at_a_time = threading.Lock()

    def run(frames: np.ndarray) -> np.ndarray:
        with one_at_a_time:
            interpreter.set_tensor(taken['index'], frames)
            interpreter.invoke()
            return interpreter.get_tensor(given['index'])

    return run


def _onnx(path: Path) -> Program:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    (taken,) = session.get_inputs()
    return lambda frames: session.run(None, {taken.name: frames})[0]


# For each format the module that is needed, and the function that opens a file with this module.
RUNTIMES: dict[str, tuple[str, Callable[[Path], Program]]] = {
    'stablehlo': ('jax', stablehlo.open_program),
    'savedmodel': ('tensorflow', savedmodel.open_program),
    'tflite': ('ai_edge_litert', _tflite),
    'onnx': ('onnxruntime', _onnx),
}
