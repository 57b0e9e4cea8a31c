"""Whether probabilities mean what they say: of the clips that a network is 80 % sure of, are 80 % right?

Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section 2. The expected
calibration error is equation 3, with 15 bins of equal width as in their experiments.
"""

from typing import NamedTuple

import numpy as np

BINS = 15


class Calibration(NamedTuple):
    """A reliability diagram.

    Attributes:
      error: the expected calibration error: the mean over the bins of the distance between confidence and accuracy. The
        weight of a bin is its number of clips.
      clips: int64[bins], the number of clips in each bin. Of 15 bins, bin m has the confidences in (m/15, (m + 1)/15].
      confidence: float64[bins], the mean confidence of the bin's clips; nan for a bin without clips.
      accuracy: float64[bins], the fraction of the bin's clips that are right; nan for a bin without clips.
    """

    error: float
    clips: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration(confidence: np.ndarray, hit: np.ndarray, bins: int = BINS) -> Calibration:
    """The reliability diagram of n clips.

    Args:
      confidence: float[n], the probability of each clip's most probable class; finite.
      hit: bool[n], whether that class is right.
      bins: the number of bins.
    """
    place = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(int) - 1, 0, bins - 1)
    clips = np.bincount(place, minlength=bins)
    with np.errstate(invalid='ignore'):
        means, accuracy = (np.bincount(place, values, bins) / clips for values in (confidence, hit))
    filled = clips > 0
    error = float(np.sum(clips[filled] * np.abs(means - accuracy)[filled]) / max(clips.sum(), 1))
    return Calibration(error, clips, means, accuracy)
