"""The typed description of an experiment. Every default lives here, and nowhere else.

An experiment script fills a `Config` and hands it to absl (`--config.optim.learning_rate=0.02`); a work directory keeps
it as `config.json`, which is all that evaluation and prediction need to know about the model.
"""

import dataclasses
import json
import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidcls.errors import UserError
from vidcls.text import spelling
from vidcls.text.bounded_file import read_json


@dataclasses.dataclass
class ModelConfig:
    """The network. What is None keeps the model's own default (see `vidcls.models`); one that it lacks is refused."""

    name: str = 'tsn_resnet50'
    dtype: str = 'float32'  # compute type, float32 or bfloat16; parameters are always float32
    sync_batch_norm: bool = False  # statistics over all devices instead of each device's share
    remat: bool | None = None  # computes activations again in the backward pass instead of keeping them
    width: int | None = None  # channels of the first stage (TSN, ECO) or of a token (TimeSformer)
    dropout: float | None = None  # TSN, ECO: of the features before the classifier
    frame_dropout: float | None = None  # ECO Full: of each frame's features
    depth: int | None = None  # TimeSformer, as all below: blocks
    num_heads: int | None = None
    patch_size: int | None = None  # pixels
    attention: str | None = None  # divided, joint or space
    drop_path: float | None = None  # of the last block; earlier ones less, linearly
    embedding_std: float | None = None  # of position and time embeddings at first, to learn from nothing
    attention_implementation: str | None = None  # xla, or cudnn: a GPU's fused kernel, in bfloat16

    def overrides(self) -> dict[str, Any]:
        """The module fields to set, without those left to the model."""
        plain = dataclasses.asdict(self)
        del plain['name'], plain['dtype'], plain['sync_batch_norm']
        return {name: value for name, value in plain.items() if value is not None}


@dataclasses.dataclass
class DataConfig:
    """The dataset: a folder that `data_prep` wrote, and its splits (sums such as 'train1+validation1' too).

    Where it has official splits alone, `train` is `train1`, and `validation` and `test` are those of `train_split`
    (vidcls.data.splits).
    """

    dir: str = ''
    train_split: str = 'train'
    validation_split: str = 'validation'  # empty or not there: no validation, only the latest checkpoint is kept
    test_split: str = 'test'


@dataclasses.dataclass
class SamplingConfig:
    """Which frames (vidcls.data.sampling). A clip has num_segments * seg_len frames."""

    scheme: str = 'segments'  # segments, dense or linspace
    num_segments: int = 3
    test_segments: int = 0  # 0: as in training
    seg_len: int = 1
    sampling_rate: int = 1  # dense, linspace: distance between frames
    target_fps: float = 30.0  # linspace: the rate that sampling_rate is counted at
    view_offset: str = 'centre'  # dense, linspace: where a single test view lies; or start (sampling.view_start)

    @property
    def num_frames(self) -> int:
        """t, of a clip in training."""
        return self.num_segments * self.seg_len


@dataclasses.dataclass
class AugmentConfig:
    """Which window of the picture (vidcls.data.windows), and how its values are scaled."""

    crop: str = 'multi_scale'  # multi_scale or random
    short_side: int = 240  # frames are scaled to this short side before cropping (group scale)
    short_side_max: int = 0  # random only: scale jitter, drawn from short_side to this; 0: none
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)  # multi_scale only
    flip: bool = True  # off where direction is the label
    crop_size: int = 224
    test_short_side: int = 0  # 0: as in training
    mixup_alpha: float = 0.0  # blends clips (vidcls.data.mixup); 0: none
    cutmix_alpha: float = 0.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclasses.dataclass
class InitConfig:
    """What training starts from, and what of it moves (vidcls.training.first_state, vidcls.pretrained, vidcls.training.freezing).

    Patterns are regular expressions, found anywhere in a parameter's path, such as 'backbone/layer1_0/conv1/kernel'.
    """

    weights: str = ''  # a file of published weights or its address (docs/pretrained.md); empty: random numbers
    run: str = ''  # another run, in place of a file: its work directory, RUN, RUN@best or RUN@STEP; RUN is RUN@latest
    allow_missing: str = ''  # pattern of parameters that the file or run may lack or have in another shape
    freeze: str = ''  # pattern of parameters that stay; norms among them keep their statistics too
    partial_bn: bool = False  # every BatchNorm but the first stays, statistics too
    head_multiplier: float = 1.0  # of the learning rate, for the classifier
    bias_multiplier: float = 1.0  # of the learning rate, for the biases of convolutions and linear layers


