"""The peers' own troubles."""

from types import ModuleType


def torchvision() -> ModuleType:
    """torchvision, whose import fails where it was built for another torch than the one installed.

    The package index has it for CUDA alone; beside a CPU's torch it lacks operators that its import names. timm and
    transformers import it too, so this comes before them.
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


_LIBRARIES = []  # an operator lives as long as the library that defined it
