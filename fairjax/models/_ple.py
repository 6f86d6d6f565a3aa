"""Progressive layered extraction (PLE): experts of each task and of all, mixed level by level.

With one level it is customised gate control (CGC).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax.linen.initializers import glorot_uniform

from fairjax.core.types import Array, Columns, Model, PyTree, Spec
from fairjax.models._stacks import draw_layer, first_layers, layer, per_task
from fairjax.models.dropout import dropping, drops_out
from fairjax.models.tabular import heads_of, rectify


def ple(
    spec: Spec,
    trunk: tuple[int, ...] = (64,),
    head: tuple[int, ...] = (32,),
    embedding: int = 10,
    *,
    own: int = 1,
    shared: int = 1,
    dropout: Array | float = 0.0,
    number_encoding: str = "plain",
) -> Model:
    """Levels of one-layer experts. At each level a task mixes its own experts and the shared ones.

    With ``h_t`` what task t has mixed below, ``h_0`` what all share (both are the inputs at the
    first level), ``f`` the experts of a level and ``G`` its gates::

        h_t' = sum_e softmax(h_t G_t)_e f_e,   e over the experts of t (of h_t), and shared (of h_0)
        h_0' = sum_e softmax(h_0 G_0)_e f_e,   e over all experts; not at the last level

    Args:
      spec: names the columns and tasks.
      trunk: width of the experts of each level.
      head: widths of each task's layers.
      embedding: dimension of the embeddings, which all share.
      own: experts of each task at each level.
      shared: experts of all tasks at each level.
      dropout: as in :func:`fairjax.models.shared_bottom`, in every expert.
      number_encoding: as there.

    Returns:
      A :class:`Model` whose ``represent`` gives one ``h_t [B, D]`` per task.

    Raises:
      DataError: for a dropout outside [0, 1), or an unknown encoding.

    Source: Tang, Liu, Zhao, Gong, Progressive layered extraction, RecSys 2020.
    """
    has_masks = drops_out(dropout)
    tasks, levels = len(spec.tasks), len(trunk)
    of_tasks = tasks * own
    count = of_tasks + shared
    mixed = own + shared  # experts that a task mixes
    more = tasks * mixed + (count if levels > 1 else 0)
    init_first, first = first_layers(spec, count, trunk[0], more, embedding, number_encoding)
    init_heads, predict = heads_of(spec, trunk[-1], tuple(head), glorot_uniform())

    def init(key: Array) -> PyTree:
        first_key, level_key, head_key = jax.random.split(key, 3)
        params = dict(init_first(first_key))
        for i in range(1, levels):
            expert_key, gate_key, shared_key = jax.random.split(jax.random.fold_in(level_key, i), 3)
            inputs = trunk[i - 1]
            params[f"experts_{i}"] = draw_layer(expert_key, count, inputs, trunk[i])
            params[f"gates_{i}"] = draw_layer(gate_key, tasks, inputs, mixed)
            if i < levels - 1:
                params[f"shared_gate_{i}"] = draw_layer(shared_key, 1, inputs, count)
        return {"trunk": params, "heads": init_heads(head_key)}

    def mix(expert_h: Array, logits: Array) -> Array:
        """What every task mixes, ``[T, W, B]``, from experts ``[count, W, B]``."""
        gates = jax.nn.softmax(logits.reshape(tasks, mixed, -1), axis=1)
        own_h = expert_h[:of_tasks].reshape(tasks, own, *expert_h.shape[1:])
        from_own = jnp.einsum("teb,tewb->twb", gates[:, :own], own_h)
        return from_own + jnp.einsum("teb,ewb->twb", gates[:, own:], expert_h[of_tasks:])

    def represent(
        params: PyTree, x: Columns, condition: Array | None = None, key: Array | None = None
    ) -> tuple[Array, ...]:
        if condition is not None:
            raise ValueError("ple takes no condition; use a conditioned model")
        activate = dropping(rectify, dropout, key)
        sums, logits = first(params, x)
        expert_h = activate(0, sums)
        task_logits, all_logits = logits[: tasks * mixed], logits[tasks * mixed :]
        for i in range(1, levels):
            task_h = mix(expert_h, task_logits)
            all_gates = jax.nn.softmax(all_logits, axis=0)
            all_h = jnp.einsum("eb,ewb->wb", all_gates, expert_h)
            inputs = [*jnp.repeat(task_h, own, axis=0), *[all_h] * shared]
            expert_h = activate(i, layer(params[f"experts_{i}"], jnp.stack(inputs)))
            task_logits = layer(params[f"gates_{i}"], task_h)
            if i < levels - 1:
                all_logits = layer(params[f"shared_gate_{i}"], all_h[None])[0]
        return per_task(mix(expert_h, task_logits))

    return Model(init, represent, predict, dropout=has_masks)
