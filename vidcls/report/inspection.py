"""Finds what may be wrong with a dataset.

Clips may be in the dataset twice, be in both training and testing, show nothing, or seem mislabelled.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vidcls.data.dataset import Dataset
from vidcls.errors import UserError
from vidcls.report import duplicates
from vidcls.report.duplicates import Alike
from vidcls.report.looks import ClipLooks, look
from vidcls.report.scored import scored
from vidcls.run.stored_results import StoredResult
from vidcls.text.names import counted, readable

SHORT = 8  # frames; a clip with fewer gives most networks the same frame several times
_SUSPECTS = 200  # the most suspects that are kept
_TOP = 3


class Suspect(NamedTuple):
    """A clip whose label a run finds unlikely.

    Attributes:
      clip: the clip's number in the dataset's index.
      probability: the probability of the clip's label.
      ranking: the most probable classes, each as (label, probability), best first.
    """

    clip: int
    probability: float
    ranking: list[tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found in a dataset.

    Attributes:
      equal: groups of clips with the same bytes.
      copies: pairs in crossing splits that show the same pictures and are not equal, nearest first.
      scenes: pairs in crossing splits that are of one scene.
      num_more: the number of pairs in crossing splits that look the same and were too many to be looked at again.
      looks: what the frames of each clip look like.
      suspects: clips with unlikely labels, the least likely first.
      judge: the name of the run that found the suspects; '' if there was no run.
      unrated: the number of clips for which the run's logits are not finite.
    """

    dataset: Dataset
    equal: list[Alike]
    copies: list[Alike]
    scenes: list[Alike]
    num_more: int
    looks: list[ClipLooks]
    suspects: list[Suspect]
    judge: str
    unrated: int

    def clips(self, wanted: Callable[[ClipLooks], Any]) -> list[int]:
        """The numbers of the clips for which `wanted`, a function of a clip's looks, is true."""
        return [clip for clip, looks in enumerate(self.looks) if wanted(looks)]

    @property
    def seconds(self) -> np.ndarray:
        """The length of each clip, float64[n], seconds."""
        return np.diff(self.dataset.index.first) / self.dataset.index.fps.astype(float)

    @property
    def short(self) -> np.ndarray:
        """The clips with fewer than SHORT frames, int64[m]."""
        return np.flatnonzero(np.diff(self.dataset.index.first) < SHORT)

    def crossed(self, groups: Sequence[Alike]) -> list[Alike]:
        """The groups that have clips in two crossing splits, which must have nothing in common."""
        part, cross = duplicates.crossing(self.dataset)
        return [each for each in groups if cross[np.ix_(parts := np.unique(part[[*each.clips]]), parts)].any()]

    def relabelled(self, groups: Sequence[Alike]) -> list[Alike]:
        """The groups whose clips have different labels."""
        return [each for each in groups if len(np.unique(self.dataset.index.labels[[*each.clips]])) > 1]

    def splits_of(self, clip: int) -> list[str]:
        return [name for name, clips in self.dataset.splits.items() if clip in clips]


def inspect(
    dataset: Dataset, judged: StoredResult | None = None, progress: Callable[[int], None] = lambda done: None
) -> Inspection:
    """Looks at every clip of a dataset.

    Args:
      judged: an evaluation on a split of this dataset, by which the unlikely labels are found.
      progress: is called with the number of clips that have been looked at.

    Raises:
      UserError: the evaluation is of another dataset.
    """
    suspects = find_suspects(dataset, judged) if judged else []
    equal = duplicates.equal_clips(dataset)
    looks = look(dataset, progress)
    hashes, known = np.stack([each.hashes for each in looks]), np.array([each.textured for each in looks])
    group_of = np.arange(len(looks))  # a clip that equals no other is a group of its own
    for clips, _ in equal:
        group_of[[*clips]] = clips[0]
    others, count = duplicates.near_pairs(hashes, known, *duplicates.crossing(dataset), group_of)
    reader = dataset.reader()
    copied = [duplicates.is_copy(dataset, reader, pair) for pair in others]
    copies, scenes = ([pair for pair, copy in zip(others, copied) if copy is which] for which in (True, False))
    judge, unrated = (judged.run, int((~scored(judged).finite).sum())) if judged else ('', 0)
    return Inspection(dataset, equal, copies, scenes, count - len(others), looks, suspects, judge, unrated)


