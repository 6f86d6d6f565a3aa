"""MGDA: the shortest vector in the convex hull of the rows."""

from __future__ import annotations

from collections.abc import Callable

import optax

from fairjax.core.types import KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import normalised, present
from fairjax.gradients.rules._normalised_rows import check_normalise, divided, row_divisors
from fairjax.gradients.solve import min_norm
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def mgda_rule(*, normalise: str = "none") -> Rule:
    """The rule of :func:`mgda`."""
    check_normalise(normalise)

    def weights(gram, values, memory, key):
        divisor = row_divisors(gram, values, normalise)
        unit, _ = normalised(divided(gram, divisor))
        w, residual = min_norm(unit, present(unit))
        return w, memory, residual

    return Rule(no_memory, weights, needs_values=normalise.startswith("loss"))


@with_rule(mgda_rule)
def mgda(
    rows: int,
    *,
    normalise: str = "none",
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """MGDA, multiple-gradient descent: the shortest vector in the convex hull of the rows.

    ``w = argmin w' G w`` over the simplex of the rows that are present. At the representation
    (MGDA-UB) it is :func:`at_representation`.

    Args:
      rows: K, the number of losses.
      normalise: what each row is divided by before w is sought: ``"none"``, ``"l2"`` (its norm),
        ``"loss"`` (its loss), ``"loss+"`` (both). The weights then go to the original rows, as in
        the authors' code.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. With ``"loss"`` and ``"loss+"`` it needs ``values=``, the K
      losses. Its state is a :class:`LinkState`.

    Raises:
      ValueError: for an unknown ``normalise``.

    Reference:
      Désidéri: Multiple-gradient descent algorithm (MGDA) for multiobjective optimization, Comptes
      Rendus Mathématique 350, 2012. Sener, Koltun: Multi-task learning as multi-objective
      optimization, NeurIPS 2018.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[1.0, 2.0, 0.0], [-2.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.mgda(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [-0.364  1.545  0.455] [0.545 0.455]
      >>> tx = fairjax.gradients.mgda(2, normalise="loss")
      >>> update, state = tx.update(rows, tx.init(params), params, values=jnp.array([2.0, 1.0]))
      >>> print(np.asarray(state.weights).round(3))
      [0.828 0.172]
    """
    return link(mgda_rule(normalise=normalise), rows, per=per, measure=measure)
