"""Who goes where: random splits, validation held out by group, splits as sums of parts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from data_prep.clips import hash_order

TRAIN, VALIDATION, TEST = 'train', 'validation', 'test'


def random_parts(labels: Mapping[str, int], seed: int) -> dict[str, str]:
    """80/10/10 of each class, drawn: of every ten clips one goes to validation and one to test.

    A class has at least one clip in each where it has three or more; of two, one is for testing.

    Args:
      labels: id -> label.

    Returns:
      id -> 'train', 'validation' or 'test'.
    """
    by_label = defaultdict(list)
    for name, label in labels.items():
        by_label[label].append(name)
    parts = {}
    for names in by_label.values():
        held = max(1, len(names) // 10)
        drawn = hash_order(names, seed)
        num_test = held if len(names) >= 2 else 0
        num_validation = held if len(names) >= 3 else 0
        for place, name in enumerate(drawn):
            if place < num_test:
                parts[name] = TEST
            else:
                parts[name] = VALIDATION if place < num_test + num_validation else TRAIN
    return parts


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
