"""An explanation made by hand."""

import numpy as np

from tests.made_videos import scenery
from vidcls.data.windows import Window
from vidcls.explain import maps


def explained(video='clips/a.mp4', label='left', frames=3, size=(48, 64)):
    stored = scenery(frames, size)
    window = Window(4, 10, 40, 40)
    values = np.random.default_rng(0).random((frames, 40, 40)).astype(np.float32)
    return maps.Explanation(
        video,
        label,
        0.75,
        'gradcam',
        0,
        1,
        stored,
        window,
        np.arange(frames) / 10,
        values,
        {'backbone': values[:, :2, :2]},
        True,
    )
