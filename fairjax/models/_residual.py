"""A residual network for tables: every block adds to what it is given."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax.linen.initializers import glorot_uniform

from fairjax.core.types import Array, Columns, Model, PyTree, Spec
from fairjax.models.dropout import dropping, drops_out
from fairjax.models.tabular import heads_of, rectify, trunk_of

_SMALLEST = 1e-5  # added to a variance


def residual(
    spec: Spec,
    trunk: tuple[int, ...] = (64, 128, 128),
    head: tuple[int, ...] = (32,),
    embedding: int = 10,
    *,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
) -> Model:
    """Blocks ``h' = h + V relu(W norm(h) + b) + c`` after a linear layer, then ``relu(norm(h))``.

    ``norm`` takes a row's features to mean 0 and variance 1, then to a scale and shift that are
    learned.

    Args:
      spec: names the columns and tasks.
      trunk: the width of h, then the width inside every block.
      head: widths of each task's layers; may be empty.
      embedding: dimension of the embeddings.
      dropout: as in :func:`fairjax.models.shared_bottom`, inside every block.
      number_encoding: as there.

    Raises:
      ValueError: if the trunk has no layer.
      DataError: for a dropout outside [0, 1), or an unknown encoding.

    Source: Gorishniy, Rubachev, Khrulkov, Babenko, Revisiting deep learning models for tabular
    data, NeurIPS 2021. There the norm is that of a batch.
    """
    has_masks = drops_out(dropout)
    kernel_init = glorot_uniform()
    init_first, first = trunk_of(
        spec, trunk[:1], embedding, True, kernel_init, number_encoding=number_encoding
    )
    init_heads, predict = heads_of(spec, trunk[0], tuple(head), kernel_init)
    width = trunk[0]

    def init(key: Array) -> PyTree:
        first_key, block_key, head_key = jax.random.split(key, 3)
        params = dict(init_first(first_key))
        for i, inside in enumerate(trunk[1:], start=1):
            in_key, out_key = jax.random.split(jax.random.fold_in(block_key, i))
            params[f"block_{i}"] = {
                "norm": _init_norm(width),
                "kernel": kernel_init(in_key, (width, inside)),
                "bias": jnp.zeros(inside),
                "out_kernel": kernel_init(out_key, (inside, width)),
                "out_bias": jnp.zeros(width),
            }
        params["norm"] = _init_norm(width)
        return {"trunk": params, "heads": init_heads(head_key)}

    def represent(
        params: PyTree, x: Columns, condition: Array | None = None, key: Array | None = None
    ) -> Array:
        if condition is not None:
            raise ValueError("residual takes no condition; use a conditioned model")
        activate = dropping(rectify, dropout, key)
        h = first(params, x, lambda layer, z: z)
        for i in range(1, len(trunk)):
            block = params[f"block_{i}"]
            sums = block["kernel"].T @ _normed(block["norm"], h) + block["bias"][:, None]
            h += block["out_kernel"].T @ activate(i, sums) + block["out_bias"][:, None]
        return rectify(0, _normed(params["norm"], h)).T

    blocks = [(f"block_{i}",) for i in range(1, len(trunk))]
    learned = ("encoding",) if number_encoding == "periodic" else ()
    layers = [(*learned, "embedding", "kernel", "bias"), *blocks]
    layers[-1] += ("norm",)
    return Model(init, represent, predict, tuple(layers), own_inputs=True, dropout=has_masks)


def _init_norm(width: int) -> PyTree:
    return {"scale": jnp.ones(width), "shift": jnp.zeros(width)}


def _normed(params: PyTree, h: Array) -> Array:
    """Features ``[D, B]`` of mean 0 and variance 1 along D, scaled and shifted."""
    centred = h - jnp.mean(h, axis=0)
    variance = jnp.mean(jnp.square(centred), axis=0)
    normed = centred * jax.lax.rsqrt(variance + _SMALLEST)
    return params["scale"][:, None] * normed + params["shift"][:, None]
