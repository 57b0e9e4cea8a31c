"""What two evaluations of the same clips say of each other: the difference of their top-1, and whether it is more than chance.

McNemar's exact test (McNemar 1947; Dietterich 1998, section 3.1) looks at the clips that one of the two gets right and the other
wrong: if both were equally good, each such clip would fall to either with probability 1/2. It takes clips to be independent;
the bootstrap interval over groups does not.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidcls import metrics
from vidcls.data import groups
from vidcls.report import intervals
from vidcls.run.stored_results import StoredResult
from vidcls.text.names import readable

# What must agree unless the user says otherwise; what a network needs for itself, such as its frames, may differ.
SAME = ('dataset_digest', 'clips', 'crops')
KINDS = ('lost', 'gained', 'wrong in both')  # of clips whose answer changed


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two evaluations A and B, clip by clip; n clips.

    Attributes:
      a, b: with the same clips in the same order.
      units: what the bootstrap draws, clips or groups of clips.
      probabilities_a, probabilities_b: float32[n k].
      right_a, right_b: bool[n], whether top-1 is right; a tie or a score that is not finite is wrong.
      answer_a, answer_b: int64[n], the most probable class; -1 where a score is not finite.
    """

    a: StoredResult
    b: StoredResult
    units: intervals.Units
    probabilities_a: np.ndarray
    probabilities_b: np.ndarray
    right_a: np.ndarray
    right_b: np.ndarray
    answer_a: np.ndarray
    answer_b: np.ndarray

    @property
    def difference(self) -> float:
        """Top-1 of B less that of A, in [-1, 1]."""
        return float(self.right_b.mean() - self.right_a.mean())

    @property
    def interval(self) -> intervals.Interval:
        """The 95 % interval of the difference: each draw takes the same clips for both (paired bootstrap)."""
        return intervals.of_mean(self.right_b.astype(float) - self.right_a, self.units)

    @property
    def discordant(self) -> tuple[int, int]:
        """How many clips A alone, and B alone, gets right."""
        return int((self.right_a & ~self.right_b).sum()), int((self.right_b & ~self.right_a).sum())

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test, two-sided; 1 where no clip is discordant."""
        from scipy import stats

        only_a, only_b = self.discordant
        return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0

    @property
    def by_class(self) -> dict[int, tuple[int, int, int]]:
        """Label -> (clips that A gets right, clips that B gets right, clips), of the labels present."""
        labels = self.a.predictions.labels
        return {
            int(label): (int(self.right_a[of].sum()), int(self.right_b[of].sum()), int(of.sum()))
            for label in np.unique(labels)
            for of in [labels == label]
        }

    @property
    def changed(self) -> np.ndarray:
        """int64[m], the clips whose answers differ: those that B lost, those that it gained, and those wrong in both; of each
        kind, those first whose true label's probability changed most.
        """
        kind = np.where(self.right_a, 0, np.where(self.right_b, 1, 2))
        own = self.a.predictions.labels[:, None]
        moved = np.take_along_axis(self.probabilities_b - self.probabilities_a, own, axis=1)[:, 0]
        rows = np.flatnonzero((self.answer_a != self.answer_b) | (self.right_a != self.right_b))
        return rows[np.lexsort((-np.abs(np.nan_to_num(moved[rows], nan=1.0)), kind[rows]))]


def compare(a: StoredResult, b: StoredResult, units: intervals.Units) -> Comparison:
    """Arguments as of `Comparison`."""
    probabilities = [result.probabilities for result in (a, b)]
    labels = a.predictions.labels
    right = [np.asarray(metrics.in_top_k(values, labels, 1)) for values in probabilities]
    answers = [np.where(np.isfinite(values).all(axis=1), values.argmax(axis=1), -1) for values in probabilities]
    return Comparison(a, b, units, *probabilities, *right, *answers)


def units_of(results: Sequence[StoredResult], data_dir: str = '') -> intervals.Units:
    """What the bootstrap draws for these clips: the groups that the dataset tells of, else clips.

    Args:
      results: with the same clips in the same order.
      data_dir: the version's folder of the dataset; empty: where it was when the first was evaluated.

    Raises:
      UserError, OSError: as of `groups.load`.
    """
    ids = results[0].predictions.ids
    folders = [data_dir] if data_dir else str(results[0].scores.get('data_dir', '')).split(' + ')
    found = groups.load(Path(folders[0]), ids) if folders[0] else None
    return intervals.of_groups(*found) if found else intervals.each_clip(len(ids))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected so that the chance of any false alarm stays what it is for one (Holm 1979)."""
    order = np.argsort(p_values, kind='stable')
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    found = np.empty(len(p_values))
    found[order] = corrected
    return found.tolist()


