"""The function that is exported, beside the code of evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from tests.export import small_runs
from vidcls.config import AugmentConfig
from vidcls.data.windows import view_windows
from vidcls.export.network import Network, traced_windows

AUGMENTS = (
    AugmentConfig(),
    AugmentConfig(short_side=256),
    AugmentConfig(short_side=40, crop_size=32),
    AugmentConfig(test_short_side=224),
)


@pytest.mark.parametrize('crops', [1, 3, 10])
@pytest.mark.parametrize('augment', AUGMENTS)
def test_windows_are_those_of_evaluation(augment, crops):
    sizes = np.random.default_rng(crops).integers(16, 500, (200, 2))
    traced = jax.jit(jax.vmap(lambda height, width: traced_windows(height, width, augment, crops)))(
        *jnp.asarray(sizes.T)
    )
    for (height, width), windows in zip(sizes.tolist(), np.asarray(traced)):
        np.testing.assert_array_equal(windows, view_windows(height, width, augment, crops), f'{height} x {width}')


@pytest.fixture(scope='module')
def network():
    config = small_runs.CONFIGS['tsn']
    return Network(config, small_runs.variables(config), 5)


def lowered(network, which, platforms, whole_frames=True) -> str:
    function = network.function(whole_frames, which)
    size = (32, 32) if not whole_frames else export.symbolic_shape('h, w')
    frames = jax.ShapeDtypeStruct((2, network.frames, *size, 3), np.uint8)
    return export.export(jax.jit(function), platforms=platforms)(network.variables, frames).mlir_module()


def test_the_cpus_forms_reach_no_other_backend(network):
    """tsn_micro has 1x1 convolutions, which are matrix products on a CPU, and one max pool."""
    for platform in ('cuda', 'tpu'):
        text = lowered(network, 'each', [platform], False)
        assert text.count('stablehlo.convolution') == 5 and text.count('stablehlo.reduce_window') == 1
    cpu = lowered(network, 'each', ['cpu'], False)
    assert cpu.count('stablehlo.convolution') < 5 and 'stablehlo.reduce_window' not in cpu
    all_at_once = lowered(network, 'each', ['cpu', 'cuda', 'tpu'])
    assert 'stablehlo.case' in all_at_once and all_at_once.count('stablehlo.reduce_window') == 1


def test_tracing_for_a_file_changes_nothing_here(network):
    model_step = lambda: str(jax.make_jaxpr(_step(network))(network.variables, jnp.zeros((1, 4, 32, 32, 3))))
    before = model_step()
    lowered(network, 'each', ['tpu'], False)
    assert model_step() == before


def _step(network):
    from vidcls.models.configured import build_model

    model = build_model(network.config, network.classes)
    return lambda variables, video: jax.grad(lambda v: model.apply(v, video).sum())(variables)


def test_a_network_in_bfloat16_is_exported_in_float32(network):
    config = dataclasses.replace(network.config, model=dataclasses.replace(network.config.model, dtype='bfloat16'))
    half = dataclasses.replace(network, config=config)
    assert 'bf16' not in lowered(half, 'xla', ['cpu'], False)
