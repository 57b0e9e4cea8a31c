"""The confusion matrix, its largest entries, and a picture of the matrix that stays readable at 400 classes."""

from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import scipy.cluster.hierarchy
import scipy.spatial.distance

from vidcls.report import theme
from vidcls.report.scored import Scored

LABELLED = 60  # the most rows that have names; more names can't be read beside a matrix
MOST_CLASSES = 3000  # with more classes there is no matrix, because the matrix is dense
CLOSE_UP = 30  # the most classes of the close-up that stands below a larger matrix
_NAMED_COLUMNS = 12
_TICKS = (0.0, 0.1, 0.5, 1.0)  # of the colour scale


class Pair(NamedTuple):
    """A confusion: clips of one class that are taken for another class.

    Attributes:
      truth: the label of the clips' class.
      found: the label of the class that they are taken for.
      clips: how many clips of `truth` are taken for `found`.
      share: `clips` as a fraction of all clips of `truth`.
    """

    truth: int
    found: int
    clips: int
    share: float


def matrix(clips: Scored) -> np.ndarray:
    """The confusion matrix int64[k k]: how many clips of class i are taken for class j.

    Clips whose probabilities are not finite do not count.
    """
    counts = np.zeros((len(clips.classes),) * 2, np.int64)
    np.add.at(counts, (clips.labels[clips.finite], clips.found[clips.finite]), 1)
    return counts


def largest(clips: Scored, most: int) -> list[Pair]:
    """The pairs of different classes with the most clips, at most `most` of them, largest first.

    Among pairs with equally many clips, the pair with the larger share comes first.
    """
    counts, totals = matrix(clips), np.bincount(clips.labels, minlength=len(clips.classes))
    np.fill_diagonal(counts, 0)
    truths, founds = np.nonzero(counts)
    pairs = [Pair(int(i), int(j), int(counts[i, j]), float(counts[i, j] / totals[i])) for i, j in zip(truths, founds)]
    return sorted(pairs, key=lambda pair: (-pair.clips, -pair.share, pair.truth, pair.found))[:most]


def order(counts: np.ndarray) -> np.ndarray:
    """An order of the classes, int64[k], in which classes that are taken for each other stand near each other.

    The order is that of the leaves of a clustering with average links. The distance of two classes is 1 less the mean
    of two fractions: of each class's clips, the fraction that is taken for the other class.

    Args:
      counts: a confusion matrix int64[k k].
    """
    if len(counts) < 3:
        return np.arange(len(counts))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    links = scipy.cluster.hierarchy.linkage(scipy.spatial.distance.squareform(distance, checks=False), 'average')
    return scipy.cluster.hierarchy.leaves_list(links)


def shown(clips: Scored) -> np.ndarray:
    """The classes that have a clip or that a clip is taken for, int64[m], in the order of the matrix's rows."""
    counts = matrix(clips)
    used = np.flatnonzero((np.bincount(clips.labels, minlength=len(counts)) > 0) | (counts.sum(axis=0) > 0))
    return used if len(used) <= _NAMED_COLUMNS else used[order(counts[np.ix_(used, used)])]


def close_up(clips: Scored) -> np.ndarray:
    """The classes of the largest confusions, at most `CLOSE_UP` of them, in the order of the matrix's rows."""
    chosen: set[int] = set()
    for pair in largest(clips, 10 * CLOSE_UP):
        if len(chosen | {pair.truth, pair.found}) <= CLOSE_UP:
            chosen |= {pair.truth, pair.found}
    return np.array([label for label in shown(clips) if label in chosen], int)


def heatmap(clips: Scored, labels: np.ndarray) -> go.Figure:
    """A picture of the matrix, with the rows and columns of these labels alone.

    The colour of a cell shows the square root of the cell's fraction of the row's clips, so that one clip of fifty can
    be seen.
    """
    totals = np.bincount(clips.labels, minlength=len(clips.classes))[labels]
    counts = matrix(clips)[np.ix_(labels, labels)]
    share = counts / np.maximum(totals, 1)[:, None]
    size, places = len(labels), np.arange(len(labels))
    few, named = size <= _NAMED_COLUMNS, size <= LABELLED
    names = [clips.classes[label] for label in labels]
    figure = theme.figure('taken for', 'true class (clips)', height=min((36 if few else 18) * size + 210, 900))
    figure.add_heatmap(
        z=np.sqrt(share).astype(np.float32), customdata=counts.astype(np.int32), zmin=0, zmax=1, colorscale=theme.SCALE,
        hovertemplate='%{y}<br>taken for %{x}: %{customdata} clips<extra></extra>',
        text=counts if few else None, texttemplate='%{text}' if few else None,
        xgap=int(few), ygap=int(few),
        colorbar={
            'title': {'text': 'share of the row', 'side': 'top', 'font': {'size': 12}}, 'orientation': 'h', 'thickness': 10,
            'len': 0.95, 'y': 1, 'yanchor': 'bottom', 'x': 0.5, 'outlinewidth': 0, 'tickvals': np.sqrt(_TICKS),
            'ticktext': [f'{100 * tick:g} %' for tick in _TICKS], 'ypad': 4, 'tickangle': 0,
        },
    )  # fmt: skip
    axis = {'tickmode': 'array', 'tickvals': places, 'showgrid': False, 'ticks': '', 'tickfont': {'size': 11}}
    figure.update_xaxes(axis, ticktext=[theme.name(name, 24) for name in names], showticklabels=few, tickangle=-45)
    figure.update_yaxes(
        axis, ticktext=[f'{theme.name(name, 24)} ({total})' for name, total in zip(names, totals)],
        showticklabels=named, autorange='reversed',
    )  # fmt: skip
    if not few:
        figure.update_layout(margin_b=40)  # room for the axis's title; plotly makes this room only if there are names
    if not named:
        figure.update_layout(dragmode='zoom')
    return figure
