"""Fuses several runs: takes the weighted mean of their scores of the same clips, from their stored evaluations.

In this way two streams, RGB and optical flow, give one answer (Simonyan and Zisserman 2014, section 4). Temporal
Segment Networks add the scores before the softmax, with weights 1 : 1.5 for RGB and flow
(Wang et al. 2016, section 5.3 and the published code). Here the sum is also divided by the sum of the weights. The
answers are the same, and the loss stays comparable with the loss of a single run.
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
from vidcls.run.protocol import fields_where
from vidcls.run.results import Predictions
from vidcls.run.stored_results import StoredResult, on_the_same_clips, values_of
from vidcls.text import whole_file
from vidcls.text.bounded_file import read_labels

ON = ('logits', 'probabilities')
MOST_RUNS = 10
_MOST_POINTS = 2000  # the limit on the search's grid, which has 21 points for two runs, 231 for three, 1,771 for four
# A weight of 1 is divided into so many parts: the search takes the largest number whose grid is within the limit.
_PARTS = (20, 10, 5, 4, 3, 2, 1)
_LISTED = fields_where(lambda field: field.listed)


def fused_scores(runs: Sequence[StoredResult], weights: Sequence[float], on: str) -> np.ndarray:
    """The weighted mean of the runs' scores, as logits float32[n k]. Their softmax is the fusion's probabilities.

    Args:
      runs: evaluations with the same clips in the same order (see `on_the_same_clips`).
      weights: a weight for each run, not negative. Only the ratios of weights matter. Runs of weight 0 are left out.
      on: which scores are averaged. 'logits': the mean of the logits over a run's views. 'probabilities': the run's
        probabilities, averaged over the views as in its evaluation.
    """
    return _mean([_scores(run, on) for run in runs], weights, on)


def search(runs: Sequence[StoredResult], on: str) -> tuple[float, ...]:
    """Searches a grid for the weights with the highest top-1. They sum to 1.

    On the grid, weights are multiples of 1/20 for up to four runs. For more runs they are multiples of 1/10, 1/5..., so
    that the grid has at most 2,000 points. A weight may be 0. If several points have the same top-1, the search takes
    the most even weights (the least sum of squares). Among equally even weights, it takes those that are larger for the
    first runs.

    Args:
      runs: evaluations of the validation split, with the same clips in the same order.
      on: as in `fused_scores`.
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
    """Yields every point of the search's grid for `count` runs. The weight of the first run goes down from 1 to 0."""
    parts = next(n for n in _PARTS if math.comb(n + count - 1, count - 1) <= _MOST_POINTS)
    for bars in reversed(list(itertools.combinations(range(parts + count - 1), count - 1))):
        edges = (-1, *bars, parts + count - 1)
        yield tuple((after - before - 1) / parts for before, after in itertools.pairwise(edges))


def check_number(runs: int) -> None:
    """Raises UserError if this number of runs can't be fused."""
    if not 2 <= runs <= MOST_RUNS:
        raise UserError(f'{runs} runs were named; from 2 to {MOST_RUNS} can be fused')


def check_weights(weights: Sequence[float], count: int) -> None:
    """Refuses weights if there is not one for each of `count` runs, or if no weighted mean can be taken with them.

    Raises:
      UserError: the message names the weights and what is wrong.
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
    """Fuses evaluations, and writes the result into `folder`.

    As `evaluate` does, it writes `eval/<name>.json` and `eval/<name>.npz`. It also writes labels.txt. In the `.npz`,
    each clip has a single view, and the logits of this view are the `fused_scores`.

    Args:
      runs: at least two evaluations of one split, with clips in any order.
      folder: the folder of fusions, which is made if it is missing. It can't be the work directory of a run.
      on: as in `fused_scores`.
      weights: the weights of the runs. If there are none, they are searched on `validation`.
      validation: the evaluations of the validation split by the same runs, in the same order.
      on_saved: a function that is called with the path of the JSON file.

    Returns:
      The scores and the protocol. The protocol names the runs, their weights, and the origin of the weights.

    Raises:
      UserError: the clips, labels or splits of the runs differ, the weights can't be used, or `validation` and `runs`
        share a clip.
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
    # Runs of weight 0 are left out: a broken run would spoil the mean, since 0 * nan is nan.
    counted = [(values, weight) for values, weight in zip(scores, weights, strict=True) if weight]
    mean = np.zeros_like(scores[0])
    for values, weight in counted:
        mean += np.float32(weight / sum(weights)) * values
    return np.log(np.maximum(mean, np.finfo(np.float32).tiny)) if on == 'probabilities' else mean


def _searched(
    runs: Sequence[StoredResult], validation: Sequence[StoredResult], on: str
) -> tuple[tuple[float, ...], str]:
    """Searches the weights on `validation`. Returns the weights, and a text that says where they come from."""
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
