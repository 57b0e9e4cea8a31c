"""Streaming: what is in memory by exact indices, and that kept work gives what the whole network gives."""

import av
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep import motion
from tests import made_videos
from vidcls import models
from vidcls.config import AugmentConfig, Config, ModelConfig, SamplingConfig
from vidcls.data import flow, live, video
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_storage import FrameStorage
from vidcls.models import build
from vidcls.predict import Classifier
from vidcls.run.workdir import Run
from vidcls.stream import Stream, spread, stream_init, stream_update

N, SIZE = 8, 16


@pytest.fixture(scope='module')
def network():
    """A small ECO Lite and variables in which no signal dies."""
    model = build('eco_lite', 5, num_segments=N, width=4)
    draw = np.random.default_rng(0).normal

    def leaf(shape):
        scale = 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[:-1]))
        return jnp.asarray((len(shape) == 1) + scale * draw(size=shape), jnp.float32)

    shapes = jax.eval_shape(lambda: {**model.init(jax.random.key(0), jnp.zeros((1, 4, SIZE, SIZE, 3)))})
    return model, jax.tree.map(lambda x: leaf(x.shape), shapes), jax.jit(model.apply)


@pytest.fixture(scope='module')
def streams():
    """Two streams of 10 N frames."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, 10 * N, SIZE, SIZE, 3)), jnp.float32)


def run(network, streams, queue):
    """(frames in memory, logits, state) after each update with `queue` frames."""
    model, variables, _ = network
    state = stream_init(model, variables, len(streams), SIZE, SIZE, N)
    for start in range(0, streams.shape[1], queue):
        state, logits = stream_update(model, variables, state, streams[:, start : start + queue])
        yield np.asarray(state.frames), logits, state


def test_memory_logits_average_and_size_over_ten_queues(network, streams):
    model, variables, apply = network
    updates = list(run(network, streams, N))
    memories = [frames.tolist() for frames, _, _ in updates]
    assert memories[0] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert memories[1] == [0, 2, 4, 7, 8, 10, 12, 15]
    assert memories[2] == [0, 4, 8, 15, 16, 18, 20, 23]
    assert memories[9] == [0, 56, 64, 71, 72, 74, 76, 79]

    expected = None
    for frames, logits, state in updates:
        offline = apply(variables, streams[:, frames])
        np.testing.assert_allclose(logits, offline, atol=1e-5 * np.abs(offline).max())
        probabilities = jax.nn.softmax(offline)
        expected = probabilities if expected is None else (expected + probabilities) / 2
        np.testing.assert_allclose(state.average, expected, atol=1e-5)
    first, last = (jax.tree.map(lambda x: (x.shape, x.dtype), updates[i][2]) for i in (0, 9))
    started = stream_init(model, variables, 2, SIZE, SIZE, N)
    assert first == last == jax.tree.map(lambda x: (x.shape, x.dtype), started)
    assert updates[9][2].seen == 10 * N
    assert np.abs(updates[0][1][0] - updates[0][1][1]).max() > 1e-3  # the streams are not mixed up


# Fewer frames than places: some stand in several, and each is computed once.
@pytest.mark.parametrize('queue, memory', [(1, [0] * 8), (N // 2, [0, 0, 0, 1, 1, 2, 2, 3])])
def test_short_first_queues(network, streams, queue, memory):
    _, variables, apply = network
    ((frames, logits, _),) = run(network, streams[:, :queue], queue)
    assert frames.tolist() == memory
    offline = apply(variables, streams[:, frames])
    np.testing.assert_allclose(logits, offline, atol=1e-5 * np.abs(offline).max())


def test_only_sampled_frames_are_computed(network, streams):
    # The 2-D network's first convolution sees N frames at the first update, N / 2 later, and no others.
    model, variables, _ = network
    state = stream_init(model, variables, 1, SIZE, SIZE, N)
    jaxpr = str(jax.make_jaxpr(lambda s, f: stream_update(model, variables, s, f))(state, streams[:1, : 3 * N]))
    convolved = f'f32[{{}},{SIZE // 2},{SIZE // 2},4]'
    assert convolved.format(N) in jaxpr and convolved.format(N // 2) in jaxpr
    assert convolved.format(3 * N) not in jaxpr


def test_eco_full_keeps_maps_and_vectors():
    model = build('eco_full', 5, num_segments=N, width=4)
    frames = jax.ShapeDtypeStruct((3, 5, SIZE, SIZE, 3), jnp.float32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4, SIZE, SIZE, 3))))
    state = stream_init(model, variables, 3, SIZE, SIZE, N)
    assert [x.shape for x in state.features] == [(3, N, 2, 2, 6), (3, N, 64)]
    updated, logits = jax.eval_shape(lambda v, s, f: stream_update(model, v, s, f), variables, state, frames)
    assert jax.tree.map(jnp.shape, updated) == jax.tree.map(jnp.shape, state) and logits.shape == (3, 5)


def test_spread_holds_both_ends():
    assert spread(16, 8).tolist() == [0, 2, 4, 6, 8, 10, 12, 15]
    assert spread(1, 4).tolist() == [0, 0, 0, 0]


def test_a_place_holds_a_snippet_of_stacked_frames(streams):
    """In a queue of 8 frames, snippets of 3 start at 0 to 5; each is given whole to the network."""
    model = build('tsn_tiny', 5, seg_len=3, width=4, stage_sizes=(1,))
    variables, apply = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 3, SIZE, SIZE, 3))), jax.jit(model.apply)
    state = stream_init(model, variables, 2, SIZE, SIZE, 4)
    for start, memory in ((0, [0, 1, 3, 5]), (10, [0, 5, 10, 15])):
        state, logits = stream_update(model, variables, state, streams[:, start : start + 8], 2)
        assert state.frames.tolist() == memory  # two frames of the stream lie between the queues
        whole = jnp.concatenate([streams[:, first : first + 3] for first in memory], axis=1)
        np.testing.assert_allclose(logits, apply(variables, whole), atol=1e-5)


class Colour(nn.Module):
    """Logits are the frame's mean red, green and blue: a network whose answers are known."""

    num_classes: int = 3

    def __call__(self, video, train: bool = False):
        return self.classify(self.encode_frames(video, train), train)

    def encode_frames(self, video, train: bool = False):
        return video.mean((2, 3))

    def classify(self, features, train: bool = False):
        return 10 * features.mean(1)


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, 'colour', (Colour, {}, {}))
    config = Config(
        model=ModelConfig(name='colour'),
        sampling=SamplingConfig(num_segments=4),
        augment=AugmentConfig(short_side=16, crop_size=8, mean=(0, 0, 0), std=(1, 1, 1)),
    )
    return Classifier(Run(tmp_path, config, ('red', 'green', 'blue'), FrameStorage(16, None)), {})


