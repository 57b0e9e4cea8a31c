"""The page of an evaluation: where the network fails, and how far its scores can be believed.

The page is `eval/<name>.html`, beside the evaluation's two files. It is made from the stored logits
(`vidcls.run.stored_results`). Frames and lengths of clips come from the dataset, if the dataset is still in its folder;
otherwise the page leaves them out and says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from vidcls.errors import UserError
from vidcls.report import class_accuracy, clip_length, confusions, intervals, page, theme
from vidcls.report.calibration import BINS, calibration
from vidcls.report.intervals import Interval, Units
from vidcls.report.page import Card, Section
from vidcls.report.scored import Scored, scored
from vidcls.report.strips import Clips, find_clips
from vidcls.run.protocol import FIELDS
from vidcls.run.stored_results import StoredResult, load, values_of
from vidcls.text.names import counted

_PAIRS, _PAIR_CLIPS = 6, 3  # confusions that are shown with frames, and clips of each
_LISTED = 20  # confusions in the table
_EXTREMES = 9  # surest mistakes, and least sure hits


def write(path: Path, data_dir: str = '') -> Path:
    """Writes the page of an evaluation beside its files.

    Args:
      path: the evaluation's JSON file, in `eval/` of a work directory.
      data_dir: the dataset's folder; '' means the folder that the evaluation read.

    Returns:
      The page's path.

    Raises:
      UserError: the files are not as an evaluation writes them.
      OSError: a file is missing, or the page can't be written.
    """
    stored = load(path)
    clips, dataset, lack = scored(stored), None, ''
    units = intervals.each_clip(len(clips.ids))
    try:
        dataset = find_clips(stored, data_dir)
        units = dataset.units()
    except (UserError, OSError) as error:
        lack = str(error)
    sections = [
        Section('Scores', [*_scores(stored, clips, units), page.facts(_protocol(stored.scores))]),
        Section('Classes', class_accuracy.blocks(clips)),
        Section('Confusions', _confusions(clips, dataset, lack)),
        Section('Mistakes and hits', _extremes(clips, dataset)),
        Section('Calibration', _calibration(clips)),
        Section('Length', clip_length.blocks(clips.hit, units, dataset.seconds, dataset.num_frames) if dataset else [_no_dataset(lack)]),
    ]  # fmt: skip
    page_path = path.with_suffix('.html')
    split, name = stored.scores['split'], ' and '.join(map(str, values_of(stored.scores, 'dataset')))
    page.write(
        page_path,
        f'Evaluation of {stored.run}',
        f'What the run says of {counted(len(clips.ids), "clip")} of {split} of {name}, {counted(len(clips.classes), "class")}.',
        sections,
    )
    return page_path


def _scores(stored: StoredResult, clips: Scored, units: Units) -> list[Markup]:
    """The scores with their intervals, and sentences about what the bootstrap draws for the intervals."""
    by_class = [clips.hit[clips.labels == label].mean() for label in np.unique(clips.labels)]
    found = [_tile('Top-1', clips.hit.mean(), intervals.of_mean(clips.hit, units))]
    if clips.hit5 is not None:
        found.append(_tile('Top-5', clips.hit5.mean(), intervals.of_mean(clips.hit5, units)))
    found.append(
        _tile('Mean class accuracy', float(np.mean(by_class)), intervals.of_class_means(clips.hit, clips.labels, units))
    )
    if clips.finite.any():
        error = calibration(clips.confidence[clips.finite], clips.hit[clips.finite]).error
        found.append(('Calibration error', f'{100 * error:.1f} %', f'ECE, {BINS} bins'))
    chance = (
        f'Guessing among {counted(len(clips.classes), "class")} is right {100 / len(clips.classes):.3g} % of the time.'
    )
    blocks = [page.tiles(found), page.text(f'{_drawn(units, len(clips.ids))} {chance}')]
    broken = int((~clips.finite).sum())
    if broken:
        blocks.append(
            page.warning(
                f'Clips with logits that are not finite: {broken} of {len(clips.ids)}. They count as wrong, are taken for no '
                'class, and are left out of the calibration.'
            )
        )
    if units.count < intervals.FEW:
        blocks.append(
            page.warning(
                f'Only {counted(units.count, units.of)} can be drawn. With so few, intervals of the bootstrap are too narrow.'
            )
        )
    elif clips.hit.all() or not clips.hit.any():
        blocks.append(
            page.warning(
                f'All clips are {"right" if clips.hit.all() else "wrong"}, so drawing them again can show no uncertainty. By '
                f'the rule of three, up to {300 / units.count:.1f} % of new clips may be otherwise.'
            )
        )
    return blocks


def _tile(name: str, score: float, interval: Interval) -> tuple[str, str, str]:
    return name, f'{100 * score:.1f} %', f'95 %: {100 * interval.low:.1f} to {100 * interval.high:.1f} %'


def _drawn(units: Units, clips: int) -> str:
    how = (
        f'Ranges are 95 % intervals of the bootstrap: the middle of {intervals.DRAWS:,} draws (seed {intervals.SEED}).'
    )
    if units.of == 'clip':
        return (
            f'{how} A draw takes {counted(clips, "clip")} with replacement. Which clips are of one recording is not known here, '
            'so they are taken for independent.'
        )
    return (
        f'{how} A draw takes {counted(units.count, units.of)} with replacement, each with all of its clips, because the clips of a '
        f'{units.of} are not independent.'
    )


def _protocol(scores: Mapping[str, Any]) -> dict[str, str]:
    """The evaluation's protocol: for each field, its name in words and its value as text."""
    fields = FIELDS.items()
    return {field.words: page.value(scores[name]) for name, field in fields if field.words and name in scores}


