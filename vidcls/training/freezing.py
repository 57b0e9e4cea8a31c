"""What of a network moves in training, and how fast: `config.init` over the paths of parameters.

Wang et al. 2016 (arXiv:1608.00859), section 3.2, "partial BN": on small datasets every BatchNorm but the first keeps the
statistics that it came with.
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

FIRST_NORM = re.compile('backbone/(bn1|conv1_7x7_s2_bn)')  # ResNet's, BN-Inception's


def frozen(config: InitConfig, params: Any) -> Any:
    """Which parameters stay, a bool for each."""
    norms = _norms(params)

    def stays(path: tuple[str, ...], _) -> bool:
        in_norm = config.partial_bn and path[:-1] in norms and not _is_first(path[:-1])
        return in_norm or _matches(config.freeze, path)

    return flax.traverse_util.path_aware_map(stays, params)


def multipliers(config: InitConfig, params: Any) -> Any:
    """What each parameter's learning rate is multiplied by."""
    norms = _norms(params)

    def factor(path: tuple[str, ...], _) -> float:
        head = config.head_multiplier if path[0] == 'head' else 1.0
        bias = config.bias_multiplier if path[-1] == 'bias' and path[:-1] not in norms else 1.0
        return head * bias

    return flax.traverse_util.path_aware_map(factor, params)


def hold(config: InitConfig, params: Any) -> Any:
    """The parameters, with no gradient into those that stay: it isn't computed."""
    stay = frozen(config, params)
    return jax.tree.map(lambda x, stays: jax.lax.stop_gradient(x) if stays else x, params, stay)


def hold_statistics(config: InitConfig) -> AbstractContextManager:
    """While a network is applied in this context, norms that stay use and keep their running statistics."""

    def call(run, args, kwargs, context):
        module = context.module
        if not isinstance(module, BatchNorm) or context.method_name != '__call__':
            return run(*args, **kwargs)
        stays = config.partial_bn and not _is_first(module.path)
        if stays or _matches(config.freeze, (*module.path, 'scale')):
            return run(args[0], True)
        return run(*args, **kwargs)

    return nn.intercept_methods(call)


def check(config: InitConfig, variables: Any) -> None:
    """Refuses settings that do not fit the network.

    Raises:
      UserError: `freeze` matches nothing or everything, or there is no BatchNorm for `partial_bn`.
    """
    if config.partial_bn and not variables.get('batch_stats'):
        raise UserError('--config.init.partial_bn: this network has no BatchNorm')
    stay = jax.tree.leaves(frozen(config, variables['params']))
    if config.freeze and not any(stay):
        paths = ', '.join('/'.join(key) for key in list(flax.traverse_util.flatten_dict(variables['params']))[:5])
        raise UserError(f'--config.init.freeze={config.freeze!r} matches no parameter; they are {paths}, ...')
    if all(stay):
        raise UserError(f'--config.init.freeze={config.freeze!r} leaves no parameter to train')


def _norms(params: Any) -> set[tuple[str, ...]]:
    return {path[:-1] for path in flax.traverse_util.flatten_dict(params) if path[-1] == 'scale'}


def _is_first(module: tuple[str, ...]) -> bool:
    return bool(FIRST_NORM.fullmatch('/'.join(module)))


def _matches(pattern: str, path: tuple[str, ...]) -> bool:
    return bool(pattern) and bool(re.search(pattern, '/'.join(path)))
