"""Converts a source of clips to a dataset.

The dataset is the folder OUT/<name>/<version>/, with TFRecords, TFDS's description, and the index of frames. A
conversion that was killed, interrupted or short of disk leaves nothing that a reader would open. The next conversion
removes the rest (data_prep/publish.py). A pool of processes decodes and encodes; the calling process only writes.
"""

import dataclasses
import functools
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from data_prep import pool, records, table, writing
from data_prep.example import Result, convert_clip
from data_prep.options import Options
from data_prep.outcome import Outcome, describe
from data_prep.publish import partial_folder, publish, repair
from data_prep.source import Clip, Source, hash_order
from vidcls.data import flow, groups
from vidcls.data.frame_index import VIDEO, FrameIndex, Pictures
from vidcls.errors import UserError
from vidcls.text.names import cell, check_label

FAILURES = 'failures.tsv'
_MORE_ROOM = 'give --out a larger disk, or store less with --short_side or --fps'
_DEFAULTS = Options()


def convert(source: Source, out: Path, options: Options = _DEFAULTS) -> Path:
    """Converts all clips of a source.

    Args:
      source: the clips.
      out: the folder of datasets.
      options: how to convert.

    Returns:
      The dataset's folder, OUT/<name>/<version>.

    Raises:
      UserError: the source has no clips, a dataset is there already, a class name is not one printable line, every video
        of a class fails, no space is left, or `strict` is set and a video is not whole.
    """
    destination = find_destination(out, source.name, options.overwrite)
    if not source.clips:
        raise UserError(f'{source.description}: no clips')
    for label in source.labels:
        check_label(label, source.name)
    if len(set(source.labels)) < len(source.labels):
        twice = next(label for label in source.labels if source.labels.count(label) > 1)
        raise UserError(f'{source.name}: the class {twice!r} is named twice; name it once')
    start = time.monotonic()
    by_id = {clip.id: clip for clip in source.clips}
    clips = _with_flow([by_id[name] for name in hash_order(by_id, options.seed)], options)
    with partial_folder(destination) as partial:
        if options.beam_runner:
            from data_prep import beam

            outcome, indices = beam.write(source, clips, partial, options)
        else:
            outcome, indices = _write(source, clips, partial, options)
        for pictures, index in indices.items():
            index.save(partial, pictures)
        ids = indices[VIDEO].ids.tolist()
        if source.grouped_by:
            stored = {name: by_id[name].group for name in ids}
            groups.save(partial, source.grouped_by, {name: group for name, group in stored.items() if group})
        _write_failures(partial / FAILURES, outcome.failures)  # last: it tells `repair` that the dataset is complete
        publish(partial, destination)
    _report(source, [by_id[name] for name in ids], outcome, destination, time.monotonic() - start)
    return destination


def _with_flow(clips: list[Clip], options: Options) -> list[Clip]:
    """The clips, with their folders of published flow pictures if such pictures are to be stored.

    Raises:
      UserError: the flow can't be computed here, or published pictures would not fit the frames.
    """
    if options.flow_from is None:
        if options.storage.flow:
            flow.check_installed(options.storage.flow)
        return clips
    if options.storage.fps is not None and not all(clip.is_images for clip in clips):
        raise UserError(f'--fps={options.storage.fps:g}: published flow pictures are of every frame; leave --fps out')
    return [dataclasses.replace(clip, flow=options.flow_from / clip.id) for clip in clips]


def find_destination(out: Path, name: str, overwrite: bool) -> Path:
    """Returns OUT/<name>/<version>, after a repair if a killed conversion left this folder half replaced.

    Raises:
      UserError: the folder exists and is not to be overwritten, or `name` is not an identifier.
    """
    if not re.fullmatch('[a-z][a-z0-9_]*', name):
        raise UserError(f'{name!r} as a name: lower-case letters, digits and underscores, please')
    destination = Path(out).expanduser() / name / records.VERSION
    repair(destination, FAILURES)
    if destination.exists() and not overwrite:
        raise UserError(f'{destination} exists; --overwrite replaces it, another --out avoids it')
    return destination


def _write(
    source: Source, clips: Sequence[Clip], folder: Path, options: Options
) -> tuple[Outcome, dict[Pictures, FrameIndex]]:
    """Converts `clips` into shards in `folder`. Returns the outcome, and the indices of the pictures."""

    def results(spool: Path) -> Iterator[Result]:
        one = functools.partial(convert_clip, storage=options.storage, spool=spool)
        return pool.map_in_order(one, clips, options.workers, timeout=options.clip_timeout, lost=_lost)

    metadata = functools.partial(describe, source, options)
    return writing.write(source, len(clips), results, metadata, folder, options.strict, _MORE_ROOM)


def _lost(clip: Clip, reason: str) -> Result:
    """The result of a clip whose worker died or made no progress."""
    return Result(clip, None, reason)


def _write_failures(path: Path, failures: Sequence[tuple[str, str]]) -> None:
    """Writes a line for each clip that was skipped: its path and the reason, made printable by `cell`."""
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines(f'{cell(name)}\t{cell(reason)}\n' for name, reason in failures)


def _report(source: Source, stored: Sequence[Clip], outcome: Outcome, destination: Path, seconds: float) -> None:
    """Logs the clips that the dataset has, and the clips that were left out."""
    logging.info('clips of each class and split:\n%s', table.of_clips(source, stored))
    for line in table.gaps(source, stored):
        logging.warning('%s', line)
    if outcome.damaged:
        logging.warning('%d damaged videos were used in part', len(outcome.damaged))
    if outcome.failures:
        logging.warning(
            '%d of %d videos could not be read and were skipped: %s',
            len(outcome.failures), len(source.clips), destination / FAILURES,
        )  # fmt: skip
    logging.info(
        '%s: %d clips, %d frames in %.1f s (%s frames/s)',
        destination, len(stored), outcome.num_frames, seconds, f'{outcome.num_frames / seconds:,.0f}',
    )  # fmt: skip
