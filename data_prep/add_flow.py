"""Adds optical flow to an existing dataset. It is computed from the stored frames, so no video is decoded again.

    python -m data_prep.add_flow --dataset DIR [--flow=dis|farneback|tvl1] [--flow_preset=medium]

When the dataset with flow is complete, it replaces the dataset without flow. Until then the disk needs room for both.
Frames, labels, splits and the order of clips stay as they are, so that runs on the dataset can go on. If the dataset
has flow already, the flow is computed anew.
"""

import functools
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags, logging

from data_prep import flow_flags, pool, writing
from data_prep.convert import FAILURES
from data_prep.example import Result, flow_of, write_record
from data_prep.publish import partial_folder, publish, repair
from data_prep.source import Clip, Source
from vidcls.data import description, flow, groups, video
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_index import FLOW, VIDEO
from vidcls.errors import UserError
from vidcls.run import script, signals
from vidcls.text.bounded_file import read_json

_KEPT = (groups.FILENAME, FAILURES)  # files beside the shards that flow does not change
_MAX_BYTES = 4 << 20  # the limit on each JSON file
_DIS = FlowSettings()


def add_flow(path: str | Path, settings: FlowSettings = _DIS, workers: int = 0) -> Path:
    """Replaces the dataset at `path` by a dataset that has the same frames and their flow.

    Args:
      path: as in `open_dataset`.
      settings: how the flow is computed.
      workers: the number of processes that compute, beside the process that writes; 0 for one per core.

    Returns:
      The dataset's folder.

    Raises:
      UserError: there is no dataset, a frame can't be read, the algorithm is not installed, no space is left, or another
        process is writing the dataset.
    """
    flow.check_installed(settings)
    repair(Path(path).expanduser().absolute(), FAILURES)
    dataset, start = open_dataset(path), time.monotonic()
    folder = dataset.folder.resolve()
    source, version = _source(dataset)
    metadata = lambda *_: _metadata(folder, settings)
    with partial_folder(folder) as partial:

        def results(spool: Path) -> Iterator[Result]:
            one = functools.partial(_with_flow, folder=folder, settings=settings, spool=spool)
            return pool.map_in_order(one, source.clips, workers)

        outcome, indices = writing.write(
            source, len(source.clips), results, metadata, partial, remedy='make room there', version=version
        )
        for pictures, index in indices.items():
            index.save(partial, pictures)
        for name in _KEPT:
            if (folder / name).exists():
                shutil.copyfile(folder / name, partial / name)
        (partial / FAILURES).touch()  # this file tells `repair` that the dataset is complete
        publish(partial, folder)
    seconds = time.monotonic() - start
    logging.info(
        '%s: %s for %d clips, %d frames in %.1f s (%s frames/s)',
        folder, settings.flags(), len(source.clips), outcome.num_frames, seconds,
        f'{outcome.num_frames / seconds:,.0f}',
    )  # fmt: skip
    return folder


def _source(dataset: Dataset) -> tuple[Source, str]:
    """The dataset's clips as a source, in the order of the dataset's index, and the dataset's version."""
    name, version, parts = description.read_parts(dataset.folder)
    part = {shard: part for part, shards in parts.items() for shard in shards}
    index = dataset.index
    if len(set(index.ids.tolist())) < len(index):
        raise UserError(f'{dataset.folder}: several clips have one id; convert again')
    shards = index.shards.tolist()
    clips = [
        Clip(id, label, part[shards[shard]], (dataset.folder / shards[shard],))
        for id, label, shard in zip(index.ids.tolist(), index.labels.tolist(), index.shard.tolist())
    ]
    text = read_json(dataset.folder / 'dataset_info.json', _MAX_BYTES).get('description')
    return Source(name, text if isinstance(text, str) else '', dataset.labels, clips, {}), version


def _metadata(folder: Path, settings: FlowSettings) -> Any:
    """The dataset's metadata, with the settings of the flow added."""
    import tensorflow_datasets as tfds

    path = folder / 'metadata.json'
    before = read_json(path, _MAX_BYTES) if path.exists() else {}
    return tfds.core.MetadataDict(before | {'flow': flow.described(settings)})


def _with_flow(clip: Clip, folder: Path, settings: FlowSettings, spool: Path) -> Result:
    """Computes the flow of a stored clip, and serialises the clip with its flow. A worker calls this.

    Raises:
      UserError: a frame can't be read, or the clip's JPEGs have too many bytes.
    """
    dataset, number_of = _opened(folder)
    number = number_of[clip.id]
    jpegs = dataset.reader().read(number, range(dataset.index.num_frames(number)))
    try:
        pictures = {VIDEO.feature: jpegs, FLOW.feature: flow_of(jpegs, settings)}
    except Exception:
        dataset.reader().check(number, range(len(jpegs)))
        raise
    video.check_bytes(clip.files[0], sum(len(jpeg) for jpegs in pictures.values() for jpeg in jpegs))
    return Result(clip, write_record(clip, pictures, float(dataset.index.fps[number]), spool), '')


@functools.cache
def _opened(folder: Path) -> tuple[Dataset, dict[str, int]]:
    """The dataset, and clip id -> number of the clip. A worker opens the dataset only once."""
    dataset = open_dataset(folder)
    return dataset, {id: number for number, id in enumerate(dataset.index.ids.tolist())}


if __name__ == '__main__':
    _DATASET = flags.DEFINE_string('dataset', None, 'The dataset, OUT/<name>/<version>.', required=True)
    _WORKERS = flags.DEFINE_integer('workers', 0, 'Processes that compute; 0 for one a core.', lower_bound=0)
    _FLOW = flow_flags.define(default=_DIS.algorithm)

    def _work(_) -> int:
        try:
            with signals.raised():
                add_flow(_DATASET.value, _FLOW() or _DIS, _WORKERS.value)
        except KeyboardInterrupt:
            logging.error('interrupted; %s is as it was', _DATASET.value)
            raise
        return 0

    script.run(_work, sys.modules['__main__'].__doc__ or '', shared_flags=(flow_flags.__name__,))
