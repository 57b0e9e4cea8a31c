"""What torchvision, timm and transformers compute at full size, kept in full_size_golden.npz for test_full_size.py.

    python -m tests.pretrained.full_size_golden      writes the file again; needs torch, torchvision, timm and transformers

Weights and images are drawn from their names and shapes, so that the file holds logits alone, and the versions of
the libraries that made them. Pictures are small: what grows with them has no parameters.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix('.npz')
RESNETS = ('resnet50', 'resnet101', 'resnet152')
CLASSES, CLIPS, FRAMES, SIZE = 10, 2, 2, 32


def drawn(name: str, shape) -> np.ndarray:
    """Float32 values that depend on a name of theirs and a shape in PyTorch's order alone."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if name.endswith('running_var') or ('weight' in name and len(shape) == 1):
        return 1 + 0.2 * np.tanh(values)
    if len(shape) > 1 and name.endswith('weight'):
        return values / np.float32(np.sqrt(np.prod(shape[1:])))
    return values if name == 'video' else 0.3 * values


def video() -> np.ndarray:
    """The input, [b t h w c]."""
    return drawn('video', (CLIPS, FRAMES, SIZE, SIZE, 3))


def main():
    import timm
    import torch
    import torchvision
    import transformers

    frames = torch.from_numpy(video()).permute(0, 1, 4, 2, 3)

    def logits(net, images, field=None):
        state = {
            name: torch.from_numpy(np.ascontiguousarray(drawn(name, tuple(value.shape))))
            for name, value in net.state_dict().items()
            if not name.endswith('num_batches_tracked')
        }
        net.load_state_dict(state, strict=False)
        with torch.no_grad():
            output = net.eval()(images)
        return (output.logits if field else output).numpy()

    libraries = (torch, torchvision, timm, transformers)
    golden = {'versions': np.array([f'{library.__name__} {library.__version__}' for library in libraries])}
    for name in RESNETS:
        net = getattr(torchvision.models, name)(num_classes=CLASSES)
        golden[name] = logits(net, frames.flatten(0, 1)).reshape(CLIPS, FRAMES, -1).mean(1)
        names = {name: value.shape for name, value in timm.create_model(name, num_classes=CLASSES).state_dict().items()}
        assert names == {name: value.shape for name, value in net.state_dict().items()}  # timm's are torchvision's
    config = transformers.TimesformerConfig(image_size=SIZE, num_frames=FRAMES, num_labels=CLASSES)
    golden['timesformer_base'] = logits(transformers.TimesformerForVideoClassification(config), frames, 'logits')
    net = timm.create_model('vit_base_patch16_224', img_size=SIZE, num_classes=CLASSES)
    golden['vit_base'] = logits(net, frames[:, 0])
    np.savez_compressed(FILE, **golden)


if __name__ == '__main__':
    main()
