"""Describes the machine and the versions with which a measurement was made."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

_LIBRARIES = ('jax', 'jaxlib', 'flax', 'tensorflow-cpu', 'av', 'simplejpeg', 'torch', 'opencv-python-headless')
_VECTORS = ('avx512f', 'avx2', 'avx', 'asimd')  # vector instructions, the widest first


def describe() -> dict[str, str]:
    """The date, the processor, the number of cores, and the versions of Python and of the installed libraries."""
    return {
        'date': datetime.date.today().isoformat(),
        'processor': _processor(),
        'cores': str(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()),
        'python': platform.python_version(),
    } | {name: version for name in _LIBRARIES if (version := _version(name))}


def _processor() -> str:
    """The processor's name and its widest vector instructions, which decide how fast networks are."""
    cpuinfo = Path('/proc/cpuinfo')
    facts = dict.fromkeys(('model name', 'flags'), '')
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        name, _, value = (part.strip() for part in line.partition(':'))
        facts[name] = facts.get(name) or value
    vectors = next((name for name in _VECTORS if name in facts['flags'].split()), '')
    return ', '.join(filter(None, (facts['model name'] or platform.processor() or platform.machine(), vectors)))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ''
