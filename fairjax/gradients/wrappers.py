"""Around links and chains: look at rows, check the order of a chain, put an optimizer's wrapper around all of it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import PyTree
from fairjax.gradients.rules.constant import weighted_rows
from fairjax.gradients.task_space import LinkState, link


def observe(
    rows: int, *, per: str | Callable[[tuple], str] = "leaf"
) -> optax.GradientTransformationExtraArgs:
    """Hands the rows on as they are and keeps their cosines and conflicts in a :class:`LinkState`, leaf by leaf.

    Stands before an aggregator: ``optax.chain(observe(2), pcgrad(2), optax.adam(1e-3))``.
    """
    plain = link(weighted_rows.rule(weights=1.0), rows, per=per)

    def update_fn(updates: PyTree, state: LinkState, params: PyTree | None = None, **extra):
        del extra
        return updates, plain.update(updates, state, params)[
            1
        ]  # the sum that it makes is not used, and not computed

    return optax.GradientTransformationExtraArgs(plain.init, update_fn)


def check_chain(
    tx: optax.GradientTransformation, state: PyTree, params: PyTree, rows: int, **extra
) -> None:
    """Refuse a chain that does not turn K rows into one update and leave its own state in shape; costs one tracing.

    ``optax.scale_by_adam`` before an aggregator takes K rows without complaint, and its moments grow a row axis.

    Raises:
      ValueError: naming the part of the state that grew, or the update that did not become one.
    """
    given = {
        "values": jnp.zeros(rows),
        "value_fn": lambda p: jnp.zeros(rows),
        "key": jax.random.key(0),
        **extra,
    }
    stacked = jax.tree.map(
        lambda p: jax.ShapeDtypeStruct((rows, *jnp.shape(p)), jnp.result_type(p)), params
    )
    updates, after = jax.eval_shape(
        lambda r, s, p: optax.with_extra_args_support(tx).update(r, s, p, **given),
        stacked,
        state,
        params,
    )
    for what, before, now in (
        ("the optimizer's state", state, after),
        ("the update", params, updates),
    ):
        old, new = jax.tree.leaves_with_path(before), jax.tree.leaves_with_path(now)
        for (path, a), (_, b) in zip(old, new, strict=True):
            if jnp.shape(a) != b.shape:
                raise ValueError(
                    f"{what}{jax.tree_util.keystr(path)} has shape {jnp.shape(a)} and would become {b.shape}: something "
                    f"stands before the aggregator that turns {rows} rows into one update. The aggregator must come first "
                    "in the chain."
                )


def validated(tx: optax.GradientTransformation, rows: int) -> optax.GradientTransformationExtraArgs:
    """``tx`` with :func:`check_chain` when it is initialised; :func:`fairjax.make_train` checks by itself."""
    inner = optax.with_extra_args_support(tx)

    def init_fn(params: PyTree) -> PyTree:
        state = inner.init(params)
        check_chain(inner, state, params, rows)
        return state

    return optax.GradientTransformationExtraArgs(init_fn, inner.update)


def wrap_chain(
    wrap: Callable, tx: optax.GradientTransformation, rows: int
) -> optax.GradientTransformationExtraArgs:
    """A wrapper of optax around a whole chain that begins with an aggregator.

    ``around(lambda tx: optax.MultiSteps(tx, 4), chain, rows=2)`` averages rows over four steps, then aggregates;
    ``around(lambda tx: optax.apply_if_finite(tx, 5), chain, rows=2)`` skips a step whose rows are not all finite.
    The wrapper sees K copies of the parameters, and is told K copies of the update. Wrappers that need no rows
    (``MultiSteps`` over finished updates, say) stand after the aggregator and need none of this.

    Args:
      wrap: from a transformation to a wrapped one, or to ``optax.MultiSteps``.
      tx: the chain.
      rows: K.
    """
    inner = optax.with_extra_args_support(tx)

    def one(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: a[0], tree)

    def copies(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (rows, *jnp.shape(a))), tree)

    def update_stacked(updates: PyTree, state: PyTree, params: PyTree, **extra):
        step, state = inner.update(updates, state, one(params), **extra)
        return copies(step), state

    outer = wrap(
        optax.GradientTransformationExtraArgs(
            lambda stacked: inner.init(one(stacked)), update_stacked
        )
    )

    def update_fn(updates: PyTree, state: PyTree, params: PyTree, **extra):
        step, state = outer.update(updates, state, copies(params), **extra)
        return one(step), state

    return optax.GradientTransformationExtraArgs(
        lambda params: outer.init(copies(params)), update_fn
    )
