"""Weights that do not depend on the rows: mean, given weights, random weights."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def mean_rows_rule() -> Rule:
    """The rule of :func:`mean_rows`."""

    def mean_weights(gram, values, memory, key):
        rows = gram.shape[0]
        return jnp.full(rows, 1.0 / rows, gram.dtype), memory, jnp.zeros(())

    return Rule(no_memory, mean_weights, needs_products=False)


@with_rule(mean_rows_rule)
def mean_rows(
    rows: int,
    *,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
    diagnostics: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Mean of the rows: ``w_k = 1 / K``. A row that is absent counts in K.

    Args:
      rows: K, the number of losses.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.
      diagnostics: whether cosines and conflicts are kept; without them no Gram matrix is taken. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Reference:
      Kurin, De Palma, Kostrikov, Whiteson, Kumar: In defense of the unitary scalarization for deep
      multi-task learning, NeurIPS 2022.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.mean_rows(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(update, state.weights)
      [1. 1. 1.] [0.5 0.5]
    """
    rule = mean_rows_rule()
    return link(rule, rows, per=per, measure=measure, diagnostics=diagnostics)


def weighted_rows_rule(*, weights: ArrayLike) -> Rule:
    """The rule of :func:`weighted_rows`."""

    def fixed_weights(gram, values, memory, key):
        w = jnp.asarray(weights, gram.dtype)
        w = jnp.broadcast_to(w, gram.shape[:1])
        return w, memory, jnp.zeros(())

    return Rule(no_memory, fixed_weights, needs_products=False)


@with_rule(weighted_rows_rule)
def weighted_rows(
    rows: int,
    *,
    weights: ArrayLike,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
    diagnostics: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Linear scalarization: the sum of the rows with given weights, ``w_k = weights[k]``.

    Args:
      rows: K, the number of losses.
      weights: ``[K]``, or one number for all rows.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.
      diagnostics: whether cosines and conflicts are kept; without them no Gram matrix is taken. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Reference:
      Xin, Ghorbani, Gilmer, Garg, Firat: Do current multi-task optimization methods in deep
      learning even help? NeurIPS 2022.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.weighted_rows(2, weights=[1.0, 0.5])
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(update, state.weights)
      [-1.   1.5  1.5] [1.  0.5]
    """
    rule = weighted_rows_rule(weights=weights)
    return link(rule, rows, per=per, measure=measure, diagnostics=diagnostics)


def random_weighting_rule() -> Rule:
    """The rule of :func:`random_weighting`."""

    def random_weights(gram, values, memory, key):
        draw = jax.random.normal(key, gram.shape[:1], gram.dtype)
        w = jax.nn.softmax(draw)
        return w, memory, jnp.zeros(())

    return Rule(no_memory, random_weights, needs_products=False)


@with_rule(random_weighting_rule)
def random_weighting(
    rows: int,
    *,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
    diagnostics: bool = True,
    seed: Array | int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Random loss weighting: ``w = softmax(n)`` with standard normal n, drawn at every update.

    Args:
      rows: K, the number of losses.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.
      seed: of the draws. ``update(..., key=)`` overrides it.
      diagnostics: whether cosines and conflicts are kept; without them no Gram matrix is taken. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Reference:
      Lin, Ye, Zhang, Tsang: Reasonable effectiveness of random weighting: a litmus test for
      multi-task learning, TMLR 2022.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.random_weighting(2, seed=1)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(state.weights).round(3))
      [0.646 0.354]
    """
    rule = random_weighting_rule()
    return link(rule, rows, per=per, measure=measure, seed=seed, diagnostics=diagnostics)
