"""The protocol of an evaluation: the fields that its JSON file has beside the scores, and what each field decides."""

from collections.abc import Callable
from typing import NamedTuple


class Field(NamedTuple):
    """A field of the protocol.

    Attributes:
      words: the field's name on a page; '' if no page shows the field.
      decides: what the field decides. 'clips': which clips are looked at. 'scores': which network looks at them, and
        how. 'origin': where parameters or weights come from. 'none': nothing; two results that differ only in such
        fields are the same evaluation.
      listed: whether a fusion has a list of its runs' values if these differ.
      told: whether the field is named where a user must choose one of several evaluations.
      compared: whether two evaluations must agree in the field to be compared, unless the user says otherwise. Fields
        that a network needs for itself, such as its number of frames, may differ.
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
    # The modality of the run. Results that were written before there was a second modality don't have this field.
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
    """The names of the fields for which `wanted` is true, such as `fields_where(lambda field: field.told)`."""
    return tuple(name for name, field in FIELDS.items() if wanted(field))
