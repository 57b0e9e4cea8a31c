"""What the pinned versions must do together; an upgrade that breaks it fails here."""

import jax
import numpy as np

from vidcls import models


def test_tensorflow_runs_a_saved_network_that_jax_wrote(tmp_path):
    """jax 0.11.2 and 0.12.0.1 write StableHLO that TensorFlow 2.21 can't read: the reason for the limit on jax."""
    import tensorflow as tf
    from jax.experimental import jax2tf

    model = models.build('tsn_tiny', num_classes=5, width=4)
    video = np.random.default_rng(0).normal(size=(2, 3, 32, 32, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), video)
    call = jax2tf.convert(lambda video: model.apply(variables, video))
    module = tf.Module()
    module.f = tf.function(call, autograph=False, input_signature=[tf.TensorSpec(video.shape)])
    tf.saved_model.save(module, str(tmp_path))
    found = tf.saved_model.load(str(tmp_path)).f(video)
    np.testing.assert_allclose(found, model.apply(variables, video), atol=1e-5)
