"""The outcome of a conversion: the clips that were skipped or used in part, and the metadata that counts them."""

import dataclasses
from collections import Counter
from typing import Any

from absl import logging

from data_prep import records
from data_prep.options import Options
from data_prep.source import Clip, Source
from vidcls.errors import UserError
from vidcls.text.names import readable


@dataclasses.dataclass
class Outcome:
    """The outcome of a conversion.

    Attributes:
      failures: (path, reason) of each clip that was skipped.
      damaged: (path, reason) of each clip that was used in part.
      num_frames: the number of stored frames of all clips.
      failed_by_label: how many clips of each label were skipped.
    """

    failures: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    damaged: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    num_frames: int = 0
    failed_by_label: Counter[int] = dataclasses.field(default_factory=Counter)

    def add_problem(self, clip: Clip, problem: str, skipped: bool, strict: bool) -> None:
        """Counts and logs a clip that is skipped or used in part.

        Raises:
          UserError: `strict` is true.
        """
        path = str(clip.files[0])
        shown = readable(path)
        if strict:
            raise UserError(f'{shown}: {problem}; without --strict such files are skipped')
        if skipped:
            self.failures.append((path, problem))
            self.failed_by_label[clip.label] += 1
            logging.warning('skipped %s: %s', shown, problem)
        else:
            self.damaged.append((path, problem))
            logging.warning('used in part %s: %s', shown, problem)


def check_classes(source: Source, outcome: Outcome) -> None:
    """Raises UserError if every video of some class failed, since skipping clips must not lose a class."""
    total = Counter(clip.label for clip in source.clips)
    lost = [source.labels[k] for k, n in total.items() if n == outcome.failed_by_label[k]]
    if lost:
        first = outcome.failures[0]
        raise UserError(
            f'every video of {", ".join(sorted(lost))} failed ({readable(first[0])}: {first[1]}); '
            'repair the files or take the class out'
        )


def describe(source: Source, options: Options, outcome: Outcome, stored: dict[str, int]) -> Any:
    """Returns the dataset's metadata (see `records.metadata`).

    Args:
      stored: part of a split -> number of clips that were stored in it.
    """
    return records.metadata(
        source,
        options.storage,
        stored,
        num_clips_in_source=len(source.clips),
        num_failed=len(outcome.failures),
        num_damaged=len(outcome.damaged),
    )
