"""The network that a configuration describes, and the step that predicts with it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidcls import models
from vidcls.config import Config
from vidcls.data.transform import Views, transform
from vidcls.distributed.devices import AXIS
from vidcls.errors import UserError

PredictStep = Callable[[Any, Views], jax.Array]


def build_model(config: Config, num_classes: int) -> nn.Module:
    """The network that the configuration names, built for its number of frames and its frame size.

    Raises:
      UserError: the model is unknown, or lacks a setting that the configuration gives.
    """
    given = {
        'num_segments': config.sampling.num_segments,
        'seg_len': config.sampling.seg_len,
        'num_frames': config.sampling.num_frames,
        'image_size': config.augment.crop_size,
        'axis_name': AXIS if config.model.sync_batch_norm else None,
        'dtype': jnp.dtype(config.model.dtype),
    }
    known = models.settings(config.model.name)
    if config.model.sync_batch_norm and 'axis_name' not in known:
        raise UserError(f'--config.model.sync_batch_norm=true: {config.model.name} has no BatchNorm')
    given = {name: value for name, value in given.items() if name in known} | config.model.overrides()
    if given.get('attention_implementation') == 'cudnn' and jax.default_backend() != 'gpu':
        # The network was trained on a GPU. Without the fused kernel it is the same function of the same parameters.
        del given['attention_implementation']
    return models.build(config.model.name, num_classes, **given)


def make_predict_step(model: nn.Module, config: Config) -> PredictStep:
    """A function for one device: (variables, views) -> logits float32 [(b v) k], for b clips with v views each."""

    def step(variables: Any, views: Views) -> jax.Array:
        logits: Any = model.apply(variables, transform(views, config), train=False)
        return logits

    return step


def check_frames(config: Config, model: nn.Module, variables: Any) -> None:
    """Refuses a number of test frames that the network can't take.

    Without this check the first validation would fail, after an epoch of training.

    Raises:
      UserError: the network can't take this number; the message names the setting and what the network takes.
    """
    shape = config.video_shape(training=False)
    if shape == config.video_shape():
        return
    try:
        jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct((1, *shape), np.float32))
    except UserError as error:
        raise UserError(
            f'--config.sampling.test_segments={config.sampling.test_segments}: {config.model.name} as trained with '
            f'num_segments={config.sampling.num_segments} cannot take so many ({error})'
        ) from error
