"""A convolutional encoder of texts, after Kim, EMNLP 2014: ``Sentences`` in, heads per task out.

The tokens' embeddings go through convolutions over neighbouring positions. The result is pooled
over the text and goes through one dense layer, then per task through a head as in
:mod:`fairjax.models.tabular`.

The pooling keeps the maximum and the mean. The maximum says whether a pattern occurs, at any length
of the text. The mean says how much of the text the pattern fills, and it gives every position a
gradient; the maximum gives one position a gradient.

Padding is no word: its embedding is zero, the convolutions' outputs at its positions are zero, and
the pooling does not count it. So a text's scores do not depend on its padding. Activations are
ReLUs and never negative, so zero is a neutral filling for the maximum too.

The convolution is one product of concatenated windows. Under ``vmap`` over members it stays one
product per member. XLA's convolution becomes a grouped one, several times slower on a CPU.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, glorot_uniform, truncated_normal, zeros_init

from fairjax.core.types import Array, Model, PyTree, Sentences, Spec
from fairjax.models._blocks import in_blocks
from fairjax.models.dropout import dropped, drops_out
from fairjax.models.tabular import Dense, heads_of

_ROWS = 1024  # at a time


class Convolution(nn.Module):
    """``y[:, l] = sum_k x[:, l + k - (window - 1) // 2] @ kernel[k] + bias``, zero beyond the ends.

    ``[B, L, D] -> [B, L, width]``.
    """

    width: int
    window: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        length = x.shape[1]
        left = (self.window - 1) // 2
        right = self.window - 1 - left
        inputs = self.window * x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (inputs, self.width))
        bias = self.param("bias", zeros_init(), (self.width,))
        x = jnp.pad(x, ((0, 0), (left, right), (0, 0)))
        shifted = [x[:, k : k + length] for k in range(self.window)]
        windows = jnp.concatenate(shifted, axis=-1)
        y = windows.reshape(-1, inputs) @ kernel + bias
        return y.reshape(-1, length, self.width)


class Body(nn.Module):
    """Embeddings, convolutions, pooling and a dense layer: tokens ``[B, L]`` -> ``[width, B]``."""

    vocab_size: int
    embedding: int
    width: int
    window: int
    layers: int
    kernel_init: Initializer
    embedding_init: Initializer

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        shape = (self.vocab_size, self.embedding)
        table = self.param("embedding", self.embedding_init, shape)
        real = (tokens > 0)[..., None]
        h = jnp.where(real, table[tokens], 0.0)
        for i in range(self.layers):
            layer = Convolution(self.width, self.window, self.kernel_init, name=f"convolution_{i}")
            h = jnp.where(real, nn.relu(layer(h)), 0.0)
        count = jnp.maximum(jnp.sum(real, axis=1), 1)  # a text of padding only has the mean 0
        largest = jnp.max(h, axis=1)
        mean = jnp.sum(h, axis=1) / count
        pooled = jnp.concatenate([largest, mean], axis=-1)
        dense = Dense(self.width, self.kernel_init, name="dense")
        return nn.relu(dense(pooled.T))


def text_encoder(
    spec: Spec,
    *,
    embedding: int = 32,
    width: int = 64,
    window: int = 3,
    layers: int = 1,
    head: tuple[int, ...] = (32,),
    dropout: Array | float = 0.0,
    kernel_init: Initializer | None = None,
    embedding_init: Initializer | None = None,
) -> Model:
    """A multi-task network for texts: one encoder for all tasks and languages, one head per task.

    Args:
      spec: gives the number of words and the tasks.
      embedding: dimension of the words' embeddings.
      width: width of the convolutions and of the dense layer after pooling.
      window: number of tokens in a convolution's window.
      layers: number of convolutions, at least one.
      head: widths of each task's ReLU layers; may be empty.
      dropout: share of the units of the representation that a step of training leaves out; may be
        traced.
      kernel_init: initialiser of all kernels. Default: Glorot uniform.
      embedding_init: initialiser of the embeddings. Default: normal, truncated at two deviations,
        scaled by ``1/sqrt(embedding)``.

    Returns:
      A :class:`Model`; ``represent`` takes :class:`Sentences` of any length L, ``predict`` gives
      scores ``[B, C]``.

    Raises:
      ValueError: for a spec without words, no layer, or an empty window.
      DataError: for a dropout outside [0, 1).

    Reference: Kim, Convolutional Neural Networks for Sentence Classification, EMNLP 2014, with a
    dropout of 0.5. Here with one window, the mean beside the maximum, and a dense layer before the
    dropout.
    """
    has_masks = drops_out(dropout)
    if not spec.vocab_size or layers < 1 or window < 1:
        raise ValueError(
            f"text_encoder: words {spec.vocab_size}, layers {layers} and window {window} must be "
            "1 or more; words come with Roles(text=...)"
        )
    kernel_init = kernel_init or glorot_uniform()
    embedding_init = embedding_init or truncated_normal(stddev=embedding**-0.5)
    body = Body(spec.vocab_size, embedding, width, window, layers, kernel_init, embedding_init)
    init_heads, predict = heads_of(spec, width, tuple(head), kernel_init)

    def init(key: Array) -> PyTree:
        trunk_key, head_key = jax.random.split(key)
        example = jnp.zeros((1, window), int)
        trunk_variables = body.init(trunk_key, example)
        return {
            "trunk": trunk_variables["params"],
            "heads": init_heads(head_key),
        }

    def encode(params: PyTree, tokens: Array) -> Array:
        return cast(Array, body.apply({"params": params}, tokens)).T

    def represent(
        params: PyTree,
        x: Sentences,
        condition: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        if condition is not None:
            raise ValueError("text_encoder takes no condition; use a conditioned model")
        z = in_blocks(partial(encode, params), x.tokens, _ROWS)
        return z if key is None else dropped(z, dropout, key)

    deeper = tuple((f"convolution_{i}",) for i in range(1, layers))
    by_depth = (("embedding", "convolution_0"), *deeper, ("dense",))
    return Model(init, represent, predict, by_depth, own_inputs=True, dropout=has_masks)
