"""What an evaluation says of each clip, in arrays that all sections of the evaluation's page use.

Everything is computed by `vidcls.metrics` from the probabilities, which are averaged over the views as in the
evaluation. So a tie counts against the label. A clip with a logit that is not finite is wrong, and is taken for no
class.
"""

import dataclasses
from functools import cached_property

import numpy as np

from vidcls import metrics
from vidcls.run.stored_results import StoredResult


@dataclasses.dataclass(frozen=True)
class Scored:
    """What an evaluation says of n clips, with k classes.

    Attributes:
      classes: class names, in the order of the logits.
      ids: str[n], the clips' ids.
      labels: int32[n], the clips' true labels.
      probabilities: float32[n k]; not finite where the logits are not.
      hit: bool[n], whether the clip is right at top-1.
      hit5: bool[n], whether the label is among the five most probable; None with five classes or fewer.
    """

    classes: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    hit: np.ndarray
    hit5: np.ndarray | None

    @cached_property
    def finite(self) -> np.ndarray:
        """Whether each clip has finite probabilities, bool[n]."""
        return np.isfinite(self.probabilities).all(axis=1)

    @cached_property
    def found(self) -> np.ndarray:
        """The class that each clip is taken for, int64[n]; -1 for none.

        A clip is taken for the class of its label exactly where `hit` is true.
        """
        rivals = np.where(self.finite[:, None], self.probabilities, -1)
        wrong = np.flatnonzero(~self.hit)
        rivals[wrong, self.labels[wrong]] = -2  # where another class is as probable, it wins over the label
        return np.where(self.finite, rivals.argmax(axis=1), -1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the class that each clip is taken for, float32[n]; 0 if the clip is taken for none."""
        return np.where(self.finite, self.probabilities.max(axis=1, initial=0), 0)

    def top(self, clip: int, k: int) -> list[tuple[str, float]]:
        """The `k` most probable classes of a clip, each with its probability; empty if a probability is not finite."""
        if not self.finite[clip]:
            return []
        order = np.argsort(-self.probabilities[clip], kind='stable')[:k]
        return [(self.classes[label], float(self.probabilities[clip, label])) for label in order]


def scored(stored: StoredResult) -> Scored:
    """The scores of an evaluation's clips, as arrays."""
    found, probabilities = stored.predictions, stored.probabilities
    within = {
        k: np.asarray(metrics.in_top_k(probabilities, found.labels, k)) for k in metrics.ranks(len(stored.classes))
    }
    return Scored(stored.classes, found.ids, found.labels, probabilities, within[1], within.get(5))
