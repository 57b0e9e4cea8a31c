"""Losses and scores. A clip counts once, however it was batched: sums over valid clips, divided at the end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def cross_entropy(logits: jax.Array, targets: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy, nats, float32[b].

    Args:
      logits: [b k].
      targets: float32[b k], probabilities.
      label_smoothing: the part of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7).
    """
    targets = optax.smooth_labels(targets, label_smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def in_top_k(scores: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether the label is among the k best, bool[b].

    The label's rank counts every class that scores at least as high: with ties, or a NaN, the answer is no, so that a
    broken network never looks right.
    """
    own = jnp.take_along_axis(scores, labels[:, None], axis=1)
    better = (scores >= own).sum(axis=1) - 1
    return (better < k) & jnp.isfinite(scores).all(axis=1)


def ranks(num_classes: int) -> tuple[int, ...]:
    """The k of the top-k that say something: of five classes or fewer every answer is among the five best."""
    return (1, 5) if num_classes > 5 else (1,)


def average_views(logits: np.ndarray, average: str) -> np.ndarray:
    """Probabilities float32[b k] of videos seen in several views.

    Args:
      logits: float32[b v k].
      average: 'probabilities', the mean of the views' softmax; or 'logits', the softmax of their mean logits.
    """
    logits = np.asarray(logits, np.float32)
    if average == 'logits':
        return np.asarray(jax.nn.softmax(logits.mean(axis=1), axis=-1))
    return np.asarray(jax.nn.softmax(logits, axis=-1)).mean(axis=1)


def summarize(logits: np.ndarray, labels: np.ndarray, average: str = 'probabilities') -> dict[str, float]:
    """Clip-level and video-level scores of an evaluation.

    Video-level: `average_views`. Clip-level: each view by itself.

    Args:
      logits: float32[b v k], v views of each video.
      labels: int32[b].
      average: as in `average_views`.

    Returns:
      top1, top5, mean_class_accuracy (over the classes present; TSN's headline), loss (of the mean probability, nats),
      clip_top1, clip_top5, num_videos, num_classes_present. Without top5 and clip_top5 where there are five classes or
      fewer. A video of which a logit is not finite counts as wrong.
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
    """Label -> (its videos that top-1 is right of, its videos), of the labels present; arguments as of `scores`."""
    hit = np.asarray(in_top_k(average_views(logits, average), labels, 1))
    return {int(label): (int(hit[labels == label].sum()), int((labels == label).sum())) for label in np.unique(labels)}
