"""Imports of peers that need help."""

from types import ModuleType


def torchvision() -> ModuleType:
    """Imports torchvision, even if it was built for another torch than the installed one and its plain import fails.

    The package index only has a torchvision for CUDA. Beside a torch for CPUs, its import fails because some operators
    are missing; this function declares them. Call it before importing timm or transformers, which import torchvision
    too.
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


_LIBRARIES = []  # keeps the libraries alive, and so the operators that they declare
