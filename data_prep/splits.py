"""Who goes where: random splits, validation held out by group, splits as sums of parts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from data_prep.source import hash_order
from vidcls.errors import UserError

TRAIN, VALIDATION, TEST = 'train', 'validation', 'test'
Fractions = tuple[Fraction, Fraction, Fraction]  # of train, validation, test
DEFAULT: Fractions = (Fraction(8, 10), Fraction(1, 10), Fraction(1, 10))


def random_parts(labels: Mapping[str, int], seed: int, fractions: Fractions = DEFAULT) -> dict[str, str]:
    """Divides each class by the fractions, rounded down; what is left over goes to training, or else to validation.

    A class has at least one clip in each split of a positive fraction, where it has as many clips; if it has fewer,
    training comes first, then testing.

    A class that stays as it is keeps its parts, whatever is added elsewhere. In one that grows, some clips change
    theirs: a new clip takes its place among the others, in an order drawn from the names.

    Args:
      labels: id -> label.
      fractions: of train, validation, test; they sum to 1.

    Returns:
      id -> 'train', 'validation' or 'test'.
    """
    by_label = defaultdict(list)
    for name, label in labels.items():
        by_label[label].append(name)
    parts = {}
    for names in by_label.values():
        number = _divide(len(names), dict(zip((TRAIN, VALIDATION, TEST), fractions, strict=True)))
        order = [TEST] * number[TEST] + [VALIDATION] * number[VALIDATION] + [TRAIN] * number[TRAIN]
        parts |= zip(hash_order(names, seed), order, strict=True)
    return parts


def _divide(clips: int, fractions: Mapping[str, Fraction]) -> Counter:
    """How many of a class's clips go to each split."""
    number = Counter({split: int(clips * fraction) for split, fraction in fractions.items()})
    number[next(split for split, fraction in fractions.items() if fraction)] += clips - number.total()
    first = [split for split in (TRAIN, TEST, VALIDATION) if fractions[split]]
    for split in first[:clips]:
        if not number[split]:
            number[split] += 1
            number[max(number, key=number.get)] -= 1
    return number


def parse_fractions(text: str) -> Fractions:
    """'0.7,0.15,0.15' -> the fractions of train, validation and test, exactly.

    Raises:
      UserError: these are not three numbers from 0 to 1 that sum to 1.
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
    """Groups to hold out for validation, whole, so that no group lies on both sides.

    About a tenth of each class, at least one clip where the class has three. Groups are taken in a
    drawn order while one of their classes has too few, unless another would get twice its tenth: a
    group may span classes (one film, several actions), and may be a class's larger half.

    Args:
      clips: (group, label) of each training clip.
    """
    total = Counter(label for _, label in clips)
    quota = {label: max(1, round(n / 10)) if n >= 3 else 0 for label, n in total.items()}
    sizes = defaultdict(Counter)
    for group, label in clips:
        sizes[group][label] += 1
    held, groups = Counter(), set()
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
    """Turns about a tenth of each official training list into validation, by group.

    Args:
      roles: clip id -> what it is in official split 1, 2, 3...
      groups: clip id -> what it was cut from.
      labels: clip id -> label.

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
      roles: what each clip is in official split 1, 2, 3..., as ('train', 'test', 'validation').

    Returns:
      'train1', 'validation1', 'test1', 'train2'... -> names of parts (see `part_name`).
    """
    combinations = sorted(set(roles))
    sums = {
        f'{role}{number + 1}': [part_name(c) for c in combinations if c[number] == role]
        for number in range(len(combinations[0]) if combinations else 0)
        for role in (TRAIN, VALIDATION, TEST)
    }
    return {name: parts for name, parts in sums.items() if parts}


def part_name(roles: tuple[str, ...]) -> str:
    return '_'.join(roles)
