"""Converts UCF101, a tree of class folders with avi files and the official train/test lists, to one dataset.

    python -m data_prep.ucf101 --videos DIR --splits DIR --out DIR

The folder --videos contains <Class>/v_<Class>_gGG_cCC.avi. The folder --splits contains the official
lists of ucfTrainTestlist: classInd.txt, trainlist0N.txt and testlist0N.txt.

The splits are train1, validation1, test1, and so on up to train3, validation3, test3. In each of the
three, train and validation together are the official training list. Validation is held out by group;
the clips of a group come from one recording. The 13,320 clips take about 50 GB.

Source: Soomro, Zamir and Shah, UCF101, CRCV-TR-12-01, 2012.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from absl import flags, logging

from data_prep import command, path_lists, splits
from data_prep.source import Clip, Source
from vidcls.data import tree
from vidcls.errors import UserError
from vidcls.text.names import check_label

_GROUP = re.compile(r'v_(?P<group>.+_g\d+)_c\d+$')


def read(videos: Path, lists: Path, seed: int = 0) -> Source:
    """Finds the clips that are in both the tree and the lists.

    The labels are the classes present, in the official order.

    Args:
      videos: the folder of the tree.
      lists: the folder of the lists.
      seed: the seed of the choice of groups for validation.

    Raises:
      UserError: a folder or list is missing, or no clip of the lists is in the tree.
    """
    classes = _read_classes(lists / 'classInd.txt')
    roles = _read_lists(lists, classes)
    listed = path_lists.listed_videos(videos, lists, roles)
    labels = _present_classes(classes, listed)
    label = {name: labels.index(name.split('/')[0]) for name in listed}
    group = {name: _group(name) for name in listed}
    roles = {name: roles[name] for name in listed}
    roles = splits.hold_out_validation(roles, group, label, seed)
    return Source(
        name='ucf101',
        description='UCF101, official splits 1 to 3, validation held out of training by group.',
        labels=tuple(labels),
        clips=[
            Clip(name, label[name], splits.part_name(roles[name]), (file,), group=group[name])
            for name, file in listed.items()
        ],
        splits=splits.sums_of_parts(list(roles.values())),
        grouped_by='recording',
    )


def _group(clip: str) -> str:
    """Returns the recording that a clip was cut from; '' if the name of the clip does not tell."""
    match = _GROUP.search(clip)
    return match['group'] if match else ''


def _read_classes(path: Path) -> list[str]:
    """Returns the class names in a file of 'index name' lines, in the file's order."""
    pairs = [(where, line.split(maxsplit=1)) for where, line in _lines(path)]
    for where, pair in pairs:
        if len(pair) != 2:
            raise UserError(f"{where}: {' '.join(pair)!r} is not 'index name'")
    return [check_label(name.strip(), where) for where, (_, name) in pairs]


def _read_lists(folder: Path, classes: list[str]) -> dict[str, tuple[str, ...]]:
    """Returns clip id -> the clip's roles ('train', 'test' or 'unlisted') in the official splits 1, 2, 3."""
    roles: dict[str, list[str]] = {}
    for number in range(3):
        for role, name in ((splits.TRAIN, 'train'), (splits.TEST, 'test')):
            path = folder / f'{name}list{number + 1:02d}.txt'
            for where, line in _lines(path):
                clip = line.split()[0].removesuffix('.avi')
                if clip.split('/')[0] not in classes:
                    raise UserError(f'{where}: {line!r} is of no class in classInd.txt')
                if not _group(clip):
                    raise UserError(f'{where}: {line!r} is not <Class>/v_<Class>_gGG_cCC.avi')
                roles.setdefault(clip, ['unlisted'] * 3)[number] = role
    return {clip: tuple(by_split) for clip, by_split in roles.items()}


def _present_classes(classes: list[str], ids: Iterable[str]) -> list[str]:
    """Returns the classes that have a clip, and warns of the others."""
    present = {name.split('/')[0] for name in ids}
    if len(present) < len(classes):
        absent = [name for name in classes if name not in present]
        logging.warning(
            '%d of %d classes are absent; labels are the others. Absent: %s',
            len(absent),
            len(classes),
            tree.few(absent),
        )
    return [name for name in classes if name in present]


def _lines(path: Path) -> list[tuple[str, str]]:
    return path_lists.read_lines(path, 'it is missing; --splits takes the folder of the official lists')


if __name__ == '__main__':
    _VIDEOS = flags.DEFINE_string('videos', None, 'Folder of class folders.', required=True)
    _SPLITS = flags.DEFINE_string('splits', None, 'Folder of the official lists.', required=True)
    command.main(
        lambda _, options: read(Path(_VIDEOS.value).expanduser(), Path(_SPLITS.value).expanduser(), options.seed)
    )
