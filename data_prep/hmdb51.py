"""Converts HMDB51, a tree of class folders with avi files and the official split files, to one dataset.

    python -m data_prep.hmdb51 --videos DIR --splits DIR --out DIR [--protocol=official|random]

The folder --videos contains <class>/*.avi. The folder --splits contains the official lists
<class>_test_split<N>.txt, with lines such as 'name.avi 1': 1 is training, 2 is test, 0 is unused.

The splits are train1, validation1, test1, and so on up to train3, validation3, test3. In each of
the three, train and validation together are the official training list of 3,570 clips. Validation
is held out by source film, over all classes. The name of a clip begins with its film and its class.

--protocol=random divides all 6,766 clips at random, 80/10/10 of each class, into train, validation
and test. Clips of one film are then in several splits. The scores are therefore higher than on the
official splits, and can't be compared with published scores.

Source: Kuehne et al., HMDB: A Large Video Database for Human Motion Recognition, ICCV 2011.
"""

import re
from pathlib import Path

from absl import flags

from data_prep import command, path_lists, splits
from data_prep.source import Clip, Source
from vidcls.errors import UserError
from vidcls.text.names import check_label

_ROLES = {'0': 'unused', '1': splits.TRAIN, '2': splits.TEST}
# What a clip's name has after the class: body part, camera, number of people, direction, quality, number of the clip.
_ATTRIBUTES = re.compile(r'_[a-z]_(nm|cm)_np\d+_[a-z]+_[a-z]+_\d+$')
PROTOCOLS = ('official', 'random')


def read(videos: Path, lists: Path, protocol: str = 'official', seed: int = 0) -> Source:
    """Finds the clips that are in both the tree and the lists. The labels are the classes present, sorted.

    Args:
      videos: the folder of the tree.
      lists: the folder of the lists.
      protocol: one of `PROTOCOLS`.
      seed: the seed of the random splits, or of the choice of groups for validation.

    Raises:
      UserError: a list is missing or malformed, or no clip of the lists is in the tree.
    """
    roles = _read_lists(lists)
    listed = path_lists.listed_videos(videos, lists, roles)
    labels = sorted({name.split('/')[0] for name in listed})
    label = {name: labels.index(name.split('/')[0]) for name in listed}
    if protocol == 'random':
        parts = splits.random_parts(label, seed)
        sums = {part: [part] for part in (splits.TRAIN, splits.VALIDATION, splits.TEST)}
        description = 'HMDB51, the random split of 80/10/10 of each class.'
    else:
        used = {name: roles[name] for name in listed if set(roles[name]) != {'unused'}}
        used = splits.hold_out_validation(used, {n: film(n) for n in used}, label, seed)
        parts = {name: splits.part_name(by_split) for name, by_split in used.items()}
        sums = splits.sums_of_parts(list(used.values()))
        description = 'HMDB51, official splits 1 to 3, validation held out of training by film.'
    return Source(
        name='hmdb51' if protocol == 'official' else 'hmdb51_random',
        description=description,
        labels=tuple(labels),
        clips=[Clip(name, label[name], part, (listed[name],), group=film(name)) for name, part in parts.items()],
        splits=sums,
        grouped_by='film',
    )


def film(clip: str) -> str:
    """Returns the film that a clip was cut from: 'climb/Free_Solo_climb_f_cm_np1_le_med_2' -> 'Free_Solo'."""
    label, name = clip.split('/')
    if f'_{label}_' in name:
        return name.rsplit(f'_{label}_', 1)[0]
    return _ATTRIBUTES.sub('', name)


def _read_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Returns clip id -> the clip's roles ('train', 'test' or 'unused') in the official splits 1, 2, 3."""
    roles: dict[str, list[str]] = {}
    for number in range(3):
        suffix = f'_test_split{number + 1}.txt'
        paths = sorted(folder.glob(f'*{suffix}'))
        if not paths:
            raise UserError(f'{folder}: no <class>{suffix}; --splits takes the official folder')
        for path in paths:
            label = check_label(path.name.removesuffix(suffix), str(path))
            for where, line in path_lists.read_lines(path):
                name, _, code = line.strip().rpartition(' ')
                if code not in _ROLES:
                    raise UserError(f'{where}: {line!r} does not end in 0, 1 or 2')
                clip = f'{label}/{name.strip().removesuffix(".avi")}'
                roles.setdefault(clip, ['unused'] * 3)[number] = _ROLES[code]
    return {clip: tuple(by_split) for clip, by_split in roles.items()}


if __name__ == '__main__':
    _VIDEOS = flags.DEFINE_string('videos', None, 'Folder of class folders.', required=True)
    _SPLITS = flags.DEFINE_string('splits', None, 'Folder of the official lists.', required=True)
    _PROTOCOL = flags.DEFINE_enum('protocol', PROTOCOLS[0], PROTOCOLS, 'Which splits.')
    command.main(
        lambda _, options: read(
            Path(_VIDEOS.value).expanduser(), Path(_SPLITS.value).expanduser(), _PROTOCOL.value, options.seed
        )
    )