def _no_dataset(lack: str) -> Markup:
    return page.warning(
        f'No frames and lengths of clips are shown, for the dataset of this evaluation was not found. {lack}'
    )


def _confusions(clips: Scored, dataset: Clips | None, lack: str) -> list[Markup]:
    if len(clips.classes) > confusions.MOST_CLASSES:
        return [page.text(f'With more than {confusions.MOST_CLASSES:,} classes there is no matrix.')]
    labels, pairs = confusions.shown(clips), confusions.largest(clips, _LISTED)
    how = (
        'A row is a true class, with its number of clips; the colour is the share of them that is taken for the column.'
    )
    near = ' Classes that are taken for each other stand together.' if len(labels) > 12 else ''
    whole = f' The pointer shows names and counts; columns are in the order of the rows.{near}'
    zoom = ' Drag a rectangle to enlarge it; a double click goes back.' if len(labels) > confusions.LABELLED else ''
    blocks = [page.plot(confusions.heatmap(clips, labels), 'Confusion matrix', how + whole + zoom, most_width=900)]
    if not pairs:
        return [*blocks, page.text('No clip is taken for another class.')]
    if len(labels) > confusions.LABELLED:
        chosen = confusions.close_up(clips)
        blocks.append(
            page.plot(
                confusions.heatmap(clips, chosen),
                f'The {len(chosen)} classes with the largest confusions',
                f'A part of the matrix above. {how}',
                most_width=900,
            )
        )
    rows = [
        [
            clips.classes[p.truth],
            clips.classes[p.found],
            f'{p.clips} of {round(p.clips / p.share)}',
            f'{100 * p.share:.0f} %',
        ]
        for p in pairs
    ]
    table = page.table(['true class', 'taken for', 'clips', 'share'], rows, numbers=(2, 3))
    blocks += [page.heading('Largest confusions'), table]
    if dataset is None:
        blocks.append(_no_dataset(lack))
    for pair in pairs[:_PAIRS]:
        wrong = np.flatnonzero((clips.labels == pair.truth) & (clips.found == pair.found))
        surest = wrong[np.argsort(-clips.confidence[wrong], kind='stable')][:_PAIR_CLIPS]
        blocks.append(
            page.heading(
                f'{clips.classes[pair.truth]} taken for {clips.classes[pair.found]}: {counted(pair.clips, "clip")}'
            )
        )
        blocks.append(page.cards(_card(clips, int(clip), dataset) for clip in surest))
    return blocks


