"""The protocol of an evaluation: the fields of its JSON file beside the scores, and what each of them decides."""

from collections.abc import Callable
from typing import NamedTuple


class Field(NamedTuple):
    """One field.

    Attributes:
      words: its name on a page; '' where no page shows it.
      decides: 'clips': which clips are looked at; 'scores': by what network they are looked at, and how; 'origin': from where
        parameters or weights come; 'none': two results that differ in it alone are the same evaluation.
      listed: whether a fusion has a list of its runs' values where these differ.
      told: whether it is named where a user must choose one of several evaluations.
      compared: whether two evaluations must agree in it to be compared, unless the user says otherwise. What a network needs
        for itself, such as its frames, may differ.
    """

    words: str
    decides: str
    listed: bool = False
    told: bool = False
    compared: bool = False


FIELDS = {
    'dataset': Field('dataset', 'clips', listed=True),
    'split': Field('split', 'clips', told=True),
    'dataset_digest': Field('digest of the split', 'clips', listed=True, compared=True),
    'data_dir': Field('', 'none', listed=True),
    'model': Field('network', 'scores', listed=True),
    'checkpoint_step': Field('checkpoint, step', 'origin', listed=True, told=True),
    'checkpoint': Field('chosen as', 'none'),
    'ema': Field('moving averages', 'scores', told=True),
    'clips': Field('views in time', 'scores', listed=True, told=True, compared=True),
    'crops': Field('views in space', 'scores', listed=True, told=True, compared=True),
    'frames_per_clip': Field('frames of a view', 'scores', listed=True, told=True),
    # The run's own. Results that were written before there was another one don't have it.
    'modality': Field('seen of a frame', 'none', listed=True),
    'sampling': Field('sampling', 'scores'),
    'view_offset': Field('single view at', 'scores'),
    'short_side': Field('short side (pixels)', 'scores', told=True),
    'crop_size': Field('window (pixels)', 'scores'),
    'average': Field('averaged over views', 'scores', told=True),
    'fused': Field('fused runs', 'scores'),
    'weights': Field('weights', 'scores'),
    'weights_from': Field('weights from', 'origin'),
}


def fields_where(wanted: Callable[[Field], bool]) -> tuple[str, ...]:
    """The fields that are wanted, such as `fields_where(lambda field: field.told)`."""
    return tuple(name for name, field in FIELDS.items() if wanted(field))
