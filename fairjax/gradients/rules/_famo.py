"""FAMO: weights that make all losses fall at one pace, learned from what the last step did to them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import PyTree
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.rules.balance import learned
from fairjax.gradients.task_space import LinkState, Rule, link


class FamoState(NamedTuple):
    """The link's state and the optimizer's."""

    link: LinkState
    optimizer: PyTree


def famo(
    rows: int,
    optimizer: optax.GradientTransformation,
    *,
    learning_rate=0.025,
    decay=0.01,
    least=0.0,
    max_norm=1.0,
) -> optax.GradientTransformationExtraArgs:
    """FAMO: ``w_k = (z_k / D_k) / sum_j z_j / D_j``, ``z = softmax(x)``, ``D = L - least + 1e-8``.

    After the step the losses are taken again on the same batch, and x descends ``softmax'(x) (log D - log D_after)`` by
    Adam. It must see the whole step, so it owns the optimizer: ``famo(2, optax.adam(1e-3))`` is the chain.
    ``update`` needs ``values=`` (the K losses) and ``value_fn=`` (``params -> K losses`` on the same batch).

    Args:
      rows: K.
      optimizer: what makes a step of the weighted sum.
      learning_rate: of x.
      decay: L2 penalty of x.
      least: lower bound of the losses, ``[K]`` or a number.
      max_norm: the weighted sum is cut to this length.

    Reference:
      Liu, Feng, Stone, Liu: FAMO, fast adaptive multitask optimization, NeurIPS 2023.
    """
    init_x, learn = learned(0.0, learning_rate, decay)
    inner = optax.with_extra_args_support(optimizer)

    def margin(values):
        return jnp.maximum(jnp.stack(list(values)) - least, 0.0) + 1e-8

    def weights(gram, values, memory, key):
        z = jnp.where(present(gram), jax.nn.softmax(memory.number) / margin(values), 0.0)
        w = divide(z, jnp.sum(z))
        length = jnp.sqrt(jnp.maximum(w @ gram @ w, 0.0))
        cut = jnp.where(length > max_norm, max_norm / jnp.where(length > 0, length, 1.0), 1.0)
        return (w * cut).astype(gram.dtype), memory, jnp.zeros(())

    weigh = link(Rule(init_x, weights, needs_values=True), rows)

    def init_fn(params: PyTree) -> FamoState:
        return FamoState(weigh.init(params), inner.init(params))

    def update_fn(
        updates: PyTree,
        state: FamoState,
        params: PyTree | None = None,
        *,
        values=None,
        value_fn=None,
        **extra,
    ):
        if value_fn is None:
            raise ValueError(
                "famo needs value_fn=, params -> losses on the same batch, to see what its step did"
            )
        total, told = weigh.update(updates, state.link, params, values=values)
        step, held = inner.update(
            total, state.optimizer, params, values=values, value_fn=value_fn, **extra
        )
        after = value_fn(optax.apply_updates(params, step))
        fall = jnp.log(margin(values)) - jnp.log(margin(after))
        fall = jnp.where((told.weights > 0) & jnp.isfinite(fall), fall, 0.0)
        _, pull = jax.vjp(jax.nn.softmax, told.memory.number)
        memory = learn(pull(fall.astype(told.memory.number.dtype))[0], told.memory)
        return step, FamoState(told._replace(memory=memory), held)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
