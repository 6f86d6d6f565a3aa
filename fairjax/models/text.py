"""A convolutional encoder of texts (after Kim, EMNLP 2014): ``Sentences`` in, one head per task out.

Embeddings of the tokens go through convolutions over neighbouring positions, are pooled over the text, and go through one
dense layer; then per task through a head as in :mod:`fairjax.models.tabular`.

Both ways of pooling are kept side by side. The maximum says whether a pattern occurs at all, however long the text; the mean
says how much of the text it makes up, and gives every position a gradient, where the maximum gives it to one.

Padding is no word: its embedding is zero, what the convolutions say at its positions is zero, and no pooling counts it, so
that a text is the same however it is padded. Activations are ReLUs, never negative, so that zero is also the right filling
for the maximum.

The convolution is one product of windows laid side by side: under ``vmap`` over members it stays a product per member, where
XLA's convolution becomes a grouped one, several times slower on a CPU.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fairjax.core.types import Array, DataError, Model, PyTree, Sentences, Spec
from fairjax.models.tabular import Dense, heads_of, shared_bottom

_ROWS = 1024  # at a time: windows of a whole validation set, times members, would fill the memory


class Convolution(nn.Module):
    """``y[:, l] = sum_k x[:, l + k - (window - 1) // 2] @ kernel[k] + bias``, zero beyond the ends.

    ``[B, L, D] -> [B, L, width]``.
    """

    width: int
    window: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        length, before = x.shape[1], (self.window - 1) // 2
        kernel = self.param("kernel", self.kernel_init, (self.window * x.shape[-1], self.width))
        x = jnp.pad(x, ((0, 0), (before, self.window - 1 - before), (0, 0)))
        windows = jnp.concatenate([x[:, k : k + length] for k in range(self.window)], axis=-1)
        y = windows.reshape(-1, kernel.shape[0]) @ kernel + self.param(
            "bias", nn.initializers.zeros_init(), (self.width,)
        )
        return y.reshape(-1, length, self.width)


class Body(nn.Module):
    """Embeddings, convolutions, pooling and a dense layer: tokens ``[B, L]`` -> ``[width, B]``."""

    words: int
    embedding: int
    width: int
    window: int
    layers: int
    kernel_init: nn.initializers.Initializer
    embedding_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        table = self.param("embedding", self.embedding_init, (self.words, self.embedding))
        real = (tokens > 0)[..., None]
        h = jnp.where(real, table[tokens], 0.0)
        for i in range(self.layers):
            h = nn.relu(
                Convolution(self.width, self.window, self.kernel_init, name=f"convolution_{i}")(h)
            )
            h = jnp.where(real, h, 0.0)
        count = jnp.maximum(jnp.sum(real, axis=1), 1)  # a text of padding only has the mean 0
        pooled = jnp.concatenate([jnp.max(h, axis=1), jnp.sum(h, axis=1) / count], axis=-1)
        return nn.relu(Dense(self.width, self.kernel_init, name="dense")(pooled.T))


def text_encoder(
    spec: Spec,
    *,
    embedding: int = 32,
    width: int = 64,
    window: int = 3,
    layers: int = 1,
    head: tuple[int, ...] = (32,),
    kernel_init: nn.initializers.Initializer | None = None,
    embedding_init: nn.initializers.Initializer | None = None,
) -> Model:
    """A multi-task network for texts: one encoder for all tasks and languages, one head per task.

    Args:
      spec: says how many words and which tasks there are.
      embedding: dimension of the words' embeddings.
      width: of the convolutions and of the dense layer after pooling.
      window: tokens that a convolution looks at.
      layers: convolutions, at least one.
      head: widths of each task's ReLU layers; may be empty.
      kernel_init: initialiser of all kernels. Default: Glorot uniform.
      embedding_init: initialiser of the embeddings. Default: normal truncated at two deviations, scaled by
        ``1/sqrt(embedding)``.

    Returns:
      A :class:`Model`; ``represent`` takes :class:`Sentences` of any length L, ``predict`` gives scores ``[B, C]``.

    Raises:
      ValueError: for a spec without words, no layer, or an empty window.

    Reference: Kim, Convolutional Neural Networks for Sentence Classification, EMNLP 2014; with one window, the mean beside
    the maximum, a dense layer, and no dropout.
    """
    if not spec.vocab_size or layers < 1 or window < 1:
        raise ValueError(
            f"text_encoder: words {spec.vocab_size}, layers {layers} and window {window} must be 1 or more; "
            "words come with Roles(text=...)"
        )
    kernel_init = kernel_init or nn.initializers.glorot_uniform()
    embedding_init = embedding_init or nn.initializers.truncated_normal(stddev=embedding**-0.5)
    body = Body(spec.vocab_size, embedding, width, window, layers, kernel_init, embedding_init)
    init_heads, predict = heads_of(spec, width, tuple(head), kernel_init)

    def init(key: Array) -> PyTree:
        trunk_key, head_key = jax.random.split(key)
        return {
            "trunk": body.init(trunk_key, jnp.zeros((1, window), int))["params"],
            "heads": init_heads(head_key),
        }

    def represent(params: PyTree, x: Sentences, condition: Array | None = None) -> Array:
        if condition is not None:
            raise ValueError("text_encoder takes no condition; use a conditioned model")
        rows, length = x.tokens.shape
        if rows <= _ROWS:
            return body.apply({"params": params}, x.tokens).T
        blocks = jnp.pad(x.tokens, ((0, -rows % _ROWS), (0, 0))).reshape(-1, _ROWS, length)
        z = jax.lax.map(lambda tokens: body.apply({"params": params}, tokens).T, blocks)
        return z.reshape(-1, width)[:rows]

    return Model(init, represent, predict)


def network(spec: Spec, trunk: tuple[int, ...], head: tuple[int, ...], embedding: int) -> Model:
    """The house's own network for a spec: :func:`text_encoder` for texts, :func:`shared_bottom` for tables.

    Args:
      spec: what the columns mean.
      trunk: widths of the shared layers. For texts: one convolution per entry, all of one width.
      head: widths of each task's layers.
      embedding: dimension of embeddings.

    Raises:
      DataError: for texts, when widths of the trunk differ.
    """
    if not spec.vocab_size:
        return shared_bottom(spec, trunk, head, embedding)
    if len(set(trunk)) != 1:
        raise DataError(
            f"trunk {trunk}: the convolutions of a text have one width. Repeat it, as in (64, 64), or give one."
        )
    return text_encoder(spec, embedding=embedding, width=trunk[0], layers=len(trunk), head=head)
