"""The typed description of an experiment: every setting with its default, its limits and what it means.

An experiment script fills a `Config` and hands it to absl (`--config.optim.learning_rate=0.02`). A work directory keeps
the `Config` as `config.json`, which is all that evaluation and prediction need to know about the model.

`most` is the limit on a setting that multiplies work or memory. It is far above what anybody trains with, and far below
what brings a machine down.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vidcls import settings as settings_lib
from vidcls.errors import UserError
from vidcls.settings import flatten, setting  # noqa: F401, flatten is for those who import this module

_MAX_SEED = 2**32 - 1  # the largest seed of a JAX key without 64-bit integers
_MAX_COUNT = 1 << 20  # clips or views at once
_MAX_FRAMES = 4096
_MAX_SIDE = 4320  # pixels; the height of 8K video
# Pixels of all views of one video: seven times those of 10 views in time, of 96 frames each, in 3 crops of 224 x 224.
_MAX_VIDEO = 1 << 30


class Channels(NamedTuple):
    """The channels that a network is given of a frame.

    Attributes:
      number: the number of channels.
      mean, std: the mean and the deviation of each channel, for pixels in [0, 1].
    """

    number: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


_IMAGENET_STD = (0.229, 0.224, 0.225)
# The channels of each `sampling.modality` (vidcls.data.modality).
CHANNELS = {
    'rgb': Channels(3, (0.485, 0.456, 0.406), _IMAGENET_STD),
    'flow': Channels(2, (128 / 255,) * 2, (128 / 255,) * 2),  # as in mmaction2; 128 is no motion
    'rgbdiff': Channels(3, (0.0,) * 3, _IMAGENET_STD),  # the difference of normalised frames
}


@dataclasses.dataclass
class ModelConfig:
    """The network. A setting that is None keeps the model's own default (see `vidcls.models`).

    A setting that the model lacks is refused.
    """

    name: str = 'tsn_resnet50'
    # Precision. Parameters are always float32.
    dtype: str = setting('float32', choices=('float32', 'bfloat16'))
    sync_batch_norm: bool = False  # statistics over all devices instead of each device's share
    remat: bool | None = None  # computes activations again in the backward pass instead of keeping them
    # Channels of the first stage (TSN, ECO) or of a token (TimeSformer).
    width: int | None = setting(None, above=0, most=16_384)
    dropout: float | None = setting(None, at_least=0, below=1)  # TSN, ECO: of the features before the classifier
    frame_dropout: float | None = setting(None, at_least=0, below=1)  # ECO Full: of each frame's features
    # TimeSformer alone has the settings from here on.
    depth: int | None = setting(None, above=0, most=1000)  # blocks
    num_heads: int | None = setting(None, above=0, most=1024)
    patch_size: int | None = setting(None, above=0, most=1024)  # pixels
    # A name of vidcls.models.timesformer.SCHEMES: divided, joint, space or one that was added.
    attention: str | None = None
    # The rate of the last block; the rates of the earlier blocks rise linearly from 0.
    drop_path: float | None = setting(None, at_least=0, below=1)
    # Standard deviation of the first position and time embeddings, for training from random numbers.
    embedding_std: float | None = setting(None, above=0)
    # cudnn: a GPU's fused kernel, in bfloat16.
    attention_implementation: str | None = setting(None, choices=(None, 'xla', 'cudnn'))

    def overrides(self) -> dict[str, Any]:
        """The fields of the network's module that have a value here. The other fields keep the model's default."""
        plain = dataclasses.asdict(self)
        del plain['name'], plain['dtype'], plain['sync_batch_norm']
        return {name: value for name, value in plain.items() if value is not None}


@dataclasses.dataclass
class DataConfig:
    """The dataset: a folder that `data_prep` wrote, and its splits. A split may be a sum such as 'train1+validation1'.

    A dataset may have official splits alone, with numbers. Then `train` means `train1`, and `validation` and `test`
    mean the splits with the same number as `train_split` (vidcls.data.splits).
    """

    dir: str = ''
    train_split: str = 'train'
    # If it is empty, or if the dataset lacks it, there is no validation, and the latest checkpoint alone is kept.
    validation_split: str = 'validation'
    test_split: str = 'test'


@dataclasses.dataclass
class SamplingConfig:
    """Which frames of a clip are chosen (vidcls.data.sampling). The network is given num_segments * seg_len frames."""

    scheme: str = 'segments'  # a name of vidcls.data.sampling: segments, dense, linspace or one that was added
    num_segments: int = setting(3, above=0, most=_MAX_FRAMES)
    test_segments: int = setting(0, at_least=0, most=_MAX_FRAMES)  # 0: as in training
    seg_len: int = setting(1, above=0, most=_MAX_FRAMES)
    sampling_rate: int = setting(1, above=0, most=100_000)  # dense, linspace: distance between frames
    target_fps: float = setting(30.0, above=0, most=100_000)  # linspace: the rate at which sampling_rate counts frames
    # dense, linspace: where a single test view lies (sampling.view_start).
    view_offset: str = setting('centre', choices=('centre', 'start'))
    # What is seen of a frame: its colours, the optical flow to the next one, or the difference to the next one.
    modality: str = setting('rgb', choices=tuple(CHANNELS))

    @property
    def num_frames(self) -> int:
        """The number t of frames that the network is given in training."""
        return self.num_segments * self.seg_len


@dataclasses.dataclass
class AugmentConfig:
    """Which window of a frame is seen (vidcls.data.windows), and how its values are scaled."""

    crop: str = setting('multi_scale', choices=('multi_scale', 'random'))
    # Pixels: frames are scaled to this short side before cropping ("group scale").
    short_side: int = setting(240, above=0, most=_MAX_SIDE)
    # random crops: the short side is drawn between short_side and this (scale jitter). With 0, it is short_side.
    short_side_max: int = setting(0, at_least=0, most=_MAX_SIDE)
    # multi_scale crops: the fractions of the short side that the height and the width of a crop may have.
    scales: tuple[float, ...] = setting((1.0, 0.875, 0.75, 0.66), above=0, most=1)
    flip: bool = True  # mirrors half of the windows; to be switched off where the label is a direction
    crop_size: int = setting(224, above=0, most=_MAX_SIDE)  # pixels
    test_short_side: int = setting(0, at_least=0, most=_MAX_SIDE)  # 0: as in training
    mixup_alpha: float = setting(0.0, at_least=0)  # blends clips (vidcls.data.mixup); 0: none
    cutmix_alpha: float = setting(0.0, at_least=0)
    # A number for each channel or one for all, for pixels in [0, 1]. If empty, the modality's numbers are taken.
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = setting((), above=0)


@dataclasses.dataclass
class InitConfig:
    """What training starts from, and what is frozen (vidcls.pretrained, vidcls.training.first_state and freezing).

    Patterns are regular expressions, which may match anywhere in a path, such as 'backbone/layer1_0/conv1/kernel'.
    """

    weights: str = ''  # a file of published weights or its address (docs/pretrained.md); empty: random numbers
    # In place of a file, the work directory of another run: RUN, RUN@best or RUN@STEP. RUN means RUN@latest.
    run: str = ''
    # Parameters that the file or run may lack or have in another shape.
    allow_missing: str = setting('', pattern=True)
    # Parameters that are frozen. A BatchNorm whose scale is frozen has frozen statistics too.
    freeze: str = setting('', pattern=True)
    partial_bn: bool = False  # freezes every BatchNorm except the first, with its statistics
    head_multiplier: float = setting(1.0, above=0)  # of the learning rate, for the classifier
    bias_multiplier: float = setting(1.0, above=0)  # of the learning rate, for biases of convolutions and linear layers
    first_multiplier: float = setting(1.0, above=0)  # of the learning rate, for the first convolution (TSN, ECO)


@dataclasses.dataclass
class OptimConfig:
    """The optimizer and the schedule. Times are in epochs, so that the batch size does not change the schedule."""

    name: str = setting('sgd', choices=('sgd', 'adamw'))
    learning_rate: float = setting(0.01, above=0)
    momentum: float = setting(0.9, at_least=0, below=1)  # sgd
    nesterov: bool = False
    # sgd: added to the gradient before momentum (L2); adamw: decoupled.
    weight_decay: float = setting(1e-4, at_least=0)
    schedule: str = (
        'multi_step'  # a name of vidcls.training.optimizer.SCHEDULES: multi_step, cosine or one that was added
    )
    milestones: tuple[float, ...] = setting((), above=0)  # multi_step: the rate is multiplied by decay at each
    decay: float = setting(0.1, above=0)
    warmup_epochs: float = setting(0.0, at_least=0)
    decay_all: bool = True  # every parameter has weight decay, not the kernels alone
    clip_norm: float = setting(0.0, at_least=0)  # limit on the gradient's global norm, before momentum; 0: none
    # The most clips that a device computes at once: it divides its share into equal parts. 0: the whole share at once.
    clips_per_device: int = setting(0, at_least=0, most=_MAX_COUNT)
    # The decay of moving averages of parameters and statistics. The averages are evaluated. 0: no averages.
    ema_decay: float = setting(0.0, at_least=0, below=1)
    label_smoothing: float = setting(0.0, at_least=0, below=1)


@dataclasses.dataclass
class EvalConfig:
    """The views at test time: `clips` views in time, each in `crops` views in space."""

    clips: int = setting(1, above=0, most=_MAX_FRAMES)
    crops: int = setting(1, choices=(1, 3, 10))
    # What is averaged over the views. The networks' authors average logits.
    average: str = setting('probabilities', choices=('probabilities', 'logits'))
    # Views on a device at once. 0: as many as have about 64 frames of 224 x 224 pixels. It changes no score.
    batch_size: int = setting(0, at_least=0, most=_MAX_COUNT)


@dataclasses.dataclass
class Config:
    """All settings of one experiment."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    init: InitConfig = dataclasses.field(default_factory=InitConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    test: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    seed: int = setting(0, at_least=0, most=_MAX_SEED)
    epochs: float = setting(45.0, above=0, most=10_000_000)
    batch_size: int = setting(32, above=0, most=_MAX_COUNT)  # clips of a step, over all devices
    eval_every_epochs: float = setting(1.0, above=0)  # the interval of validations, each with a checkpoint
    # The interval of checkpoints between validations. They are saved at a logged step. 0: no such checkpoints.
    checkpoint_every_minutes: float = setting(15.0, at_least=0)
    log_every_steps: int = setting(10, above=0, most=1 << 31)
    # The first and the last step to trace with jax.profiler, into profile/.
    profile_steps: tuple[int, ...] = setting((), most=1 << 31)

    @property
    def channels(self) -> Channels:
        """The channels that the network is given of a frame. Mean and deviation have a number for each channel."""
        number, *usual = CHANNELS[self.sampling.modality]
        given = (self.augment.mean, self.augment.std)
        mean, std = (own * number if len(own) == 1 else own or default for own, default in zip(given, usual))
        return Channels(number, mean, std)

    def video_shape(self, training: bool = True) -> tuple[int, int, int, int]:
        """The shape t h w c of a view, as the network is given it."""
        sampling, size = self.sampling, self.augment.crop_size
        segments = sampling.num_segments if training else sampling.test_segments or sampling.num_segments
        return segments * sampling.seg_len, size, size, self.channels.number


