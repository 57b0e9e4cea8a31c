"""Converts on many machines: `try_clip` is a step of Apache Beam, and TFDS's Beam writer writes what it returns.

The records are equal to the records that one machine writes, but TFDS chooses their order and the number of shards. OUT
must be a folder that all workers see. The extra `beam` must be installed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep import records
from data_prep.example import try_clip
from data_prep.options import Options
from data_prep.outcome import Outcome, check_classes, describe
from data_prep.source import Clip, Source
from vidcls.data import frame_index
from vidcls.data.frame_index import FLOW, VIDEO, FrameIndex, Pictures
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError


def write(
    source: Source, clips: Sequence[Clip], folder: Path, options: Options
) -> tuple[Outcome, dict[Pictures, FrameIndex]]:
    """Converts `clips` into shards in `folder`.

    Returns:
      The outcome of the conversion, and the indices of the pictures.

    Raises:
      UserError: Apache Beam is not installed, or no clip of a part could be read. TFDS's Beam writer cannot write an
        empty part, but conversion on one machine can.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError("--beam_runner needs Apache Beam: pip install 'vidcls[beam]'") from error
    import tensorflow_datasets as tfds

    # Beam's own version as an argument changes nothing, but keeps DirectRunner from fetching another
    # runner's binary from the network before it starts.
    arguments = [f'update_compatibility_version={apache_beam.__version__}', *options.beam_options]
    problems, work = folder / 'problems', folder / 'tfds'
    problems.mkdir()
    builder = _builder_class(source, clips, options.storage, problems)(data_dir=os.fspath(work))
    config = tfds.download.DownloadConfig(
        beam_runner=options.beam_runner,
        beam_options=PipelineOptions([f'--{a}' for a in arguments]),
    )
    try:
        builder.download_and_prepare(download_config=config)
    except ValueError as error:
        if 'This should be >0' in str(error):
            raise UserError(
                f'no clip of a part could be read ({error}); convert without --beam_runner, or take the part out'
            ) from error
        raise
    outcome = _collect(clips, problems, options.strict)
    check_classes(source, outcome)
    for file in Path(builder.data_dir).iterdir():
        os.rename(file, folder / file.name)
    shutil.rmtree(work)
    shutil.rmtree(problems)
    stored = {name: split.num_examples for name, split in builder.info.splits.items()}
    describe(source, options, outcome, stored).save_metadata(folder)
    shards = [name for split in builder.info.splits.values() for name in sorted(split.filenames)]
    kinds = (VIDEO, FLOW) if options.storage.flow else (VIDEO,)
    indices = {pictures: frame_index.build(folder, shards, pictures) for pictures in kinds}
    outcome.num_frames = len(indices[VIDEO].offset)
    return outcome, indices


def _builder_class(source: Source, clips: Sequence[Clip], storage: FrameStorage, problems: Path) -> Any:
    """Makes the class of the TFDS builder that converts `clips`."""
    import apache_beam as beam
    import tensorflow_datasets as tfds

    class Videos(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types
        __module__ = 'data_prep'  # as on one machine; TFDS looks for a package around any longer name
        name = source.name
        VERSION = tfds.core.Version(records.VERSION)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description=source.description,
                features=records.features(source.labels, flow=storage.flow is not None),
                metadata=tfds.core.MetadataDict(),  # `write` saves it when its counts are known
            )

        def _split_generators(self, _):
            parts = sorted({clip.part for clip in clips})
            return {part: self._generate_examples(part) for part in parts}

        def _generate_examples(self, part):
            chosen = [clip for clip in clips if clip.part == part]
            # Without reshuffling, runners fuse the list and the conversion into one worker.
            return (
                f'{part}_clips' >> beam.Create(chosen)
                | f'{part}_spread' >> beam.Reshuffle()
                | f'{part}_convert' >> beam.FlatMap(_examples, storage, problems)
            )

    return Videos


def _examples(clip: Clip, storage: FrameStorage, problems: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The Beam step: yields the key and the example of a clip, or nothing if the clip cannot be used."""
    encoded, problem = try_clip(clip, storage)
    if problem:
        _note(problems, clip, problem, skipped=encoded is None)
    if encoded is None:
        return
    yield clip.id, {**encoded.pictures, 'label': clip.label, 'id': clip.id, 'fps': encoded.fps}


def _note(problems: Path, clip: Clip, reason: str, skipped: bool) -> None:
    """Writes a problem to a file for `_collect`. If a runner repeats the step, the same file is written again."""
    name = hashlib.sha256(clip.id.encode()).hexdigest()
    text = json.dumps({'id': clip.id, 'reason': reason, 'skipped': skipped})
    (problems / f'{name}.json').write_text(text)


def _collect(clips: Sequence[Clip], problems: Path, strict: bool) -> Outcome:
    """The outcome of the conversion, from the files that `_note` wrote."""
    outcome, by_id = Outcome(), {clip.id: clip for clip in clips}
    for file in sorted(problems.iterdir()):
        note = json.loads(file.read_text())
        outcome.add_problem(by_id[note['id']], note['reason'], note['skipped'], strict)
    return outcome
