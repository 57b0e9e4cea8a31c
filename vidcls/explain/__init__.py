"""What a trained network looked at in a video, for the label that it gave or for any other.

    from vidcls import Classifier
    from vidcls.explain import Explainer

    explainer = Explainer(Classifier.load('runs/mine'))
    explanation = explainer.explain('video.mp4')           # .map float32[t h w], .weights float32[t], .times float64[t]
    explainer.write('video.mp4', 'pictures')               # a strip, an animation, the numbers

The methods are Grad-CAM (`gradcam`), attention rollout with and without gradients (`rollout`) and occlusion
(`occlusion`). None of them changes the code of the networks. docs/explaining.md says what each method shows and where
it fails.
"""

from vidcls.explain.explainer import METHODS, Explainer
from vidcls.explain.maps import Explanation

__all__ = ['METHODS', 'Explainer', 'Explanation']
