"""The look of plots: colours that colour-blind people can tell apart, on a light and on a dark page.

Plots have no background. Their text, axes and grids take the page's colours (templates/page.css), so a figure sets the
colours of its marks alone.

The colours are those of Okabe and Ito, Color Universal Design, 2008, except black and yellow: each of these two would
vanish on one of the two backgrounds.
"""

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from vidcls.text.names import readable

BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY = COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
GREY = '#888888'
SCALE = 'Cividis'  # the colours of maps: dark is little, bright is much, for colour-blind people too
DASHES = ('solid', 'dash', 'dot', 'dashdot')
HEIGHT = 340  # pixels
_AXIS = {'automargin': True, 'zeroline': False, 'showline': True, 'ticks': 'outside', 'title': {'standoff': 8}}
_TEMPLATE = go.layout.Template(
    layout={
        'colorway': COLOURS,
        'paper_bgcolor': 'rgba(0,0,0,0)',
        'plot_bgcolor': 'rgba(0,0,0,0)',
        'font': {'family': 'system-ui, sans-serif', 'size': 13},
        'margin': {'l': 8, 'r': 16, 't': 24, 'b': 8},
        'hoverlabel': {'bgcolor': '#20262c', 'font': {'color': '#ffffff'}, 'align': 'left', 'namelength': -1},
        'legend': {'orientation': 'h', 'yanchor': 'bottom', 'y': 1.02, 'x': 0},
        'xaxis': _AXIS,
        'yaxis': _AXIS,
        'dragmode': False,  # a finger that scrolls the page must not zoom
    }
)


def figure(x: str, y: str, height: int = HEIGHT, **layout) -> go.Figure:
    """An empty figure.

    Args:
      x, y: titles of the axes, with their units.
      height: pixels; the width is the page's.
      layout: further settings of plotly's layout.
    """
    found = go.Figure()
    found.update_layout(template=_TEMPLATE, height=height, xaxis_title={'text': x}, yaxis_title={'text': y}, **layout)
    return found


def name(text: str, length: int = 0) -> str:
    """Returns a name as plotly takes it: printable, with markup escaped, and cut to `length` characters (0: not cut).

    Quotes are not escaped: plotly needs no escape for them, and would show `&quot;` as it stands.
    """
    text = readable(text)
    return html.escape(f'{text[: length - 1]}…' if 0 < length < len(text) else text, quote=False)


def names_axis(names: Sequence[str], length: int = 0) -> dict[str, Any]:
    """The settings of an axis whose places 0, 1... have these names, each cut to `length` characters.

    Two names that are cut to the same text still have two places.
    """
    places = list(range(len(names)))
    return {'tickmode': 'array', 'tickvals': places, 'ticktext': [name(each, length) for each in names]}


def line(number: int) -> dict[str, str]:
    """The colour and the dash of line `number`, counted from 0. The first 24 lines differ."""
    return {'color': COLOURS[number % len(COLOURS)], 'dash': DASHES[number // len(COLOURS) % len(DASHES)]}
