"""What PyTorch computes for ECO and BN-Inception at their published widths, kept in eco_golden.npz for test_eco.py.

    python -m tests.models.eco_golden      writes the file again; needs torch

Weights and input are drawn here from their names, so that the file holds results only: the logits at
evaluation. They are drawn so that the signal neither dies nor is drowned by biases on its way through
thirty layers; the logits of a clip and of its frames in reverse differ in their first digits. 64 x 64
pixels, because the published layers fit together only where every side is even before it is halved.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix('.npz')
KINDS = ('eco_full', 'eco_lite', 'tsn_bninception')
CLASSES, FRAMES, SIZE = 7, 4, 64


def drawn(name: str, shape) -> np.ndarray:
    """Float32 values that depend on a published name and a shape in PyTorch's layout alone."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if name == 'video':
        return values
    if name.endswith('running_var') or (len(shape) == 1 and name.endswith('weight')):
        return 1 + 0.2 * np.tanh(values)
    if len(shape) == 1:
        return 0.1 * values
    return values * np.float32(np.sqrt(2 / np.prod(shape[1:])))


def video() -> np.ndarray:
    """The input, [b t h w c]; the second clip is the first with its frames in reverse."""
    clip = drawn('video', (FRAMES, SIZE, SIZE, 3))
    return np.stack([clip, clip[::-1]])


def main():
    import torch

    from benchmarks.torch_eco import Net

    frames = torch.from_numpy(video()).permute(0, 1, 4, 2, 3)
    golden = {}
    for kind in KINDS:
        net = Net(kind, CLASSES).eval()
        state = {
            name: torch.from_numpy(drawn(name, tuple(value.shape)))
            for name, value in net.state_dict().items()
            if not name.endswith('num_batches_tracked')
        }
        net.load_state_dict(state, strict=False)
        with torch.no_grad():
            golden[kind] = net(frames).numpy()
    np.savez_compressed(FILE, **golden)


if __name__ == '__main__':
    main()
