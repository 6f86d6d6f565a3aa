"""PCD: along the primary row, with a share of its own progress for every other row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import cosines, norm_of_sum, normalised, row_norms
from fairjax.gradients.solve import interior_point
from fairjax.gradients.task_space import Rule, with_rule

# Multipliers are large where rows nearly oppose one another: the solver starts far out.
START = 100.0


class SquaredNorms(NamedTuple):
    """Memory of PCD: running means of squared norms, of the primary and then of each row."""

    mean: Array  # [1 + K]
    total: Array  # [1 + K], of the weights in the mean


def pcd_rule(
    *,
    primary: int | Sequence[int] = 0,
    tau: ArrayLike = 0.02,
    beta: Array | float = 0.999,
) -> Rule:
    """The rule of :func:`pcd`; its memory is :class:`SquaredNorms`."""
    primaries = np.atleast_1d(primary)

    def init(rows: int) -> SquaredNorms:
        if not np.all((primaries >= 0) & (primaries < rows)):
            raise ValueError(f"primary is {primary}, expected rows from 0 to {rows - 1}")
        return SquaredNorms(jnp.zeros(1 + rows), jnp.zeros(1 + rows))

    def weights(gram, values, memory: SquaredNorms, key):
        rows = gram.shape[0]
        is_primary = np.isin(np.arange(rows), primaries)
        # The sum of the primary rows stands first, as a row of its own.
        members = np.vstack([is_primary, np.eye(rows)]).astype(gram.dtype)
        unit, scale = normalised(gram)
        whole = members @ unit @ members.T
        whole = whole.at[0, 0].max(0.0)
        norm = row_norms(whole)
        memory = _averaged(memory, scale * norm**2, beta)
        usual_norm = jnp.sqrt(memory.mean).astype(gram.dtype)
        length = jnp.sqrt(scale) * divide(norm, usual_norm)
        is_secondary = np.concatenate([[False], ~is_primary])
        free = is_secondary & (norm > 0)
        share = jnp.asarray(tau, gram.dtype) * jnp.ones(rows, gram.dtype)
        progress = jnp.concatenate([jnp.zeros(1, gram.dtype), share]) * length
        x, residual = _multipliers(cosines(whole), length[0], progress, free)
        w = divide(x, norm)
        size = norm_of_sum(whole, w)
        has_direction = size**2 > 10 * jnp.finfo(gram.dtype).eps * jnp.sum(jnp.abs(x)) ** 2
        w = jnp.where(has_direction, divide(norm[0], size), 0.0) * w
        return w @ members, memory, residual

    return Rule(init, weights)


def _averaged(memory: SquaredNorms, squared: Array, beta: Array | float) -> SquaredNorms:
    """The running means, without bias, after one more step; an absent row keeps its own."""
    total = beta * memory.total + 1.0
    mean = memory.mean + (squared - memory.mean) / total
    is_present = squared > 0
    return SquaredNorms(
        mean=jnp.where(is_present, mean, memory.mean),
        total=jnp.where(is_present, total, memory.total),
    )


def _multipliers(angles: Array, length: Array, progress: Array, free: Array) -> tuple[Array, Array]:
    """Weights of unit rows in the direction nearest to ``length u_0``, and the residual.

    The direction is ``d = sum_k x_k u_k`` with ``x_0 = length``. The other x are the multipliers of
    ``u_k . d >= progress_k`` and minimise ``|d|^2 / 2 - progress' x`` with ``x >= 0``.
    """
    longest = jnp.maximum(length, jnp.max(jnp.where(free, progress, 0.0)))
    unit = START * jnp.where(longest > 0, longest, 1.0)
    # The solver sees x / unit, and the condition in the column of row 0, whose x is given.
    column = divide(angles[0] * length - progress, length)
    program = angles.at[0, :].set(column).at[:, 0].set(column)
    given = jnp.zeros_like(progress).at[0].set(length)
    x, _ = interior_point(program, given / unit, free)
    x = unit * x
    right = progress - angles[0] * length
    exact = given + _of_active(angles, right, free & (x > angles @ x - progress))
    error, exact_error = (_complementarity(angles, progress, free, at) for at in (x, exact))
    is_better = exact_error < error
    x = jnp.where(is_better, exact, x)
    residual = jnp.where(is_better, exact_error, error)
    # Where no direction meets all, some row falls short by all of its progress.
    is_short = free & (progress > 0) & (angles @ x < progress / 2)
    return jnp.where(jnp.any(is_short), given, x), residual


def _of_active(angles: Array, right: Array, active: Array) -> Array:
    """``C x = right`` over the active rows, 0 for the others."""
    both = active[:, None] & active[None, :]
    identity = jnp.eye(len(right), dtype=right.dtype)
    return jnp.linalg.solve(jnp.where(both, angles, identity), jnp.where(active, right, 0.0))


def _complementarity(angles: Array, progress: Array, free: Array, x: Array) -> Array:
    """How far the smaller of multiplier and slack is from 0, in the worst row."""
    smaller = jnp.minimum(x, angles @ x - progress)
    return jnp.max(jnp.where(free, jnp.abs(smaller), 0.0))


@with_rule(pcd_rule)
def pcd(
    rows: int,
    *,
    primary: int | Sequence[int] = 0,
    tau: ArrayLike = 0.02,
    beta: Array | float = 0.999,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """PCD, priority-constrained descent: the primary row, with a share of progress for all others.

    ``d = argmin ||d - s_0 g_0||^2`` with ``s_k g_k . d >= tau_k ||s_k g_k||^2`` for every secondary
    row k. The update is d at the length of the primary row ``g_0``. ``s_k`` is one over the root of
    the running mean of ``||g_k||^2``.

    Where no d meets all conditions, the update is the primary row. Without the primary row there is
    no update. The authors add 1e-8 to the means; here a row whose mean is 0 is absent.

    Args:
      rows: K, the number of losses.
      primary: the row that comes first, or several rows whose sum does. All others are secondary.
      tau: the share of its own progress that a secondary row is guaranteed, from 0 to 1. One
        number, or ``[K]`` with one for each row.
      beta: decay of the running means.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`; ``memory`` is :class:`SquaredNorms`, and ``residual`` is large where no
      direction meets all conditions.

    Raises:
      ValueError: when initialised, for a ``primary`` that is none of the rows.

    Reference:
      Varam, AlHajri: Not all objectives are born equal: priority-constrained descent for
      hierarchical multi-objective optimization, TMLR 2026.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.pcd(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [-0.82   2.943  2.943] [1.848 1.095]
    """
    rule = pcd_rule(primary=primary, tau=tau, beta=beta)
    return link(rule, rows, per=per, measure=measure)
