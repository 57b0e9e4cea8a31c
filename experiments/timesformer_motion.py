"""A small TimeSformer on the generated motion clips (data_prep.motion); the demo trains it.

    python -m experiments.timesformer_motion --workdir=runs/motion --config.data.dir=datasets/motion

The classes of these clips are four motions, each in two directions, and only the order of the frames tells the directions
apart. This network classifies 99.4 % of the demo's 320 test clips correctly. With --config.model.attention=space the
network looks at each frame alone; it must then guess the direction, as TSN does (`tsn_motion`), and reaches 46.6 %. A
frame has four patches of 16 x 16 pixels. Such a patch is large enough to show a piece of the motion by itself.
"""

from experiments import launch
from vidcls.config import AugmentConfig, Config, ModelConfig, OptimConfig, SamplingConfig


def config() -> Config:
    return Config(
        # As published, the embeddings of positions and times start at zero, which suits imported weights. From scratch
        # they must differ from the start.
        model=ModelConfig(name='timesformer_tiny', embedding_std=0.5, drop_path=0.0),
        sampling=SamplingConfig(num_segments=8),
        augment=AugmentConfig(
            crop='random', short_side=36, crop_size=32, flip=False, mean=(0.45,) * 3, std=(0.225,) * 3
        ),
        optim=OptimConfig(
            name='adamw', learning_rate=1.5e-3, weight_decay=0.05, decay_all=False, clip_norm=1.0,
            schedule='cosine', warmup_epochs=1.0,
        ),
        epochs=13,
        batch_size=32,
        eval_every_epochs=4.0,
    )  # fmt: skip


if __name__ == '__main__':
    launch.main(config(), __doc__)