# Settings that evaluation and prediction may change.
TEST_SETTINGS = (
    'test.clips', 'test.crops', 'test.average', 'test.batch_size', 'sampling.test_segments', 'augment.test_short_side',
)  # fmt: skip


def validate(config: Config) -> None:
    """Refuses values that can't work, alone or together, before a device is touched.

    Raises:
      UserError: a value can't work; the message names the value, what is allowed, and the flag.
    """
    settings_lib.check(config, '--config')
    if config.init.weights and config.init.run:
        raise UserError('--config.init.weights and --config.init.run: a run starts from one of them')
    if config.model.attention_implementation == 'cudnn' and config.model.dtype != 'bfloat16':
        raise UserError('--config.model.attention_implementation=cudnn: needs a GPU and --config.model.dtype=bfloat16')
    steps = config.profile_steps
    if steps and not (len(steps) == 2 and all(type(step) is int for step in steps) and 0 < steps[0] <= steps[1]):
        raise UserError(f'--config.profile_steps={steps}: must be the first and the last step, counted from 1')
    _validate_channels(config)
    _validate_windows(config.augment)
    _validate_video(config)


def _validate_channels(config: Config) -> None:
    modality = config.sampling.modality
    for name in ('mean', 'std'):
        values, count = getattr(config.augment, name), CHANNELS[modality].number
        if len(values) not in (0, 1, count):
            raise UserError(
                f'--config.augment.{name}={values}: must be one number, or {count}, one for each channel of {modality}'
            )


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
    if not augment.scales:
        raise UserError('--config.augment.scales=(): must be one or more numbers')


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


