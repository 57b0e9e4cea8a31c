"""The accuracy of each class, sorted.

Few classes are drawn as bars with names. Many classes are drawn as a curve, with bars for the lowest classes alone.
"""

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from vidcls.report import confusions, page, theme
from vidcls.report.scored import Scored
from vidcls.text.names import counted

_BARS = 60
_ENDS = 20  # bars for the lowest classes, where there are too many classes to give each a bar


def blocks(clips: Scored) -> list[Markup]:
    """The plots and the table of all classes that have clips."""
    total, right = (
        np.bincount(clips.labels, weights, len(clips.classes)).astype(int)
        for weights in (None, clips.hit.astype(float))
    )
    present = np.flatnonzero(total)
    accuracy = right / np.maximum(total, 1)
    order = present[np.lexsort((present, -accuracy[present]))]
    mean = float(accuracy[present].mean())
    note = f'The dashed line is the mean of the classes, {100 * mean:.1f} %.'
    if len(order) <= _BARS:
        shown = [page.plot(_bars(clips, order, right, total, mean), 'Accuracy of each class',
                           f'The share of a class\'s clips whose class is the most probable one, best class first. {note}')]  # fmt: skip
    else:
        lowest = order[-_ENDS:]
        shown = [
            page.plot(_curve(clips, order, right, total, mean), 'Accuracy of all classes, sorted',
                      f'Each point is a class; its name and its clips appear where the pointer is. {note}'),
            page.plot(_bars(clips, lowest, right, total, mean), f'The {len(lowest)} classes with the lowest accuracy',
                      f'The share of a class\'s clips whose class is the most probable one. {note}'),
        ]  # fmt: skip
    return [*shown, page.fold(f'Table of {counted(len(order), "class")}', _table(clips, order, right, total))]


def _bars(clips: Scored, order: np.ndarray, right: np.ndarray, total: np.ndarray, mean: float) -> go.Figure:
    figure = theme.figure('accuracy (%)', '', height=22 * len(order) + 90)
    places = np.arange(len(order))
    figure.add_bar(
        x=100 * right[order] / total[order], y=places, orientation='h', marker_color=theme.BLUE,
        text=[f'{right[k]} of {total[k]}' for k in order], cliponaxis=False,
        textposition=['inside' if right[k] > total[k] / 4 else 'outside' for k in order],
        customdata=[theme.name(clips.classes[k]) for k in order],
        hovertemplate='%{customdata}: %{x:.1f} %, %{text} clips<extra></extra>',
    )  # fmt: skip
    figure.update_yaxes(
        tickmode='array', tickvals=places, ticktext=[theme.name(clips.classes[k], 24) for k in order], ticks='',
        autorange='reversed', showgrid=False,
    )  # fmt: skip
    figure.update_xaxes(range=[0, 101])
    figure.add_vline(x=100 * mean, line_dash='dash', line_color=theme.ORANGE)
    return figure


def _curve(clips: Scored, order: np.ndarray, right: np.ndarray, total: np.ndarray, mean: float) -> go.Figure:
    figure = theme.figure('place of the class, best first', 'accuracy (%)')
    figure.add_scatter(
        x=np.arange(1, len(order) + 1), y=100 * right[order] / total[order], mode='markers', marker={'size': 5},
        customdata=[f'{theme.name(clips.classes[k])}: {right[k]} of {counted(total[k], "clip")}' for k in order],
        hovertemplate='%{customdata}<extra></extra>',
    )  # fmt: skip
    figure.update_yaxes(range=[-2, 102])
    figure.add_hline(y=100 * mean, line_dash='dash', line_color=theme.ORANGE)
    return figure


def _table(clips: Scored, order: np.ndarray, right: np.ndarray, total: np.ndarray) -> Markup:
    counts = confusions.matrix(clips)
    np.fill_diagonal(counts, 0)
    rows = []
    for label in order:
        rival = int(counts[label].argmax())
        taken = f'{clips.classes[rival]} ({counts[label, rival]})' if counts[label, rival] else ''
        rows.append(
            [
                clips.classes[label],
                f'{100 * right[label] / total[label]:.1f} %',
                str(right[label]),
                str(total[label]),
                taken,
            ]
        )
    head = ['class', 'accuracy', 'right', 'clips', 'most often taken for (clips)']
    return page.table(head, rows, numbers=(1, 2, 3))
