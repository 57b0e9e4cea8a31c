"""Fusion: the weighted mean of what several runs say of the same clips, from their stored evaluations.

This is how two streams, RGB and optical flow, become one answer (Simonyan and Zisserman 2014, section 4). Temporal Segment
Networks add the scores before the softmax, with weights 1 : 1.5 : 0.5 for RGB, flow and difference of frames in the order of
their inputs (Wang et al. 2016, section 5.3 and the published code). What is added here is divided by the sum of the weights:
the answers are the same, and the loss stays comparable with that of one run.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidcls import metrics
from vidcls.errors import UserError
from vidcls.run import results, workdir
from vidcls.run.results import Predictions
from vidcls.run.stored_results import StoredResult, on_the_same_clips, values_of
from vidcls.text import whole_file
from vidcls.text.bounded_file import read_labels

ON = ('logits', 'probabilities')
MOST_RUNS = 10
_MOST_POINTS = 2000  # of the search: 21 for two runs, 231 for three, 1,771 for four
_PARTS = (20, 10, 5, 4, 3, 2, 1)  # that a weight of 1 is divided into: the finest with no more points is taken
# Of the protocol, beside the runs: one value, or a list of the runs' values where they differ.
_LISTED = (
    'dataset', 'dataset_digest', 'data_dir', 'checkpoint_step', 'model', 'clips', 'crops', 'frames_per_clip', 'modality',
)  # fmt: skip


def fused_scores(runs: Sequence[StoredResult], weights: Sequence[float], on: str) -> np.ndarray:
    """The weighted mean of the runs' scores, float32[n k]: logits, whose softmax is the fusion's probabilities.

    Args:
      runs: with the same clips in the same order (`on_the_same_clips`).
      weights: one of each run, not negative; only their ratios matter. A run of weight 0 is not looked at.
      on: 'logits', the mean over a run's views before the softmax; or 'probabilities', averaged over the views as the run
        was evaluated.
    """
    return _mean([_scores(run, on) for run in runs], weights, on)


def search(runs: Sequence[StoredResult], on: str) -> tuple[float, ...]:
    """The weights of the highest top-1, among those on a grid; they sum to 1.

    The grid has the multiples of 1/20 for up to four runs, and of 1/10, 1/5... for more, so that it has at most 2,000 points;
    a weight may be 0. Among equals the most even weights are taken (the least sum of squares), and then those that give the
    first runs more.

    Args:
      runs: evaluations of the validation split, with the same clips in the same order.
      on: as of `fused_scores`.
    """
    scores, labels = [_scores(run, on) for run in runs], runs[0].predictions.labels
    found: tuple[float, ...] = ()
    best = (-1, -math.inf)
    for weights in grid(len(runs)):
        hits = int(metrics.in_top_k(_mean(scores, weights, on), labels, 1).sum())
        value = (hits, -round(sum(weight**2 for weight in weights), 9))
        if value > best:
            found, best = weights, value
    return found


def grid(count: int) -> Iterator[tuple[float, ...]]:
    """Every point of the search's grid for `count` runs; the first weight descends."""
    parts = next(n for n in _PARTS if math.comb(n + count - 1, count - 1) <= _MOST_POINTS)
    for bars in reversed(list(itertools.combinations(range(parts + count - 1), count - 1))):
        edges = (-1, *bars, parts + count - 1)
        yield tuple((after - before - 1) / parts for before, after in itertools.pairwise(edges))


def check_number(runs: int) -> None:
    """Raises UserError where so many runs can't be fused."""
    if not 2 <= runs <= MOST_RUNS:
        raise UserError(f'{runs} runs were named; from 2 to {MOST_RUNS} can be fused')


def check_weights(weights: Sequence[float], count: int) -> None:
    """Refuses weights that are not one of each run, or that have no meaning.

    Raises:
      UserError: names the weights and what is wrong.
    """
    shown = ','.join(f'{weight:g}' for weight in weights)
    if len(weights) != count:
        raise UserError(f'--weights={shown}: has {len(weights)} weights for {count} runs; give one of each run')
    if not all(0 <= weight <= 1e6 for weight in weights) or not sum(weights) >= 1e-6:
        raise UserError(f'--weights={shown}: must be numbers from 0 to 1000000, and not all 0')


