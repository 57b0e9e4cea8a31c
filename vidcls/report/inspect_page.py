"""The page of a dataset: what it has, what may be wrong with it, and a sheet of clips of each class."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from vidcls.report import duplicates, page, pictures, theme
from vidcls.report.duplicates import Alike
from vidcls.report.inspection import SHORT, Inspection, problems
from vidcls.report.looks import BLACK, FLAT, FROZEN_FRAMES, FROZEN_SECONDS
from vidcls.report.pictures import spread
from vidcls.text.names import counted, readable

SHEETS_BYTES = 6 << 20  # the most bytes of all sheets together; base64 makes 8 MiB of them
_CELLS, _COLUMNS = 12, 4  # the most clips of a class on its sheet, and clips in a row
_CELL_BYTES = 5000  # the bytes that a cell takes at a good quality
_LEAST_SHEET = 1500  # bytes: only as many classes get a sheet as leave so many bytes for each
_GROUPS, _MEMBERS, _SUSPECTS, _ROWS = 24, 30, 24, 200  # the most that the page shows of each
_NAMED = 60  # with more classes, the names do not stand beside the bars
_STRIP = 3  # frames of a clip on a card


def write(path: Path, found: Inspection) -> None:
    """Writes the page.

    Args:
      path: the page's path, which ends in .html.
    """
    dataset = found.dataset
    sections = [
        page.Section('Summary', _summary(found)),
        page.Section('Clips', [*_counts(found), *_sizes(found)]),
        page.Section('Same clips', _same(found)),
        page.Section('Frames', _frames(found)),
    ]
    if found.judge:
        sections.append(page.Section('Unlikely labels', _suspects(found)))
    sections.append(page.Section('Classes', _sheets(found)))
    storage = dataset.storage
    rate = f'at {storage.fps:g} frames per second' if storage.fps else 'with every frame'
    lead = f'What lies in {dataset.folder}, stored {rate} and a short side of at most {storage.short_side} pixels.'
    page.write(path, f'Dataset {dataset.name}', lead, sections)


def _summary(found: Inspection) -> list[Markup]:
    dataset, index = found.dataset, found.dataset.index
    kinds = problems(found)
    crossed = len(found.crossed(found.equal))
    shards = int(index.shard_bytes.sum())
    tiles = [
        ('Clips', f'{len(index):,}', f'{counted(len(dataset.labels), "class")}, {counted(len(index.offset), "frame")}'),
        ('Length', f'{found.seconds.sum() / 3600:.2f} h', f'{found.seconds.min():.1f} to {found.seconds.max():.1f} s a clip'),
        ('On disk', f'{shards / 1e9:.2f} GB', f'{shards / max(len(index.offset), 1) / 1000:.1f} kB a frame'),
        ('Same bytes', f'{len(found.equal)}', f'groups; {crossed} across splits, {len(found.relabelled(found.equal))} with different labels'),
        ('Same pictures', f'{len(found.copies)}', 'pairs across splits'),
        ('Same scene', f'{len(found.scenes)}', 'pairs across splits'),
        *((kind[:1].upper() + kind[1:], f'{len(clips)}', '') for kind, clips in kinds.items()),
    ]  # fmt: skip
    blocks = [page.tiles(tiles)]
    if crossed or found.copies:
        blocks.append(
            page.warning(
                'A clip that is in training and in testing is recognised, not classified. Take it out of one of the two, or say '
                'beside every score that it is there.'
            )
        )
    absent = _absent(found)
    if absent:
        blocks.append(page.warning(f'Classes without a clip: {"; ".join(absent)}.'))
    return blocks


def _absent(found: Inspection) -> list[str]:
    """A text for each split that lacks a class, such as '2 in test1 (Archery, ...)'."""
    labels, lines = found.dataset.labels, []
    for split, clips in found.dataset.splits.items():
        missing = np.setdiff1d(np.arange(len(labels)), found.dataset.index.labels[clips])
        if len(missing):
            some = [labels[label] for label in missing[:3]] + ['...'] * (len(missing) > 3)
            lines.append(f'{len(missing)} in {split} ({", ".join(some)})')
    return lines


def _counts(found: Inspection) -> list[Markup]:
    dataset = found.dataset
    number = lambda split: (re.findall(r'\d+$', split) or [''])[0]
    shown = [split for split in dataset.splits if number(split) == number(next(iter(dataset.splits)))]
    count = {
        split: np.bincount(dataset.index.labels[clips], minlength=len(dataset.labels))
        for split, clips in dataset.splits.items()
    }
    order = np.argsort(-sum(count[split] for split in shown), kind='stable')
    few = len(dataset.labels) <= _NAMED
    names = [theme.name(dataset.labels[label]) for label in order]
    place = list(range(len(names)))
    height = 130 + 19 * len(names) if few else theme.HEIGHT
    figure = theme.figure(
        *(('clips', '') if few else ('classes, from the largest to the smallest', 'clips')), height, barmode='stack'
    )
    for split, colour in zip(shown, itertools.cycle((theme.BLUE, theme.ORANGE, theme.GREEN, *theme.COLOURS[3:]))):
        values = count[split][order].tolist()
        where = {'y': place, 'x': values, 'orientation': 'h'} if few else {'x': place, 'y': values}
        figure.add_bar(
            **where, name=theme.name(split), marker={'color': colour, 'line': {'width': 0}}, hovertext=names,
            hovertemplate='%{hovertext}: %{' + ('x' if few else 'y') + '} in %{fullData.name}<extra></extra>',
        )  # fmt: skip
    figure.update_layout(legend_traceorder='normal')
    if few:
        figure.update_yaxes(theme.names_axis([dataset.labels[label] for label in order], 32), autorange='reversed')
    else:
        figure.update_layout(bargap=0)
    splits = list(dataset.splits)
    rows = [
        [dataset.labels[label], *(str(count[split][label]) for split in splits)] for label in range(len(dataset.labels))
    ]
    rows.append(['all', *(f'{len(dataset.splits[split]):,}' for split in splits)])
    which = 'One bar is a class' + ('' if few else ', whose name stands under the pointer')
    return [
        page.plot(figure, 'Clips of each class', f'{which}; colours are the splits {", ".join(shown)}.'),
        page.fold('Clips of each class in every split', page.table(['class', *splits], rows, numbers=range(1, len(splits) + 1))),
    ]  # fmt: skip


def _sizes(found: Inspection) -> list[Markup]:
    index, seconds = found.dataset.index, found.seconds
    heights, edges = np.histogram(seconds, bins=min(40, max(5, len(seconds) // 5)))
    figure = theme.figure('length of a clip, seconds', 'clips')
    ranges = [f'{a:.2f} to {b:.2f} s' for a, b in itertools.pairwise(edges)]
    figure.add_bar(
        x=(edges[:-1] + edges[1:]) / 2, y=heights, width=np.diff(edges) * 0.96, marker={'color': theme.BLUE}, hovertext=ranges,
        hovertemplate='%{hovertext}: %{y} clips<extra></extra>',
    )  # fmt: skip
    frames = np.diff(index.first)
    caption = (
        f'Half of the clips are shorter than {np.median(seconds):.1f} s. Frames a clip: {frames.min()} to {frames.max()}, '
        f'median {int(np.median(frames))}.'
    )
    sizes = Counter(zip(index.width.tolist(), index.height.tolist())).most_common()
    rates = Counter(round(float(fps), 2) for fps in index.fps).most_common()
    return [
        page.plot(figure, 'Lengths', caption),
        page.table(('width x height, pixels', 'clips'), _most([(f'{w} x {h}', n) for (w, h), n in sizes]), 'Sizes of the stored frames.', (1,)),
        page.table(('frames per second', 'clips'), _most([(f'{fps:g}', n) for fps, n in rates]), 'Rates of the stored frames.', (1,)),
    ]  # fmt: skip


def _most(counted: Sequence[tuple[str, int]], rows: int = 8) -> list[tuple[str, str]]:
    rest = counted[rows:]
    more = [(f'{len(rest)} others', f'{sum(count for _, count in rest):,}')] if rest else []
    return [*((name, f'{count:,}') for name, count in counted[:rows]), *more]


def _same(found: Inspection) -> list[Markup]:
    blocks = [
        page.text(
            f'Same bytes: every stored frame is equal. Same pictures: the perceptual hashes (pHash) of {duplicates.FRAMES} frames '
            f'differ in at most {duplicates.MOST_BITS} of {64 * duplicates.FRAMES} bits, and the same things move. Same scene: the '
            'hashes are as near, but something else moves, as in two clips of one recording. The last two are looked for between splits that must have nothing in common. Copies '
            'that are cut, mirrored or cropped are not found. A picture has three frames of the first clip, and below them those '
            'of the second where their bytes differ.'
        )
    ]
    crossed = found.crossed(found.equal)
    crossing = set(crossed)
    inside = [each for each in found.equal if each not in crossing]
    for title, groups in (
        ('Same bytes, across splits', crossed),
        ('Same bytes, in one split', inside),
        ('Same pictures, across splits', found.copies),
        ('Same scene, across splits', found.scenes),
    ):
        blocks.append(page.heading(f'{title}: {len(groups)}'))
        if groups:
            blocks.append(page.cards(_alike_card(found, each) for each in groups[:_GROUPS]))
        if len(groups) > _GROUPS:
            blocks.append(page.text(f'{_GROUPS} of {len(groups):,} are shown; the JSON file beside this page has all.'))
    if found.num_more:
        blocks.append(page.text(f'{found.num_more:,} more pairs look the same; only the nearest were looked at again.'))
    return blocks


def _alike_card(found: Inspection, alike: Alike) -> page.Card:
    dataset, (clips, bits) = found.dataset, alike
    first, *others = (str(dataset.index.ids[clip]) for clip in clips)
    lines = [('and', name) for name in others[:_MEMBERS]]
    if len(others) > _MEMBERS:
        lines.append(('and', f'{len(others) - _MEMBERS:,} more, which the JSON file beside this page names'))
    labels = [dataset.labels[label] for label in np.unique(dataset.index.labels[[*clips]])[:_MEMBERS]]
    lines.append(('label', ' and '.join(labels)))
    crosses = duplicates.crossed_splits(dataset, clips)
    lines.append(('splits', ', '.join(crosses or found.splits_of(clips[0]))))
    if bits is not None:
        lines.append(('bits that differ', f'{bits} of {64 * duplicates.FRAMES}'))
    shown = clips[:1] if bits is None else clips
    cells = [cell for clip in shown for cell in _frames_of(found, clip, _STRIP, (112, 84))]
    alt = ' and '.join(str(dataset.index.ids[clip]) for clip in shown)
    return page.Card(first, pictures.sheet(cells, _STRIP, 24_000), f'frames of {alt}', lines)


def _frames(found: Inspection) -> list[Markup]:
    index, rows = found.dataset.index, []
    for clip, looks in enumerate(found.looks):
        fps, said = float(index.fps[clip]), []
        if looks.broken:
            said.append(f'can not be decoded: {looks.broken}')
        if looks.frozen[1]:
            start, count = looks.frozen
            said.append(f'frozen for {count / fps:.1f} s from {start / fps:.1f} s on ({count} equal frames)')
        if looks.black:
            said.append(f'{looks.black} black frames')
        if looks.flat > looks.black:
            said.append(f'{looks.flat - looks.black} frames of one colour')
        if index.num_frames(clip) < SHORT:
            said.append(f'{index.num_frames(clip)} frames in all')
        if said:
            label = found.dataset.labels[index.labels[clip]]
            rows.append([str(index.ids[clip]), label, ', '.join(found.splits_of(clip)), '; '.join(said)])
    blocks = [
        page.text(
            f'Frozen: frames that are equal byte by byte, {FROZEN_FRAMES} at least and {FROZEN_SECONDS} s. Of one colour: the '
            f'brightness has a standard deviation below {FLAT:g} of 255; black: its mean is below {BLACK:g}, too.'
        )
    ]
    if not rows:
        return [*blocks, page.text('No clip has such frames.')]
    caption = f'{min(len(rows), _ROWS)} of {counted(len(rows), "clip")}.'
    return [*blocks, page.table(('clip', 'class', 'splits', 'what'), rows[:_ROWS], caption)]


def _suspects(found: Inspection) -> list[Markup]:
    if not found.suspects:
        broken = f', but for {counted(found.unrated, "clip")}, whose logits are not finite' if found.unrated else ''
        return [page.text(f'{found.judge} agrees with every label{broken}.')]
    dataset, cards = found.dataset, []
    for suspect in found.suspects[:_SUSPECTS]:
        name, label = str(dataset.index.ids[suspect.clip]), dataset.labels[dataset.index.labels[suspect.clip]]
        cells = _frames_of(found, suspect.clip, _STRIP, (112, 84))
        lines = [('label', f'{label}, which has {100 * suspect.probability:.2g} %')]
        cards.append(
            page.Card(name, pictures.sheet(cells, _STRIP, 16_000), f'frames of {name}', lines, suspect.ranking)
        )
    return [
        page.text(
            f'The clips whose label {found.judge} finds least likely, with its three most probable classes. Either the network '
            'or the label is wrong: look.'
        ),
        page.cards(cards),
    ]


def _sheets(found: Inspection) -> list[Markup]:
    dataset, index = found.dataset, found.dataset.index
    counts = np.bincount(index.labels, minlength=len(dataset.labels))
    present = np.flatnonzero(counts)
    shown = present[: SHEETS_BYTES // _LEAST_SHEET]
    most = SHEETS_BYTES // max(len(shown), 1)
    cells = min(_CELLS, max(1, most // _CELL_BYTES))
    blocks = [
        page.text(f'The middle frame of {cells} clips of each class, or of all that it has, spread over the dataset.')
    ]
    if len(shown) < len(present):
        blocks.append(page.text(f'{len(shown):,} of {len(present):,} classes are shown.'))
    for label in shown:
        clips = np.flatnonzero(index.labels == label)
        clips = clips[spread(len(clips), min(cells, len(clips)))]
        images = [_frames_of(found, clip, 1, pictures.CELL)[0] for clip in clips]
        name = readable(dataset.labels[label])
        ids = ', '.join(str(index.ids[clip]).rpartition('/')[2] for clip in clips)
        blocks.append(page.heading(f'{name}: {counted(counts[label], "clip")}'))
        blocks.append(page.picture(pictures.sheet(images, _COLUMNS, most), f'clips of {name}'))
        blocks.append(page.fold('Their names, row by row', page.text(ids)))
    return blocks


def _frames_of(found: Inspection, clip: int, count: int, cell: tuple[int, int]) -> list[Image.Image]:
    """`count` frames of a clip as pictures of the size `cell`. A frame that can't be decoded becomes a grey picture."""
    cells = []
    for frame in spread(found.dataset.index.num_frames(clip), count):
        try:
            cells.append(pictures.thumbnail(found.dataset.reader().read(clip, [frame])[0], cell))
        except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):  # the section on frames names the clip
            cells.append(Image.new('RGB', cell, (128, 128, 128)))
    return cells
