"""Which clip goes to which split: random splits, validation held out by group, splits as sums of parts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from data_prep.source import hash_order
from vidcls.errors import UserError

TRAIN, VALIDATION, TEST = 'train', 'validation', 'test'
Fractions = tuple[Fraction, Fraction, Fraction]  # of train, validation, test
DEFAULT: Fractions = (Fraction(8, 10), Fraction(1, 10), Fraction(1, 10))


def random_parts(labels: Mapping[str, int], seed: int, fractions: Fractions = DEFAULT) -> dict[str, str]:
    """Divides each class by the fractions, rounded down; the rest goes to the first split of a positive fraction.

    Each split of a positive fraction gets at least one clip of a class, where the class has so many clips; of fewer clips,
    training gets the first and testing the second.

    A class that does not change keeps its parts, whatever changes in other classes. In a class that grows, some clips move
    to another part, since the order of clips is drawn from their names, and new names stand between the old ones.

    Args:
      labels: id -> label.
      seed: of the order of clips.
      fractions: of train, validation, test; they sum to 1.

    Returns:
      id -> 'train', 'validation' or 'test'.
    """
    by_label = defaultdict(list)
    for name, label in labels.items():
        by_label[label].append(name)
    parts: dict[str, str] = {}
    for names in by_label.values():
        number = _divide(len(names), dict(zip((TRAIN, VALIDATION, TEST), fractions, strict=True)))
        order = [TEST] * number[TEST] + [VALIDATION] * number[VALIDATION] + [TRAIN] * number[TRAIN]
        parts |= zip(hash_order(names, seed), order, strict=True)
    return parts


def _divide(clips: int, fractions: Mapping[str, Fraction]) -> Counter[str]:
    """How many of a class's clips go to each split."""
    number = Counter({split: int(clips * fraction) for split, fraction in fractions.items()})
    number[next(split for split, fraction in fractions.items() if fraction)] += clips - number.total()
    first = [split for split in (TRAIN, TEST, VALIDATION) if fractions[split]]
    for split in first[:clips]:
        if not number[split]:
            number[split] += 1
            number[max(number, key=lambda name: number[name])] -= 1
    return number


def parse_fractions(text: str) -> Fractions:
    """'0.7,0.15,0.15' -> the exact fractions of train, validation and test.

    Raises:
      UserError: the text is not three numbers from 0 to 1 that sum to 1.
    """
    try:
        train, validation, test = map(Fraction, text.split(','))
    except (ValueError, ZeroDivisionError):
        train = validation = test = Fraction(-1)
    if min(train, validation, test) < 0 or train + validation + test != 1:
        raise UserError(
            f'--split={text}: give the fractions of train, validation and test, three numbers from 0 to 1 that sum to 1, '
            'such as 0.7,0.15,0.15'
        )
    return train, validation, test


def held_out_groups(clips: Sequence[tuple[str, int]], seed: int) -> set[str]:
    """Groups to hold out for validation as a whole, so that no group has clips in training and in validation.

    They have about a tenth of each class, and at least one clip of a class that has three. Groups are
    taken in a drawn order. A group is taken if one of its classes has too few clips yet, and none would
    get more than twice its tenth: a group may span classes (one film, several actions), and may be the
    larger half of a class.

    Args:
      clips: (group, label) of each training clip.
      seed: of the order.
    """
    total = Counter(label for _, label in clips)
    quota = {label: max(1, round(n / 10)) if n >= 3 else 0 for label, n in total.items()}
    sizes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for group, label in clips:
        sizes[group][label] += 1
    held: Counter[int] = Counter()
    groups = set()
    for group in hash_order(sizes, seed):
        wanted = any(held[label] < quota[label] for label in sizes[group])
        fits = all(held[label] + n <= 2 * quota[label] for label, n in sizes[group].items())
        if wanted and fits:
            groups.add(group)
            held.update(sizes[group])
    return groups


def hold_out_validation(
    roles: Mapping[str, tuple[str, ...]],
    groups: Mapping[str, str],
    labels: Mapping[str, int],
    seed: int,
) -> dict[str, tuple[str, ...]]:
    """Turns about a tenth of each official training list into validation, by group (`held_out_groups`).

    Args:
      roles: clip id -> its role ('train', 'test'...) in official split 1, 2, 3...
      groups: clip id -> the film or recording that the clip was cut from.
      labels: clip id -> label.
      seed: of the order in which groups are taken.

    Returns:
      As `roles`, with 'validation' in place of some 'train'.
    """
    held = []
    for official in zip(*roles.values()):
        train = [name for name, role in zip(roles, official) if role == TRAIN]
        held.append(held_out_groups([(groups[name], labels[name]) for name in train], seed))
    return {
        name: tuple(
            VALIDATION if role == TRAIN and groups[name] in held[number] else role
            for number, role in enumerate(by_split)
        )
        for name, by_split in roles.items()
    }


def sums_of_parts(roles: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """The official splits as sums of parts; a part holds the clips of one combination of roles.

    Args:
      roles: of each clip in official split 1, 2, 3..., such as ('train', 'test', 'validation').

    Returns:
      'train1', 'validation1', 'test1', 'train2'... -> names of parts (`part_name`).
    """
    combinations = sorted(set(roles))
    sums = {
        f'{role}{number + 1}': [part_name(c) for c in combinations if c[number] == role]
        for number in range(len(combinations[0]) if combinations else 0)
        for role in (TRAIN, VALIDATION, TEST)
    }
    return {name: parts for name, parts in sums.items() if parts}


def part_name(roles: tuple[str, ...]) -> str:
    """The part that holds the clips of these roles in official split 1, 2, 3..."""
    return '_'.join(roles)
