"""Flags of scripts that take one run, or several runs that answer together.

--workdir=A --workdir=B --weights=1,1.5
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch
from vidcls.errors import UserError

if TYPE_CHECKING:
    from vidcls.ranking import Ranks

# This flag replaces the flag of `launch`, which takes one folder.
_WORKDIRS = flags.DEFINE_multi_string(
    'workdir', None, 'Folder of the run; given several times, the runs answer together.', allow_override=True
)
_WEIGHTS = flags.DEFINE_list('weights', [], 'Of several runs: a weight of each, in their order; without, all the same.')
flags.register_validator('workdir', lambda names: not names or all(names), message='--workdir is empty; name a folder')


def load(checkpoint_name: str, clips: int = 0, crops: int = 0, settings: Mapping[str, Any] | None = None) -> 'Ranks':
    """Loads the classifier of the work directory, or the fusion of several work directories.

    Arguments and errors are those of `Classifier.load`.
    """
    from vidcls.fused import Fused
    from vidcls.predict import Classifier

    folders = _WORKDIRS.value
    if len(folders) > 1:
        return Fused.load(folders, launch.weights(_WEIGHTS.value), checkpoint_name, clips, crops, settings)
    if _WEIGHTS.value:
        raise UserError('--weights goes with several --workdir')
    return Classifier.load(folders[0], checkpoint_name, clips, crops, settings)
