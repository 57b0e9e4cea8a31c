"""The flow of chosen frames against the flow of the whole video."""

import numpy as np
import simplejpeg

from tests import made_videos
from vidcls.data import chosen_flow, flow
from vidcls.data.flow import FlowSettings


def test_pairs_of_chosen_frames():
    assert chosen_flow.pairs(np.array([0, 3, 9, 3]), 10).tolist() == [[0, 1], [3, 4], [8, 9], [3, 4]]
    assert chosen_flow.pairs(np.array([0, 0]), 1).tolist() == [[0, 0], [0, 0]]


def test_chosen_flow_is_that_of_the_whole_video_and_no_other_is_computed(monkeypatch):
    frames, settings = made_videos.scenery(10), FlowSettings()
    whole = flow.compute(frames, settings)
    computed, compute = [], flow.compute
    monkeypatch.setattr(flow, 'compute', lambda some, given: computed.append(len(some) - 1) or compute(some, given))
    chosen = np.array([6, 2, 3, 9, 2])
    found = chosen_flow.pictures(chosen_flow.pairs(chosen, 10), dict(enumerate(frames)), settings)
    assert found.shape == (10, 48, 64, 1) and found.dtype == np.uint8
    assert computed == [2, 1, 1]  # 2 and 3, 6, and 8 for 9
    planes = whole[chosen].transpose(0, 3, 1, 2).reshape(10, 48, 64, 1)
    for ours, plane in zip(found, planes, strict=True):
        stored = simplejpeg.encode_jpeg(np.ascontiguousarray(plane), 95, 'GRAY')
        np.testing.assert_array_equal(ours, simplejpeg.decode_jpeg(stored, 'GRAY'))


def test_a_single_frame_does_not_move():
    frame = made_videos.scenery(1)[0]
    found = chosen_flow.pictures(np.zeros((1, 2), int), {0: frame}, FlowSettings())
    assert (found == 128).all()
