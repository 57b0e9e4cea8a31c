"""Beside the other libraries themselves, on fresh numbers, where they are installed."""

import jax
import numpy as np
import pytest

from vidcls import models, pretrained

SIZES = {'num_frames': 4, 'image_size': 24, 'patch_size': 8, 'width': 32, 'depth': 2, 'num_heads': 4}


def test_an_exported_timesformer_gives_transformers_our_logits(tmp_path):
    torch, transformers = pytest.importorskip('torch'), pytest.importorskip('transformers')
    seed = np.random.SeedSequence().entropy % 2**32
    model = models.build('timesformer_tiny', 5, **SIZES, embedding_std=0.5)
    video = np.random.default_rng(seed).normal(size=(2, 4, 24, 24, 3)).astype(np.float32)
    init = jax.jit(model.init, compiler_options={'xla_backend_optimization_level': 0})
    variables = init(jax.random.key(seed), video)
    pretrained.save(tmp_path / 'model.safetensors', pretrained.export(variables, model, 'huggingface'))
    config = transformers.TimesformerConfig(
        image_size=24, patch_size=8, num_frames=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, num_labels=5,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    net, info = transformers.TimesformerForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info['missing_keys'] and not info['unexpected_keys']
    theirs = net.eval()(torch.from_numpy(video).permute(0, 1, 4, 2, 3)).logits.detach().numpy()
    np.testing.assert_allclose(model.apply(variables, video), theirs, atol=1e-4 * np.abs(theirs).max(), err_msg=f'{seed=}')


def test_an_exported_resnet_gives_torchvision_our_logits():
    torch, torchvision = pytest.importorskip('torch'), pytest.importorskip('torchvision')
    seed = np.random.SeedSequence().entropy % 2**32
    model = models.build('tsn_resnet50', 5)
    video = np.random.default_rng(seed).normal(size=(2, 1, 32, 32, 3)).astype(np.float32)
    init = jax.jit(model.init, compiler_options={'xla_backend_optimization_level': 0})
    variables = init(jax.random.key(seed), video)
    net = torchvision.models.resnet50(num_classes=5)
    arrays = pretrained.export(variables, model, 'torchvision')
    net.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    with torch.no_grad():
        theirs = net.eval()(torch.from_numpy(video[:, 0]).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(model.apply(variables, video), theirs, atol=1e-4 * np.abs(theirs).max(), err_msg=f'{seed=}')
