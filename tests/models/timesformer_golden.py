"""What transformers' TimeSformer computes, kept in timesformer_golden.npz for test_timesformer.py.

    python -m tests.models.timesformer_golden      writes the file again; needs torch and transformers

Weights and input are drawn here from their names, so that the file holds results only: the logits of
the three ways of attending, and every gradient of the cross-entropy for divided attention. Nothing
starts at zero, and no two sizes are equal that could be taken for one another, but for the grid:
theirs is always square.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix('.npz')
CLIPS, FRAMES, IMAGE, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 2, 4, 24, 8, 32, 2, 4, 5
LABELS = np.array([3, 1])
ATTENTION = {'divided': 'divided_space_time', 'joint': 'joint_space_time', 'space': 'space_only'}


def drawn(name: str, shape) -> np.ndarray:
    """Float32 values that depend on a name of theirs and a shape in PyTorch's layout alone."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    if 'norm' in name and name.endswith('weight'):
        values = 1 + 0.2 * np.tanh(values)
    elif name.endswith('weight'):
        values /= np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def video() -> np.ndarray:
    """The input, [b t h w c]."""
    return drawn('video', (CLIPS, FRAMES, IMAGE, IMAGE, 3))


def main():
    import torch
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    def network(attention: str):
        config = TimesformerConfig(
            image_size=IMAGE, patch_size=PATCH, num_frames=FRAMES, hidden_size=WIDTH, num_hidden_layers=DEPTH,
            num_attention_heads=HEADS, intermediate_size=4 * WIDTH, num_labels=CLASSES, attention_type=attention,
            hidden_act='gelu', layer_norm_eps=1e-6,
        )  # fmt: skip
        net = TimesformerForVideoClassification(config).eval()
        net.load_state_dict({n: torch.from_numpy(drawn(n, tuple(p.shape))) for n, p in net.state_dict().items()})
        return net

    clips = torch.from_numpy(video()).permute(0, 1, 4, 2, 3)
    golden = {}
    for ours, theirs in ATTENTION.items():
        net = network(theirs)
        output = net(clips, output_hidden_states=True)
        logits = output.logits
        if ours == 'space':  # theirs classifies each frame; the authors' code averages them before the last norm
            tokens = output.hidden_states[-1].unflatten(0, (CLIPS, FRAMES)).mean(1)
            logits = net.classifier(net.timesformer.layernorm(tokens)[:, 0])
        golden[f'logits {ours}'] = logits
        if ours == 'divided':
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS)).backward()
            golden |= {f'grad {name}': p.grad for name, p in net.named_parameters()}
    np.savez_compressed(FILE, **{name: value.detach().numpy() for name, value in golden.items()})


if __name__ == '__main__':
    main()
