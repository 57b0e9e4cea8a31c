"""Writes a page: one HTML file that has all it needs in it, such as plotly.js, and loads nothing from the internet.

    write(path, 'Evaluation', 'One sentence.', [Section('Scores', [tiles(...), plot(figure, 'What it shows.')])])

A section is made of blocks, and the functions of this module return blocks. Text goes through jinja2, which escapes it,
and through `vidcls.text.names.readable`. Plotly's JSON escapes `<`, `>` and `/`. The page's Content-Security-Policy
forbids the browser to load anything from elsewhere, even if this module makes a mistake.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import plotly.graph_objects as go
import plotly.io
import plotly.offline
from markupsafe import Markup

import vidcls
from vidcls.text import whole_file
from vidcls.text.names import readable

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name('templates')),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: readable(value) if type(value) is str else value,  # not Markup, which is a str too
)
_BLOCKS: Any = _TEMPLATES.get_template('blocks.html').module
_CONFIG = {'displaylogo': False, 'responsive': True, 'displayModeBar': False, 'scrollZoom': False}


class Section(NamedTuple):
    """A section of a page, with an entry in the page's list of contents."""

    title: str
    blocks: Sequence[Markup]


class Card(NamedTuple):
    """A card about a clip or a class: a picture, lines of text, a ranking.

    Attributes:
      title: the title, such as the clip's id.
      picture: a JPEG or PNG, or None for no picture.
      alt: the picture in words.
      lines: (name, text), such as ('true label', 'Archery').
      ranking: labels and their probabilities in [0, 1], drawn as bars.
      truth: the label of the ranking that is marked as right; '' for none.
    """

    title: str
    picture: bytes | None = None
    alt: str = ''
    lines: Sequence[tuple[str, str]] = ()
    ranking: Sequence[tuple[str, float]] = ()
    truth: str = ''


def write(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Writes the page, whole or not at all.

    Args:
      lead: one or two sentences below the title that say what the page is about.
    """
    text = _TEMPLATES.get_template('page.html').render(
        title=title, lead=lead, sections=sections, version=vidcls.__version__, plotly=_plotly_script(sections)
    )
    whole_file.write_text(path, text)


def write_json(path: Path, value: Any) -> None:
    """Writes the numbers of a page beside it, whole or not at all."""
    whole_file.write_text(path, json.dumps(value, indent=1, allow_nan=False) + '\n')


def _plotly_script(sections: Sequence[Section]) -> Markup:
    """The code of plotly.js if a section has a plot, otherwise nothing."""
    drawn = any('plotly-graph-div' in block for section in sections for block in section.blocks)
    return Markup(plotly.offline.get_plotlyjs()) if drawn else Markup()


def text(sentences: str) -> Markup:
    """A paragraph."""
    return _BLOCKS.text(sentences)


def warning(sentences: str) -> Markup:
    """A paragraph that stands out: what a reader must know before the numbers."""
    return _BLOCKS.warning(sentences)


def tiles(values: Iterable[tuple[str, str, str]]) -> Markup:
    """Large numbers side by side. Each of `values` is (name, value, small print)."""
    return _BLOCKS.tiles(list(values))


def facts(values: Mapping[str, str]) -> Markup:
    """Names and values, one pair on each line."""
    return _BLOCKS.facts(values)


def value(found: Any) -> str:
    """A value from a JSON file, which may be anything, as text of at most 300 characters."""
    found = {True: 'yes', False: 'no'}[found] if isinstance(found, bool) else found
    text = ', '.join(map(str, found)) if isinstance(found, list) else str(found)
    return text if len(text) <= 300 else f'{text[:299]}…'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = '', numbers: Sequence[int] = ()) -> Markup:
    """A table.

    Args:
      head: the names of the columns.
      caption: one sentence below the table.
      numbers: the columns, counted from 0, that have numbers and are aligned at the right.
    """
    return _BLOCKS.table(head, list(rows), caption, numbers)


def plot(figure: go.Figure, title: str, caption: str, most_width: int = 0) -> Markup:
    """A plot with its title above, and below it one sentence that says what the plot shows and how to read it.

    Args:
      figure: a figure made by `theme.figure`, with a height.
      most_width: the greatest width, pixels; 0 means the page's width.
    """
    mark = hashlib.sha256(f'{title} {caption} {figure.to_json()}'.encode()).hexdigest()[:12]
    drawn = plotly.io.to_html(figure, _CONFIG, include_plotlyjs=False, full_html=False, div_id=f'plot-{mark}')
    return _BLOCKS.plot(Markup(drawn), title, caption, most_width)


def cards(found: Iterable[Card]) -> Markup:
    """Cards side by side, as many in a row as fit."""
    return _BLOCKS.cards([card._replace(picture=_address(card.picture)) for card in found])  # type: ignore[arg-type]


def picture(image: bytes, alt: str, caption: str = '') -> Markup:
    """A JPEG or PNG at its own size, or at the page's width if the page is narrower."""
    return _BLOCKS.picture(_address(image), alt, caption)


def fold(summary: str, *blocks: Markup) -> Markup:
    """Blocks that are hidden until the summary is clicked."""
    return _BLOCKS.fold(summary, blocks)


def heading(title: str) -> Markup:
    """A heading inside a section."""
    return _BLOCKS.heading(title)


def axis_switch(names: Sequence[str]) -> Markup:
    """Buttons, one for each name, that change the horizontal axis of the page's plots. A page may have one such switch.

    The buttons change every plot whose `layout.meta` has an object for each name. In the object, `x` is the values of
    each trace, and `title` is the title of the axis.
    """
    return _BLOCKS.axis_switch(names)


def _address(image: bytes | None) -> str:
    """The data: URL of an image; '' for None."""
    if image is None:
        return ''
    kind = 'png' if image.startswith(b'\x89PNG') else 'jpeg'
    return f'data:image/{kind};base64,{base64.b64encode(image).decode()}'
