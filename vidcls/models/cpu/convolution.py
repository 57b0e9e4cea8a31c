"""Convolution and pooling: [n h w c] -> [n h' w' c'], or with one more spatial axis.

Each operation has two forms. `*_xla` hands the operation to XLA, which is right on an accelerator. `*_cpu` writes the
operation as matrix products and elementwise maxima or sums. XLA's CPU backend runs matrix products near the processor's
limit, but runs its own gradients of convolution and pooling far below that limit. The results are the same up to
rounding; `vidcls.models.layers` chooses the form. The times below are for 12 images in float32, on 2 threads of an AVX2
processor that multiplies matrices at 60 GFLOP/s.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

LAYOUTS = {4: ('NHWC', 'HWIO', 'NHWC'), 5: ('NDHWC', 'DHWIO', 'NDHWC')}


def convolve_xla(x, kernel, stride: int, padding: int):
    """The convolution of x[n ... c] by kernel[... c c'], with `padding` zeros on every side."""
    spatial = x.ndim - 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,) * spatial,
        padding=((padding, padding),) * spatial,
        dimension_numbers=LAYOUTS[x.ndim],
    )


def max_pool_xla(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The maximum over windows of x[n ... c]; the border counts as minus infinity."""
    return _reduce_windows(x, -jnp.inf, lax.max, window, stride, padding)


def sum_pool_xla(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The sum over windows of x[n ... c]; the border counts as zeros."""
    return _reduce_windows(x, 0.0, lax.add, window, stride, padding)


def _reduce_windows(x, first, operation, window, stride, padding):
    spatial = x.ndim - 2
    return lax.reduce_window(
        x,
        first,
        operation,
        window_dimensions=(1, *(window,) * spatial, 1),
        window_strides=(1, *(stride,) * spatial, 1),
        padding=((0, 0), *(_sides(padding),) * spatial, (0, 0)),
    )


def _sides(padding: int | tuple[int, int]) -> tuple[int, int]:
    """The border's widths before and after the image."""
    return padding if isinstance(padding, tuple) else (padding, padding)


def convolve_cpu(x, kernel, stride: int, padding: int):
    """The result of `convolve_xla`, in the form that is fastest on the CPU.

    A 1x1 kernel is one matrix product. A kernel with 64 output channels or more is computed by `windowed`. With fewer
    channels the matrix products of `windowed` are too small to gain from: at 16 channels both forms took equally long,
    and the matrix products took four times as long to compile.
    """
    window, channels = kernel.shape[:-2], kernel.shape[-2:]
    if math.prod(window) == 1 and padding == 0:
        every = (slice(None), *(slice(None, None, stride),) * len(window))
        return pointwise(x[every], kernel.reshape(channels))
    if channels[-1] < 64:
        return convolve_xla(x, kernel, stride, padding)
    return windowed(x, kernel, stride, padding)


def max_pool_cpu(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The result of `max_pool_xla`, computed as the maximum of shifted images.

    The one maximum pool of ResNet took 133 ms with its gradient, and XLA's form 193 ms. Here equal maxima share the
    gradient; in XLA's form the first gets all of it. After a ReLU, equal maxima are zeros and get no gradient in either
    form.
    """
    return functools.reduce(jnp.maximum, _windows(x, window, stride, padding, -jnp.inf))


def sum_pool_cpu(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The result of `sum_pool_xla`, computed as the sum of shifted images."""
    return functools.reduce(jnp.add, _windows(x, window, stride, padding, 0))


def _windows(x, window, stride, padding, border):
    spatial = x.ndim - 2
    out = [(size + sum(_sides(padding)) - window) // stride + 1 for size in x.shape[1:-1]]
    return _shifted(x, (window,) * spatial, out, stride, padding, border)


def _shifted(x, window, out, stride, padding, border):
    """Yields one array [n *out c] for each offset in the window: the input shifted by the offset and strided."""
    pads = ((0, 0, 0), *((*_sides(padding), 0),) * len(window), (0, 0, 0))
    x = lax.pad(x, jnp.asarray(border, x.dtype), pads)
    for start in itertools.product(*map(range, window)):
        spans = (slice(s, s + stride * (n - 1) + 1, stride) for s, n in zip(start, out))
        yield x[(slice(None), *spans)]


def _outer(x, g):
    """The array [i o] of the sums of x[... i] g[... o] over all positions.

    XLA transposes the first operand in memory, so the narrower operand comes first. With 1024 and 256 channels this
    order takes 19 ms, and the other 29 ms. The barrier keeps XLA from swapping the operands back.
    """
    if x.shape[-1] < g.shape[-1]:
        return jnp.einsum('...i,...o->io', x, g)
    return lax.optimization_barrier(jnp.einsum('...o,...i->oi', g, x)).T


@jax.custom_vjp
def pointwise(x, kernel):
    """A 1x1 convolution as a matrix product: x[... i] kernel[i o] -> [... o].

    The weight gradient of a layer takes 10 to 50 ms; in XLA's convolution it took 365 to 1,800 ms.
    """
    return x @ kernel


def _pointwise_backward(saved, g):
    x, kernel = saved
    return jnp.einsum('...o,io->...i', g, kernel), _outer(x, g)


pointwise.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _pointwise_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def windowed(x, kernel, stride, padding):
    """A convolution whose weight gradient is one matrix product for each place of the window.

    A 3x3 convolution of 56x56x64 took 157 ms, and XLA's 367 ms. The 7x7 convolution of three channels took 176 ms, and
    XLA's 464 ms.
    """
    if _suits_winograd(x, kernel, stride, padding):
        return winograd(x, kernel)
    return convolve_xla(x, kernel, stride, padding)


def _windowed_forward(x, kernel, stride, padding):
    return windowed(x, kernel, stride, padding), (x, kernel)


def _windowed_backward(stride, padding, saved, g):
    x, kernel = saved
    window = kernel.shape[:-2]
    (dx,) = jax.vjp(lambda x: convolve_xla(x, kernel, stride, padding), x)[1](g)
    views = list(_shifted(x, window, g.shape[1:-1], stride, padding, 0))
    if x.shape[-1] < 16:  # too few channels for a product at each place: one product of all places side by side
        dk = _outer(jnp.concatenate(views, axis=-1), g)
    else:
        dk = jnp.stack([jnp.einsum('...o,...i->oi', g, v) for v in views]).swapaxes(1, 2)
    return dx, dk.reshape(kernel.shape)


windowed.defvjp(_windowed_forward, _windowed_backward)


def _suits_winograd(x, kernel, stride, padding) -> bool:
    """Whether `winograd` can compute this convolution, and is faster than `convolve_xla`.

    The cost of Winograd's transforms grows with the number of channels, and the saving with the square of that number,
    so that Winograd is clearly faster from 128 channels on. On maps under 14x14 the half-filled tiles cost more than is
    saved. In bfloat16 the transforms would lose digits.
    """
    return (
        kernel.shape[:-2] == (3, 3)
        and stride == padding == 1
        and min(kernel.shape[-2:]) >= 128
        and min(x.shape[1:3]) >= 14
        and x.dtype == jnp.float32
    )


def winograd(x, kernel):
    """The 3x3 convolution with stride 1 and padding 1, with 4 multiplications where the plain form has 9.

    This is F(2x2, 3x3) of Lavin & Gray 2015 (arXiv:1509.09308), section 4.1: Y = A'[(GgG') (B'dB)]A. In one run,
    14x14x256 took 31 ms and XLA's form 74 ms; 28x28x128 took 53 ms and XLA's form 88 ms. ResNet-50's forward pass
    became 9 % faster. The gradients use the other forms: with Winograd in the gradients too, a train step was 5 %
    faster than without any Winograd, but took 70 % longer to compile.
    """
    _, h, w, _ = x.shape
    rows, columns = -(-h // 2), -(-w // 2)
    x = jnp.pad(x, ((0, 0), (1, 2 * rows - h + 1), (1, 2 * columns - w + 1), (0, 0)))

    def image(d, axis, tiles):  # B': 4 values of each overlapping tile
        a, b, c, d = (lax.slice_in_dim(d, i, i + 2 * tiles - 1, 2, axis) for i in range(4))
        return a - c, b + c, c - b, b - d

    def weights(k):  # G: 3 weights to 4
        a, b, c = k
        return a, (a + b + c) / 2, (a - b + c) / 2, c

    def result(m):  # A': 4 products to 2 values
        return m[0] + m[1] + m[2], m[1] - m[2] - m[3]

    images = [image(row, 2, columns) for row in image(x, 1, rows)]
    kernels = [weights(row) for row in weights(kernel)]
    products = [[p @ k for p, k in zip(*pair)] for pair in zip(images, kernels)]
    across = [result(row) for row in products]
    top, bottom = (jnp.stack(side, 3) for side in zip(*map(result, zip(*across))))
    y = jnp.stack([top, bottom], 2)  # n rows 2 columns 2 c
    return y.reshape(y.shape[0], 2 * rows, 2 * columns, -1)[:, :h, :w]
