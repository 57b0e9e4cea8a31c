"""Writes files so that they exist whole or not at all, even after a kill."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A context that gives another path to write to, beside `path`.

    The file written there replaces `path` when the block ends, and is deleted if the block fails.
    """
    partial = path.with_name(f'.partial-{path.name}')  # the same ending, by which some libraries choose the format
    partial.unlink(missing_ok=True)  # what a kill left behind, or a link that leads elsewhere
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding='utf-8')
