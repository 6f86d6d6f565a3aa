"""Head-aware least norm: MGDA on Lagrangians, in a metric that counts every parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import normalised, present, row_norms
from fairjax.gradients.solve import min_norm
from fairjax.gradients.task_space import Rule, with_rule


def head_aware_rule(
    *,
    constraints: int = 0,
    preference: ArrayLike | None = None,
    gamma: Array | float = 0.0,
) -> Rule:
    """The rule of :func:`head_aware`."""

    def init(rows: int) -> tuple[Any, ...]:
        _check_counts(rows, constraints, preference)
        return ()

    def weights(gram, values, memory, key):
        tasks = gram.shape[0] - constraints
        unit, scale = normalised(gram)
        free = present(unit)[:tasks]
        # One unit for lengths and gamma: neither leaves the range of float32.
        common = jnp.maximum(scale, gamma)
        products = _products_of_lagrangians(gram / common, tasks)
        pull = _pull(preference, free, gram.dtype)
        alpha, residual = min_norm(products + gamma / common * pull, free)
        return jnp.concatenate([alpha, jnp.ones(constraints, gram.dtype)]), memory, residual

    return Rule(init, weights)


def _check_counts(rows: int, constraints: int, preference: ArrayLike | None) -> None:
    if not 0 <= constraints < rows:
        raise ValueError(
            f"constraints is {constraints} of {rows} rows: it counts the last rows, from 0 on, and "
            "leaves at least one loss before them"
        )
    tasks = rows - constraints
    if preference is not None and np.shape(preference) != (tasks,):
        raise ValueError(
            f"preference has shape {np.shape(preference)}, expected ({tasks},): one number for "
            f"each of the {tasks} losses, none for the {constraints} constraints"
        )


def _products_of_lagrangians(gram: Array, tasks: int) -> Array:
    """``H_st = <g_s + sum_j c_j, g_t + sum_j c_j>``, ``[T, T]``; the rows are ``g``, then ``c``."""
    cross = jnp.sum(gram[:tasks, tasks:], axis=1)
    own = jnp.sum(gram[tasks:, tasks:])
    products = gram[:tasks, :tasks] + cross[:, None] + cross[None, :] + own
    # A loss and the constraints may cancel. What rounding leaves of the square may be negative.
    lengths = row_norms(gram)
    longest = lengths[:tasks] + jnp.sum(lengths[tasks:])
    rounding = 8 * jnp.finfo(gram.dtype).eps * longest**2
    missing = jnp.maximum(rounding - jnp.diagonal(products), 0.0)
    return products + jnp.diag(missing)


def _pull(preference: ArrayLike | None, free: Array, dtype: jnp.dtype) -> Array:
    """``||a - prior||^2 = a' M a`` for every point a of the simplex: M, ``[T, T]``.

    It is ``M = (I - 1 prior')' (I - 1 prior')``, because ``1' a = 1``.
    """
    tasks = free.shape[0]
    wanted = jnp.ones(tasks) if preference is None else jnp.asarray(preference)
    prior = jnp.where(free, wanted.astype(dtype), 0.0)
    prior = divide(prior, jnp.sum(prior))
    return jnp.eye(tasks, dtype=dtype) - prior[:, None] - prior[None, :] + prior @ prior


@with_rule(head_aware_rule)
def head_aware(
    rows: int,
    *,
    constraints: int = 0,
    preference: ArrayLike | None = None,
    gamma: Array | float = 0.0,
    per: str | Callable[[KeyPath], str] = "tree",
    metric: Callable[[KeyPath], Array | float] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Head-aware least norm: MGDA on Lagrangians, heads included.

    The rows are T losses ``g_t``, then J constraints ``c_j`` that are multiplied by their
    multipliers already. The Lagrangian of loss t has the gradient ``G_t = g_t + sum_j c_j``. With
    the metric B, a weight for each leaf::

        H_st  = <G_s, G_t>_B = sum_leaf beta_leaf <G_s, G_t>_leaf
        alpha = argmin  alpha' H alpha / 2 + gamma ||alpha - preference||^2 / 2   on the simplex
        u     = B d,   d = sum_t alpha_t G_t = sum_t alpha_t g_t + sum_j c_j

    The constraints stay outside the simplex: it would make their multipliers smaller. With
    ``gamma=0`` no Lagrangian rises to first order, ``<G_t, B d> >= ||d||_B^2``. A step along d
    itself does not keep this promise where beta is not 1: heads may then undo what the trunk does.

    A loss whose row is zero is absent: it is left out of the simplex, although its Lagrangian is
    not zero. Without any loss, alpha is 0 and the constraints move alone. Without constraints,
    ``preference`` and ``metric`` this is :func:`mgda`.

    This is our reading of FairMT, whose equations were not public when it was written.

    Args:
      rows: K = T + J.
      constraints: J, how many of the last rows are constraints.
      preference: weight that each loss should have, ``[T]``. It is divided by its sum over the
        losses that are present. Default: equal weights.
      gamma: how strongly alpha is pulled to the preference, in units of squared gradients.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      metric: from key path to the weight beta of a leaf, which may be traced. With 0 on the heads,
        alpha is MGDA's on the trunk, and the heads do not move. Default: 1 for every leaf. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``, or after the link that multiplies the constraints.
      ``update(rows, state, params)`` takes rows ``[K, ...]`` and gives one update. It needs no
      extra argument. Its state is a :class:`LinkState`, with weights ``(alpha, 1, ..., 1)``.

    Raises:
      ValueError: when initialised, for ``constraints`` that leave no loss, for a ``preference``
        that is not ``[T]``, and for a ``metric`` that gives a negative weight.

    Reference:
      Hu, Lian, Yan, Kollias, Yang, Celiktutan, Song, Fu: FairMT: fairness for heterogeneous
      multi-task learning, arXiv 2512.00469, 2025. Désidéri: Multiple-gradient descent algorithm
      (MGDA) for multiobjective optimization, Comptes Rendus Mathématique 350, 2012.

    Example:
      Two losses pull two scores apart. One constraint, ``left - right <= 0.5``, holds them
      together; its multiplier grows while it is violated.

      >>> import fairjax
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import optax
      >>> def scores(params):
      ...     return [params["trunk"] @ params["heads"][task] for task in ("left", "right")]
      >>> def losses(params, multiplier):
      ...     left, right = scores(params)
      ...     return (left - 2.0) ** 2, (right + 1.0) ** 2, multiplier * (left - right - 0.5)
      >>> def metric(path):
      ...     return 1.0 if path[0].key == "trunk" else 0.5
      >>> heads = {"left": jnp.array([1.0, 0.0]), "right": jnp.array([0.0, 1.0])}
      >>> params = {"trunk": jnp.array([0.5, -0.5]), "heads": heads}
      >>> link = fairjax.gradients.head_aware(3, constraints=1, metric=metric)
      >>> tx = optax.chain(link, optax.sgd(0.05))
      >>> state = fairjax.validated(tx, rows=3).init(params)
      >>> @jax.jit
      ... def step(params, state, multiplier):
      ...     _, rows = fairjax.value_and_rows(losses)(params, multiplier)
      ...     updates, state = tx.update(rows, state, params)
      ...     params = optax.apply_updates(params, updates)
      ...     left, right = scores(params)
      ...     multiplier = jnp.clip(multiplier + 0.1 * (left - right - 0.5), 0.0, 5.0)
      ...     return params, state, multiplier
      >>> multiplier = 0.0
      >>> for _ in range(300):
      ...     params, state, multiplier = step(params, state, multiplier)
      >>> left, right = scores(params)
      >>> print(np.asarray(left - right).round(2), np.asarray(multiplier).round(1))
      0.5 1.1
      >>> print(np.asarray(fairjax.link_states(state)[0].weights).round(2))
      [0.34 0.66 1.  ]
    """
    rule = head_aware_rule(constraints=constraints, preference=preference, gamma=gamma)
    return link(rule, rows, per=per, metric=metric)
