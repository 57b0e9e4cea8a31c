"""Imports of peers that need help."""

from types import ModuleType


def torchvision() -> ModuleType:
    """torchvision, also where it was built for another torch than the installed one and its plain import fails.

    The package index has torchvision for CUDA alone. Beside a torch for CPUs, operators that its import names are missing;
    they are declared here. Call this before importing timm or transformers, which import torchvision too.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for name in ('nms', 'qnms'):
            library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        _LIBRARIES.append(library)
        import torchvision
    return torchvision


_LIBRARIES = []  # keeps the libraries, and with them the operators, alive
