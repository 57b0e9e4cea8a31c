"""The page of one or several trainings.

The page shows curves by step and by time, the best step, resumptions, and the settings that differ.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from vidcls import config as config_lib
from vidcls.config import Config
from vidcls.errors import UserError
from vidcls.report import page, theme
from vidcls.report.page import Section
from vidcls.report.training_log import Curve, TrainingLog, read
from vidcls.run.log import in_words
from vidcls.text.names import readable

FILENAME = 'training.html'
MOST_RUNS = 24  # more runs would have lines that can't be told apart
_POINTS = 1500  # the most points of a curve; a longer curve is averaged
# Title, metric of training, metric of validation, axis, factor, and what a reader learns from the plot.
_PLOTS = (
    ('Loss', 'loss', 'loss', 'cross-entropy (nats)', 1,
     'While both fall, the run learns; where validation rises and training falls, it learns its clips by heart.'),
    ('Top-1', 'top1', 'top1', 'clips that are right (%)', 100,
     'Of training: of the augmented clips of the steps of a row; of validation: of one centre view of each clip.'),
    ('Learning rate', 'learning_rate', '', 'learning rate', 1, 'The rate of the schedule, before the multipliers of single parameters.'),
    ('Gradient norm', 'grad_norm', '', 'norm of the gradient', 1,
     'The norm over all parameters, before clipping; peaks tell of steps that were too large.'),
    ('Throughput', 'clips_per_second', '', 'clips a second', 1, 'Of all devices together, without validations and saves.'),
    ('Waiting for data', 'data_wait', '', 'share of the time (%)', 100,
     'The share of the time in which the devices waited for clips: near 0, the reading of data is fast enough.'),
)  # fmt: skip


def write(folders: Sequence[str | Path], path: Path | None = None) -> Path:
    """Writes the page of the runs in these work directories.

    Args:
      path: the page's path. None means `training.html`: of a single run in its work directory, of several runs in the
        current folder.

    Returns:
      The page's path.

    Raises:
      UserError: there are no runs, there are more than MOST_RUNS, or files are not as training writes them.
      OSError: a file is missing, or the page can't be written.
    """
    if not 0 < len(folders) <= MOST_RUNS:
        raise UserError(f'{len(folders)} runs: name from 1 to {MOST_RUNS} work directories')
    runs = [read(folder) for folder in folders]
    names = _names(runs)
    path = path or (runs[0].folder if len(runs) == 1 else Path()) / FILENAME
    title = f'Training of {names[0]}' if len(runs) == 1 else f'Training of {len(runs)} runs'
    sections = [
        Section('Runs', [_summary(runs, names), page.text(_of_time(runs))]),
        Section('Curves', _curves(runs, names)),
        Section('Settings', _settings(runs, names)),
    ]
    page.write(path, title, 'What was measured while training, by step and by running time.', sections)
    return path


def _names(runs: Sequence[TrainingLog]) -> list[str]:
    """The names of the folders. Equal names get a number."""
    plain = [readable(run.folder.resolve().name) for run in runs]
    count = Counter(plain)
    seen: Counter[str] = Counter()
    names = []
    for name in plain:
        seen[name] += 1
        names.append(f'{name} ({seen[name]})' if count[name] > 1 else name)
    return names


def _summary(runs: Sequence[TrainingLog], names: Sequence[str]) -> Markup:
    rows = [{'run': name, **_summed_up(run)} for run, name in zip(runs, names)]
    if len(rows) == 1:
        return page.facts(rows[0])
    return page.table(list(rows[0]), [list(row.values()) for row in rows], numbers=range(2, len(rows[0])))


def _summed_up(run: TrainingLog) -> dict[str, str]:
    best, last = run.best, run.curves.get('validation/top1')
    return {
        'network': run.config.model.name,
        'last step': f'{run.last_step:,}',
        'epochs': f'{run.config.epochs:g}',
        'running time': in_words(float(run.seconds(np.array(run.last_step)))),
        'best validation top-1': f'{100 * best[1]:.1f} % at step {best[0]:,}' if best else 'no validation',
        'last validation top-1': f'{100 * last.value[-1]:.1f} %' if last else '',
        'resumed': str(len(run.resumed)) if run.has_clock else 'not known',
    }


def _of_time(runs: Sequence[TrainingLog]) -> str:
    measured = (
        'Running time has validations and saves in it, not the pauses between a process that ended and the one that went on, '
        'nor work that was lost and done again.'
    )
    guessed = (
        'Time is computed from the clips a second of each row, without validations and saves, for the files of TensorBoard that '
        'have the moments are gone; whether a run was resumed is not known then.'
    )
    if all(run.has_clock for run in runs):
        return measured
    return (
        guessed
        if not any(run.has_clock for run in runs)
        else f'{measured} Of runs whose resumptions are not known: {guessed}'
    )


def _curves(runs: Sequence[TrainingLog], names: Sequence[str]) -> list[Markup]:
    marks = 'A star marks the best validation top-1. An open diamond marks where the run was resumed.'
    blocks = [page.text(marks), page.axis_switch(['step', 'running time'])]
    for title, training, validation, axis, factor, sentence in _PLOTS:
        wanted = [f'train/{training}'] + [f'validation/{validation}'] * bool(validation)
        if any(name in run.curves for run in runs for name in wanted):
            blocks.append(
                page.plot(_figure(runs, names, wanted, axis, factor), title, f'{sentence}{_averaged(runs, wanted)}')
            )
    return blocks if len(blocks) > 2 else [page.warning('There is no row in metrics.jsonl yet.')]


def _averaged(runs: Sequence[TrainingLog], wanted: Sequence[str]) -> str:
    most = max(len(run.curves[name].step) for run in runs for name in wanted if name in run.curves)
    return f' Curves of more than {_POINTS:,} rows are means over neighbouring rows.' if most > _POINTS else ''


def _figure(
    runs: Sequence[TrainingLog], names: Sequence[str], wanted: Sequence[str], axis: str, factor: float
) -> go.Figure:
    """One plot. Each run has a solid line of training and a dashed line of validation."""
    figure = theme.figure('step', axis, height=380)
    scale, unit = _unit_of_time(runs)
    steps, times = [], []
    named = {'train': 'training', 'validation': 'validation'}

    def add(run: TrainingLog, step: np.ndarray, value: np.ndarray, **look) -> None:
        steps.append(np.asarray(step).tolist())
        times.append((run.seconds(step) / scale).tolist())
        figure.add_scatter(x=steps[-1], y=np.asarray(value) * factor, **look)

    for number, (run, name) in enumerate(zip(runs, names)):
        label = theme.name(name, 40)
        for metric in wanted:
            if metric in run.curves:
                kind = metric.split('/')[0]
                line, alone = theme.line(number), len(runs) == 1
                if kind == 'validation':
                    line = {'color': theme.ORANGE if alone else line['color'], 'dash': 'dash'}
                curve = _thinned(run.curves[metric])
                add(
                    run, curve.step, curve.value, name=named[kind] if alone else label if len(wanted) == 1 else f'{label}, {named[kind]}', line=line,
                    mode='lines+markers' if kind == 'validation' or len(curve.step) < 30 else 'lines', marker={'size': 5},
                    showlegend=len(wanted) > 1 or not alone,
                )  # fmt: skip
        _mark(run, label, wanted, add)
    figure.update_layout(meta=[{'x': steps, 'title': 'step'}, {'x': times, 'title': f'running time ({unit})'}])
    figure.update_yaxes(rangemode='tozero')
    return figure


def _mark(run: TrainingLog, label: str, wanted: Sequence[str], add) -> None:
    """Marks the best step on the validation curve, and resumptions on the training curve."""
    best, validated, trained = run.best, run.curves.get(wanted[-1]), run.curves.get(wanted[0])
    if best and validated is not None and wanted[-1].startswith('validation/'):
        value = np.interp([best[0]], *validated)
        marker = {'symbol': 'star', 'size': 15, 'color': theme.GOLD, 'line': {'width': 1, 'color': theme.GREY}}
        hover = f'{label}: best validation top-1, step {best[0]}, %{{y:.4g}}<extra></extra>'
        add(run, np.array([best[0]]), value, mode='markers', marker=marker, showlegend=False, hovertemplate=hover)
    if run.resumed and trained is not None:
        step = np.array(run.resumed)
        marker = {'symbol': 'diamond-open', 'size': 10, 'color': theme.PURPLE, 'line': {'width': 2}}
        hover = f'{label}: resumed after step %{{customdata}}<extra></extra>'
        add(
            run, step, np.interp(step, *trained), mode='markers', marker=marker, showlegend=False, customdata=step,
            hovertemplate=hover,
        )  # fmt: skip


def _unit_of_time(runs: Sequence[TrainingLog]) -> tuple[float, str]:
    """The unit of time that suits the longest run: the unit's length in seconds, and the unit's name."""
    longest = max(float(run.seconds(np.array(run.last_step))) for run in runs)
    return (1.0, 's') if longest < 200 else (60.0, 'min') if longest < 200 * 60 else (3600.0, 'h')


def _thinned(curve: Curve) -> Curve:
    """A curve of at most _POINTS points. Each point is the mean of neighbouring rows, at the last of their steps."""
    if len(curve.step) <= _POINTS:
        return curve
    edges = np.linspace(0, len(curve.step), _POINTS + 1).astype(int)
    means = np.add.reduceat(curve.value, edges[:-1]) / np.diff(edges)
    return Curve(curve.step[edges[1:] - 1], means)


def _settings(runs: Sequence[TrainingLog], names: Sequence[str]) -> list[Markup]:
    flat = [config_lib.flatten(run.config) for run in runs]
    if len(runs) == 1:
        usual = config_lib.flatten(Config())
        # A run keeps the mean and deviation that its modality has by default.
        modality = runs[0].config.sampling.modality
        usual['augment.mean'], usual['augment.std'] = config_lib.CHANNELS[modality][1:]
        rows = [[name, _shown(value), _shown(usual[name])] for name, value in flat[0].items() if value != usual[name]]
        blocks = [page.table(['setting', 'value', 'default'], rows, 'The settings that are not at their default.')]
    else:
        rows = [
            [name, *(_shown(settings[name]) for settings in flat)]
            for name in flat[0]
            if any(settings[name] != flat[0][name] for settings in flat)
        ]
        same = (
            'All settings are the same.'
            if not rows
            else 'The settings in which the runs differ; all others are the same.'
        )
        blocks = [page.table(['setting', *names], rows, same)] if rows else [page.text(same)]
    changes = [
        [name, f'{change.step:,}', change.name, change.before, change.now]
        for run, name in zip(runs, names)
        for change in run.changes
    ]
    if changes:
        head = ['run', 'resumed at step', 'setting', 'before', 'since']
        blocks.append(page.table(head, changes, 'Settings that changed when a run was resumed.', numbers=(1,)))
    return blocks


def _shown(value: object) -> str:
    text = ', '.join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else f'{text[:199]}…'
