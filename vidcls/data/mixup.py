"""Mixup and cutmix on the device: each clip and its target are blended with those of its neighbour in the batch.

Sources: Zhang et al. 2018 (arXiv:1710.09412), section 2; Yun et al. 2019 (arXiv:1905.04899), section 3.1. All frames of
a clip have the same draw.
"""

import jax
import jax.numpy as jnp


def mix_clips(
    key: jax.Array, video: jax.Array, targets: jax.Array, mixup_alpha: float, cutmix_alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Blends each clip with the one before it in the batch.

    Args:
      video: float32[b t h w c].
      targets: float32[b k], probabilities.
      mixup_alpha, cutmix_alpha: the weight that a clip keeps is drawn from the distribution Beta(alpha, alpha). With 0,
        mixup (or cutmix) is left out. If neither is 0, each clip draws one of the two.

    Returns:
      The blended (video, targets). A clip's target is blended with the same weight as its pixels.
    """
    which, shares, box = jax.random.split(key, 3)
    count, height, width = video.shape[0], *video.shape[2:4]
    if mixup_alpha and cutmix_alpha:
        cut = jax.random.bernoulli(which, shape=(count,))
    else:
        cut = jnp.full((count,), bool(cutmix_alpha))
    alpha = jnp.where(cut, cutmix_alpha or 1.0, mixup_alpha or 1.0)
    share = jax.random.beta(shares, alpha, alpha)
    weight = jnp.where(
        cut[:, None, None],
        1 - boxes(box, 1 - share, height, width),
        jnp.broadcast_to(share[:, None, None], (count, height, width)),
    )
    own = weight.mean((1, 2))[:, None]  # counted in pixels, because a box at the border is cut off
    weight = weight[:, None, :, :, None]
    return (
        weight * video + (1 - weight) * jnp.roll(video, 1, axis=0),
        own * targets + (1 - own) * jnp.roll(targets, 1, axis=0),
    )


def boxes(key: jax.Array, area: jax.Array, height: int, width: int) -> jax.Array:
    """Rectangles with the proportions of the frame and a centre anywhere in the frame.

    Args:
      area: float32[b], the area of each rectangle as a fraction of the frame's area, before the frame's border cuts it
        off.

    Returns:
      float32[b h w]: 1 inside the rectangle, 0 outside.
    """
    centre = jax.random.uniform(key, (2, len(area)))

    def span(length: int, middle: jax.Array) -> jax.Array:
        middle, half = middle[:, None] * length, jnp.sqrt(area)[:, None] * length / 2
        return jnp.abs(jnp.arange(length) + 0.5 - middle) < half

    return (span(height, centre[0])[:, :, None] & span(width, centre[1])[:, None, :]).astype(jnp.float32)
