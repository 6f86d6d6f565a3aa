"""FAMO: weights that make all losses fall at one pace, learned from the effect of each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array, PyTree
from fairjax.gradients._link import LinkState, link
from fairjax.gradients.gram_matrix import cut_factor, norm_of_sum, present
from fairjax.gradients.rules._learned import learned
from fairjax.gradients.task_space import Rule


class FamoState(NamedTuple):
    """The link's state and the optimizer's."""

    link: LinkState
    optimizer: PyTree


def famo(
    rows: int,
    optimizer: optax.GradientTransformation,
    *,
    learning_rate: Array | float = 0.025,
    decay: Array | float = 0.01,
    least: ArrayLike = 0.0,
    max_norm: Array | float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """FAMO, fast adaptive multitask optimization: all losses fall at one pace.

    ``w_k = (z_k / D_k) / sum_j z_j / D_j`` with ``z = softmax(x)`` and ``D = L - least + 1e-8``.

    After the step the losses are taken again on the same batch, and x descends
    ``softmax'(x) (log D - log D_after)`` by Adam. FAMO must see the whole step, so it owns the
    optimizer: ``famo(2, optax.adam(1e-3))`` is the whole chain.

    Args:
      rows: K, the number of losses.
      optimizer: makes the step from the weighted sum of the rows.
      learning_rate: of x.
      decay: L2 penalty of x.
      least: lower bound of the losses, ``[K]`` or a number.
      max_norm: the weighted sum is cut to this length.

    Returns:
      A whole chain. ``update(rows, state, params, values=losses, value_fn=value_fn)`` takes rows
      ``[K, ...]``, the K losses and the function ``params -> K losses`` on the same batch, and
      gives one update. Its state is a :class:`FamoState`. The link has no rule in task space.

    Raises:
      ValueError: at trace time, without ``values`` or without ``value_fn``.

    Reference:
      Liu, Feng, Stone, Liu: FAMO: fast adaptive multitask optimization, NeurIPS 2023.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import optax
      >>> def losses(params):
      ...     return jnp.stack([jnp.sum((params - 1.0) ** 2), jnp.sum((params + 2.0) ** 2)])
      >>> params = jnp.zeros(2)
      >>> tx = fairjax.gradients.famo(2, optax.sgd(0.1))
      >>> values, rows = fairjax.value_and_rows(losses)(params)
      >>> update, state = tx.update(rows, tx.init(params), params, values=values, value_fn=losses)
      >>> print(np.asarray(update).round(3), np.asarray(state.link.weights).round(3))
      [0.071 0.071] [0.707 0.177]
    """
    init_x, learn = learned(0.0, learning_rate, decay)
    inner = optax.with_extra_args_support(optimizer)

    def margin(values):
        above_least = jnp.stack(list(values)) - least
        return jnp.maximum(above_least, 0.0) + 1e-8

    def weights(gram, values, memory, key):
        z = jax.nn.softmax(memory.number) / margin(values)
        z = jnp.where(present(gram), z, 0.0)
        w = divide(z, jnp.sum(z))
        w = w * cut_factor(norm_of_sum(gram, w), max_norm)
        return w.astype(gram.dtype), memory, jnp.zeros(())

    weigh = link(Rule(init_x, weights, needs_values=True), rows)

    def init_fn(params: PyTree) -> FamoState:
        return FamoState(weigh.init(params), inner.init(params))

    def update_fn(
        updates: PyTree,
        state: FamoState,
        params: PyTree | None = None,
        *,
        values=None,
        value_fn: Callable[..., Any] | None = None,
        **extra: Any,
    ):
        if value_fn is None:
            raise ValueError(
                "famo needs value_fn=, params -> losses on the same batch, to see what its step did"
            )
        given = extra.get("given_rows")
        total, link_state = weigh.update(
            updates, state.link, params, values=values, given_rows=given
        )
        step, optimizer_state = inner.update(
            total, state.optimizer, params, values=values, value_fn=value_fn, **extra
        )
        values_after = value_fn(optax.apply_updates(params, step))
        fall = jnp.log(margin(values)) - jnp.log(margin(values_after))
        fall = jnp.where((link_state.weights > 0) & jnp.isfinite(fall), fall, 0.0)
        x = link_state.memory.number
        _, pull_back = jax.vjp(jax.nn.softmax, x)
        (gradient,) = pull_back(fall.astype(x.dtype))
        link_state = link_state._replace(memory=learn(gradient, link_state.memory))
        return step, FamoState(link_state, optimizer_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