def for_testing(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration of a run, with new values for some settings of the test.

    Args:
      config: the configuration of the run.
      settings: the new values, such as {'sampling.test_segments': 25}.

    Raises:
      UserError: a setting is none of `TEST_SETTINGS`, or a value can't work.
    """
    nested = dataclasses.asdict(config)
    for name, value in settings.items():
        if name not in TEST_SETTINGS:
            raise UserError(
                f'--config.{name}: the run has its own; these may be given: --config.{", --config.".join(TEST_SETTINGS)}'
            )
        room, field = name.split('.')
        nested[room][field] = value
    config = settings_lib.from_dict(Config, nested, '--config')
    validate(config)
    return config


def save(config: Config, path: Path) -> None:
    """Writes config.json. The new file replaces an older one in a single step."""
    settings_lib.write(config, path)


def load(path: Path) -> Config:
    """Reads a file that `save` wrote. Settings that the file lacks have their default.

    Raises:
      UserError: there is no file of settings, a setting is unknown, or a value has another type or can't work.
    """
    config = settings_lib.from_dict(Config, _with_clips_per_device(settings_lib.read(path)), str(path))
    try:
        validate(config)
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    return config


def _with_clips_per_device(values: Any) -> Any:
    """Translates `optim.accumulation`, a number of parts that earlier runs have, to `optim.clips_per_device`."""
    optim, batch_size = (values.get('optim'), values.get('batch_size')) if isinstance(values, dict) else (None, None)
    parts = optim.get('accumulation') if isinstance(optim, dict) else None
    if not isinstance(optim, dict) or type(parts) is not int or type(batch_size) is not int:
        return values
    if not 0 < parts <= batch_size:
        return values
    optim = {name: value for name, value in optim.items() if name != 'accumulation'}
    return values | {'optim': {'clips_per_device': batch_size // parts if parts > 1 else 0} | optim}
