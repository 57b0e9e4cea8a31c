"""Freezes parameters and statistics, and sets multiples of the learning rate for some parameters (`config.init`).

"Partial BN" (Wang et al. 2016, arXiv:1608.00859, section 3.2): on small datasets every BatchNorm except the first is
frozen, and so are its running statistics.
"""

import re
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax

from vidcls.config import InitConfig
from vidcls.errors import UserError
from vidcls.models.layers import BatchNorm

# The paths of these modules in ResNet and in BN-Inception.
FIRST_CONVOLUTION, FIRST_NORM = (
    re.compile('backbone/(conv1|conv1_7x7_s2)'),
    re.compile('backbone/(bn1|conv1_7x7_s2_bn)'),
)


def frozen(config: InitConfig, params: Any) -> Any:
    """A tree of bools with the structure of `params`: whether each parameter is frozen."""
    norms = _norms(params)

    def is_frozen(path: tuple[Any, ...], _) -> bool:
        in_norm = config.partial_bn and path[:-1] in norms and not _is(FIRST_NORM, path[:-1])
        return in_norm or _matches(config.freeze, path)

    return flax.traverse_util.path_aware_map(is_frozen, params)


def multipliers(config: InitConfig, params: Any) -> Any:
    """A tree of floats with the structure of `params`: the factor on each parameter's learning rate."""
    norms = _norms(params)

    def factor(path: tuple[Any, ...], _) -> float:
        head = config.head_multiplier if path[0] == 'head' else 1.0
        bias = config.bias_multiplier if path[-1] == 'bias' and path[:-1] not in norms else 1.0
        first = config.first_multiplier if _is(FIRST_CONVOLUTION, path[:-1]) else 1.0
        return head * bias * first

    return flax.traverse_util.path_aware_map(factor, params)


def hold(config: InitConfig, params: Any) -> Any:
    """Returns the same parameters. The gradients of frozen parameters become zero, and XLA does not compute them."""
    still = frozen(config, params)
    return jax.tree.map(lambda x, is_frozen: jax.lax.stop_gradient(x) if is_frozen else x, params, still)


def hold_statistics(config: InitConfig) -> AbstractContextManager:
    """A context in which a network's frozen norms normalise with their running statistics and leave these unchanged."""

    def call(run, args, kwargs, context):
        module = context.module
        if not isinstance(module, BatchNorm) or context.method_name != '__call__':
            return run(*args, **kwargs)
        is_frozen = config.partial_bn and not _is(FIRST_NORM, module.path)
        if is_frozen or _matches(config.freeze, (*module.path, 'scale')):
            return run(args[0], True)
        return run(*args, **kwargs)

    return nn.intercept_methods(call)


def check(config: InitConfig, variables: Any) -> None:
    """Checks that the settings fit the network.

    Raises:
      UserError: `freeze` matches no parameter, no parameter is left to train, or `partial_bn` is set and the network
        has no BatchNorm.
    """
    if config.partial_bn and not variables.get('batch_stats'):
        raise UserError('--config.init.partial_bn: this network has no BatchNorm')
    still = jax.tree.leaves(frozen(config, variables['params']))
    if config.freeze and not any(still):
        paths = ', '.join('/'.join(key) for key in list(flax.traverse_util.flatten_dict(variables['params']))[:5])
        raise UserError(f'--config.init.freeze={config.freeze!r} matches no parameter; they are {paths}, ...')
    if all(still):
        raise UserError(f'--config.init.freeze={config.freeze!r} leaves no parameter to train')


def _norms(params: Any) -> set[tuple[str, ...]]:
    """The paths of the modules that normalise: the modules with a parameter `scale`."""
    return {path[:-1] for path in flax.traverse_util.flatten_dict(params) if path[-1] == 'scale'}


def _is(pattern: re.Pattern, module: tuple[str, ...]) -> bool:
    return bool(pattern.fullmatch('/'.join(module)))


def _matches(pattern: str, path: tuple[str, ...]) -> bool:
    return bool(pattern) and bool(re.search(pattern, '/'.join(path)))
