"""Writes the results of workers as the shards of a dataset and its description, in a folder that nobody reads yet."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import logging
from tqdm import tqdm

from data_prep import records
from data_prep.example import Result
from data_prep.outcome import Outcome, check_classes
from data_prep.source import Source
from vidcls.data.frame_index import VIDEO, FrameIndex, Pictures
from vidcls.errors import UserError
from vidcls.run import resource_errors

_LOG_EVERY_S = 30


def write(
    source: Source,
    total: int,
    results: Callable[[Path], Iterator[Result]],
    metadata: Callable[[Outcome, dict[str, int]], Any],
    folder: Path,
    strict: bool = False,
    remedy: str = '',
    version: str = records.VERSION,
) -> tuple[Outcome, dict[Pictures, FrameIndex]]:
    """Writes the records of all results into shards in `folder`.

    Args:
      source: the source of the clips.
      total: the number of results.
      results: a function that is given a folder for files. It yields the results, in the order of the records.
      metadata: a function (outcome, part -> number of stored clips) -> the dataset's metadata.
      folder: the folder to write to.
      strict: whether a clip that cannot be used, or can be used only in part, is an error.
      remedy: what helps if the disk is full, for the message.
      version: the dataset's version.

    Returns:
      The outcome of the conversion, and the indices of the pictures.

    Raises:
      UserError: no clip of a class could be used, no space is left, or `strict` is set and a clip is not whole.
    """
    outcome, writer, spool = Outcome(), records.ShardWriter(folder, source.name), folder / 'spool'
    spool.mkdir()
    try:
        for result in _with_progress(results(spool), total, outcome):
            if result.problem:
                outcome.add_problem(result.clip, result.problem, result.record is None, strict)
            if result.record is not None:
                writer.add(result.clip, result.record)
                result.record.file.unlink()
                outcome.num_frames += len(result.record.layout.places[VIDEO.feature].lengths)
        check_classes(source, outcome)
        shutil.rmtree(spool)  # a worker that was ended may have left a file
        indices = writer.finish(source, metadata(outcome, writer.stored), version)
    except BaseException as error:
        done = sum(writer.stored.values())
        writer.abandon()
        if _is_disk_full(error):
            need = writer.num_bytes * total / max(1, done)
            raise UserError(_disk_full_message(folder, need, remedy)) from error
        raise
    return outcome, indices


def _with_progress(results: Iterator[Result], total: int, outcome: Outcome) -> Iterator[Result]:
    """Yields the results, and shows the progress: as a bar on a terminal, and as log lines elsewhere."""
    start = last = time.monotonic()
    with tqdm(results, total=total, unit='clip', disable=None) as bar:
        for done, result in enumerate(bar):
            yield result
            now = time.monotonic()
            rate = f'{outcome.num_frames / (now - start):,.0f} frames/s'
            bar.set_postfix_str(rate, refresh=False)
            if bar.disable and now - last > _LOG_EVERY_S:
                last = now
                logging.info('%d of %d clips, %s', done + 1, total, rate)


def _is_disk_full(error: BaseException) -> bool:
    import tensorflow as tf

    return isinstance(error, tf.errors.ResourceExhaustedError) or resource_errors.is_disk_full(error)


def _disk_full_message(folder: Path, need: float, remedy: str) -> str:
    """The message for a full disk: the dataset needs about `need` bytes, and `folder` has less room."""
    usage = shutil.disk_usage(folder)
    written = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    return (
        f'no space left in {folder.parent}: the dataset needs about {need / 1e6:,.0f} MB and '
        f'{(usage.free + written) / 1e6:,.0f} MB are there; {remedy}'
    )
