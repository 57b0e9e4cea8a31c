"""Weights of other frameworks -> our variables, with the same outputs; and back.

    converted = pretrained.load('resnet50.safetensors', model, model.init(...))
    logits = model.apply(converted.variables, video)

docs/pretrained.md lists what loads and where its users get the files. Of the modules here `convert` has the procedure,
`layout` the form of a table, `resnet`, `inception` and `transformer` the tables, `fetching` addresses, `reading` files.
"""

from vidcls.pretrained.conversion import LAYOUTS, Converted, convert, export, load, origin
from vidcls.pretrained.fetching import sha256
from vidcls.pretrained.reading import read, save

__all__ = ['LAYOUTS', 'Converted', 'convert', 'export', 'load', 'origin', 'read', 'save', 'sha256']
