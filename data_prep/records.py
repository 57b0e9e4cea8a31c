"""Writes what TFDS reads of a dataset: features, metadata, and TFRecord shards, with clips in the order given.

TFDS's own shuffling writer would put every byte on disk twice. Here the clips arrive in a random order already, and the
writer only appends them to the shards. TFDS writes their description, and `tfds.builder_from_directory` reads the
result.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.example import Layout, Record
from data_prep.source import Clip, Source
from vidcls.data import frame_storage
from vidcls.data.frame_index import FLOW, VIDEO, FrameIndex, Pictures
from vidcls.data.frame_storage import FrameStorage

VERSION = '1.0.0'
SHARD_BYTES = 256 << 20
# Bytes of a TFRecord: of its header (the length and its CRC), and of all that is not the record (header and CRC).
_HEADER, _FRAMING = 12, 16


def features(labels: Sequence[str], flow: bool) -> Any:
    """The features of an example.

    They are `video` as JPEGs, `label`, `id` and `fps`. A dataset with flow also has `flow`, two grey JPEGs for each
    frame.
    """
    import tensorflow_datasets as tfds

    jpegs = lambda channels: tfds.features.Sequence(
        tfds.features.Image(shape=(None, None, channels), encoding_format='jpeg')
    )
    return tfds.features.FeaturesDict(
        {
            'video': jpegs(3),
            'label': tfds.features.ClassLabel(names=list(labels)),
            'id': tfds.features.Text(),
            'fps': tfds.features.Scalar(np.float32),
        }
        | ({'flow': jpegs(1)} if flow else {})
    )


def metadata(source: Source, storage: FrameStorage, stored: dict[str, int], **counts: int) -> Any:
    """The content of metadata.json.

    Args:
      source: the source of the clips.
      storage: how frames are stored.
      stored: part -> number of stored clips. Parts without clips are left out of the splits, since TFDS does not list
        them.
      counts: numbers that are stored too, such as the numbers of clips in the source and of failures.
    """
    import tensorflow_datasets as tfds

    sums = {name: [p for p in parts if stored.get(p)] for name, parts in source.splits.items()}
    return tfds.core.MetadataDict(
        splits={name: '+'.join(parts) for name, parts in sums.items() if parts},
        **frame_storage.described(storage),
        clips_per_split={name: sum(stored[p] for p in parts) for name, parts in sums.items()},
        **counts,
    )


class _Row(NamedTuple):
    """A clip that was written, and where it lies.

    Attributes:
      shard: the number of the shard.
      start: the position of the clip's record in the shard, bytes.
      clip: the clip.
      layout: the layout of the clip's record.
    """

    shard: int
    start: int
    clip: Clip
    layout: Layout


class ShardWriter:
    """Appends serialised examples to the shards of their part."""

    def __init__(self, folder: Path, name: str):
        self._folder, self._name = folder, name
        self._open: dict[str, Any] = {}  # part -> TFRecordWriter
        self._paths: dict[str, list[Path]] = {}
        self._lengths: dict[str, list[int]] = {}
        self._bytes: dict[str, list[int]] = {}
        self._rows: dict[str, list[_Row]] = {}

    def add(self, clip: Clip, record: Record) -> None:
        """Appends a record to its part. Starts a new shard if the part has no shard yet, or if the last one is full."""
        import tensorflow as tf

        part, data = clip.part, record.file.read_bytes()
        if part not in self._open:
            shards = self._paths.setdefault(part, [])
            shards.append(self._folder / f'{self._name}-{part}.tfrecord-{len(shards):05d}')
            self._lengths.setdefault(part, []).append(0)
            self._bytes.setdefault(part, []).append(0)
            self._open[part] = tf.io.TFRecordWriter(os.fspath(shards[-1]))
        self._open[part].write(data)
        start = self._bytes[part][-1] + self._lengths[part][-1] * _FRAMING + _HEADER
        shard = len(self._paths[part]) - 1
        self._rows.setdefault(part, []).append(_Row(shard, start, clip, record.layout))
        self._lengths[part][-1] += 1
        self._bytes[part][-1] += len(data)
        if self._bytes[part][-1] >= SHARD_BYTES:
            self._open.pop(part).close()

    @property
    def stored(self) -> dict[str, int]:
        """The number of stored clips of each part."""
        return {part: sum(lengths) for part, lengths in self._lengths.items()}

    @property
    def num_bytes(self) -> int:
        return sum(map(sum, self._bytes.values()))

    def abandon(self) -> None:
        """Closes the files as they are after an error. If closing fails too, that is ignored."""
        import tensorflow as tf

        for writer in self._open.values():
            try:
                writer.close()
            except (OSError, tf.errors.OpError):
                pass  # the error that led here is being reported
        self._open.clear()

    def finish(self, source: Source, info_metadata: Any, version: str = VERSION) -> dict[Pictures, FrameIndex]:
        """Closes the shards, gives them their final names and writes TFDS's description.

        Args:
          source: the source of the clips.
          info_metadata: the metadata, from the function `metadata`.
          version: the dataset's version.

        Returns:
          The index of the frames and, if there is flow, the index of the flow. They list the shards part by part, in
            the same order as TFDS.
        """
        import tensorflow_datasets as tfds

        while self._open:
            self._open.popitem()[1].close()
        info = tfds.core.DatasetInfo(
            builder=tfds.core.DatasetIdentity(
                name=source.name,
                version=tfds.core.Version(version),
                data_dir=os.fspath(self._folder),
                module_name='data_prep',
            ),
            description=source.description,
            features=features(source.labels, flow='flow' in info_metadata),
            metadata=info_metadata,
        )
        info.set_file_format('tfrecord')
        splits: list[Any] = []
        names: list[str] = []
        rows: list[_Row] = []
        for part, paths in sorted(self._paths.items()):
            template = tfds.core.ShardedFileTemplate(
                dataset_name=source.name,
                data_dir=self._folder,
                split=part,
                filetype_suffix='tfrecord',
            )
            rows += [row._replace(shard=len(names) + row.shard) for row in self._rows[part]]
            for number, path in enumerate(paths):
                final = template.sharded_filepath(shard_index=number, num_shards=len(paths))
                os.rename(path, final)
                names.append(Path(final).name)
            splits.append(
                tfds.core.SplitInfo(
                    name=part,
                    shard_lengths=self._lengths[part],
                    num_bytes=sum(self._bytes[part]),
                    filename_template=template,
                )
            )
        info.set_splits(tfds.core.splits.SplitDict(splits))
        info.write_to_directory(self._folder)
        return {
            pictures: _index(self._folder, names, rows, pictures.feature)
            for pictures in (VIDEO, FLOW)
            if pictures.feature in rows[0].layout.places
        }


def _index(folder: Path, shards: Sequence[str], rows: Sequence[_Row], feature: str) -> FrameIndex:
    """The index that `frame_index.build` would make, without reading the shards again.

    Args:
      folder: the dataset's folder.
      shards: the file names of the shards.
      rows: a row for each clip, in the order of the shards.
      feature: the feature whose pictures are indexed.
    """
    number, starts, clips, layouts = zip(*rows, strict=True)
    places = [layout.places[feature] for layout in layouts]
    return FrameIndex(
        shards=np.array(shards, dtype=np.str_),
        shard_bytes=np.array([(folder / name).stat().st_size for name in shards], np.int64),
        shard=np.array(number, np.int32),
        ids=np.array([clip.id for clip in clips], dtype=np.str_),
        labels=np.array([clip.label for clip in clips], np.int32),
        fps=np.array([layout.fps for layout in layouts], np.float32),
        height=np.array([layout.height for layout in layouts], np.int32),
        width=np.array([layout.width for layout in layouts], np.int32),
        first=np.cumsum([0, *(len(place.lengths) for place in places)], dtype=np.int64),
        offset=np.concatenate([start + place.offsets for start, place in zip(starts, places, strict=True)]),
        length=np.concatenate([place.lengths for place in places]),
    )
