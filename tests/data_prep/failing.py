"""In place of `convert_clip`, for test_convert's workers: what goes wrong with clip a/2."""

import dataclasses
import os
import signal
import time
from pathlib import Path

from data_prep import example
from data_prep.example import Result
from data_prep.source import Clip
from vidcls.data import video
from vidcls.data.frame_storage import FrameStorage


def fail_on_2(clip: Clip, storage: FrameStorage, spool: Path) -> Result:
    video.resample = None  # whoever calls it
    return example.convert_clip(clip, dataclasses.replace(storage, fps=5.0) if clip.id == 'a/2' else storage, spool)


def crash_on_2(clip: Clip, storage: FrameStorage, spool: Path) -> Result:
    if clip.id == 'a/2':
        (spool / 'half').touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return example.convert_clip(clip, storage, spool)


def hang_on_2(clip: Clip, storage: FrameStorage, spool: Path) -> Result:
    if clip.id == 'a/2':
        (spool / 'half').touch()
        time.sleep(600)
    return example.convert_clip(clip, storage, spool)
