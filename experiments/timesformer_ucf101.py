"""TimeSformer (divided attention, ViT-B/16) on UCF101, official split 1, with the textbook's settings.

    python -m experiments.timesformer_ucf101 --workdir=runs/timesformer --config.data.dir=datasets/ucf101

8 frames at a distance of 32 (at 30 frames a second), short side drawn from 256 to 320, crop 224, mean 0.45 and deviation
0.225; Nesterov momentum at 0.005 with L2 1e-4, a tenth after epochs 11 and 14 of 15; 64 clips a step, of which a
device has 4 at once, for memory; one clip in three crops for testing.

The published recipe starts from picture weights and needs many clips: with ImageNet weights alone it was reported to
reach 42.85 % here. For small datasets use `timesformer_ucf101_small`. Not run on the whole of UCF101 here.
"""

from experiments import launch
from vidcls.config import AugmentConfig, Config, EvalConfig, ModelConfig, OptimConfig, SamplingConfig


def config() -> Config:
    return Config(
        model=ModelConfig(name='timesformer_base'),
        sampling=SamplingConfig(scheme='linspace', num_segments=8, sampling_rate=32, target_fps=30.0),
        augment=AugmentConfig(
            crop='random', short_side=256, short_side_max=320, test_short_side=224, mean=(0.45,) * 3, std=(0.225,) * 3
        ),
        optim=OptimConfig(learning_rate=0.005, nesterov=True, milestones=(11.0, 14.0), clips_per_device=4),
        test=EvalConfig(clips=1, crops=3, average='logits'),
        epochs=15,
        batch_size=64,
    )


if __name__ == '__main__':
    launch.main(config(), __doc__)
