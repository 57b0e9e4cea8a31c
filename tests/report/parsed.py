"""What stands on a page, read back from its HTML."""

import base64
import json
import re

import numpy as np


def tiles(page: str) -> dict[str, tuple[str, str]]:
    """The large numbers: name -> (value, small print)."""
    pattern = r'<div class="name">(.*?)</div><div class="value">(.*?)</div><div class="note">(.*?)</div>'
    return {name: (value, note) for name, value, note in re.findall(pattern, page)}


def plots(page: str) -> list[tuple[list, dict]]:
    """Data and layout of each plot."""
    found = []
    for start in re.finditer(r'Plotly\.newPlot\(\s*"plot-\w+",\s*', page):
        data, end = json.JSONDecoder().raw_decode(page, start.end())
        layout, _ = json.JSONDecoder().raw_decode(page, page.index('{', end))
        found.append((data, layout))
    return found


def numbers(values) -> np.ndarray:
    """An array as plotly writes it: a list, or its bytes in base64."""
    if isinstance(values, list):
        return np.array(values)
    array = np.frombuffer(base64.b64decode(values['bdata']), values['dtype'])
    return array.reshape([int(side) for side in values['shape'].split(',')]) if 'shape' in values else array
