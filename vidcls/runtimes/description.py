"""`export.json` of an exported folder: which file the network is, which frames it takes, and which checkpoint it was.

The folder also has the files `config.json`, `labels.txt` and `frames.json` of a work directory, so that
`vidcls.run.workdir` can open it. A folder with an `export.json` is an exported folder.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from vidcls.errors import UserError
from vidcls.text import whole_file
from vidcls.text.bounded_file import check_regular, read_json

FILENAME = 'export.json'
# For each format the file, or the folder with the files, of the network.
FILES = {'stablehlo': 'model.stablehlo', 'savedmodel': 'model/1', 'tflite': 'model.tflite', 'onnx': 'model.onnx'}
_MOST_BYTES = 1 << 20
_MOST_SIZE = 1 << 31  # axes and numbers of classes must be smaller


@dataclasses.dataclass(frozen=True)
class Description:
    """What an exported file takes and gives, and where it comes from.

    Attributes:
      format: a key of `FILES`.
      input: the shape b t h w c of the frames uint8, where None means any number. The t frames are those of all views
        in time of a clip.
      classes: the number of classes, k; the file gives probabilities float32[b k].
      platforms: where the file runs, such as 'cpu'.
      files: the SHA-256 of each file of the network, by the file's name.
      checkpoint: the step of the checkpoint, and the SHA-256 of its model (`vidcls.run.checkpoint.digest`).
      difference: the largest difference from a probability of jax that was seen when the file was written.
      versions: the versions of vidcls, jax and the libraries that wrote the file.
    """

    format: str
    input: tuple[int | None, ...]
    classes: int
    platforms: tuple[str, ...]
    files: dict[str, str]
    checkpoint: dict[str, Any]
    difference: float
    versions: dict[str, str]

    @property
    def whole_frames(self) -> bool:
        """Whether the file takes frames of any size and crops and resizes them. Otherwise it takes the crop's size."""
        return self.input[2] is None


def is_exported(folder: Path) -> bool:
    return (folder / FILENAME).exists()


def write(description: Description, folder: Path) -> None:
    whole_file.write_text(folder / FILENAME, json.dumps(dataclasses.asdict(description), indent=2) + '\n')


def read(folder: Path) -> Description:
    """Reads the description of an exported folder, and checks that the network's files are those that were exported.

    Raises:
      UserError: the description is not as `write` writes it, or a file has changed since it was exported.
      OSError: a file is missing or can't be read.
    """
    path = folder / FILENAME
    values = read_json(path, _MOST_BYTES)
    names = [field.name for field in dataclasses.fields(Description)]
    if sorted(values) != sorted(names):
        raise UserError(f'{path}: must have {", ".join(names)} and nothing else; export again')
    axes, classes, platforms = values['input'], values['classes'], values['platforms']
    if not isinstance(values['format'], str) or values['format'] not in FILES:
        raise UserError(f'{path}: format={values["format"]!r:.80}: must be one of {", ".join(FILES)}')
    if not isinstance(axes, list) or len(axes) != 5 or not all(axis is None or _is_size(axis) for axis in axes):
        raise UserError(f'{path}: input={axes!r:.80}: must be five numbers, or null for any')
    if not _is_size(classes) or not isinstance(platforms, list):
        raise UserError(f'{path}: must have a number of classes and a list of platforms; export again')
    if digests(folder, values['format']) != values['files']:
        raise UserError(f'{folder}: the files of the model are not those that were exported; copy the folder again')
    return Description(**values | {'input': tuple(axes), 'platforms': tuple(platforms)})


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < _MOST_SIZE


def digests(folder: Path, format: str) -> dict[str, str]:
    """The SHA-256 of each file of the network, by the file's name.

    Raises:
      UserError: a file is a link that leads elsewhere, a device or a pipe.
    """
    model = folder / FILES[format]
    found = {}
    for path in sorted(model.rglob('*')) if model.is_dir() else [model]:
        if path.is_dir() and not path.is_symlink():
            continue
        check_regular(path)
        with path.open('rb') as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, 'sha256').hexdigest()
    return found
