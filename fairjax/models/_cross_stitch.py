"""Cross-stitch networks: a network per task, whose activations are mixed after every layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax.linen.initializers import glorot_uniform

from fairjax.core.types import Array, Columns, Model, PyTree, Spec
from fairjax.models._stacks import draw_layer, first_layers, layer, per_task
from fairjax.models.dropout import dropping, drops_out
from fairjax.models.tabular import heads_of, rectify


def cross_stitch(
    spec: Spec,
    trunk: tuple[int, ...] = (64,),
    head: tuple[int, ...] = (32,),
    embedding: int = 10,
    *,
    keep: float = 0.9,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
) -> Model:
    """After layer i task t goes on with ``sum_s a_i[t, s] h_s``, where ``a_i [T, T]`` is learned.

    Args:
      spec: names the columns and tasks.
      trunk: widths of the ReLU layers of every task's network.
      head: widths of each task's layers.
      embedding: dimension of the embeddings, which all share.
      keep: ``a[t, t]`` at the start; the others begin at ``(1 - keep) / (T - 1)``.
      dropout: as in :func:`fairjax.models.shared_bottom`, before activations are mixed.
      number_encoding: as there.

    Returns:
      A :class:`Model` whose ``represent`` gives one ``[B, D]`` per task.

    Raises:
      DataError: for a dropout outside [0, 1), or an unknown encoding.

    Source: Misra, Shrivastava, Gupta, Hebert, Cross-stitch networks for multi-task learning, CVPR
    2016, there with a matrix per channel of an image network; here one per layer.
    """
    has_masks = drops_out(dropout)
    tasks = len(spec.tasks)
    init_first, first = first_layers(spec, tasks, trunk[0], 0, embedding, number_encoding)
    init_heads, predict = heads_of(spec, trunk[-1], tuple(head), glorot_uniform())
    others = (1.0 - keep) / max(tasks - 1, 1)
    start = others + (keep - others) * jnp.eye(tasks)

    def init(key: Array) -> PyTree:
        first_key, layer_key, head_key = jax.random.split(key, 3)
        params = dict(init_first(first_key))
        for i, (inputs, width) in enumerate(zip(trunk[:-1], trunk[1:], strict=True), start=1):
            own_key = jax.random.fold_in(layer_key, i)
            params[f"dense_{i}"] = draw_layer(own_key, tasks, inputs, width)
        stitches = {f"stitch_{i}": start for i in range(len(trunk))}
        return {"trunk": params | stitches, "heads": init_heads(head_key)}

    def stitched(params: PyTree, i: int, h: Array) -> Array:
        return jnp.einsum("ts,swb->twb", params[f"stitch_{i}"], h)

    def represent(
        params: PyTree, x: Columns, condition: Array | None = None, key: Array | None = None
    ) -> tuple[Array, ...]:
        if condition is not None:
            raise ValueError("cross_stitch takes no condition; use a conditioned model")
        activate = dropping(rectify, dropout, key)
        sums, _ = first(params, x)
        h = stitched(params, 0, activate(0, sums))
        for i in range(1, len(trunk)):
            h = stitched(params, i, activate(i, layer(params[f"dense_{i}"], h)))
        return per_task(h)

    return Model(init, represent, predict, dropout=has_masks)
