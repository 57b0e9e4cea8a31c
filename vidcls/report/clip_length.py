"""Accuracy against the length of clips, in bins of equally many clips."""

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from vidcls.report import intervals, page, theme
from vidcls.report.intervals import Units
from vidcls.text.names import counted

_BINS = 8
_CLIPS = 10  # the fewest clips of a bin, so that the bin's accuracy means something


def blocks(hit: np.ndarray, units: Units, seconds: np.ndarray, num_frames: np.ndarray) -> list[Markup]:
    """A plot of the accuracy by seconds and a plot of the accuracy by frames.

    Args:
      hit: bool[n], whether each clip is right.
      units: the units that the bootstrap draws for the intervals.
      seconds: float[n], the length of each clip.
      num_frames: int[n], the number of frames of each clip.
    """
    return [
        _block(hit, units, seconds, 'length of the clip (s)', 'Accuracy against the length in seconds', '{:.2f} s'),
        _block(hit, units, num_frames, 'frames of the clip', 'Accuracy against the number of frames', '{:.0f} frames'),
    ]


def bins(values: np.ndarray) -> list[np.ndarray]:
    """The clips int64[m] of each bin. The bins are in ascending order of the clips' values float[n].

    Equal values are in one bin, and no bin is empty.
    """
    count = max(min(_BINS, len(values) // _CLIPS), 1)
    edges = np.unique(np.quantile(values, np.arange(1, count) / count, method='closest_observation'))
    place = np.searchsorted(edges, values, side='left')
    return [np.flatnonzero(place == number) for number in np.unique(place)]


def _block(hit: np.ndarray, units: Units, values: np.ndarray, axis: str, title: str, unit: str) -> Markup:
    found = bins(values)
    if len(found) == 1:
        shortest, longest = unit.format(values.min()), unit.format(values.max())
        spread = f'All clips have {shortest}' if shortest == longest else f'Clips have from {shortest} to {longest}'
        return page.text(
            f'{title}: no plot. {spread}, and {counted(len(values), "clip")} can not be divided into bins.'
        )
    return page.plot(
        _figure(hit, units, values, found, axis, unit), title,
        f'Each point is one of {len(found)} bins with about equally many clips, at their median; the bars are 95 % intervals '
        f'by the bootstrap over {units.of}s.',
    )  # fmt: skip


def _figure(
    hit: np.ndarray, units: Units, values: np.ndarray, found: list[np.ndarray], axis: str, unit: str
) -> go.Figure:
    accuracy = np.array([hit[clips].mean() for clips in found])
    ranges = [intervals.of_mean(hit[clips], intervals.of_groups(units.of, units.number[clips])) for clips in found]
    figure = theme.figure(axis, 'top-1 (%)')
    figure.add_scatter(
        x=[np.median(values[clips]) for clips in found], y=100 * accuracy, mode='lines+markers',
        error_y={
            'type': 'data', 'symmetric': False, 'thickness': 1.2, 'width': 4,
            'array': [max(100 * (each.high - mean), 0) for each, mean in zip(ranges, accuracy)],
            'arrayminus': [max(100 * (mean - each.low), 0) for each, mean in zip(ranges, accuracy)],
        },
        customdata=[
            f'{unit.format(values[clips].min())} to {unit.format(values[clips].max())}<br>{len(clips)} clips' for clips in found
        ],
        hovertemplate='%{customdata}: %{y:.1f} %<extra></extra>',
    )  # fmt: skip
    figure.update_yaxes(range=[-3, 103])
    return figure
