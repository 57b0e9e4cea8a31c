"""Converts weights of other frameworks to variables of our networks and back. The outputs stay the same.

    converted = pretrained.load('resnet50.safetensors', model, model.init(...))
    logits = model.apply(converted.variables, video)

docs/pretrained.md lists what loads, and where users get the files. `conversion` converts a file; `fitting` fits one
array to one parameter. `layout` defines what a table of names is; `resnet`, `inception` and `transformer` contain the
tables. `fetching` downloads files. `reading` reads files by means of `zipped` (zip files and .npz), `pytorch`
(PyTorch's files), `pickled` and `admitted` (pickles), and `plain` (arrays).
"""

from vidcls.pretrained.conversion import LAYOUTS, Converted, convert, export, load, origin
from vidcls.pretrained.fetching import sha256
from vidcls.pretrained.reading import read, save

__all__ = ['LAYOUTS', 'Converted', 'convert', 'export', 'load', 'origin', 'read', 'save', 'sha256']
