"""SDMGrad: weights near a preference, from the products of two batches."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.rules._simplex import has_products, project_on_simplex
from fairjax.gradients.rules._two_batches import on_two_batches
from fairjax.gradients.task_space import Rule, with_rule

MOMENTUM = 0.5
STEPS = 20


def sdmgrad_rule(
    *,
    pull: Array | float = 0.3,
    preference: ArrayLike | None = None,
    learning_rate: Array | float = 10.0,
    two_batches: bool = False,
) -> Rule:
    """The rule of :func:`sdmgrad`; its memory is the weights before the pull."""

    def init(rows: int) -> Array:
        return jnp.full(rows, 1.0 / rows)

    def weights(products, values, memory, key):
        free = has_products(products)
        count = jnp.maximum(jnp.sum(free), 1)
        if preference is None:
            p = jnp.full(free.shape, 1.0 / count, products.dtype)
        else:
            p = jnp.asarray(preference, products.dtype)
        p = jnp.where(free, p, 0.0)
        lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(products), 0.0))
        scaled = products / ((jnp.sum(lengths) / count) ** 2 + 1e-8)

        def step(_, point):
            w, velocity = point
            velocity = MOMENTUM * velocity + scaled @ (w + pull * p)
            return project_on_simplex(w - learning_rate * velocity, free), velocity

        start = memory.astype(products.dtype)
        w, _ = jax.lax.fori_loop(0, STEPS, step, (start, jnp.zeros_like(start)))
        return (w + pull * p) / (1.0 + pull), w, jnp.zeros(())

    rule = Rule(init, weights)
    return on_two_batches(rule) if two_batches else rule


@with_rule(sdmgrad_rule)
def sdmgrad(
    rows: int,
    *,
    pull: Array | float = 0.3,
    preference: ArrayLike | None = None,
    learning_rate: Array | float = 10.0,
    two_batches: bool = False,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """SDMGrad: the least norm near a preferred direction, by stochastic steps.

    ``w`` descends ``(w + pull p)' J_1 J_2' (w + pull p)`` on the simplex by 20 projected steps with
    momentum 0.5, and the weights are ``(w + pull p) / (1 + pull)``. The matrix is divided by the
    square of the mean length of a row first, as in the authors' code, whose constants these are: at
    the learning rate 10 the steps often end at a corner of the simplex.

    Args:
      rows: K, or 2K for two batches.
      pull: towards the preference; 0 is MGDA.
      preference: p, ``[K]``. Default: equal over the rows that are present.
      learning_rate: of w.
      two_batches: whether the rows are those of two batches, as
        :func:`fairjax.objectives.on_two_batches` makes them. Otherwise both are the one batch that
        is given, and the slope has a bias.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`; ``memory`` is the weights before the pull.

    Raises:
      ValueError: when initialised, for two batches with an odd number of rows.

    Reference:
      Xiao, Ban, Ji: Direction-oriented multi-objective learning: simple and provable stochastic
      algorithms, NeurIPS 2023.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.sdmgrad(2, learning_rate=0.1)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.001 1.    1.   ] [0.6 0.4]
    """
    rule = sdmgrad_rule(
        pull=pull, preference=preference, learning_rate=learning_rate, two_batches=two_batches
    )
    return link(rule, rows, per=per, measure=measure)
