"""What an image network sees of a video [b t h w c]: images [b n h w c'], one for each of n segments."""

import einops

from vidcls.errors import UserError


def stack(video, seg_len: int):
    """Stacks the `seg_len` consecutive frames of every segment on the channel axis.

    The video [b t h w c] has t = n * seg_len frames; the result is [b n h w seg_len*c].

    Raises:
      UserError: t is zero or no multiple of `seg_len`.
      ValueError: the video has not five axes.
    """
    if video.ndim != 5:
        raise ValueError(f'the network takes video[b t h w c], five axes; got shape {video.shape}')
    if video.shape[1] == 0 or video.shape[1] % seg_len:
        raise UserError(
            f'{video.shape[1]} frames are not a multiple of seg_len={seg_len}: give num_segments * seg_len frames'
        )
    return einops.rearrange(video, 'b (n s) h w c -> b n h w (s c)', s=seg_len)
