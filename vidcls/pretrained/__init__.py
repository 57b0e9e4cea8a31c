"""Weights of other frameworks -> our variables, with the same outputs; and back.

    converted = pretrained.load('resnet50.safetensors', model, model.init(...))
    logits = model.apply(converted.variables, video)

docs/pretrained.md lists what loads and where its users get the files. Of the modules here `convert` has the procedure,
`layout` the form of a table, `resnet`, `inception` and `transformer` the tables, `reading` the files.
"""

from vidcls.pretrained.convert import LAYOUTS, Converted, convert, export, load
from vidcls.pretrained.reading import read, save, sha256

__all__ = ['LAYOUTS', 'Converted', 'convert', 'export', 'load', 'read', 'save', 'sha256']
