"""A folder of one's own clips -> a dataset with the splits train, validation and test.

    python -m data_prep.folder --videos DIR --out DIR [--name=NAME]

DIR is one of
  - class folders of videos: DIR/<class>/**/clip.mp4;
  - split folders of class folders: DIR/train/<class>/..., DIR/validation/..., DIR/test/...;
  - either of these with a folder of frame images (jpg, png...) in place of each video. Frames are
    taken in natural order (2 before 10) and to be --fps apart, 25 a second if that is not given;
  - anything, with --list: files of 'path label' lines, paths relative to DIR, with or without
    ending, of videos or of folders of frames; labels by name or number. `--list=FILE` for all
    clips, or `--list=train=FILE --list=test=FILE`. --classes names a class file ('name' or
    'number name' lines) that labels are looked up in.

Without given splits each class is divided 80/10/10, drawn with --seed.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags, logging

from data_prep import command, splits
from data_prep.clips import Clip, Source, clip_ids, readable
from data_prep.path_lists import Entry, read_lists
from vidcls.data.video import SUFFIXES
from vidcls.errors import UserError

IMAGE_SUFFIXES = frozenset(('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'))
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
) -> Source:
    """The clips of a folder.

    Args:
      videos: the folder.
      name: of the dataset; from the folder's name if not given.
      lists: split ('' for all) -> list file.
      classes: class file, with `lists`.
      seed: of the random splits.

    Raises:
      UserError: no clips in a form that is known, or lists that contradict themselves.
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
    parts = given if all(given.values()) else splits.random_parts(label, seed)
    clips = [_clip(id, label[id], parts[id], entry.path) for id, entry in zip(ids, entries)]
    return Source(
        name=name or _name(videos),
        description=f'Clips of {readable(videos.name)}, '
        + ('with the splits given.' if parts is given else 'split 80/10/10 by class.'),
        labels=tuple(labels),
        clips=clips,
        splits={part: [part] for part in _SPLIT_FOLDERS.values()},
    )


def _walk(videos: Path) -> list[Entry]:
    """The clips of class folders, or of class folders in split folders."""
    folders = _subfolders(videos)
    if folders and all(folder.name.lower() in _SPLIT_FOLDERS for folder in folders):
        class_folders = [
            (folder, _SPLIT_FOLDERS[parent.name.lower()]) for parent in folders for folder in _subfolders(parent)
        ]
    else:
        class_folders = [(folder, '') for folder in folders]
    entries = []
    for folder, split in class_folders:
        found = [Entry(path, readable(folder.name), split) for path in _clips_below(folder)]
        if not found:
            logging.warning('%s: no clips; the folder is left out', readable(str(folder)))
        entries += found
    if not entries:
        raise UserError(f'{videos}: no videos in class folders (DIR/<class>/clip.mp4)')
    return entries


def _clips_below(folder: Path) -> list[Path]:
    """Videos, and folders of frames, in a class folder at any depth, sorted.

    Raises:
      UserError: images lie in the class folder itself, so that clips cannot be told apart.
    """
    clips = [
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith('.')
    ]
    frame_folders = {path.parent for path in folder.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES}
    # Pictures beside videos (previews, posters) are not frames.
    frame_folders -= {clip.parent for clip in clips}
    if folder in frame_folders:
        raise UserError(f'{folder}: images in a class folder; give the frames of each clip a folder')
    return sorted([*clips, *frame_folders])


def _clip(id: str, label: int, part: str, path: Path) -> Clip:
    if not path.is_dir():
        return Clip(id, label, part, (path,))
    frames = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return Clip(id, label, part, tuple(sorted(frames, key=_natural)), is_images=True)


def _natural(path: Path) -> list:
    """A key that puts frame2 before frame10."""
    pieces = re.split(r'(\d+)', path.name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))


def _name(folder: Path) -> str:
    """A dataset's name from a folder's: lower-case letters, digits and underscores."""
    name = re.sub(r'[^a-z0-9]+', '_', readable(folder.name).lower()).strip('_')
    return name if name[:1].isalpha() else f'videos_{name}'.rstrip('_')


def parse_lists(values: Sequence[str]) -> dict[str, Path]:
    """'train=FILE' -> {'train': FILE}; 'FILE' -> {'': FILE}.

    Raises:
      UserError: files with and without a split, or two for the same one.
    """
    lists = {}
    for value in values:
        split, _, path = value.rpartition('=') if not Path(value).exists() else ('', '', value)
        split = split and _SPLIT_FOLDERS.get(split, '?')
        if split == '?' or split in lists or (lists and '' in (split, *lists)):
            raise UserError(f'--list={value}: give one FILE, or train=FILE, validation=FILE, test=FILE')
        lists[split] = Path(path).expanduser()
    return lists


if __name__ == '__main__':
    _VIDEOS = flags.DEFINE_string('videos', None, 'The folder of clips.', required=True)
    _NAME = flags.DEFINE_string('name', '', "The dataset's name; the folder's if not given.")
    _LIST = flags.DEFINE_multi_string('list', [], "FILE or SPLIT=FILE of 'path label' lines.")
    _CLASSES = flags.DEFINE_string('classes', '', 'Class file that the labels of --list refer to.')
    command.main(
        lambda _, options: read(
            Path(_VIDEOS.value),
            _NAME.value,
            parse_lists(_LIST.value),
            Path(_CLASSES.value) if _CLASSES.value else None,
            options.seed,
        )
    )
