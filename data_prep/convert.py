"""A source of clips -> OUT/<name>/<version>/: TFRecords, TFDS's description, the index of frames.

A run that was killed, interrupted or short of disk leaves nothing that a reader would open, and the next run clears
what it left (data_prep/publish.py). Decoding and encoding run in a pool of processes; this one only writes.
"""

import dataclasses
import errno
import functools
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging
from tqdm import tqdm

from data_prep import pool, records, table
from data_prep.example import Result, Storage, convert_clip
from data_prep.publish import partial_folder, publish, repair
from data_prep.source import Clip, Source, hash_order
from vidcls.data.frame_index import FrameIndex
from vidcls.errors import UserError
from vidcls.text.names import cell, check_label, readable

FAILURES = 'failures.tsv'
_LOG_EVERY_S = 30


@dataclasses.dataclass(frozen=True)
class Options:
    """How to convert.

    Attributes:
      storage: size and rate of the stored frames.
      strict: a video that cannot be used, or only in part, is an error.
      workers: processes that decode, beside this one; 0 for one a core.
      clip_timeout: seconds without a decoded frame after which a clip is given up.
      overwrite: replace a dataset that is there.
      beam_runner: name of an Apache Beam runner to convert with instead.
      beam_options: 'key=value' for it.
      seed: of the order in which clips are stored.
    """

    storage: Storage = dataclasses.field(default_factory=Storage)
    strict: bool = False
    workers: int = 0
    clip_timeout: float = 60.0
    overwrite: bool = False
    beam_runner: str = ''
    beam_options: Sequence[str] = ()
    seed: int = 0


@dataclasses.dataclass
class Outcome:
    """What came of the clips: (path, reason) of those skipped and of those used in part."""

    failures: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    damaged: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    num_frames: int = 0
    failed_by_label: Counter = dataclasses.field(default_factory=Counter)

    def add_problem(self, clip: Clip, problem: str, skipped: bool, strict: bool) -> None:
        """Counts and logs a file that is skipped or used in part.

        Raises:
          UserError: `strict`.
        """
        path = str(clip.files[0])
        shown = readable(path)
        if strict:
            raise UserError(f'{shown}: {problem}; without --strict such files are skipped')
        if skipped:
            self.failures.append((path, problem))
            self.failed_by_label[clip.label] += 1
            logging.warning('skipped %s: %s', shown, problem)
        else:
            self.damaged.append((path, problem))
            logging.warning('used in part %s: %s', shown, problem)


def convert(source: Source, out: Path, options: Options = Options()) -> Path:
    """Converts all clips of a source.

    Returns:
      The dataset's folder, OUT/<name>/<version>.

    Raises:
      UserError: nothing to convert, a dataset is there already, a class name of several lines, a class of which every video fails,
        no space left, or with `strict` any video that is not whole.
    """
    destination = find_destination(out, source.name, options.overwrite)
    if not source.clips:
        raise UserError(f'{source.description}: no clips')
    for label in source.labels:
        check_label(label, source.name)
    start = time.monotonic()
    by_id = {clip.id: clip for clip in source.clips}
    clips = [by_id[name] for name in hash_order(by_id, options.seed)]
    with partial_folder(destination) as partial:
        if options.beam_runner:
            from data_prep import beam

            outcome, index = beam.write(source, clips, partial, options)
        else:
            outcome, index = _write(source, clips, partial, options)
        index.save(partial)
        _write_failures(partial / FAILURES, outcome.failures)  # last: see `repair`
        publish(partial, destination)
    _report(source, [by_id[name] for name in index.ids.tolist()], outcome, destination, time.monotonic() - start)
    return destination


def find_destination(out: Path, name: str, overwrite: bool) -> Path:
    """OUT/<name>/<version>; first ends what a killed conversion began there.

    Raises:
      UserError: it exists and is not to be overwritten, or the name will not do.
    """
    if not re.fullmatch('[a-z][a-z0-9_]*', name):
        raise UserError(f'{name!r} as a name: lower-case letters, digits and underscores, please')
    destination = Path(out).expanduser() / name / records.VERSION
    repair(destination, FAILURES)
    if destination.exists() and not overwrite:
        raise UserError(f'{destination} exists; --overwrite replaces it, another --out avoids it')
    return destination


def check_classes(source: Source, outcome: Outcome) -> None:
    """Raises UserError where a class lost all its videos: no skipping makes up for that."""
    total = Counter(clip.label for clip in source.clips)
    lost = [source.labels[k] for k, n in total.items() if n == outcome.failed_by_label[k]]
    if lost:
        first = outcome.failures[0]
        raise UserError(
            f'every video of {", ".join(sorted(lost))} failed ({readable(first[0])}: {first[1]}); '
            'repair the files or take the class out'
        )


def describe(source: Source, options: Options, outcome: Outcome, stored: dict[str, int]):
    """The metadata of a dataset that came out as `outcome`."""
    return records.metadata(
        source,
        options.storage,
        stored,
        num_clips_in_source=len(source.clips),
        num_failed=len(outcome.failures),
        num_damaged=len(outcome.damaged),
    )


def _write(source: Source, clips: Sequence[Clip], folder: Path, options: Options) -> tuple[Outcome, FrameIndex]:
    """Converts `clips` into shards in `folder`; returns what came of it and where frames lie."""
    outcome, writer, spool = Outcome(), records.ShardWriter(folder, source.name), folder / 'spool'
    spool.mkdir()
    try:
        one = functools.partial(convert_clip, storage=options.storage, spool=spool)
        results = pool.map_in_order(one, clips, options.workers, timeout=options.clip_timeout, lost=_lost)
        for result in _with_progress(results, len(clips), outcome):
            if result.problem:
                skipped = result.record is None
                outcome.add_problem(result.clip, result.problem, skipped, options.strict)
            if result.record is not None:
                writer.add(result)
                result.record.unlink()
                outcome.num_frames += len(result.layout.lengths)
        check_classes(source, outcome)
        shutil.rmtree(spool)  # of a worker that was ended something may be left
        index = writer.finish(source, describe(source, options, outcome, writer.stored))
    except BaseException as error:
        done = sum(writer.stored.values())
        writer.abandon()
        if _is_disk_full(error):
            need = writer.num_bytes * len(clips) / max(1, done)
            raise UserError(_disk_full_message(folder, need)) from error
        raise
    return outcome, index


def _lost(clip: Clip, reason: str) -> Result:
    return Result(clip, None, None, reason)


def _with_progress(results: Iterator[Result], total: int, outcome: Outcome) -> Iterator[Result]:
    """Shows a bar on a terminal and writes lines elsewhere."""
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


def _write_failures(path: Path, failures: Sequence[tuple[str, str]]) -> None:
    """A line of path and reason for each clip, as `vidcls.text.names.cell` has names."""
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines(f'{cell(name)}\t{cell(reason)}\n' for name, reason in failures)


def _is_disk_full(error: BaseException) -> bool:
    import tensorflow as tf

    full = (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, tf.errors.ResourceExhaustedError) or (isinstance(error, OSError) and error.errno in full)


def _disk_full_message(folder: Path, need: float) -> str:
    usage = shutil.disk_usage(folder)
    written = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    return (
        f'no space left in {folder.parent}: the dataset needs about {need / 1e6:,.0f} MB and '
        f'{(usage.free + written) / 1e6:,.0f} MB are there; give --out a larger disk, or store '
        'less with --short_side or --fps'
    )


def _report(source: Source, stored: Sequence[Clip], outcome: Outcome, destination: Path, seconds: float) -> None:
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
