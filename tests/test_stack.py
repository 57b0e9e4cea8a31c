"""What the pinned versions must do together; an upgrade that breaks it fails here."""

import jax
import numpy as np


def test_tensorflow_runs_a_saved_function_that_jax_wrote(tmp_path):
    """jax 0.11.2 and 0.12.0.1 write StableHLO that TensorFlow 2.21 can't read: the reason for the limit on jax."""
    import tensorflow as tf
    from jax.experimental import jax2tf

    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(1, 8, 8, 3)), rng.normal(size=(3, 3, 3, 4))
    image, kernel = image.astype(np.float32), kernel.astype(np.float32)

    def network(x):
        convolved = jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
        return jax.nn.relu(convolved).mean((1, 2))

    module = tf.Module()
    signature = [tf.TensorSpec(image.shape)]
    module.f = tf.function(jax2tf.convert(network), autograph=False, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.f(image), jax.jit(network)(image), atol=1e-5)