def _extremes(clips: Scored, dataset: Clips | None) -> list[Markup]:
    """The surest mistakes and the least sure hits."""
    wrong, right = (np.flatnonzero(clips.finite & (clips.hit == hit)) for hit in (False, True))
    surest = wrong[np.argsort(-clips.confidence[wrong], kind='stable')][:_EXTREMES]
    least = right[np.argsort(clips.confidence[right], kind='stable')][:_EXTREMES]
    return [
        *_named(
            'Surest mistakes', 'The wrong answers with the highest probability. Look here for wrong labels too.',
            'No clip with finite logits is wrong.', clips, surest, dataset,
        ),
        *_named(
            'Least sure hits', 'The right answers with the lowest probability: another network may lose them.',
            'No clip is right.', clips, least, dataset,
        ),
    ]  # fmt: skip


def _named(
    title: str, sentence: str, none: str, clips: Scored, chosen: Sequence[int] | np.ndarray, dataset: Clips | None
) -> list[Markup]:
    if not len(chosen):
        return [page.heading(title), page.text(none)]
    return [
        page.heading(title),
        page.text(sentence),
        page.cards(_card(clips, int(clip), dataset) for clip in chosen),
    ]


def _card(clips: Scored, clip: int, dataset: Clips | None) -> Card:
    """The card of a clip: four of its frames, its true class and the three most probable classes."""
    truth, name = clips.classes[clips.labels[clip]], str(clips.ids[clip])
    return Card(
        name,
        dataset.strip(clip) if dataset else None,
        f'Four frames of {name}',
        [('true class', truth)],
        clips.top(clip, 3),
        truth,
    )


def _calibration(clips: Scored) -> list[Markup]:
    if not clips.finite.any():
        return [page.text('No clip has finite logits.')]
    found = calibration(clips.confidence[clips.finite], clips.hit[clips.finite])
    return [
        page.plot(
            _reliability(found), f'Expected calibration error: {100 * found.error:.1f} %',
            f'Each point is one of {BINS} bins of equal width; clips of it are right as often as its height says. Below the '
            'dashed line the network is too sure, above it not sure enough (Guo et al. 2017).', most_width=760,
        ),
        page.plot(
            _sureness(clips), 'How sure the network is',
            'Clips by the probability of their most probable class. A network that knows what it does not know has its wrong '
            'clips at the left.', most_width=760,
        ),
    ]  # fmt: skip


def _reliability(found) -> go.Figure:
    filled = found.clips > 0
    figure = theme.figure('probability of the most probable class (%)', 'clips that are right (%)', height=420)
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode='lines', line={'dash': 'dash', 'color': theme.GREY}, hoverinfo='skip', name='ideal'
    )
    figure.add_scatter(
        x=100 * found.confidence[filled], y=100 * found.accuracy[filled], mode='lines+markers', name='this run',
        line_color=theme.BLUE, marker={'size': 8 + 22 * np.sqrt(found.clips[filled] / found.clips.max(initial=1))},
        customdata=found.clips[filled],
        hovertemplate='says %{x:.1f} %, is right %{y:.1f} %<br>%{customdata} clips<extra></extra>',
    )  # fmt: skip
    figure.update_xaxes(range=[0, 104])
    figure.update_yaxes(range=[-4, 108])
    return figure


def _sureness(clips: Scored) -> go.Figure:
    figure = theme.figure('probability of the most probable class (%)', 'clips', barmode='stack', bargap=0.06)
    edges = np.linspace(0, 100, BINS + 1)
    for name, hit, colour in (('right', True, theme.BLUE), ('wrong', False, theme.ORANGE)):
        counts, _ = np.histogram(100 * clips.confidence[clips.finite & (clips.hit == hit)], edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2, y=counts, name=name, marker_color=colour,
            hovertemplate=f'%{{y}} {name}<extra></extra>',
        )  # fmt: skip
    figure.update_xaxes(range=[0, 100])
    return figure
