"""The page of a comparison, and its lines for a terminal.

Runs B, C... are each compared with run A, on the same clips.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vidcls.report import intervals, page, theme
from vidcls.report.comparison import KINDS, Comparison, line, names, points, shown, summary
from vidcls.run.protocol import FIELDS
from vidcls.run.stored_results import StoredResult, values_of
from vidcls.text.names import counted

_BARS = 40  # classes that the plot shows
_ROWS = 100  # the most clips that the page names for each kind of change


def write(path: Path, pairs: Sequence[Comparison]) -> list[str]:
    """Writes the page and, beside it, its numbers as JSON. Returns one line for each pair.

    Args:
      path: the page's path, which ends in .html.
      pairs: comparisons with the same first run.
    """
    results = [pairs[0].a, *(pair.b for pair in pairs)]
    called, rows, several = names(results), summary(pairs), len(pairs) > 1
    first = results[0].scores
    lead = (
        f'{len(results)} evaluations of the same {counted(rows[0]["clips"], "clip")}: {" and ".join(map(str, values_of(first, "dataset")))}, split {first["split"]}. '
        'A difference is the top-1 of the later run less that of A, in points of per cent.'
    )
    sections = [page.Section('Result', _result(rows, called)), page.Section('Protocols', [_protocols(results, called)])]
    for pair, row, name in zip(pairs, rows, called[1:]):
        sections.append(page.Section(f'{name} against A' if several else 'Classes', _classes(pair, name, called[0])))
        sections.append(page.Section(f'Clips: {name[0]} and A' if several else 'Clips', _clips(row, name, called[0])))
    page.write(path, f'Comparison: {" against ".join(called[::-1])}' if not several else 'Comparison', lead, sections)
    page.write_json(path.with_suffix('.json'), rows)
    return [line(row, called[0], name, several) for row, name in zip(rows, called[1:])]


def _result(rows: Sequence[dict[str, Any]], called: Sequence[str]) -> list[Markup]:
    several = len(rows) > 1
    row = rows[0]
    blocks = []
    if not several:
        blocks += [_tiles(row, called), _verdict(row, called)]
    else:
        blocks += [_forest(rows, called[1:]), _table(rows, called)]
    broken = row['not_finite_a'] + sum(row['not_finite_b'] for row in rows)
    if broken:
        blocks.append(page.warning(f'Clips whose scores are not finite, over all runs: {broken}. They count as wrong.'))
    over = row['interval_over']
    if row['units'] < intervals.FEW:
        blocks.append(page.warning(f'{over} are few: with fewer than {intervals.FEW} the interval is too narrow.'))
    blocks.append(
        page.text(
            f'The interval is a paired bootstrap: the {over} are drawn with replacement, the same for both runs, and the '
            'interval holds the middle 95 % of the differences. '
            "McNemar's exact test asks how often a fair coin would divide the clips that one run alone gets right as unevenly. "
            'It takes clips to be independent; where several clips come from one recording, it finds differences too easily. '
            'Neither knows how much a second training with another seed would differ.'
        )
    )
    return blocks


def _tiles(row: dict[str, Any], called: Sequence[str]) -> Markup:
    low, high = row['interval']
    return page.tiles(
        [
            (f'Top-1 of {called[0]}', f'{100 * row["top1_a"]:.2f} %', f'of {counted(row["clips"], "clip")}'),
            (f'Top-1 of {called[1]}', f'{100 * row["top1_b"]:.2f} %', f'of {counted(row["clips"], "clip")}'),
            ('Difference, points', points(row['difference']), f'95 %: {points(low)} to {points(high)}'),
            (
                "McNemar's exact test",
                f'p = {shown(row["mcnemar_p"])}',
                f'{row["right_in_b_alone"]} right in B alone, {row["right_in_a_alone"]} in A alone',
            ),
        ]
    )


def _verdict(row: dict[str, Any], called: Sequence[str]) -> Markup:
    low, high = row['interval']
    if low > 0 or high < 0:
        better = called[1] if low > 0 else called[0]
        return page.text(f'{better} is better on these clips by more than the choice of clips explains.')
    return page.text('The interval holds 0: on these clips the two can not be told apart.')


def _table(rows: Sequence[dict[str, Any]], called: Sequence[str]) -> Markup:
    head = (
        'run', 'top-1, %', 'difference, points', '95 % interval', 'right in it alone', 'right in A alone', 'p', 'p (Holm)',
    )  # fmt: skip
    first = [called[0], f'{100 * rows[0]["top1_a"]:.2f}', '', '', '', '', '', '']
    cells = [
        [
            name,
            f'{100 * row["top1_b"]:.2f}',
            points(row['difference']),
            ' to '.join(map(points, row['interval'])),
            str(row['right_in_b_alone']),
            str(row['right_in_a_alone']),
            shown(row['mcnemar_p']),
            shown(row['mcnemar_p_holm']),
        ]
        for row, name in zip(rows, called[1:])
    ]
    return page.table(
        head,
        [first, *cells],
        "p is that of McNemar's exact test. Holm's correction allows for the number of runs that are compared; the intervals "
        'are not corrected.',
        range(1, len(head)),
    )


def _forest(rows: Sequence[dict[str, Any]], called: Sequence[str]) -> Markup:
    figure = theme.figure('difference, points', '', 110 + 44 * len(rows))
    values = np.array([[row['difference'], *row['interval']] for row in rows]) * 100
    figure.add_scatter(
        x=values[:, 0],
        y=list(range(len(called))),
        hovertext=[theme.name(name) for name in called],
        mode='markers',
        marker={'size': 11, 'color': theme.BLUE},
        error_x={'array': values[:, 2] - values[:, 0], 'arrayminus': values[:, 0] - values[:, 1], 'color': theme.BLUE},
        hovertemplate='%{hovertext}: %{x:+.2f} points<extra></extra>',
    )
    figure.add_vline(0, line={'color': theme.GREY, 'dash': 'dash'})
    figure.update_yaxes(theme.names_axis(called, 40), autorange='reversed')
    return page.plot(
        figure,
        'Difference to A',
        'Right of the dashed line a run is better than A; a bar that crosses the line holds no difference too.',
    )


def _protocols(results: Sequence[StoredResult], called: Sequence[str]) -> Markup:
    rows = []
    for name, field in FIELDS.items():
        usual = 'rgb' if name == 'modality' else ''  # the only one that earlier evaluations had
        values = [result.scores.get(name, usual) for result in results]
        if field.words and any(value != '' for value in values):
            same = all(value == values[0] for value in values)
            rows.append([field.words, '' if same else 'differs', *map(page.value, values)])
    return page.table(
        ['', '', *called],
        rows,
        'What each was evaluated with. What differs here may be the reason for a difference above.',
    )


def _classes(pair: Comparison, b: str, a: str) -> list[Markup]:
    classes = pair.a.classes
    rows = [
        ((right_b - right_a) / clips, classes[label], right_a, right_b, clips)
        for label, (right_a, right_b, clips) in pair.by_class.items()
    ]
    rows.sort(key=lambda row: (row[0], row[1]))
    moved = [row for row in rows if row[0]]
    most = sorted(moved, key=lambda row: -abs(row[0]))[:_BARS]
    shown = [row for row in moved if row in most]
    blocks = []
    if shown:
        some = 'all' if len(shown) == len(moved) else f'the {len(shown)} that changed most, of'
        figure = theme.figure('difference, points', '', 110 + 22 * len(shown))
        figure.add_bar(
            x=[100 * row[0] for row in shown],
            y=list(range(len(shown))),
            hovertext=[theme.name(row[1]) for row in shown],
            orientation='h',
            marker={'color': [theme.BLUE if row[0] > 0 else theme.ORANGE for row in shown]},
            customdata=[[row[2], row[3], row[4]] for row in shown],
            hovertemplate='%{hovertext}: %{x:+.1f} points<br>right %{customdata[0]} → %{customdata[1]} of %{customdata[2]}<extra></extra>',
        )
        figure.update_yaxes(theme.names_axis([row[1] for row in shown], 32))
        blocks.append(
            page.plot(
                figure,
                'Classes that changed',
                f'The accuracy in {b[0]} less that in {a[0]}. Blue: {b} is better; orange: {a} is better. Shown: {some} {len(moved)} classes whose accuracy changed, '
                f'of {len(rows)}.',
            )
        )
    else:
        blocks.append(page.text('No class changed its accuracy.'))
    cells = [[row[1], str(row[4]), str(row[2]), str(row[3]), points(row[0])] for row in rows]
    head = ('class', 'clips', f'right in {a[0]}', f'right in {b[0]}', 'difference, points')
    blocks.append(page.fold(f'Table of {counted(len(rows), "class")}', page.table(head, cells, numbers=range(1, 5))))
    return blocks


def _clips(row: dict[str, Any], b: str, a: str) -> list[Markup]:
    changed = row['changed']
    counts = [sum(clip['kind'] == kind for clip in changed) for kind in KINDS]
    right = round(row['top1_a'] * row['clips']) - row['right_in_a_alone']
    square = [
        [f'right in {a[0]}', str(right), str(row['right_in_a_alone'])],
        [f'wrong in {a[0]}', str(row['right_in_b_alone']), str(row['clips'] - right - counts[0] - counts[1])],
    ]
    blocks = [
        page.table(
            ['clips', f'right in {b[0]}', f'wrong in {b[0]}'],
            square,
            f'Clips with another answer: {len(changed)}, of which {counts[0]} lost (right in {a[0]} alone), {counts[1]} gained (right in '
            f'{b[0]} alone), {counts[2]} wrong in both.',
            (1, 2),
        )
    ]
    for kind in KINDS:
        clips = [clip for clip in changed if clip['kind'] == kind]
        if clips:
            cells = [
                [clip['id'], clip['label'], _answer(clip['answer_a'], clip['probability_a']),
                 _answer(clip['answer_b'], clip['probability_b'])]
                for clip in clips[:_ROWS]
            ]  # fmt: skip
            head = ('clip', 'true label', f'answer of {a[0]}', f'answer of {b[0]}')
            rest = '' if len(clips) <= _ROWS else f' {_ROWS} are shown; the JSON file beside this page has all.'
            caption = f'First those whose true label changed its probability most.{rest}'
            blocks.append(page.fold(f'{len(clips)} {kind}', page.table(head, cells, caption)))
    return blocks


def _answer(label: str | None, probability: float | None) -> str:
    return 'scores not finite' if label is None else f'{label} ({100 * (probability or 0):.0f} %)'
