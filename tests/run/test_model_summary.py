"""The table of parameters and the count of operations of a network that can be worked out by hand."""

import flax.linen as nn
import jax
import numpy as np

from vidcls import models
from vidcls.config import AugmentConfig, Config, SamplingConfig
from vidcls.run import model_summary


class Linear(nn.Module):
    @nn.compact
    def __call__(self, video, train: bool = False):
        return nn.Dense(10, name='head')(video.reshape(len(video), -1))


def test_a_matrix_product_by_hand():
    config = Config(sampling=SamplingConfig(num_segments=2), augment=AugmentConfig(crop_size=4))
    variables = Linear().init(jax.random.key(0), np.zeros((1, 2, 4, 4, 3), np.float32))
    # 96 values by 10 classes, multiplied and added, and 10 biases: 1,930 within a rounding.
    assert model_summary.forward_cost(Linear(), variables, config) == '1.93e-06 GFLOP a clip'


def test_a_fused_kernel_is_counted_as_what_it_does():
    config = Config(sampling=SamplingConfig(num_segments=2), augment=AugmentConfig(crop_size=32))
    model = models.build('timesformer_tiny', 8, num_frames=2, image_size=32, depth=1)
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 32, 32, 3), np.float32))
    fused = model.clone(attention_implementation='cudnn')
    plain = model.clone(attention_implementation='xla')
    assert (
        model_summary.forward_flops(fused, variables, config)
        == model_summary.forward_flops(plain, variables, config)
        > 0
    )


def test_without_the_cpu_nothing_is_counted(monkeypatch):
    def absent(backend):
        raise RuntimeError(f'Unknown backend {backend}')

    monkeypatch.setattr(jax, 'local_devices', absent)
    assert model_summary.forward_cost(Linear(), {}, Config()) == 'FLOP unknown'


def test_blocks_of_one_kind_are_a_row_and_all_is_counted():
    model = models.build('timesformer_tiny', 8, num_frames=2, image_size=32, depth=3)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 2, 32, 32, 3), np.float32)))['params']
    rows = [line.split() for line in model_summary.table(params).splitlines()]
    assert [row[0] for row in rows] == [
        'blocks_*', 'cls_token', 'head', 'norm', 'patch_embed/proj', 'pos_embed', 'time_embed',
    ]  # fmt: skip
    head = rows[2]
    assert head[:4] == ['head', '2', 'arrays', '776']  # 96 by 8 and 8
    assert sum(int(row[3].replace(',', '')) for row in rows) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(int(row[1]) for row in rows) == len(jax.tree.leaves(params))
    net = {'backbone': {'layer1_0': {'w': np.zeros(6)}, 'layer1_1': {'w': np.zeros(2)}}, 'head': {'w': np.zeros(8)}}
    assert [line.split() for line in model_summary.table(net).splitlines()] == [
        ['backbone/layer1_*', '2', 'arrays', '8', 'parameters', '50.0', '%'],
        ['head', '1', 'arrays', '8', 'parameters', '50.0', '%'],
    ]
