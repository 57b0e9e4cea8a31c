"""Video action classification in JAX: TSN, ECO and TimeSformer, from raw videos to predictions.

    from vidcls import Classifier, Fused, Stream, models, train, evaluate

`Classifier` and `Stream` use a trained network, and `Fused` uses several. `models`, `train` and `evaluate` are modules,
with the functions `models.build`, `train.train` and `evaluate.evaluate`. JAX is imported with the first of these names,
not by `import vidcls`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidcls import evaluate, models, train
    from vidcls.fused import Fused
    from vidcls.predict import Classifier
    from vidcls.stream import Stream

__version__ = '0.2.0.dev0'

__all__ = ['Classifier', 'Fused', 'Stream', 'evaluate', 'models', 'train']

_CLASSES = {'Classifier': 'vidcls.predict', 'Fused': 'vidcls.fused', 'Stream': 'vidcls.stream'}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    if name in __all__:
        return importlib.import_module(f'vidcls.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
