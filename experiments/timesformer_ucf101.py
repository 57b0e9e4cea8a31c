"""TimeSformer (divided attention, ViT-B/16) on UCF101, official split 1, with the settings of the course book.

    python -m experiments.timesformer_ucf101 --workdir=runs/timesformer --config.data.dir=datasets/ucf101

The network sees 8 frames of a clip, 32 frames apart at 30 frames a second. The short side is drawn from 256 to 320
pixels, the crop has 224, and frames are normalised by mean 0.45 and deviation 0.225. The optimizer is SGD with Nesterov
momentum, L2 1e-4 and a learning rate of 0.005, divided by ten after epochs 11 and 14 of 15. A step has 64 clips; to
save memory, a device computes 4 of them at once. Testing looks at one view in time and three views in space.

The published recipe starts from image weights and needs many clips: with ImageNet weights alone it was reported to reach
42.85 % on UCF101. For small datasets use `timesformer_ucf101_small`. This recipe was not run on the whole of UCF101 here.
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
