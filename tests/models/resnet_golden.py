"""What PyTorch computes for a small TSN-ResNet, kept in resnet_golden.npz for test_resnet.py.

    python -m tests.models.resnet_golden      writes the file again; needs torch

Weights and input are drawn here from their names, so that the file holds results only: the logits
at evaluation and in training (dropout off), every gradient of the cross-entropy, and the running
statistics after that training step. The image's sides are odd: paddings on the wrong side show.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix('.npz')
STAGE_SIZES, WIDTH, CLASSES = (1, 2), 4, 5
CLIPS, SEGMENTS, HEIGHT, WIDE = 2, 3, 45, 37
LABELS = np.array([3, 1])


def drawn(name: str, shape) -> np.ndarray:
    """Float32 values that depend on a torchvision name and a shape in PyTorch's layout alone."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    if name.endswith('running_var') or (len(shape) == 1 and name.endswith('weight')):
        values = 1 + 0.2 * np.tanh(values)
    elif len(shape) > 1 and name != 'video':
        values /= np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def video() -> np.ndarray:
    """The input, [b t h w c]."""
    return drawn('video', (CLIPS, SEGMENTS, HEIGHT, WIDE, 3))


def main():
    import torch

    from benchmarks.torch_resnet import ResNet

    net = ResNet(STAGE_SIZES, WIDTH, CLASSES)
    state = {
        name: torch.from_numpy(drawn(name, tuple(value.shape)))
        for name, value in net.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    net.load_state_dict(state, strict=False)
    frames = torch.from_numpy(video().reshape(-1, HEIGHT, WIDE, 3)).permute(0, 3, 1, 2)

    def clip_logits():
        return net(frames).view(CLIPS, SEGMENTS, -1).mean(1)

    golden = {}
    with torch.no_grad():
        net.eval()
        golden['eval_logits'] = clip_logits()
    net.train()
    golden['train_logits'] = clip_logits()
    loss = torch.nn.functional.cross_entropy(golden['train_logits'], torch.from_numpy(LABELS))
    loss.backward()
    golden |= {f'grad {name}': p.grad for name, p in net.named_parameters()}
    golden |= {f'stat {name}': b for name, b in net.named_buffers() if 'running' in name}
    np.savez_compressed(FILE, **{name: value.detach().numpy() for name, value in golden.items()})


if __name__ == '__main__':
    main()
