"""What a script may write on standard error: the project's own lines."""

import re
from pathlib import Path

# 'I1127 12:00:44.628509 140263869881216 train.py:191] ' and what follows.
_LOGGED = re.compile(r'[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ (\w+\.py):\d+\] ')
_TABLE = re.compile(r'  \S+ +\d+ arrays +[\d,]+ parameters +[\d.]+ %$')  # below the line that begins a run
_ROOT = Path(__file__).resolve().parents[1]


def foreign(stderr: str) -> list[str]:
    """The lines that are not ours."""
    files = {path.name for room in ('vidcls', 'experiments', 'data_prep') for path in (_ROOT / room).rglob('*.py')}
    found = []
    for line in stderr.splitlines():
        logged = _LOGGED.match(line)
        ours = logged[1] in files if logged else line.startswith('error: ') or _TABLE.match(line)
        if not ours:
            found.append(line)
    return found
