"""The repair in the convention of the paper's code and of EquiPy, for comparison."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import check_membership, divide
from fairjax.core.types import Array, Post
from fairjax.postprocess._repair_map import count_below
from fairjax.postprocess.cells import cells_of_groups


class SortedScores(NamedTuple):
    """State of :func:`published_barycenter`: the pool itself, sorted group by group."""

    value: Array  # [T, N]
    first: Array  # [G] where each group begins
    rows: Array  # [G]


def published_barycenter() -> Post:
    """The repair ``y -> sum_r pi_r Q_r(F_s(y))`` as the paper's code computes it.

    ``F_s(y)`` is the share of the group's scores up to y. ``Q_r`` is linear between the group's
    sorted scores, which stand at the levels ``0, 1/(n - 1), ..., 1``. ``pi`` goes by numbers of
    rows.

    ``F_s`` and ``Q_s`` are not inverse to one another: ``Q_s(F_s(y_(k)))`` lies up to a spacing
    above ``y_(k)``, so that scores move upwards, most in the lower tail. Other defects of the
    published code are left out. The weights ``pi`` come from the pool, whichever groups a batch
    has, so that a row alone gets the same score as in a batch. Nothing is drawn. Weights of ``fit``
    count as 0 or 1. A row whose group is unknown, or has no row in the pool, stays as it is.

    Reference:
      Hu, Ratz, Charpentier, ECML-PKDD 2023, Eq. 8 without jitter; EquiPy 0.0.11,
      ``FairWasserstein(sigma=0)``.
    """

    def fit(scores: Array, groups: Array, weight: Array) -> SortedScores:
        check_membership(groups, scores)
        count = groups.shape[1]
        is_counted = weight > 0
        cell_of_row = cells_of_groups(groups, (count,))
        cell = jnp.where(is_counted, cell_of_row, count)
        no_rows = jnp.zeros(count + 1, jnp.int32)
        rows = no_rows.at[cell].add(1)[:count]
        in_group = (cell < count)[:, None]
        value = jnp.where(in_group, scores, 0.0)

        def sort_task(value_n: Array) -> Array:
            _, sorted_n = jax.lax.sort((cell, value_n), num_keys=2)
            return sorted_n

        first = jnp.cumsum(rows) - rows
        sorted_tn = jax.vmap(sort_task, 1)(value)
        return SortedScores(sorted_tn, first, rows)

    def apply(
        state: SortedScores,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        del key
        check_membership(groups, scores)
        count = groups.shape[1]
        cell = cells_of_groups(groups, (count,))
        start = state.first[cell]
        length = state.rows[cell]
        present = (cell < count) & (length > 0)
        rows = state.rows.astype(scores.dtype)
        share = divide(rows, jnp.sum(state.rows))

        def repair_task(value: Array, score: Array) -> Array:
            rank = count_below(value, start, length, score, len(value), jnp.less_equal)
            level = divide(rank.astype(score.dtype), length)
            quantile_ng = _published_quantiles(state, value, level)
            target_ng = jnp.where(state.rows > 0, quantile_ng, 0.0)
            stays = (1.0 - amount) * score
            return stays + amount * target_ng @ share

        repaired = jax.vmap(repair_task, (0, 1), 1)(state.value, scores)
        return jnp.where(present[:, None], repaired, scores)

    return Post(fit, apply)


def _published_quantiles(state: SortedScores, value: Array, level: Array) -> Array:
    """Quantiles ``[N, G]`` of every group at levels ``[N]``, linear between sorted scores."""
    last = jnp.maximum(state.rows - 1, 0)
    last_but_one = jnp.maximum(state.rows - 2, 0)
    place = level[:, None] * last
    entry = jnp.floor(place).astype(jnp.int32)
    low = jnp.clip(entry, 0, last_but_one)
    high = jnp.minimum(low + 1, last)
    part = place - low
    lower = value[state.first + low]
    upper = value[state.first + high]
    return (1.0 - part) * lower + part * upper
