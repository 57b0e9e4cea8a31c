"""Makes the names of files and classes fit to be shown on a terminal, in a table or as a label.

A file's name may contain any byte: line breaks, escape sequences that move a terminal's cursor, bytes that are not
UTF-8. JSON files and the arrays of an evaluation store names exactly. Everything else shows names by the functions of
this module.
"""

import json
import re
import unicodedata
from typing import Any

from vidcls.errors import UserError

# These characters join letters (Persian, Hindi) and emoji; `str.isprintable` counts them as control characters.
_JOINERS = '\u200c\u200d'
# Characters that start a formula in a spreadsheet (OWASP, 'CSV Injection'). Tab and carriage return are escaped anyway.
_FORMULA_STARTS = tuple('=+-@＝＋－＠')


def readable(name: str) -> str:
    """Returns a name as one printable line.

    Control characters are escaped as in Python (`\\n`, `\\x1b`, `\\u202e`), and so are bytes that are not UTF-8 (`\\xNN`);
    letters, signs and spaces of every script stay.
    """
    return name if name.isprintable() else ''.join(map(_readable, name))


def _readable(char: str) -> str:
    if char.isprintable() or char in _JOINERS or unicodedata.category(char) == 'Zs':
        return char
    if '\udc80' <= char <= '\udcff':  # a byte that is not UTF-8, as Python represents it (PEP 383)
        return f'\\x{ord(char) - 0xDC00:02x}'
    return char.encode('unicode_escape').decode()


def counted(number: int, noun: str) -> str:
    """A number of things: '1 clip', '3,783 clips', '2 classes'."""
    return f'{number:,} {noun}{"" if number == 1 else "es" if noun.endswith("s") else "s"}'


def readable_lines(text: str) -> str:
    """Makes a message printable as `readable` does, but keeps its line breaks and tabs."""
    return ''.join(piece if piece in '\n\t' else readable(piece) for piece in re.split('([\n\t])', text))


def cell(text: str) -> str:
    """Returns a readable name for a CSV or TSV file. A name that would be a formula there gets an apostrophe in front.

    Source: OWASP, 'CSV Injection'.
    """
    text = readable(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def as_json(value: Any) -> str:
    """Returns one line of JSON with exact names.

    If the line would have a character that a terminal might obey, it is written in ASCII alone.
    """
    text = json.dumps(value, ensure_ascii=False)
    return text if text == readable(text) else json.dumps(value)


def check_label(label: str, where: str) -> str:
    """Returns the label if it is one printable line without blanks at its ends.

    TFDS and a run's `labels.txt` store one label a line, so that a line break in a label would shift all later labels.

    Args:
      where: the place of the label, for the message.

    Raises:
      UserError: the label is not such a line.
    """
    if not label or label != label.strip() or label != readable(label):
        raise UserError(
            f'{readable(where)}: the class name {label!r} is not one printable line of UTF-8 without blanks at its '
            'ends; rename the class or its folder'
        )
    return label
