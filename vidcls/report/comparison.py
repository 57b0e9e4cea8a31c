"""Compares two evaluations of the same clips: the difference of their top-1, and whether it is more than chance.

McNemar's exact test (McNemar 1947; Dietterich 1998, section 3.1) looks at the clips that only one of the two
evaluations gets right. If both were equally good, the first would be right with probability 1/2 on each of these clips.
The test assumes that clips are independent; the bootstrap interval over groups does not.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from vidcls.errors import UserError
from vidcls.report import intervals
from vidcls.report.scored import Scored, scored
from vidcls.report.strips import find_clips
from vidcls.run.protocol import fields_where
from vidcls.run.stored_results import StoredResult
from vidcls.text.names import counted, readable

SAME = fields_where(lambda field: field.compared)
KINDS = ('lost', 'gained', 'wrong in both')  # of clips whose answer changed


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two evaluations A and B of the same n clips.

    Attributes:
      a, b: the evaluations, with the clips in the same order.
      clips_a, clips_b: what A and B say of each clip.
      units: the units that the bootstrap draws, clips or groups of clips.
    """

    a: StoredResult
    b: StoredResult
    clips_a: Scored
    clips_b: Scored
    units: intervals.Units

    @property
    def difference(self) -> float:
        """The top-1 of B less the top-1 of A, in [-1, 1]."""
        return float(self.clips_b.hit.mean() - self.clips_a.hit.mean())

    @property
    def interval(self) -> intervals.Interval:
        """The 95 % interval of the difference. Each draw takes the same clips for A and B (paired bootstrap)."""
        return intervals.of_mean(self.clips_b.hit.astype(float) - self.clips_a.hit, self.units)

    @property
    def discordant(self) -> tuple[int, int]:
        """The number of clips that A alone gets right, and the number of clips that B alone gets right."""
        return int((self.clips_a.hit & ~self.clips_b.hit).sum()), int((self.clips_b.hit & ~self.clips_a.hit).sum())

    @property
    def p_value(self) -> float:
        """The two-sided p-value of McNemar's exact test; 1 if no clip is discordant."""
        from scipy import stats

        only_a, only_b = self.discordant
        return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0

    @property
    def by_class(self) -> dict[int, tuple[int, int, int]]:
        """For each label that has clips: how many clips A gets right, how many B gets right, and how many there are."""
        labels = self.clips_a.labels
        return {
            int(label): (int(self.clips_a.hit[of].sum()), int(self.clips_b.hit[of].sum()), int(of.sum()))
            for label in np.unique(labels)
            for of in [labels == label]
        }

    @property
    def changed(self) -> np.ndarray:
        """The clips for which A and B give different answers, int64[m].

        The clips that B lost come first, then the clips that B gained, then the clips that are wrong in both. Within
        each of the three, the clips whose true label's probability changed most come first.
        """
        kind = np.where(self.clips_a.hit, 0, np.where(self.clips_b.hit, 1, 2))
        own = self.clips_a.labels[:, None]
        moved = np.take_along_axis(self.clips_b.probabilities - self.clips_a.probabilities, own, axis=1)[:, 0]
        rows = np.flatnonzero(self.clips_a.found != self.clips_b.found)
        return rows[np.lexsort((-np.abs(np.nan_to_num(moved[rows], nan=1.0)), kind[rows]))]


def compare(a: StoredResult, b: StoredResult, units: intervals.Units) -> Comparison:
    """Makes the comparison of two evaluations. The arguments become fields of `Comparison`."""
    return Comparison(a, b, scored(a), scored(b), units)


def units_of(results: Sequence[StoredResult], data_dir: str = '') -> intervals.Units:
    """The units that the bootstrap draws for these clips: the dataset's groups of clips, or else single clips.

    If the dataset isn't found, the units are single clips, and a warning is logged.

    Args:
      results: evaluations with the same clips in the same order.
      data_dir: the dataset's folder; '' means the folder that the first evaluation read.

    Raises:
      UserError, OSError: `data_dir` is not the dataset that was evaluated.
    """
    try:
        return find_clips(results[0], data_dir).units()
    except (UserError, OSError) as error:
        if data_dir:
            raise
        logging.warning('intervals are over clips, not over recordings: %s', error)
        return intervals.each_clip(len(results[0].predictions.ids))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected for the number of tests (Holm 1979).

    The chance of any false alarm among the tests is then no greater than the chance in a single test.
    """
    order = np.argsort(p_values, kind='stable')
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    found = np.empty(len(p_values))
    found[order] = corrected
    return found.tolist()


def names(results: Sequence[StoredResult]) -> list[str]:
    """A letter and a name for each run, such as 'A (mine)'.

    The name is the folder's. If several folders have the same name, the evaluation's name follows.
    """
    folders = [result.run for result in results]
    return [
        f'{chr(65 + number)} ({folder})' if folders.count(folder) == 1 else f'{chr(65 + number)} ({folder}, {readable(result.path.stem)})'
        for number, (folder, result) in enumerate(zip(folders, results))
    ]  # fmt: skip


def summary(pairs: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The numbers of each pair, ready to be written as JSON. Rates are in [0, 1]."""
    corrected = holm([pair.p_value for pair in pairs])
    return [
        {
            'a': str(pair.a.path),
            'b': str(pair.b.path),
            'clips': len(pair.clips_a.ids),
            'not_finite_a': int((~pair.clips_a.finite).sum()),
            'not_finite_b': int((~pair.clips_b.finite).sum()),
            'top1_a': float(pair.clips_a.hit.mean()),
            'top1_b': float(pair.clips_b.hit.mean()),
            'difference': pair.difference,
            'interval': list(pair.interval),
            'interval_over': counted(pair.units.count, pair.units.of),
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
        f'{row["interval_over"]}); McNemar p = {shown(row["mcnemar_p"])}{corrected}: of {counted(row["clips"], "clip")} '
        f'{row["right_in_b_alone"]} are right in {b[0]} alone and {row["right_in_a_alone"]} in {a[0]} alone'
    )


def points(rate: float) -> str:
    return f'{100 * rate:+.2f}'.replace('-', '−')


def shown(p: float) -> str:
    return f'{p:.3f}' if p >= 0.001 else f'{p:.0e}'


def _changed(pair: Comparison, clip: int) -> dict[str, Any]:
    kind = KINDS[0 if pair.clips_a.hit[clip] else 1 if pair.clips_b.hit[clip] else 2]

    def answer(clips: Scored, which: str) -> dict[str, Any]:
        label, finite = clips.found[clip], clips.finite[clip]
        return {
            f'answer_{which}': clips.classes[label] if finite else None,
            f'probability_{which}': round(float(clips.probabilities[clip, label]), 6) if finite else None,
        }

    return {
        'id': str(pair.clips_a.ids[clip]),
        'label': pair.a.classes[pair.clips_a.labels[clip]],
        'kind': kind,
        **answer(pair.clips_a, 'a'),
        **answer(pair.clips_b, 'b'),
    }
