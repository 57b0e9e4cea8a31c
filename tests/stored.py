"""Evaluations made by hand, as `vidcls.run.results` stores them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

PROTOCOL = {
    'dataset': 'made 1.0.0', 'dataset_digest': '0badcafe', 'data_dir': '/nowhere', 'split': 'test', 'checkpoint_step': 3,
    'checkpoint': 'best', 'ema': False, 'model': 'tsn_tiny', 'clips': 1, 'crops': 1, 'frames_per_clip': 3,
    'modality': 'rgb', 'sampling': 'segments', 'view_offset': 'centre', 'short_side': 32, 'crop_size': 24, 'average': 'probabilities',
}  # fmt: skip


def store(
    folder: Path, ids: list[str], labels: Any, logits: Any, classes: list[str], name: str = 'made-test', **protocol: Any
) -> Path:
    """Writes labels.txt, eval/<name>.json and .npz; returns the JSON file.

    Args:
      logits: [n k] or [n v k].
      protocol: what differs from PROTOCOL.
    """
    logits = np.asarray(logits, np.float32)
    logits = logits[:, None] if logits.ndim == 2 else logits
    path = folder / 'eval' / f'{name}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / 'labels.txt').write_text(''.join(f'{label}\n' for label in classes), encoding='utf-8')
    np.savez(path.with_suffix('.npz'), ids=np.array(ids), labels=np.array(labels, np.int32), logits=logits)
    path.write_text(json.dumps({**PROTOCOL, **protocol}))
    return path
