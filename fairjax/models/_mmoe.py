"""Multi-gate mixture of experts (MMoE): every task mixes the same experts in its own shares."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax.linen.initializers import glorot_uniform

from fairjax.core.types import Array, Columns, Model, PyTree, Spec
from fairjax.models._stacks import draw_layer, first_layers, layer, per_task
from fairjax.models.dropout import dropping, drops_out
from fairjax.models.tabular import heads_of, rectify


def mmoe(
    spec: Spec,
    trunk: tuple[int, ...] = (64,),
    head: tuple[int, ...] = (32,),
    embedding: int = 10,
    *,
    experts: int = 4,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
) -> Model:
    """Experts ``f_e`` and a gate per task: ``z_t = sum_e softmax(x G_t)_e f_e(x)``.

    Args:
      spec: names the columns and tasks.
      trunk: widths of the ReLU layers of every expert.
      head: widths of each task's layers.
      embedding: dimension of the embeddings, which experts and gates share.
      experts: how many; 1 is a shared bottom.
      dropout: as in :func:`fairjax.models.shared_bottom`, in every layer of the experts.
      number_encoding: as there.

    Returns:
      A :class:`Model` whose ``represent`` gives one ``z_t [B, D]`` per task.

    Raises:
      DataError: for a dropout outside [0, 1), or an unknown encoding.

    Source: Ma, Zhao, Yi, Chen, Hong, Chi, Modeling task relationships in multi-task learning with
    multi-gate mixture-of-experts, KDD 2018.
    """
    has_masks = drops_out(dropout)
    tasks = len(spec.tasks)
    init_first, first = first_layers(
        spec, experts, trunk[0], tasks * experts, embedding, number_encoding
    )
    init_heads, predict = heads_of(spec, trunk[-1], tuple(head), glorot_uniform())

    def init(key: Array) -> PyTree:
        first_key, layer_key, head_key = jax.random.split(key, 3)
        params = dict(init_first(first_key))
        for i, (inputs, width) in enumerate(zip(trunk[:-1], trunk[1:], strict=True), start=1):
            own_key = jax.random.fold_in(layer_key, i)
            params[f"dense_{i}"] = draw_layer(own_key, experts, inputs, width)
        return {"trunk": params, "heads": init_heads(head_key)}

    def represent(
        params: PyTree, x: Columns, condition: Array | None = None, key: Array | None = None
    ) -> tuple[Array, ...]:
        if condition is not None:
            raise ValueError("mmoe takes no condition; use a conditioned model")
        activate = dropping(rectify, dropout, key)
        sums, logits = first(params, x)
        h = activate(0, sums)
        for i in range(1, len(trunk)):
            h = activate(i, layer(params[f"dense_{i}"], h))
        gates = jax.nn.softmax(logits.reshape(tasks, experts, -1), axis=1)
        return per_task(jnp.einsum("teb,ewb->twb", gates, h))

    return Model(init, represent, predict, dropout=has_masks)