def names(results: Sequence[StoredResult]) -> list[str]:
    """A short name of each run: its folder, and its evaluation where two folders have one name."""
    folders = [result.run for result in results]
    return [
        f'{chr(65 + number)} ({folder})' if folders.count(folder) == 1 else f'{chr(65 + number)} ({folder}, {readable(result.path.stem)})'
        for number, (folder, result) in enumerate(zip(folders, results))
    ]  # fmt: skip


def summary(pairs: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The numbers of each pair, fit for JSON; rates in [0, 1]."""
    corrected = holm([pair.p_value for pair in pairs])
    return [
        {
            'a': str(pair.a.path),
            'b': str(pair.b.path),
            'clips': len(pair.right_a),
            'top1_a': float(pair.right_a.mean()),
            'top1_b': float(pair.right_b.mean()),
            'difference': pair.difference,
            'interval': list(pair.interval),
            'interval_over': _counted(pair.units),
            'units': pair.units.count,
            'right_in_a_alone': pair.discordant[0],
            'right_in_b_alone': pair.discordant[1],
            'mcnemar_p': pair.p_value,
            'mcnemar_p_holm': p_holm,
            'class_hits': {pair.a.classes[label]: list(hits) for label, hits in pair.by_class.items()},
            'changed': [_changed(pair, clip) for clip in pair.changed.tolist()],
        }
        for pair, p_holm in zip(pairs, corrected)
    ]


def line(row: dict[str, Any], a: str, b: str, several: bool) -> str:
    """One line about a pair, for a terminal."""
    low, high = row['interval']
    corrected = f', p = {shown(row["mcnemar_p_holm"])} by Holm' if several else ''
    return (
        f'{b} against {a}: top-1 {100 * row["top1_b"]:.2f} % against {100 * row["top1_a"]:.2f} %, '
        f'{points(row["difference"])} points (95 % from {points(low)} to {points(high)}, paired bootstrap over '
        f'{row["interval_over"]}); McNemar p = {shown(row["mcnemar_p"])}{corrected}: of {row["clips"]} clips '
        f'{row["right_in_b_alone"]} are right in {b[0]} alone and {row["right_in_a_alone"]} in {a[0]} alone'
    )


def points(rate: float) -> str:
    return f'{100 * rate:+.2f}'.replace('-', '−')


def shown(p: float) -> str:
    return f'{p:.3f}' if p >= 0.001 else f'{p:.0e}'


def _changed(pair: Comparison, clip: int) -> dict[str, Any]:
    a, b = int(pair.answer_a[clip]), int(pair.answer_b[clip])
    kind = KINDS[0 if pair.right_a[clip] else 1 if pair.right_b[clip] else 2]

    def answer(probabilities: np.ndarray, label: int) -> tuple[str | None, float | None]:
        return (None, None) if label < 0 else (pair.a.classes[label], round(float(probabilities[clip, label]), 6))

    (name_a, probability_a), (name_b, probability_b) = answer(pair.probabilities_a, a), answer(pair.probabilities_b, b)
    return {
        'id': str(pair.a.predictions.ids[clip]),
        'label': pair.a.classes[pair.a.predictions.labels[clip]],
        'kind': kind,
        'answer_a': name_a,
        'probability_a': probability_a,
        'answer_b': name_b,
        'probability_b': probability_b,
    }


def _counted(units: intervals.Units) -> str:
    return f'{units.count} {units.of}{"" if units.count == 1 else "s"}'
