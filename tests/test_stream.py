import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcls.models import build
from vidcls.stream import spread, stream_init, stream_update

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
    state = stream_init(model, variables, len(streams), SIZE, SIZE)
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
    started = stream_init(model, variables, 2, SIZE, SIZE)
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
    state = stream_init(model, variables, 1, SIZE, SIZE)
    jaxpr = str(jax.make_jaxpr(lambda s, f: stream_update(model, variables, s, f))(state, streams[:1, : 3 * N]))
    convolved = f'f32[{{}},{SIZE // 2},{SIZE // 2},4]'
    assert convolved.format(N) in jaxpr and convolved.format(N // 2) in jaxpr
    assert convolved.format(3 * N) not in jaxpr


def test_eco_full_keeps_maps_and_vectors():
    model = build('eco_full', 5, num_segments=N, width=4)
    frames = jax.ShapeDtypeStruct((3, 5, SIZE, SIZE, 3), jnp.float32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4, SIZE, SIZE, 3))))
    state = stream_init(model, variables, 3, SIZE, SIZE)
    assert [x.shape for x in state.pictures] == [(3, N, 2, 2, 6), (3, N, 64)]
    updated, logits = jax.eval_shape(lambda v, s, f: stream_update(model, v, s, f), variables, state, frames)
    assert jax.tree.map(jnp.shape, updated) == jax.tree.map(jnp.shape, state) and logits.shape == (3, 5)


def test_spread_holds_both_ends():
    assert spread(16, 8).tolist() == [0, 2, 4, 6, 8, 10, 12, 15]
    assert spread(1, 4).tolist() == [0, 0, 0, 0]


def test_several_frames_to_a_picture_are_refused():
    with pytest.raises(ValueError, match='seg_len=2'):
        stream_init(build('eco_lite', 5, seg_len=2, width=4), {}, 1, SIZE, SIZE)
