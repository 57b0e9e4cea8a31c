"""TimeSformer on UCF101 or another small dataset, from image weights or from scratch.

    python -m experiments.timesformer_ucf101_small --workdir=runs/small --config.data.dir=datasets/ucf101

The settings suit a transformer that has few clips to learn from: AdamW with warm-up and a cosine schedule, weight decay
of kernels alone, mixup and cutmix, label smoothing, drop path, and a moving average of the parameters. The frames come
from the whole clip, as TSN's do. From scratch, take a small network. The network with the following flags classified
40.8 % of the test clips of seven classes correctly (docs/results.md):
--config.model.name=timesformer_tiny --config.model.width=192 --config.model.depth=4 --config.model.embedding_std=0.5
--config.model.patch_size=16 --config.augment.crop_size=96 --config.augment.short_side=112
"""

from experiments import launch
from vidcls.config import AugmentConfig, Config, EvalConfig, ModelConfig, OptimConfig, SamplingConfig


def config() -> Config:
    return Config(
        model=ModelConfig(name='timesformer_base', drop_path=0.1),
        sampling=SamplingConfig(num_segments=8),
        augment=AugmentConfig(mean=(0.45,) * 3, std=(0.225,) * 3, mixup_alpha=0.8, cutmix_alpha=1.0),
        optim=OptimConfig(
            name='adamw', learning_rate=5e-4, weight_decay=0.05, decay_all=False, clip_norm=1.0, label_smoothing=0.1,
            schedule='cosine', warmup_epochs=3.0, ema_decay=0.99,
        ),
        test=EvalConfig(clips=1, crops=3),
        epochs=50,
        batch_size=16,
    )  # fmt: skip


if __name__ == '__main__':
    launch.main(config(), __doc__)