def fuse(
    runs: Sequence[StoredResult],
    folder: str | Path,
    on: str = 'logits',
    weights: Sequence[float] = (),
    validation: Sequence[StoredResult] = (),
    on_saved: Callable[[Path], None] = lambda path: None,
) -> dict[str, Any]:
    """Fuses evaluations; writes `eval/<name>.json` and `.npz` into `folder` as `evaluate` does, and its labels.txt.

    `.npz` has one view of each clip: `fused_scores`.

    Args:
      runs: evaluations of one split, at least two, in any order of clips.
      folder: where the result goes, made if it is missing: a folder of fusions, not that of a run.
      on: as of `fused_scores`.
      weights: of the runs; empty: searched on `validation`.
      validation: evaluations of the validation split by the same runs, in the same order.
      on_saved: is told the JSON file.

    Returns:
      The scores and the protocol, which names the runs, their weights and where these come from.

    Raises:
      UserError: the runs' clips, labels or splits differ, the weights can't be used, or validation and `runs` share a clip.
    """
    check_number(len(runs))
    if on not in ON:
        raise UserError(f'{on!r}: must be one of {", ".join(ON)}')
    runs = on_the_same_clips(runs)
    if weights:
        check_weights(weights, len(runs))
        origin = 'given'
    else:
        weights, origin = _searched(runs, validation, on)
    logits = fused_scores(runs, weights, on)[:, None]
    first = runs[0]
    predictions = Predictions(first.predictions.ids, first.predictions.labels, logits)
    protocol = _protocol(runs, weights, on, origin)
    result = results.content(predictions, first.classes, protocol)
    on_saved(_save(Path(folder).expanduser(), first.classes, result, predictions, protocol))
    return result


def _scores(run: StoredResult, on: str) -> np.ndarray:
    return run.predictions.logits.mean(axis=1) if on == 'logits' else run.probabilities


def _mean(scores: Sequence[np.ndarray], weights: Sequence[float], on: str) -> np.ndarray:
    # A broken run of weight 0 breaks nothing: 0 * nan is nan.
    counted = [(values, weight) for values, weight in zip(scores, weights, strict=True) if weight]
    mean = np.zeros_like(scores[0])
    for values, weight in counted:
        mean += np.float32(weight / sum(weights)) * values
    return np.log(np.maximum(mean, np.finfo(np.float32).tiny)) if on == 'probabilities' else mean


def _searched(
    runs: Sequence[StoredResult], validation: Sequence[StoredResult], on: str
) -> tuple[tuple[float, ...], str]:
    """Weights, and a sentence about where they come from."""
    if len(validation) != len(runs):
        raise UserError(
            f'{len(validation)} evaluations of validation for {len(runs)} runs; the search needs one of each'
        )
    validation = on_the_same_clips(validation)
    split, searched = (each[0].scores['split'] for each in (runs, validation))
    shared = np.intersect1d(runs[0].predictions.ids, validation[0].predictions.ids)
    if len(shared):
        raise UserError(
            f'{split!r} and {searched!r} share {len(shared)} clips, such as {str(shared[0])!r}: weights that are searched on '
            'the clips that they are tested on prove nothing'
        )
    weights = search(validation, on)
    labels = validation[0].predictions.labels
    top1 = float(metrics.in_top_k(fused_scores(validation, weights, on), labels, 1).mean())
    return weights, f'searched on {searched}: top-1 {100 * top1:.2f} % of its {len(labels)} clips'


def _protocol(runs: Sequence[StoredResult], weights: Sequence[float], on: str, origin: str) -> dict[str, Any]:
    def listed(name: str) -> Any:
        every = [value for run in runs for value in values_of(run.scores, name)]
        values = [value for number, value in enumerate(every) if value not in every[:number]]
        return values[0] if len(values) == 1 else values

    return {
        **{name: listed(name) for name in _LISTED},
        'split': runs[0].scores['split'],
        'average': on,
        'fused': [str(run.path) for run in runs],
        'weights': [float(f'{weight:.6g}') for weight in weights],
        'weights_from': origin,
    }


def _save(
    folder: Path, classes: tuple[str, ...], result: dict[str, Any], predictions: Predictions, protocol: dict[str, Any]
) -> Path:
    if (folder / 'config.json').exists():
        raise UserError(f'{folder}: holds a run; name another folder with --workdir for what is fused')
    workdir.check_no_links(folder)
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / 'labels.txt'
    if labels.exists() and read_labels(labels) != classes:
        raise UserError(f'{folder}: has fusions of other labels; name another folder with --workdir')
    if not labels.exists():
        whole_file.write_text(labels, ''.join(f'{label}\n' for label in classes))
    weights = ','.join(f'{weight:g}' for weight in protocol['weights'])
    name = f'fused-{protocol["split"]}-{protocol["average"]}-weights={weights}'
    path = results.free_named(folder, name, protocol)
    results.save(path, result, predictions)
    return path
