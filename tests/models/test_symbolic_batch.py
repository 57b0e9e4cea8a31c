"""A network can be exported for any number of clips: no pattern or shape in it fixes the batch."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from vidcls import models


@pytest.mark.parametrize(
    'name, settings',
    [
        ('tsn_tiny', {}),
        ('eco_tiny', {}),
        ('eco_full', {'width': 16}),
        ('timesformer_tiny', {'image_size': 32}),
        ('timesformer_tiny', {'image_size': 32, 'attention': 'space'}),
    ],
)
def test_the_number_of_clips_can_be_left_open(name, settings):
    model = models.build(name, 5, **settings)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32))
    (b,) = export.symbolic_shape('b')
    video = jax.ShapeDtypeStruct((b, 8, 32, 32, 3), jnp.float32)
    exported = export.export(jax.jit(lambda variables, video: model.apply(variables, video)))(variables, video)
    assert exported.out_avals[0].shape == (b, 5)
