"""The repair in the convention of the paper's code and of EquiPy, for comparison with their numbers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array, Post
from fairjax.postprocess._barycenter import below, cells


class Sample(NamedTuple):
    """The pool itself: scores sorted group by group."""

    value: Array  # [T, N]
    first: Array  # [G] where each group begins
    rows: Array  # [G]


def published_barycenter() -> Post:
    """``y -> sum_r pi_r Q_r(F_s(y))`` with ``F_s(y)`` the share of the group's scores up to y and ``Q_r`` linear between
    its sorted scores at the levels ``0, 1/(n - 1), ..., 1``; ``pi`` by numbers of rows.

    ``F_s`` and ``Q_s`` are not inverse to one another: ``Q_s(F_s(y_(k)))`` lies up to a spacing above ``y_(k)``, so that
    scores move upwards, most in the lower tail. Other defects are not kept: weights come from the pool whichever groups a
    batch has, so that a row alone is scored as in company, and nothing is drawn. Weights of ``fit`` count as 0 or 1.

    Reference:
      Hu, Ratz, Charpentier, ECML-PKDD 2023, Eq. 8 without jitter; EquiPy 0.0.11, ``FairWasserstein(sigma=0)``.
    """

    def fit(scores: Array, groups: Array, weight: Array) -> Sample:
        count = groups.shape[1]
        cell = jnp.where(weight > 0, cells(groups, groups.shape[1:]), count)
        rows = jnp.zeros(count + 1, jnp.int32).at[cell].add(1)[:count]
        known = jnp.where((cell < count)[:, None], scores, 0.0)
        value = jax.vmap(lambda v: jax.lax.sort((cell, v), num_keys=2)[1], 1)(known)
        return Sample(value, jnp.cumsum(rows) - rows, rows)

    def apply(
        state: Sample,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        del key
        cell = cells(groups, groups.shape[1:])
        start, length = state.first[cell], state.rows[cell]
        share = divide(state.rows.astype(scores.dtype), jnp.sum(state.rows))

        def of_task(value: Array, score: Array) -> Array:
            level = divide(
                below(value, start, length, score, len(value), jnp.less_equal).astype(score.dtype),
                length,
            )
            place = level[:, None] * jnp.maximum(state.rows - 1, 0)
            low = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, jnp.maximum(state.rows - 2, 0))
            high = jnp.minimum(low + 1, jnp.maximum(state.rows - 1, 0))
            part = place - low
            quantile_ng = (1.0 - part) * value[state.first + low] + part * value[state.first + high]
            return (1.0 - amount) * score + amount * jnp.where(
                state.rows > 0, quantile_ng, 0.0
            ) @ share

        return jnp.where(
            (cell < len(share))[:, None], jax.vmap(of_task, (0, 1), 1)(state.value, scores), scores
        )

    return Post(fit, apply)
