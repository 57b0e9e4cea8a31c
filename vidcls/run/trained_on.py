"""Records the clips that a run is trained and validated on, in `dataset.json` of its work directory.

A run can only resume on the same clips: the order of training is a function of the clips of the split, so that one more
clip would change every batch. Other splits of the dataset may change.

    {"train": {"split": "train1", "sha256": "...", "clips": "0f3a..."}, "validation": ...}

`sha256` is the digest of all ids and labels of the split, in order. `clips` has 8 hexadecimal digits for each clip, so
that a message can say which clips differ.
"""

import hashlib
import json

from vidcls.data.dataset import Dataset
from vidcls.errors import UserError
from vidcls.run.workdir import Run
from vidcls.text import whole_file
from vidcls.text.bounded_file import read_json

FILENAME = 'dataset.json'
_DIGITS = 8
_MAX_BYTES = 256 << 20  # enough for 30 million clips


def check(run: Run, dataset: Dataset) -> None:
    """Checks that the clips for training and validation are the same as when the run began.

    A run of an older version, which has no `dataset.json`, is not checked.

    Raises:
      UserError: the clips differ; the message says in which split, how many differ, and which is the first.
    """
    path = run.folder / FILENAME
    if not path.exists():
        return
    kept = read_json(path, _MAX_BYTES)
    for name, split in _splits(run).items():
        before, ids, now = kept.get(name), _ids(dataset, split), _describe(dataset, split)
        if before == now:
            continue
        if not isinstance(before, dict) or not isinstance(before.get('clips'), str):
            raise UserError(f'{path}: does not say what the run was trained on; remove the file to resume all the same')
        raise UserError(
            f'{run.folder} was trained on other clips than {dataset.name} in {dataset.folder} has; '
            f'{_difference(split, before["clips"], now["clips"], ids)}. Resume with the dataset as it was, or give another '
            '--workdir'
        )


def save(run: Run, dataset: Dataset) -> None:
    """Writes `dataset.json`, whole or not at all."""
    splits = {name: _describe(dataset, split) for name, split in _splits(run).items()}
    whole_file.write_text(run.folder / FILENAME, json.dumps(splits) + '\n')


def _splits(run: Run) -> dict[str, str]:
    data = run.config.data
    return {'train': data.train_split} | ({'validation': data.validation_split} if data.validation_split else {})


def _ids(dataset: Dataset, split: str) -> list[str]:
    return dataset.index.ids[dataset.clips(split)].tolist()


def _describe(dataset: Dataset, split: str) -> dict[str, str]:
    labels = dataset.index.labels[dataset.clips(split)].tolist()
    clips = [json.dumps([name, label]).encode() for name, label in zip(_ids(dataset, split), labels, strict=True)]
    return {
        'split': split,
        'sha256': hashlib.sha256(b'\n'.join(clips)).hexdigest(),
        'clips': ''.join(hashlib.sha256(clip).hexdigest()[:_DIGITS] for clip in clips),
    }


def _difference(split: str, before: str, now: str, ids: list[str]) -> str:
    """Says in words how the clips of a split differ.

    Args:
      before, now: the value `clips` in `dataset.json`, and its present value.
      ids: the ids of the present clips.
    """
    old, current = ([text[i : i + _DIGITS] for i in range(0, len(text), _DIGITS)] for text in (before, now))
    known = set(old)
    new = [name for name, clip in zip(ids, current, strict=True) if clip not in known]
    gone = len(known - set(current))
    if not new and not gone:
        return f'{split} has the same {len(current)} in another order'
    first = f', the first {new[0]!r}' if new else ''
    return f'{split} had {len(old)} and has {len(current)}: {len(new)} are new or have another label{first}, {gone} are gone'
