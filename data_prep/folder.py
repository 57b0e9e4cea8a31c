"""Converts a folder of your own clips to a dataset with the splits train, validation and test.

    python -m data_prep.folder --videos DIR --out DIR [--name=NAME]

DIR is one of
  - class folders of videos: DIR/<class>/**/clip.mp4;
  - split folders of class folders: DIR/train/<class>/..., DIR/validation/..., DIR/test/...;
  - either of these with a folder of frame images (jpg, png...) in place of each video. Frames are
    in natural order (2 before 10). Their rate is --fps, or 25 a second if --fps is not given;
  - any folder, with list files of 'path label' lines. A path is relative to DIR; it leads to a video,
    whose ending may be left out, or to a folder of frames. A label is a name or a number.
    `--list=FILE` lists all clips; `--list=train=FILE --list=test=FILE` list the clips of one split
    each. --classes names a class file, of 'name' or 'number name' lines, in which labels are looked
    up.

If neither folders nor lists give the splits, each class is divided at random (--seed): 80/10/10 into train, validation
and test, or by other fractions, such as --split=0.7,0.15,0.15. Clips that were cut from one recording may then be in
several splits, which makes the scores too good. Give the splits of such clips by folders or lists.

To add clips later, put them into DIR (and into the lists, if there are any) and convert again with --overwrite. Splits
that folders or lists give stay as they are, and so does the random split of a class that did not change. In a class that
grew, a few older clips change their split too. A network that was trained before may then have seen clips that are now
for testing: train anew, or give the splits.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags, logging

from data_prep import command, published_flow, splits
from data_prep.path_lists import Entry, read_lists
from data_prep.source import Clip, Source, clip_ids
from vidcls.data import tree
from vidcls.data.video import SUFFIXES
from vidcls.errors import UserError
from vidcls.text.names import check_label, readable

_ADDING = (
    'To add clips later, put them into --videos (and into the lists, if there are any) and run the same command with '
    '--overwrite. Splits that folders or lists give stay as they are; the random split of a class that grew moves a few of '
    'its older clips too.'
)
_SPLIT_FOLDERS = {
    'train': splits.TRAIN,
    'validation': splits.VALIDATION,
    'valid': splits.VALIDATION,
    'val': splits.VALIDATION,
    'test': splits.TEST,
}


def read(
    videos: Path,
    name: str = '',
    lists: Mapping[str, Path] | None = None,
    classes: Path | None = None,
    seed: int = 0,
    fractions: splits.Fractions | None = None,
) -> Source:
    """Finds the clips of a folder, with their labels and splits.

    Args:
      videos: the folder.
      name: the name of the dataset; '' for a name made from the folder's name.
      lists: split -> list file. The split '' stands for a list of all clips.
      classes: the class file in which the labels of `lists` are looked up.
      seed: the seed of the random splits.
      fractions: the fractions of train, validation and test in random splits; None for 80/10/10.

    Raises:
      UserError: there are no clips in a known form, lists contradict each other, a class name is not one printable line,
        a folder or list can't be read, or `fractions` are given for clips that already have splits.
    """
    videos = videos.expanduser().absolute()
    if not videos.is_dir():
        raise UserError(f'{videos}: no such folder')
    if lists:
        entries, labels = read_lists(videos, lists, classes)
    else:
        entries = _walk(videos)
        labels = sorted({entry.label for entry in entries})
    ids = clip_ids([entry.path for entry in entries], videos)
    label = {id: labels.index(entry.label) for id, entry in zip(ids, entries)}
    given = {id: entry.split for id, entry in zip(ids, entries)}
    if all(given.values()):
        if fractions:
            raise UserError('--split is for clips without splits; these have theirs from their folders or lists')
        parts, how = given, 'with the splits given'
    else:
        fractions = fractions or splits.DEFAULT
        parts = splits.random_parts(label, seed, fractions)
        how = f'split {"/".join(f"{100 * float(f):g}" for f in fractions)} by class'
    return Source(
        name=name or _name(videos),
        description=f'Clips of {readable(videos.name)}, {how}.',
        labels=tuple(labels),
        clips=[_clip(id, label[id], parts[id], entry.path) for id, entry in zip(ids, entries)],
        splits={part: [part] for part in _SPLIT_FOLDERS.values()},
    )


def _walk(videos: Path) -> list[Entry]:
    """Finds the clips in class folders, or in class folders inside split folders."""
    folders, loose = tree.subfolders(videos), tree.files(videos, SUFFIXES)
    named = [folder.name for folder in folders if folder.name.lower() in _SPLIT_FOLDERS]
    if folders and len(named) == len(folders):
        class_folders = [
            (folder, _SPLIT_FOLDERS[parent.name.lower()]) for parent in folders for folder in tree.subfolders(parent)
        ]
        loose += [file for parent in folders for file in tree.files(parent, SUFFIXES)]
    else:
        class_folders = [(folder, '') for folder in folders]
        if named:
            logging.warning(
                '%s: taken for classes, not for splits, since other folders lie beside; with train, validation and test '
                'alone they would be splits',
                ', '.join(named),
            )
    entries, left_out = [], []
    for folder, split in class_folders:
        check_label(folder.name, str(folder))
        found = tree.search(folder)
        if folder in found.clips:
            raise UserError(f'{readable(str(folder))}: images in a class folder; give the frames of each clip a folder')
        if not found.clips:
            logging.warning('%s: no clips; the folder is left out', readable(str(folder)))
        entries += [Entry(path, folder.name, split) for path in found.clips]
        left_out += found.left_out
    if not entries:
        raise UserError(f'{readable(str(videos))}: no videos in class folders (DIR/<class>/clip.mp4)')
    if loose:
        logging.warning(
            'left out, since they lie in no class folder: %d videos, %s', len(loose), tree.some(loose, videos)
        )
    if left_out:
        logging.warning(
            'left out, since they are no videos by their ending or kind: %d files (%s), %s',
            len(left_out), tree.describe(left_out), tree.some(left_out, videos),
        )  # fmt: skip
    return entries


def _clip(id: str, label: int, part: str, path: Path) -> Clip:
    """Makes a clip of a video, or of a folder of frames."""
    images = sorted(tree.files(path, tree.IMAGE_SUFFIXES), key=_natural) if path.is_dir() else []
    frames = [image for image in images if not published_flow.is_flow(image)] or images
    return Clip(id, label, part, tuple(frames) or (path,), is_images=bool(frames))


def _natural(path: Path) -> list[str | int]:
    """Returns a sorting key that puts frame2 before frame10."""
    pieces = re.split(r'(\d+)', path.name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]


def _name(folder: Path) -> str:
    """Makes a dataset's name, of lower-case letters, digits and underscores, from a folder's name."""
    name = re.sub(r'[^a-z0-9]+', '_', readable(folder.name).lower()).strip('_')
    return name if name[:1].isalpha() else f'videos_{name}'.rstrip('_')


def parse_lists(values: Sequence[str]) -> dict[str, Path]:
    """Parses the values of --list: 'train=FILE' -> {'train': FILE}; 'FILE' -> {'': FILE}.

    Raises:
      UserError: a split is unknown, only some of the files have a split, or two files have the same split.
    """
    lists: dict[str, Path] = {}
    for value in values:
        split, _, path = value.rpartition('=') if not Path(value).exists() else ('', '', value)
        split = _SPLIT_FOLDERS.get(split, '?') if split else ''
        if split == '?' or split in lists or (lists and '' in (split, *lists)):
            raise UserError(f'--list={value}: give one FILE, or train=FILE, validation=FILE, test=FILE')
        lists[split] = Path(path).expanduser()
    return lists


if __name__ == '__main__':
    _VIDEOS = flags.DEFINE_string('videos', None, 'The folder of clips.', required=True)
    _NAME = flags.DEFINE_string('name', '', "The dataset's name; the folder's if not given.")
    _LIST = flags.DEFINE_multi_string('list', [], "FILE or SPLIT=FILE of 'path label' lines.")
    _CLASSES = flags.DEFINE_string('classes', '', 'Class file that the labels of --list refer to.')
    _SPLIT = flags.DEFINE_string('split', '', 'Fractions of train,validation,test in random splits: 0.7,0.15,0.15.')
    command.main(
        lambda _, options: read(
            Path(_VIDEOS.value),
            _NAME.value,
            parse_lists(_LIST.value),
            Path(_CLASSES.value).expanduser() if _CLASSES.value else None,
            options.seed,
            splits.parse_fractions(_SPLIT.value) if _SPLIT.value else None,
        ),
        closing=_ADDING,
    )
