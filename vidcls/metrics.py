"""The loss of training, and the scores of evaluation, in which every clip counts once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

# (logits [b k], targets float32[b k]) -> float32[b]; targets are probabilities.
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the softmax cross-entropy of each clip in nats, float32[b].

    Args:
      logits: [b k].
      targets: float32[b k], probabilities.
    """
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def in_top_k(scores: jax.Array | np.ndarray, labels: jax.Array | np.ndarray, k: int) -> jax.Array:
    """Returns bool[b]: whether fewer than k other classes score at least as high as the label.

    A tie therefore counts against the label. A clip with a score that is not finite counts as wrong, so that a broken
    network never looks right.

    Args:
      scores: [b k], logits or probabilities.
      labels: int[b].
    """
    own = jnp.take_along_axis(scores, labels[:, None], axis=1)
    better = (scores >= own).sum(axis=1) - 1
    return (better < k) & jnp.isfinite(scores).all(axis=1)


def ranks(num_classes: int) -> tuple[int, ...]:
    """Returns each k for which top-k accuracy is reported.

    With five classes or fewer, top-5 is left out, since it would always be 1.
    """
    return (1, 5) if num_classes > 5 else (1,)


def average_views(logits: np.ndarray, average: str) -> np.ndarray:
    """Returns the probabilities of the classes for clips in several views, float32[b k].

    Args:
      logits: float32[b v k].
      average: 'probabilities' for the mean of the views' softmax, or 'logits' for the softmax of the views' mean
        logits.
    """
    logits = np.asarray(logits, np.float32)
    if average == 'logits':
        return np.asarray(jax.nn.softmax(logits.mean(axis=1), axis=-1))
    return np.asarray(jax.nn.softmax(logits, axis=-1)).mean(axis=1)


def summarize(logits: np.ndarray, labels: np.ndarray, average: str = 'probabilities') -> dict[str, float]:
    """Returns the scores of an evaluation: scores of clips, whose views are averaged, and scores of single views.

    Args:
      logits: float32[b v k], of v views of each clip.
      labels: int32[b].
      average: as in `average_views`.

    Returns:
      Scores of clips: `top1`; `top5`; `mean_class_accuracy`, the mean over the classes present, which TSN reports; and
      `loss`, the cross-entropy of the averaged probabilities in nats. Scores of views: `clip_top1` and `clip_top5`,
      which papers call clip accuracy. Counts: `num_videos`, the number of clips, and `num_classes_present`.

      With five classes or fewer, `top5` and `clip_top5` are left out. A clip with a logit that is not finite counts as
      wrong.
    """
    num_views, num_classes = logits.shape[1:]
    probabilities = average_views(logits, average)
    views, view_labels = logits.reshape(-1, num_classes), np.repeat(labels, num_views)
    accuracy = lambda found, labels, k: float(np.asarray(in_top_k(found, labels, k)).mean())
    by_class = hits_by_class(logits, labels, average)
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    return {
        **{f'top{k}': accuracy(probabilities, labels, k) for k in ranks(num_classes)},
        'mean_class_accuracy': float(np.mean([hits / clips for hits, clips in by_class.values()])),
        'loss': float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
        **{f'clip_top{k}': accuracy(views, view_labels, k) for k in ranks(num_classes)},
        'num_videos': len(labels),
        'num_classes_present': len(by_class),
    }


def hits_by_class(logits: np.ndarray, labels: np.ndarray, average: str = 'probabilities') -> dict[int, tuple[int, int]]:
    """Returns label -> (number of clips that are right at top-1, number of clips), for each label present.

    The arguments are those of `summarize`.
    """
    hit = np.asarray(in_top_k(average_views(logits, average), labels, 1))
    return {int(label): (int(hit[labels == label].sum()), int((labels == label).sum())) for label in np.unique(labels)}
