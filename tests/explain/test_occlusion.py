"""What covering a block costs, against the logits of a clip without what it shows."""

import numpy as np
import pytest

from tests.explain import seeing
from vidcls import models
from vidcls.errors import UserError
from vidcls.explain import Explainer, occlusion

RED, GREEN = np.s_[1:2, 16:32, 32:48], np.s_[2:3, 32:48, 0:16]


@pytest.fixture
def classifier(monkeypatch):
    monkeypatch.setitem(models.MODELS, 'seeing', (models.TSN, {'backbone': seeing.Trunk}, {}))
    return seeing.classifier('seeing', seeing.TSN, 3)


def test_a_block_costs_what_the_clip_without_it_lacks(classifier):
    """Red fills a block of 3 x 4 x 4. Covering green makes red more probable, which is a negative cell and no map."""
    explainer = Explainer(classifier, 'occlusion', (3, 4, 4))
    explanation = explainer.explain(seeing.clip(3, RED, GREEN), 'red')
    assert seeing.share(explanation.map, RED) > 0.9
    cells = explanation.cells['blocks']
    log_of = lambda *boxes: np.log(classifier.probabilities(seeing.clip(3, *boxes))[0])
    nothing = np.s_[0:0, 0:0, 0:0]
    assert cells[1, 1, 2] == pytest.approx(log_of(RED, GREEN) - log_of(nothing, GREEN), abs=5e-3)
    assert cells[2, 2, 0] == pytest.approx(log_of(RED, GREEN) - log_of(RED), abs=5e-3)
    assert cells[2, 2, 0] < -0.02 < 0.02 < cells[1, 1, 2]


def test_blocks_are_counted_frame_by_frame_and_row_by_row():
    found = occlusion.block_of_pixels((2, 2, 6), (2, 1, 3))
    assert found.tolist() == [[[0, 0, 1, 1, 2, 2]] * 2, [[3, 3, 4, 4, 5, 5]] * 2]
    assert occlusion.block_of_pixels((1, 4, 3), (1, 2, 3))[0, :, 1].tolist() == [1, 1, 4, 4]


def test_a_coarser_grid_shows_the_block_that_has_it(classifier):
    explanation = Explainer(classifier, 'occlusion', (9, 2, 2)).explain(seeing.clip(3, RED), 'red')
    assert explanation.cells['blocks'].shape == (3, 2, 2)  # at most a block a frame
    assert seeing.share(explanation.map, np.s_[1:2, 0:32, 32:64]) > 0.9


@pytest.mark.parametrize(
    ('grid', 'message'),
    [
        ((3, 0, 4), '3x0x4: must be blocks'),
        ((3, 65, 4), 'from 1 to 64'),
        ((3, 64, 64), 'has 12,288'),
        ((1, 64, 64), ''),
    ],
)
def test_a_grid_that_cannot_work_is_named(classifier, grid, message, monkeypatch):
    monkeypatch.setattr(occlusion, 'MOST', 5000)
    if not message:
        return Explainer(classifier, 'occlusion', grid) and None
    with pytest.raises(UserError, match=message):
        Explainer(classifier, 'occlusion', grid)