@dataclasses.dataclass
class OptimConfig:
    """Optimizer and schedule; times are epochs, so that a batch size changes no schedule."""

    name: str = 'sgd'  # sgd or adamw
    learning_rate: float = 0.01
    momentum: float = 0.9  # sgd
    nesterov: bool = False
    weight_decay: float = 1e-4  # sgd: added to the gradient before momentum (L2); adamw: decoupled
    schedule: str = 'multi_step'  # multi_step or cosine
    milestones: tuple[float, ...] = ()  # multi_step: the rate is multiplied by decay at each
    decay: float = 0.1
    warmup_epochs: float = 0.0
    decay_all: bool = True  # weight decay of every parameter, not of matrices and kernels alone
    clip_norm: float = 0.0  # global norm of the gradient, before momentum; 0: none
    clips_per_device: int = 0  # at once: a device works through its share in equal parts; 0: in one
    ema_decay: float = 0.0  # of moving averages of parameters and statistics, which are then evaluated; 0: none
    label_smoothing: float = 0.0


@dataclasses.dataclass
class EvalConfig:
    """Views at test time: `clips` in time, `crops` in space (1, 3 or 10), and what of theirs is averaged."""

    clips: int = 1
    crops: int = 1
    average: str = 'probabilities'  # or logits, as the networks' authors score
    batch_size: int = 0  # views that a device holds at once; 0: about 64 frames of 224 x 224 pixels. Changes no score