def _frames(colour: int, count: int) -> np.ndarray:
    frames = np.zeros((count, 16, 24, 3), np.uint8)
    frames[..., colour] = 255
    return frames


def test_a_label_that_changes_is_followed(classifier):
    stream = Stream(classifier)
    stream.warm_up(_frames(1, 1)[0])  # leaves no trace
    updates = []
    for frame in np.concatenate([_frames(0, 12), _frames(2, 12)]):
        if stream.push(frame):
            updates.append(stream.prediction[0])
    assert [label for label, _ in updates] == ['red', 'red', 'red', 'red', 'blue', 'blue']
    # Half of the memory is blue, then three quarters, then all but the oldest frame; averaged with what was.
    found = np.exp(10 * np.array([[1, 0, 0]] * 3 + [[0.5, 0, 0.5], [0.25, 0, 0.75], [0.25, 0, 0.75]]))
    found /= found.sum(axis=1, keepdims=True)
    average = found[0]
    for probabilities in found[1:]:
        average = (average + probabilities) / 2
    assert dict(stream.prediction)['blue'] == pytest.approx(average[2], abs=1e-4)


class Motion(Colour):
    """Logits are the mean of each channel of a frame, here of its flow or difference."""

    num_classes: int = 2


def _moving(step: int, count: int) -> np.ndarray:
    """A texture that moves by `step` pixels a frame, uint8[t h w c]."""
    texture = made_videos.scenery(1, (32, 96))[0]
    return np.stack([np.roll(texture, step * number, axis=1)[:, 24:72] for number in range(count)])


@pytest.mark.parametrize('step, label', [(2, 'right'), (-2, 'left')])
def test_a_stream_of_flow(tmp_path, monkeypatch, step, label):
    monkeypatch.setitem(models.MODELS, 'motion', (Motion, {}, {}))
    computed = []
    compute = flow.compute
    monkeypatch.setattr(
        flow, 'compute', lambda frames, *rest: computed.append(len(frames) - 1) or compute(frames, *rest)
    )
    config = Config(
        model=ModelConfig(name='motion'),
        sampling=SamplingConfig(modality='flow', num_segments=4),
        augment=AugmentConfig(short_side=32, crop_size=16, std=(20 / 255,)),
    )
    storage = FrameStorage(32, None, FlowSettings())
    classifier = Classifier(Run(tmp_path, config, ('right', 'down'), storage), {})
    found = classifier.classify(_moving(step, 12))[0][0] == 'right'
    assert found == (label == 'right')
    assert computed == [1] * 4
    del computed[:]
    stream = Stream(classifier, every=11)
    assert [stream.push(frame) for frame in _moving(step, 22)].count(True) == 2
    assert (stream.prediction[0][0] == 'right') == (label == 'right')
    assert stream._state.frames.tolist() == [0, 9, 11, 20]
    assert computed == [1] * 4 + [1] * 2  # of 10 pairs in each queue


