"""A small residual network for images: ``Images`` in, one head per task out.

A stem halves the image, then every stage halves it again and adds one residual block. The mean over
the positions goes, per task, through a head as in :mod:`fairjax.models.tabular`. Images of any size
pass through the same parameters; widths and depth are meant for 64 x 64.

Pixels are whole numbers from 0 to 255, as they are stored, and become ``pixel / 127.5 - 1`` here.
So data take a quarter of the memory that floats take, on the host and on the device.

Group normalisation needs no other row and no running statistics. With batch normalisation a row's
scores would depend on its neighbours, on padding too, and the statistics would be a state beside
the parameters, which neither a member of a sweep nor a row of gradients has.

A convolution is one product of concatenated windows, as in :mod:`fairjax.models.text`: under
``vmap`` over members XLA's own becomes a grouped one, which is several times slower on a CPU.
"""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, he_normal, ones_init, zeros_init

from fairjax.core.types import Array, Images, Model, PyTree, Spec
from fairjax.models._blocks import in_blocks
from fairjax.models.dropout import dropped, drops_out
from fairjax.models.tabular import heads_of

_ROWS = 256  # at a time
_MOST_GROUPS = 8  # of channels that are normalised together
_EPSILON = 1e-5


def _neighbours(x: Array, axis: int, stride: int) -> Array:
    """Every stride-th position of an axis beside the one before and after: ``[..., 3 C]``.

    Beyond the ends is zero.
    """
    positions = -(-x.shape[axis] // stride)
    last = stride * (positions - 1) + 1
    margins = [(0, 0)] * x.ndim
    margins[axis] = (1, 1)
    padded = jnp.pad(x, margins)
    shifted = [jax.lax.slice_in_dim(padded, k, k + last, stride, axis) for k in range(3)]
    return jnp.concatenate(shifted, axis=-1)


class Convolution(nn.Module):
    """A 3 x 3 convolution, zero beyond the borders: ``[B, H, W, C] -> [B, H / s, W / s, width]``.

    ``y[i, j] = sum_ab x[s i + a - 1, s j + b - 1] @ kernel[b, a]``. It has no bias: the
    normalisation after it has one.
    """

    width: int
    stride: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (9 * x.shape[-1], self.width)
        kernel = self.param("kernel", self.kernel_init, shape)
        beside = _neighbours(x, 1, self.stride)
        windows = _neighbours(beside, 2, self.stride)
        return windows @ kernel


class Normalisation(nn.Module):
    """``scale (x - mean) / deviation + bias`` with moments of one row's group of channels.

    The moments are in single precision at least. Source: Wu and He, Group Normalization, ECCV 2018.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        rows, height, width, channels = x.shape
        scale = self.param("scale", ones_init(), (channels,))
        bias = self.param("bias", zeros_init(), (channels,))
        groups = math.gcd(channels, _MOST_GROUPS)
        precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        grouped = precise.reshape(rows, height * width, groups, channels // groups)
        centred = grouped - jnp.mean(grouped, axis=(1, 3), keepdims=True)
        variance = jnp.mean(centred**2, axis=(1, 3), keepdims=True)
        standardised = centred * jax.lax.rsqrt(variance + _EPSILON)
        return standardised.reshape(x.shape).astype(x.dtype) * scale + bias


class Stem(nn.Module):
    """Convolution of stride 2, normalisation, ReLU: ``[B, H, W, C] -> [B, H/2, W/2, width]``."""

    width: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Convolution(self.width, 2, self.kernel_init, name="convolution")(x)
        return nn.relu(Normalisation(name="normalisation")(x))


class Stage(nn.Module):
    """A stem, then one residual block: ``relu(z + N(K(relu(N(K(z))))))``, K of stride 1."""

    width: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        z = Stem(self.width, self.kernel_init, name="down")(x)
        y = Convolution(self.width, 1, self.kernel_init, name="convolution_0")(z)
        y = nn.relu(Normalisation(name="normalisation_0")(y))
        y = Convolution(self.width, 1, self.kernel_init, name="convolution_1")(y)
        return nn.relu(z + Normalisation(name="normalisation_1")(y))


class Body(nn.Module):
    """Stem, stages and the mean over positions: ``[B, H, W, 3]`` -> ``[B, widths[-1]]``.

    The number at the end of a layer's name is its depth.
    """

    widths: tuple[int, ...]
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Stem(self.widths[0], self.kernel_init, name="stem_0")(x)
        for depth, width in enumerate(self.widths, start=1):
            x = Stage(width, self.kernel_init, name=f"stage_{depth}")(x)
        return jnp.mean(x, axis=(1, 2))


def image_encoder(
    spec: Spec,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    head: tuple[int, ...] = (32,),
    dropout: Array | float = 0.0,
    kernel_init: Initializer | None = None,
) -> Model:
    """A multi-task network for images: one residual network for all tasks, one head per task.

    The trunk's parameters are ``{"stem_0": ..., "stage_1": ..., "stage_2": ...}``: the number at
    the end of a name is the depth of the layer.

    Args:
      spec: names the tasks; its features are images.
      widths: channels of every stage, at least one stage; the stem has those of the first.
      head: widths of each task's ReLU layers; may be empty.
      dropout: share of the units of the representation that a step of training leaves out; may be
        traced.
      kernel_init: initialiser of all kernels. Default: He normal.

    Returns:
      A :class:`Model`; ``represent`` takes :class:`Images` of any size, ``predict`` gives scores
      ``[B, C]``. Scores have the precision of the parameters.

    Raises:
      ValueError: for a spec without images, or no stage.
      DataError: for a dropout outside [0, 1).

    Reference: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016. Here
    with one block per stage, group normalisation, and a strided convolution before the block
    instead of one in its shortcut.
    """
    has_masks = drops_out(dropout)
    if not spec.image_shape or not widths:
        raise ValueError(
            f"image_encoder: image shape {spec.image_shape} and {len(widths)} stages must not be "
            "empty; images come with Roles(image=...)"
        )
    kernel_init = kernel_init or he_normal()
    body = Body(tuple(widths), kernel_init)
    init_heads, predict = heads_of(spec, widths[-1], tuple(head), kernel_init)

    def init(key: Array) -> PyTree:
        trunk_key, head_key = jax.random.split(key)
        # no parameter depends on the size of the image
        example = jnp.zeros((1, 1, 1, 3))
        trunk_variables = body.init(trunk_key, example)
        return {
            "trunk": trunk_variables["params"],
            "heads": init_heads(head_key),
        }

    def encode(params: PyTree, pixels: Array) -> Array:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        centred = pixels.astype(dtype) / 127.5 - 1.0
        return cast(Array, body.apply({"params": params}, centred))

    def represent(
        params: PyTree,
        x: Images,
        condition: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        if condition is not None:
            raise ValueError("image_encoder takes no condition; use a conditioned model")
        z = in_blocks(partial(encode, params), x.pixels, _ROWS)
        return z if key is None else dropped(z, dropout, key)

    return Model(init, represent, predict, own_inputs=True, dropout=has_masks)
