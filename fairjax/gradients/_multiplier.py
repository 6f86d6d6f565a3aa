"""Lagrange multipliers as a link of a chain: rows in, the rows of constraints multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.types import Array, PyTree
from fairjax.gradients.aggregators import check_rows
from fairjax.gradients.wrappers import for_rows

LOW, HIGH = -6.0, 6.0  # sigmoid(6) is 0.9975: above 99 % of the cap


class MultiplierState(NamedTuple):
    """What the multipliers of J constraints remember and report."""

    u: Array  # [J], the variable in which steps are made
    multiplier: Array  # [J], lambda, of the last update
    violation: Array  # [J], last known; NaN before the first
    count: Array  # [], updates so far


class Dual(NamedTuple):
    """A kind of multiplier. ``u`` is stepped, ``lambda`` follows from it."""

    # lambda, cap, low, high -> u: the start
    variable: Callable[[Array, Array, Array, Array], Array]
    # u, violation - tolerance, rate, cap, low, high -> u
    step: Callable[[Array, Array, Array, Array, Array, Array], Array]
    of: Callable[[Array, Array], Array]  # u, cap -> lambda


def multiplier(
    rows: int,
    constraints: int,
    *,
    tolerance: Array | float,
    cap: Array | float,
    rate: Array | float,
    start: Array | float = 0.0,
    kind: str = "bounded",
    violation: Callable[[PyTree], Array] = lambda memory: memory.violation,
    low: Array | float = LOW,
    high: Array | float = HIGH,
) -> optax.GradientTransformationExtraArgs:
    """Rows of losses and constraints in, the same rows out: constraint j times ``lambda_j``.

    It stands before an aggregator, ``optax.chain(multiplier(3, 1, ...), sum_rows(), adam)``. With
    the excess ``e_j = violation_j - tolerance_j`` every update makes a dual step:

    * ``"bounded"``: ``lambda = cap sigmoid(u)``, ``u <- clip(u + rate e, low, high)``. ``lambda``
      stays in [0, cap] by itself. The clip is there against windup: a ``u`` that went on falling
      while the constraint was met would take as long to come back.
    * ``"exponentiated"``: ``lambda <- lambda exp(rate e)`` within ``[cap exp(low), cap]``.
    * ``"softplus"``: ``lambda = log(1 + exp(u))`` up to cap, ``u <- u + rate e`` from ``low`` on.
    * ``"frank_wolfe"``: ``lambda <- (1 - rate) lambda + rate cap 1[e > 0]``, a rate up to 1.
    * ``"projected"``: ``lambda <- clip(lambda + rate e, 0, cap)``, plain dual ascent.

    The row may be a smooth surrogate of what is measured: the parameters follow the row, the
    multiplier follows the violation. That is a game of two players, not one Lagrangian.

    Args:
      rows: K.
      constraints: J, the number of the last rows that are constraints.
      tolerance: of the violation, ``[]`` or ``[J]``; may be infinite.
      cap: the largest multiplier, ``[]`` or ``[J]``.
      rate: of the dual step.
      start: the first multiplier, or the nearest one that the kind can have.
      kind: see above.
      violation: from ``memory`` to ``[J]``. NaN, not measured yet, leaves its multiplier as it is.
      low: of ``u``; ``"bounded"``, ``"exponentiated"`` and ``"softplus"`` have it.
      high: of ``u``; ``"bounded"`` has it.

    Returns:
      A transformation whose state is a :class:`MultiplierState`. ``update(..., memory=)`` reads the
      violation; other extra arguments are ignored. Every number may be traced.

    Raises:
      ValueError: an unknown kind, constraints that are not 1 to K, a negative tolerance, or a cap
        that is not positive; of traced numbers nothing is known. At trace time: another number of
        rows or of violations, or no ``memory=``.

    Source: ``"bounded"`` is the dual of Agarwal, Beygelzimer, Dudik, Langford, Wallach: A
    reductions approach to fair classification, ICML 2018. Two players: Cotter et al., JMLR 2019.
    """
    if kind not in KINDS:
        raise ValueError(f"multiplier: kind {kind!r} is not one of {', '.join(KINDS)}")
    if not 1 <= constraints <= rows:
        raise ValueError(
            f"multiplier: {constraints} constraints of {rows} rows; give 1 to {rows}, the number "
            "of the last rows that are constraints"
        )
    _check_numbers(tolerance, cap)
    tolerance, cap = jnp.asarray(tolerance), jnp.asarray(cap)
    dual = KINDS[kind]
    shape = (constraints,)

    def init_fn(params: PyTree) -> MultiplierState:
        del params
        first = jnp.broadcast_to(jnp.asarray(start, jnp.float32), shape)
        u = dual.variable(first, cap, low, high)
        u = jnp.asarray(u, jnp.float32)
        return MultiplierState(
            u=u,
            multiplier=_in_float32(dual.of(u, cap)),
            violation=jnp.full(shape, jnp.nan, jnp.float32),
            count=jnp.zeros((), jnp.int32),
        )

    def update_fn(
        updates: PyTree,
        state: MultiplierState,
        params: PyTree | None = None,
        *,
        memory: PyTree = None,
        **extra: Any,
    ):
        del extra
        _check_count(check_rows(updates, params), rows, constraints)
        measured = _violations(violation, memory, constraints)
        is_known = ~jnp.isnan(measured)
        excess = jnp.where(is_known, measured - tolerance, 0.0)
        stepped = dual.step(state.u, excess, rate, cap, low, high)
        u = _in_float32(jnp.where(is_known, stepped, state.u))
        lam = _in_float32(dual.of(u, cap))
        factor = jnp.concatenate([jnp.ones(rows - constraints), lam])

        def multiplied(row: Array) -> Array:
            shaped = factor.reshape(-1, *[1] * (row.ndim - 1))
            return row * shaped.astype(row.dtype)

        new_state = MultiplierState(
            u=u,
            multiplier=lam,
            violation=jnp.where(is_known, measured, state.violation),
            count=state.count + 1,
        )
        return jax.tree.map(multiplied, updates), new_state

    return for_rows(optax.GradientTransformationExtraArgs(init_fn, update_fn))


# ------------------------------------------------------------------------------------------- kinds


def _bounded_start(lam, cap, low, high):
    share = jnp.clip(lam / cap, 0.0, 1.0)
    return jnp.clip(jax.scipy.special.logit(share), low, high)


def _bounded_step(u, excess, rate, cap, low, high):
    del cap
    return jnp.clip(u + rate * excess, low, high)


def _exponentiated_start(lam, cap, low, high):
    del high
    return jnp.clip(jnp.log(lam / cap), low, 0.0)


def _exponentiated_step(u, excess, rate, cap, low, high):
    del cap, high
    return jnp.clip(u + rate * excess, low, 0.0)


def _softplus_inverse(lam):
    # log(exp(lam) - 1), which would overflow
    return lam + jnp.log(-jnp.expm1(-lam))


def _softplus_start(lam, cap, low, high):
    del high
    return jnp.clip(_softplus_inverse(lam), low, _softplus_inverse(cap))


def _softplus_step(u, excess, rate, cap, low, high):
    del high
    return jnp.clip(u + rate * excess, low, _softplus_inverse(cap))


def _plain_start(lam, cap, low, high):
    del low, high
    return jnp.clip(lam, 0.0, cap)


def _frank_wolfe_step(u, excess, rate, cap, low, high):
    del low, high
    vertex = jnp.where(excess > 0, cap, 0.0)
    return (1.0 - rate) * u + rate * vertex


def _projected_step(u, excess, rate, cap, low, high):
    del low, high
    return jnp.clip(u + rate * excess, 0.0, cap)


def _itself(u, cap):
    del cap
    return u


KINDS: dict[str, Dual] = {
    "bounded": Dual(_bounded_start, _bounded_step, lambda u, cap: cap * jax.nn.sigmoid(u)),
    "exponentiated": Dual(
        _exponentiated_start, _exponentiated_step, lambda u, cap: cap * jnp.exp(u)
    ),
    "softplus": Dual(
        _softplus_start, _softplus_step, lambda u, cap: jnp.minimum(jax.nn.softplus(u), cap)
    ),
    "frank_wolfe": Dual(_plain_start, _frank_wolfe_step, _itself),
    "projected": Dual(_plain_start, _projected_step, _itself),
}


# ------------------------------------------------------------------------------------------ checks


def _in_float32(array: Array) -> Array:
    # a scan needs the types it began with
    return jnp.asarray(array, jnp.float32)


def _check_numbers(tolerance: Array | float, cap: Array | float) -> None:
    """Refuse numbers that no constraint can have; traced ones cannot be looked at and pass."""
    if not isinstance(tolerance, jax.core.Tracer) and not np.all(np.asarray(tolerance) >= 0):
        raise ValueError(
            f"multiplier: tolerance is {tolerance}, expected 0 or more, in units of the violation"
        )
    if not isinstance(cap, jax.core.Tracer) and not np.all(np.asarray(cap) > 0):
        raise ValueError(f"multiplier: cap is {cap}, expected a largest multiplier above 0")


def _check_count(count: int, rows: int, constraints: int) -> None:
    if count != rows:
        raise ValueError(
            f"multiplier: made for {rows} rows, the last {constraints} of them constraints, but "
            f"got {count}; its first argument is the number of the objective's rows"
        )


def _violations(violation: Callable[[PyTree], Array], memory: PyTree, constraints: int) -> Array:
    """The violations ``[J]`` that stand in memory."""
    if memory is None:
        raise ValueError(
            "multiplier: reads violations from memory; call tx.update(rows, state, params, "
            "memory=memory), as make_train does"
        )
    measured = jnp.asarray(violation(memory), jnp.float32)
    if measured.shape not in ((), (constraints,)):
        raise ValueError(
            f"multiplier: violations have shape {measured.shape}, expected ({constraints},), one "
            "per constraint; violation= says where they stand in memory"
        )
    return jnp.broadcast_to(measured, (constraints,))
