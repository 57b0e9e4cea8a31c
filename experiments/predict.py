"""Gives the labels of video files. Needs nothing but the work directory of a run.

    python -m experiments.predict --workdir=RUN [--workdir=RUN2 --weights=1,1.5] VIDEO... [--top_k=5] [--format=text|json|csv] [--clips=1] [--crops=1|3|10]
        [--explain=DIR] [--explain_label=NAME] [--explain_method=gradcam|gradient_rollout|rollout|occlusion] [--explain_grid=4x5x5]

VIDEO is a video file, or a folder whose videos are all taken, with those of its subfolders. If a file can't be read, a
line says so, the other files are still classified, and the exit status is 1. --config.test.* and
--config.sampling.test_segments are as in experiments.evaluate.

Several runs with the same labels, such as one of colours and one of optical flow, answer together, by the weighted mean
of their logits. Each run prepares the video as its own dataset was prepared. Optical flow is computed only for the
frames that the run looks at.

--explain writes into DIR what the network looked at in each video: a strip of frames (.png), an animation (.mp4) and
the numbers (.npz, .json). They are for the most probable label, or for --explain_label (docs/explaining.md).

The format json writes names unchanged. text and csv write control characters as escapes (\\n, \\x1b). csv puts an
apostrophe before a name that a spreadsheet would run as a formula, as OWASP recommends.
"""

import csv
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags, logging

from experiments import launch, several_runs, testing_flags
from vidcls.errors import UserError
from vidcls.text.names import as_json, cell, readable

if TYPE_CHECKING:
    from vidcls.explain import Explainer
    from vidcls.ranking import Ranks

_TOP_K = flags.DEFINE_integer('top_k', 5, 'How many labels to give.', lower_bound=1)
_FORMAT = flags.DEFINE_enum('format', 'text', ['text', 'json', 'csv'], 'json: one object a line.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (by validation top-1), latest, or a step.')
_CLIPS = flags.DEFINE_integer('clips', 0, 'Views in time; 0: as configured.', lower_bound=0)
_CROPS = flags.DEFINE_enum('crops', '', ['', '1', '3', '10'], 'Views in space; empty: as configured.')
_EXPLAIN = flags.DEFINE_string('explain', '', 'A folder for pictures of what the network looked at.')
_LABEL = flags.DEFINE_string('explain_label', '', 'The class to explain; empty: the most probable one of each video.')
_METHOD = flags.DEFINE_string(
    'explain_method', '', 'gradcam, gradient_rollout, rollout or occlusion; empty: by the network.'
)
_GRID = flags.DEFINE_string('explain_grid', '4x5x5', 'occlusion: blocks in time x rows x columns.')
_SETTINGS = testing_flags.define()


def main(argv: list[str]) -> int:
    from vidcls.predict import find_videos

    if not argv:
        raise UserError('name the videos to classify: files or folders')
    crops = int(_CROPS.value or 0)
    classifier = several_runs.load(_CHECKPOINT.value, _CLIPS.value, crops, _SETTINGS())
    explainer = _explainer(classifier)
    write = {'text': _text, 'json': _json, 'csv': _csv}[_FORMAT.value]
    failed = 0
    for name in argv:
        try:
            paths = find_videos(name)
        except UserError as error:
            failed += 1
            print(f'error: {readable(str(error))}', file=sys.stderr)
            continue
        for path in paths:
            try:
                look = explainer.look(path) if explainer else None
                probabilities = look.probabilities if look else classifier.probabilities(path)
                if not np.isfinite(probabilities).all():
                    raise UserError(f'{path}: the network gives numbers that are not finite')
                write(path, classifier.best(probabilities, _TOP_K.value))
                if look:
                    strip = explainer.write(look, _EXPLAIN.value, _LABEL.value or None)
                    logging.info('%s: explained in %s and beside it', path, strip)
            except BrokenPipeError:
                raise
            except (UserError, OSError) as error:
                failed += 1
                print(f'error: {readable(str(error))}', file=sys.stderr)
    return int(failed > 0)


def _explainer(classifier: 'Ranks') -> 'Explainer | None':
    """The explainer that the flags ask for, or None without --explain. Raises UserError for flags that can't work."""
    if not _EXPLAIN.value:
        if _LABEL.value or _METHOD.value or _GRID.present:
            raise UserError('--explain_label, _method and _grid go with --explain=DIR, the folder for the pictures')
        return None
    from vidcls.explain import Explainer
    from vidcls.explain.explainer import check_label
    from vidcls.explain.pictures import check_libraries

    check_libraries()
    if not re.fullmatch(r'\d{1,6}x\d{1,6}x\d{1,6}', _GRID.value):
        raise UserError(f'--explain_grid={_GRID.value}: must be blocks in time x rows x columns, such as 4x5x5')
    if _LABEL.value:
        check_label(_LABEL.value, classifier.labels)
    time, rows, columns = map(int, _GRID.value.split('x'))
    return Explainer(classifier, _METHOD.value, (time, rows, columns))


def _text(path: Path, found: list[tuple[str, float]]) -> None:
    print(readable(str(path)))
    for label, probability in found:
        print(f'  {100 * probability:6.2f} %  {readable(label)}')


def _json(path: Path, found: list[tuple[str, float]]) -> None:
    labels = [{'label': label, 'probability': round(probability, 6)} for label, probability in found]
    print(as_json({'video': str(path), 'labels': labels}))


def _csv(path: Path, found: list[tuple[str, float]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator='\n')
    for rank, (label, probability) in enumerate(found, 1):
        writer.writerow([cell(str(path)), rank, cell(label), f'{probability:.6f}'])


if __name__ == '__main__':
    flags.mark_flags_as_required(['workdir'])
    launch.run(main, __doc__)