def test_a_stream_of_differences(tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, 'colour', (Colour, {}, {}))
    config = Config(
        model=ModelConfig(name='colour'),
        sampling=SamplingConfig(modality='rgbdiff', num_segments=2, seg_len=1),
        augment=AugmentConfig(short_side=16, crop_size=8, std=(1.0,)),
    )
    classifier = Classifier(Run(tmp_path, config, ('red', 'green', 'blue'), FrameStorage(16, None)), {})
    stream = Stream(classifier)
    assert stream.every == 4
    for red, green in ((0, 0), (10, 0), (20, 50), (30, 100)):  # grows by 10, 10, 10 and by 0, 50, 50
        frame = np.zeros((16, 16, 3), np.uint8)
        frame[..., 0], frame[..., 1] = red, green
        stream.push(frame)
    assert stream._state.frames.tolist() == [0, 2]
    assert stream.logits == pytest.approx([100 / 255, 250 / 255, 0], abs=0.02)  # 10 x the mean of the two differences


def test_what_waits_at_the_end_is_classified(classifier):
    stream = Stream(classifier, every=8)
    assert not stream.flush()
    assert [stream.push(frame) for frame in _frames(1, 3)] == [False] * 3
    assert stream.prediction is None
    assert stream.flush()
    assert stream.prediction[0][0] == 'green'


def test_a_frame_of_another_size_is_refused(classifier):
    stream = Stream(classifier)
    stream.push(_frames(0, 1)[0])
    with pytest.raises(ValueError, match=r'\(16, 16, 3\) after frames of \(16, 24, 3\)'):
        stream.push(np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r'float64\[16, 24, 3\]: must be uint8\[h w 3\]'):
        stream.push(np.zeros((16, 24, 3)))


def test_a_buffer_may_be_filled_again(classifier):
    stream, buffer = Stream(classifier), _frames(0, 1)[0]
    for colour in (0, 0, 0, 2):
        buffer[:] = _frames(colour, 1)[0]
        stream.push(buffer)
    assert stream.prediction[0][0] == 'red'


def test_a_stream_is_the_video_as_it_is_stored(tmp_path):
    path = tmp_path / 'video.mp4'
    motion.write_video(path, motion.render('left', 0, motion.Look(size=32, frames=8)))
    seen = list(live.watch(str(path)))
    assert [time for time, _ in seen] == pytest.approx([number / motion.RATE for number in range(8)])
    np.testing.assert_array_equal(np.stack([frame for _, frame in seen]), video.read_frames(path, range(8)))


def test_a_stream_that_breaks_off_gives_what_came_and_says_so(tmp_path):
    path = tmp_path / 'video.avi'
    made_videos.write_video(path, made_videos.scenery(40, (96, 128)), codec='mpeg4')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = []
    with pytest.raises(video.VideoError, match='it ends after|frames, then'):
        for moment, _ in live.watch(str(path)):
            seen.append(moment)
    assert 10 <= len(seen) <= 25
    with pytest.raises(video.VideoError, match='no such file'):
        next(live.watch(str(tmp_path / 'absent.mp4')))
    with pytest.raises(video.VideoError, match='http://127.0.0.1:1/x.mp4: (?!no such file)'):
        next(live.watch('http://127.0.0.1:1/x.mp4'))


def test_a_memory_of_one_frame_is_the_newest(network, streams):
    model = Colour()
    state = stream_init(model, {}, 1, SIZE, SIZE, 1)
    for start in (0, 4):
        state, _ = stream_update(model, {}, state, streams[:1, start : start + 4])
    assert state.frames.tolist() == [7]


@pytest.mark.parametrize('fps, kept', [(8, [0, 2, 4, 6]), (6, [0, 3, 6]), (100, list(range(8)))])
def test_a_stream_keeps_to_the_stored_rate(tmp_path, fps, kept):
    path = tmp_path / 'video.mp4'
    motion.write_video(path, motion.render('left', 0, motion.Look(size=32, frames=8)))  # 16 a second
    assert [round(moment * motion.RATE) for moment, _ in live.watch(str(path), fps=fps)] == kept


def test_a_packet_that_is_lost_ends_no_stream(tmp_path):
    path = tmp_path / 'video.avi'
    made_videos.write_video(path, made_videos.scenery(40, (96, 128)), codec='mpeg4')
    whole = [moment for moment, _ in live.watch(str(path))]
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    broken = bytearray(path.read_bytes())
    position, size = packets[20]
    broken[position + 8 : position + 8 + size] = bytes(size)  # behind the chunk's own header
    path.write_bytes(broken)
    assert '20 frames, then' in video.probe(path).damage
    seen = [moment for moment, _ in live.watch(str(path))]
    assert set(seen) < set(whole) and len(seen) >= len(whole) - 2


def test_updates_that_repeat_frames_are_refused(classifier):
    with pytest.raises(ValueError, match='--every=1: .* memory of 4 frames .* fewer than 2'):
        Stream(classifier, every=1)