@dataclasses.dataclass
class Config:
    """One experiment."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    init: InitConfig = dataclasses.field(default_factory=InitConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    test: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    seed: int = 0
    epochs: float = 45.0
    batch_size: int = 32  # clips a step, over all devices
    eval_every_epochs: float = 1.0  # validation and checkpoint
    checkpoint_every_minutes: float = 15.0  # at a logged step, between validations; 0: only at these
    log_every_steps: int = 10
    profile_steps: tuple[int, ...] = ()  # the first and the last step to trace with jax.profiler, into profile/


_CHOICES = {
    'model.dtype': ('float32', 'bfloat16'),
    'sampling.scheme': ('segments', 'dense', 'linspace'),
    'sampling.view_offset': ('centre', 'start'),
    'augment.crop': ('multi_scale', 'random'),
    'optim.name': ('sgd', 'adamw'),
    'optim.schedule': ('multi_step', 'cosine'),
    'test.crops': (1, 3, 10),
    'test.average': ('probabilities', 'logits'),
    'model.attention': (None, 'divided', 'joint', 'space'),
    'model.attention_implementation': (None, 'xla', 'cudnn'),
}
_POSITIVE = (
    'model.width', 'model.depth', 'model.num_heads', 'model.patch_size', 'model.embedding_std',
    'sampling.num_segments', 'sampling.seg_len', 'sampling.sampling_rate', 'sampling.target_fps',
    'augment.short_side', 'augment.crop_size', 'augment.std', 'optim.learning_rate', 'optim.milestones', 'optim.decay',
    'init.head_multiplier', 'init.bias_multiplier', 'test.clips',
    'epochs', 'batch_size', 'eval_every_epochs', 'log_every_steps',
)  # fmt: skip
_NOT_NEGATIVE = (
    'sampling.test_segments', 'augment.short_side_max', 'augment.test_short_side', 'test.batch_size', 'optim.weight_decay',
    'augment.mixup_alpha', 'augment.cutmix_alpha', 'optim.warmup_epochs', 'optim.clip_norm', 'optim.clips_per_device',
    'checkpoint_every_minutes', 'seed',
)  # fmt: skip
_BELOW_ONE = (
    'model.dropout', 'model.frame_dropout', 'model.drop_path', 'optim.momentum', 'optim.label_smoothing', 'optim.ema_decay',
)  # fmt: skip
# What multiplies work or memory. Far above what anybody trains, and far below what brings a machine down.
_AT_MOST = {
    'model.width': 16_384, 'model.depth': 1000, 'model.num_heads': 1024, 'model.patch_size': 1024,
    'sampling.num_segments': 4096, 'sampling.test_segments': 4096, 'sampling.seg_len': 4096,
    'sampling.sampling_rate': 100_000, 'sampling.target_fps': 100_000,
    'augment.short_side': 4320, 'augment.short_side_max': 4320, 'augment.test_short_side': 4320,
    'augment.crop_size': 4320, 'test.clips': 4096, 'test.batch_size': 1 << 20, 'batch_size': 1 << 20,
    'optim.clips_per_device': 1 << 20, 'epochs': 10_000_000, 'log_every_steps': 1 << 31, 'profile_steps': 1 << 31,
}  # fmt: skip
_MAX_VIDEO = 1 << 30  # pixels of all views of one video: ten times 10 clips of 96 frames in 3 crops of 224 x 224
_MAX_NUMBER = 1e30  # also of integers, which JSON has of any length
_MAX_NUMBERS = 100  # in a setting of several
_MAX_TEXT = 4096
_MAX_PATTERN = 200  # some classes of characters take 50 ms to compile; one that a run was trained with is never matched
_MAX_BYTES = 1 << 20  # of config.json
_LENGTH_3 = ('augment.mean', 'augment.std')
_PATTERNS = ('init.allow_missing', 'init.freeze')
_SEED_LIMIT = 2**32  # what a jax key takes without 64-bit integers


def validate(config: Config) -> None:
    """Refuses values that can't work, before a device is touched.

    Raises:
      UserError: names the value, what is allowed, and the flag.
    """
    values = flatten(config)
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            raise UserError(f'--config.{name}={values[name]!r}: must be one of {", ".join(map(str, choices))}')
    for name, value in values.items():
        if isinstance(value, str | tuple) and len(value) > (_MAX_TEXT if isinstance(value, str) else _MAX_NUMBERS):
            raise UserError(f'--config.{name}={value!r:.80}...: is too long')
        numbers = value if isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) and not all(type(number) in (int, float) for number in numbers):
            raise UserError(f'--config.{name}={value!r}: must be numbers')
        numbers = [number for number in numbers if isinstance(number, int | float)]
        for wrong, limit in (
            (not all(-_MAX_NUMBER < number < _MAX_NUMBER for number in numbers), 'finite'),
            (not all(number <= _AT_MOST.get(name, number) for number in numbers), f'at most {_AT_MOST.get(name)}'),
            (name in _POSITIVE and not all(number > 0 for number in numbers), 'greater than 0'),
            (name in _NOT_NEGATIVE and not all(number >= 0 for number in numbers), 'at least 0'),
            (name in _BELOW_ONE and not all(0 <= number < 1 for number in numbers), 'in [0, 1)'),
            (name in _LENGTH_3 and len(numbers) != 3, 'three numbers, one for each channel'),
        ):
            if wrong:
                raise UserError(f'--config.{name}={value!r}: must be {limit}')
    for name in _PATTERNS:
        if len(values[name]) > _MAX_PATTERN:
            raise UserError(f'--config.{name}={values[name]!r:.80}...: must have at most {_MAX_PATTERN} characters')
        try:
            re.compile(values[name])
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(f'--config.{name}={values[name]!r}: must be a regular expression: {error}') from error
    if config.init.weights and config.init.run:
        raise UserError('--config.init.weights and --config.init.run: a run starts from one of them')
    if config.seed >= _SEED_LIMIT:
        raise UserError(f'--config.seed={config.seed}: must be below {_SEED_LIMIT}')
    if config.model.attention_implementation == 'cudnn' and config.model.dtype != 'bfloat16':
        raise UserError('--config.model.attention_implementation=cudnn: needs a GPU and --config.model.dtype=bfloat16')
    steps = config.profile_steps
    if steps and not (len(steps) == 2 and all(type(step) is int for step in steps) and 0 < steps[0] <= steps[1]):
        raise UserError(f'--config.profile_steps={steps}: must be the first and the last step, counted from 1')
    _validate_windows(config.augment)
    _validate_video(config)


def _validate_windows(augment: AugmentConfig) -> None:
    for name in ('short_side', 'test_short_side'):
        if 0 < getattr(augment, name) < augment.crop_size:
            raise UserError(
                f'--config.augment.{name}={getattr(augment, name)}: must be at least the crop, {augment.crop_size}'
            )
    if augment.crop == 'multi_scale' and augment.short_side_max:
        raise UserError('--config.augment.short_side_max: scale jitter goes with --config.augment.crop=random')
    if augment.short_side_max and augment.short_side_max < augment.short_side:
        raise UserError(
            f'--config.augment.short_side_max={augment.short_side_max}: must be 0 or at least short_side, '
            f'{augment.short_side}'
        )
    if not augment.scales or not all(0 < scale <= 1 for scale in augment.scales):
        raise UserError(f'--config.augment.scales={augment.scales}: must be one or more numbers in (0, 1]')


def _validate_video(config: Config) -> None:
    sampling, test = config.sampling, config.test
    segments = {
        'num_segments': (sampling.num_segments, 1),
        'test_segments': (sampling.test_segments or sampling.num_segments, test.clips * test.crops),
    }
    for name, (count, views) in segments.items():
        pixels = count * sampling.seg_len * views * config.augment.crop_size**2
        if pixels > _MAX_VIDEO:
            raise UserError(
                f'--config.sampling.{name}={count}: {count} x {sampling.seg_len} frames in {views} views of '
                f'{config.augment.crop_size} x {config.augment.crop_size} are {pixels:,} pixels of a video; the limit is '
                f'{_MAX_VIDEO:,}'
            )


def flatten(config: Config) -> dict[str, Any]:
    """'optim.learning_rate' -> 0.01, for every leaf."""
    flat = {}

    def visit(prefix: str, node: Any) -> None:
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if dataclasses.is_dataclass(value):
                visit(f'{prefix}{field.name}.', value)
            else:
                flat[prefix + field.name] = value

    visit('', config)
    return flat


# Settings that evaluation and prediction take over those of the run.
TEST_SETTINGS = (
    'test.clips', 'test.crops', 'test.average', 'test.batch_size', 'sampling.test_segments', 'augment.test_short_side',
)  # fmt: skip


def for_testing(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration of a run with other settings of how it is tested.

    Args:
      settings: such as {'sampling.test_segments': 25}.

    Raises:
      UserError: a setting that is none of `TEST_SETTINGS`, or a value that can't work.
    """
    nested = dataclasses.asdict(config)
    for name, value in settings.items():
        if name not in TEST_SETTINGS:
            raise UserError(
                f'--config.{name}: the run has its own; these may be given: --config.{", --config.".join(TEST_SETTINGS)}'
            )
        room, field = name.split('.')
        nested[room][field] = value
    config = _from_dict(Config, nested, '--config')
    validate(config)
    return config


