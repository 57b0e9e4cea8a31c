"""The PyTorch peers of the benchmarks of networks: their train steps and forward passes, on random clips."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers, torch_eco, torch_resnet


def tasks(
    peer: str, case: Any, size: int, threads: int, sgd: dict[str, float], device: str = 'cpu', dtype: str = 'float32'
) -> dict[str, Callable]:
    """The tasks of a peer: 'train', a train step; 'infer', a forward pass; and 'count', the forward pass's operations.

    On a GPU, the tasks do not wait for their results.

    Args:
      peer: the peer's name. 'channels-last' in the name selects this layout, and 'compiled' selects torch.compile for
        the forward pass.
      case: the network and the size of its batch, such as `models.Case`.
      dtype: 'bfloat16' selects autocast.
    """
    torch.set_num_threads(threads)
    cast = lambda: torch.autocast(device, torch.bfloat16, enabled=dtype == 'bfloat16')
    net, logits = _BUILDERS[case.model.split('_')[0]](case.model, case.classes)
    net, video = net.to(device), torch.randn(case.clips, case.frames, 3, size, size, device=device)
    if 'channels-last' in peer:
        net = net.to(memory_format=torch.channels_last)
        video = video.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, video.shape[:2])
    labels = torch.arange(case.clips, device=device) % case.classes
    optimizer = torch.optim.SGD(net.parameters(), **sgd)
    forward = torch.compile(logits) if 'compiled' in peer else logits

    def train():
        net.train()
        optimizer.zero_grad()
        with cast():
            loss = torch.nn.functional.cross_entropy(logits(video), labels)
        loss.backward()
        optimizer.step()

    def infer():
        net.eval()
        with torch.inference_mode(), cast():
            return forward(video)

    def count():
        with FlopCounterMode(display=False) as counter:
            infer()
        return counter.get_total_flops()

    return {'train': train, 'infer': infer, 'count': count}


def _tsn(name: str, classes: int):
    net = torch_resnet.ResNet((3, 4, 6, 3), 64, classes)
    return net, lambda video: net(video.flatten(0, 1)).unflatten(0, video.shape[:2]).mean(1)


def _eco(name: str, classes: int):
    net = torch_eco.Net(name, classes)
    return net, net


def _timesformer(name: str, classes: int):
    peers.torchvision()
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    net = TimesformerForVideoClassification(TimesformerConfig(num_labels=classes, num_frames=8))
    return net, lambda video: net(video).logits


_BUILDERS = {'tsn': _tsn, 'eco': _eco, 'timesformer': _timesformer}