def find_suspects(dataset: Dataset, judged: StoredResult) -> list[Suspect]:
    """The clips that an evaluation got wrong, those with the least likely labels first.

    Raises:
      UserError: the evaluation has other clips or other labels than the dataset.
    """
    clips, split = scored(judged), judged.scores['split']
    if judged.classes != dataset.labels or split not in dataset.splits:
        raise UserError(f'{judged.path}: its labels or its split {split!r} are not those of {dataset.folder}')
    if judged.scores.get('dataset_digest') != (digest := dataset.digest(split)):
        raise UserError(
            f'{judged.path}: was evaluated on {judged.scores.get("dataset_digest")!r:.40}, and {split!r} of '
            f'{dataset.folder} is {digest!r}: evaluate the run on this dataset, with --data'
        )
    number = {name: clip for clip, name in enumerate(dataset.index.ids.tolist())}
    found = [
        Suspect(
            number[str(clips.ids[place])],
            float(clips.probabilities[place, clips.labels[place]]),
            clips.top(int(place), _TOP),
        )
        for place in np.flatnonzero(clips.finite & ~clips.hit).tolist()
    ]
    return sorted(found, key=lambda suspect: suspect.probability)[:_SUSPECTS]


def summary(found: Inspection) -> list[str]:
    """What was found, in lines for a terminal."""
    dataset, index, seconds = found.dataset, found.dataset.index, found.seconds
    frames, length = len(index.offset), f'{seconds.min():.1f} to {seconds.max():.1f} s'
    size = f'{counted(len(index), "clip")} of {counted(len(dataset.labels), "class")}, {counted(frames, "frame")}, {seconds.sum() / 3600:.2f} hours'
    lines = [
        f'{dataset.name}: {size}; {length} a clip',
        *_alike(found, 'same bytes', 'group', found.equal),
        *_alike(found, 'same pictures, across splits', 'pair', found.copies),
        *_alike(found, 'same scene, across splits', 'pair', found.scenes),
    ]
    for what, clips in problems(found).items():
        some = ', '.join([*index.ids[clips[:3]].tolist(), *(['...'] if len(clips) > 3 else [])])
        lines.append(f'{what}: {len(clips)} ({some})' if some else f'{what}: 0')
    for suspect in found.suspects[:3]:
        said, probability = suspect.ranking[0]
        lines.append(
            f'unlikely label: {index.ids[suspect.clip]} is {dataset.labels[index.labels[suspect.clip]]} '
            f'({100 * suspect.probability:.2g} %), {found.judge} says {said} ({100 * probability:.0f} %)'
        )
    return [readable(line) for line in lines]


def problems(found: Inspection) -> dict[str, np.ndarray]:
    """For each kind of problem, the clips that have it, int64[m]."""
    kinds = {
        'clips with frozen frames': found.clips(lambda looks: looks.frozen[1]),
        'clips with black frames': found.clips(lambda looks: looks.black),
        'clips with frames of one colour': found.clips(lambda looks: looks.flat > looks.black),
        'clips with frames that are broken': found.clips(lambda looks: looks.broken),
        f'clips with fewer than {SHORT} frames': found.short.tolist(),
    }
    return {name: np.array(clips, np.int64) for name, clips in kinds.items()}


def as_json(found: Inspection) -> dict[str, Any]:
    """All that was found, ready to be written as JSON. Clips are named by their ids."""
    index, labels = found.dataset.index, found.dataset.labels
    name = lambda clip: str(index.ids[clip])

    def alike(clips: Sequence[int], bits: int | None) -> dict[str, Any]:
        return {
            'ids': [name(clip) for clip in clips],
            'labels': [labels[index.labels[clip]] for clip in clips],
            'crosses': duplicates.crossed_splits(found.dataset, clips),
        } | ({} if bits is None else {'bits': bits})

    return {
        'dataset': found.dataset.name,
        'clips': len(index),
        'splits': {split: len(clips) for split, clips in found.dataset.splits.items()},
        'same_bytes': [alike(*each) for each in found.equal],
        'same_pictures': [alike(*each) for each in found.copies],
        'same_scene': [alike(*each) for each in found.scenes],
        'more_pairs_that_look_the_same': found.num_more,
        **{what.replace(' ', '_'): [name(clip) for clip in clips] for what, clips in problems(found).items()},
        'unlikely_labels': [
            {'id': name(each.clip), 'label': labels[index.labels[each.clip]], 'probability': each.probability,
             'ranking': each.ranking}
            for each in found.suspects
        ],
    }  # fmt: skip


def _alike(found: Inspection, what: str, group: str, groups: Sequence[Alike]) -> list[str]:
    ids = found.dataset.index.ids
    lines = [f'{what}: {counted(len(groups), group)}, {len(found.relabelled(groups))} with different labels']
    for clips, _ in (found.crossed(groups) or groups)[:3]:
        where = ', '.join(duplicates.crossed_splits(found.dataset, clips)) or 'in one split'
        more = f' and {len(clips) - 2} more' if len(clips) > 2 else ''
        lines.append(f'  {ids[clips[0]]} and {ids[clips[1]]}{more} ({where})')
    return lines
