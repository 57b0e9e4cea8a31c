"""Decides which clip goes to which split: random splits, validation held out by group, splits as sums of parts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from data_prep.source import hash_order
from vidcls.errors import UserError

TRAIN, VALIDATION, TEST = 'train', 'validation', 'test'
Fractions = tuple[Fraction, Fraction, Fraction]  # of train, validation, test
DEFAULT: Fractions = (Fraction(8, 10), Fraction(1, 10), Fraction(1, 10))


def random_parts(labels: Mapping[str, int], seed: int, fractions: Fractions = DEFAULT) -> dict[str, str]:
    """Divides the clips of each class at random into the parts 'train', 'validation' and 'test'.

    Each part gets its fraction of the class, rounded down. The clips left over go to the first part whose
    fraction is positive. Each part whose fraction is positive gets at least one clip of a class, if the class has
    enough clips. Otherwise training gets the first clip and testing gets the second.

    If a class does not change, its clips keep their parts, whatever changes in other classes. If a class grows, some
    clips move to another part, because the order of clips is drawn from their names, and new names come between old
    names.

    Args:
      labels: clip id -> label.
      seed: the seed of the order of clips.
      fractions: the fractions of train, validation and test, which sum to 1.

    Returns:
      Clip id -> 'train', 'validation' or 'test'.
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
    """Returns how many clips of a class go to each split."""
    number = Counter({split: int(clips * fraction) for split, fraction in fractions.items()})
    number[next(split for split, fraction in fractions.items() if fraction)] += clips - number.total()
    first = [split for split in (TRAIN, TEST, VALIDATION) if fractions[split]]
    for split in first[:clips]:
        if not number[split]:
            number[split] += 1
            number[max(number, key=lambda name: number[name])] -= 1
    return number


def parse_fractions(text: str) -> Fractions:
    """Parses '0.7,0.15,0.15' as the exact fractions of train, validation and test.

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
    """Chooses groups to hold out for validation. Each is held out whole, so that training has no clip of the group.

    The aim is about a tenth of the clips of each class, and at least one clip of each class that has three or more. The
    groups are tried in a random order. A group is taken if one of its classes still has too few validation clips and
    none of its classes would get more than twice its tenth. The second condition is needed because a group may span
    several classes (a film with several actions), and may have more than half of a class's clips.

    Args:
      clips: (group, label) of each training clip.
      seed: the seed of the order.
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
    """Moves about a tenth of each official training list to validation, in whole groups (see `held_out_groups`).

    Args:
      roles: clip id -> the clip's roles ('train', 'test'...) in the official splits 1, 2, 3...
      groups: clip id -> the film or recording that the clip was cut from.
      labels: clip id -> label.
      seed: the seed of the order in which groups are tried.

    Returns:
      A copy of `roles` in which some 'train' have become 'validation'.
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
    """Returns the official splits as sums of parts. A part has the clips of one combination of roles.

    Args:
      roles: each clip's roles in the official splits 1, 2, 3..., such as ('train', 'test', 'validation').

    Returns:
      Name of a split ('train1', 'validation1', 'test1', 'train2'...) -> names of its parts (see `part_name`).
    """
    combinations = sorted(set(roles))
    sums = {
        f'{role}{number + 1}': [part_name(c) for c in combinations if c[number] == role]
        for number in range(len(combinations[0]) if combinations else 0)
        for role in (TRAIN, VALIDATION, TEST)
    }
    return {name: parts for name, parts in sums.items() if parts}


def part_name(roles: tuple[str, ...]) -> str:
    """Returns the name of the part for clips that have these roles in the official splits 1, 2, 3..."""
    return '_'.join(roles)
