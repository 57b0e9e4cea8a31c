"""Which clips a run learns from, kept as `dataset.json` in its work directory: a resumed run must see the same ones.

The order of training is a function of the clips of its split, so that one clip more changes every batch from there on.

    {"train": {"split": "train1", "sha256": "...", "clips": "0f3a..."}, "validation": ...}

`sha256` is that of all ids and labels of the split in order; `clips` has 8 hexadecimal digits for each clip, to say what
differs. Only the splits of training and validation count; what lies in others may change.
"""

import hashlib
import json
import os

from vidcls.data.dataset import Dataset
from vidcls.errors import UserError
from vidcls.run.workdir import Run
from vidcls.text.bounded_file import read_json

FILENAME = 'dataset.json'
_DIGITS = 8
_MAX_BYTES = 256 << 20  # of 30 million clips


def check(run: Run, dataset: Dataset) -> None:
    """Refuses a dataset whose training or validation clips are not those that the run began with.

    A run that was begun before there was such a file is taken as it is.

    Raises:
      UserError: says in which split, how many clips differ, and the first of them.
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
            raise UserError(
                f'{path}: does not say what the run was trained on; remove the file to continue all the same'
            )
        raise UserError(
            f'{run.folder} was trained on other clips than {dataset.name} in {dataset.folder} has; '
            f'{_difference(split, before["clips"], now["clips"], ids)}. Continue with the dataset as it was, or give another '
            '--workdir'
        )


def save(run: Run, dataset: Dataset) -> None:
    """Writes `dataset.json`, whole or not at all."""
    path = run.folder / FILENAME
    partial = path.with_name(f'.{FILENAME}.partial')
    partial.write_text(json.dumps({name: _describe(dataset, split) for name, split in _splits(run).items()}) + '\n')
    os.replace(partial, path)


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
    before, now = ([text[i : i + _DIGITS] for i in range(0, len(text), _DIGITS)] for text in (before, now))
    known = set(before)
    new = [name for name, clip in zip(ids, now, strict=True) if clip not in known]
    gone = len(known - set(now))
    if not new and not gone:
        return f'{split} has the same {len(now)} in another order'
    first = f', the first {new[0]!r}' if new else ''
    return f'{split} had {len(before)} and has {len(now)}: {len(new)} are new or have another label{first}, {gone} are gone'