def save(config: Config, path: Path) -> None:
    """Writes JSON, whole or not at all: a run that is killed here must find its old one."""
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(json.dumps(dataclasses.asdict(config), indent=2) + '\n')
    os.replace(partial, path)


def load(path: Path) -> Config:
    """Reads what `save` wrote. Fields that the file lacks keep their default.

    Raises:
      UserError: a field that no `Config` has, a value of another type or one that can't work, or no file of settings.
    """
    config = _from_dict(Config, _with_clips_per_device(read_json(path, _MAX_BYTES)), str(path))
    try:
        validate(config)
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    return config


def _with_clips_per_device(values: Any) -> Any:
    """Earlier runs have `optim.accumulation`, the number of parts: what that came to on one device."""
    optim, batch_size = (values.get('optim'), values.get('batch_size')) if isinstance(values, dict) else (None, None)
    parts = optim.get('accumulation') if isinstance(optim, dict) else None
    if type(parts) is not int or type(batch_size) is not int or not 0 < parts <= batch_size:
        return values
    optim = {name: value for name, value in optim.items() if name != 'accumulation'}
    return values | {'optim': {'clips_per_device': batch_size // parts if parts > 1 else 0} | optim}


def _from_dict(cls: type, values: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    if not isinstance(values, dict):
        raise UserError(f'{where}={values!r:.80}: must be an object')
    unknown = set(values) - set(hints)
    if unknown:
        near = spelling.hint(min(unknown), hints)
        raise UserError(f'{where}: unknown setting {min(unknown)!r:.80}{near}; known: {", ".join(hints)}')
    return cls(**{name: _coerce(hints[name], value, f'{where}: {name}') for name, value in values.items()})


def _coerce(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _from_dict(hint, value, where)
    if isinstance(hint, types.UnionType):  # `T | None`
        return None if value is None else _coerce(hint.__args__[0], value, where)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(value)
    if hint is float and type(value) is int and abs(value) < _MAX_NUMBER:
        return float(value)
    if type(value) is not hint:
        hint = typing.get_origin(hint) or hint
        raise UserError(f'{where}={value!r:.80}: must be of type {hint.__name__}')
    return value
