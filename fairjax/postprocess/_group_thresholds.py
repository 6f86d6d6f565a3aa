"""Thresholds per group: decisions of one model whose rates agree between groups, at least error.

A cut of a group selects its rows from a threshold on. :func:`group_thresholds` keeps each group's
curve of cuts, rates and errors at ``points`` places, as :func:`fairjax.postprocess.barycenter`
keeps quantiles, and looks for the window of rates inside which the groups' best cuts err least.

In: scores ``[N, T]`` of binary tasks, which decide at 0, of a pool of rows that the model was not
trained on, membership ``[N, G]``, weights ``[N]``, labels and their mask ``[N, T]``. Out: a pytree
whose size does not depend on N, and scores ``[M, T]``, less their group's threshold.

Reference:
  Hardt, Price, Srebro: Equality of opportunity in supervised learning, NeurIPS 2016. A tolerance,
  and thresholds without a condition (unprocessing): Cruz, Hardt: Unprocessing seven years of
  algorithmic fairness, ICLR 2024. Both draw decisions at random, which reaches every point below a
  curve; here a decision is a function of score and group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import check_membership, divide, keep
from fairjax.core.types import Array, Post
from fairjax.metrics.ranking import cut_between
from fairjax.notions.conditions import known
from fairjax.postprocess.cells import cells_of_groups

POINTS = 512
LEVELS = (1, 201, 51)  # of a window's place, by the number of conditions
MINIMUM = 10.0  # rows; the rates that a report compares have as many
ROUNDING = 2.0**-20  # errors that close, as shares of the rows, are equal


class Curves(NamedTuple):
    """Cuts of T tasks in G groups from nobody to everybody; the last entry is of all rows.

    R conditions, P places along a curve.
    """

    rate: Array  # [T, G + 1, R, P] share of the condition's rows that is selected
    error: Array  # [T, G + 1, P] share of the labelled rows that is decided wrongly
    threshold: Array  # [T, G + 1, P] on the score
    row: Array  # [T, G + 1, R] share of a condition's largest row
    share: Array  # [T, G + 1] of the pool's labelled rows, for whose decisions a curve is used
    gap: Array  # [T] largest difference of a rate between groups, of decisions at score 0


class _Counts(NamedTuple):
    """Sizes of C cells."""

    row: Array  # [C, R]
    rows: Array  # [C] of the condition with the fewest, or with a known label
    mass: Array  # [C] weight of known labels
    half: Array  # [C, R] rates at score 0


def group_thresholds(
    conditions: Sequence[Callable[[Array, Array], Array]],
    *,
    minimum: float = MINIMUM,
    points: int = POINTS,
    levels: int | None = None,
) -> Post:
    """Thresholds per group of least error, under equal rates of selection on chosen rows.

    ``fit(scores[N, T], groups[N, G], weight[N], labels[N, T], label_mask[N, T]) -> Curves`` and
    ``apply(curves, scores[M, T], groups[M, G], key=None, amount=1.0) -> [M, T]``, both pure: for
    each task ``s_i - t_g(i)``, so that a decision is still ``score >= 0``, with

        t = argmin_t sum_i w_i 1[1(s_i >= t_g(i)) != y_i]
        subject to  max_g r_c,g(t_g) - min_g r_c,g(t_g) <= (1 - amount) gap  for each condition c,

    ``r_c,g`` the share of the condition's rows of group g that is selected and ``gap`` the largest
    difference of such rates, of any condition, at score 0. ``amount`` 0 leaves scores as they are.
    Without conditions every larger amount gives each group its threshold of least error. Of equal
    errors that nearest to the decisions at score 0 is taken. Scores, labels and masks of fitted
    rows of weight 0, and labels where the mask is 0, may be anything.

    A rate counts as equal where it differs by half a row of its group, and a window of rates stands
    at ``levels`` places: on the pool a rate's difference exceeds the tolerance by at most
    ``1 / (levels - 1)`` and half the largest row's share of each of the two groups. To select
    nobody, or everybody, meets every tolerance. Where the groups' curves of true by false positive
    rates do not meet, equal odds are out of reach of other decisions unless they are drawn at
    random; a report shows what was reached.

    A row whose group is unknown, or has fewer than ``minimum`` rows of a condition or labelled rows
    in the pool, has the threshold of all rows together whose rates lie in the same window; such a
    group binds the others no more than its share of the rows. A task without labels stays as it is.

    Args:
      conditions: at most two of :data:`fairjax.notions.CONDITIONS`; none: least error in each
        group (unprocessing).
      minimum: rows that a group needs for a threshold of its own.
      points: P, places at which a curve is kept, the cut of least error at each.
      levels: at which windows of rates begin, per condition; 201 for one, 51 for two by default.

    Raises:
      ValueError: more than two conditions.

    Example:
      >>> import jax.numpy as jnp
      >>> from fairjax.notions import positives
      >>> post = group_thresholds([positives], minimum=1)
      >>> groups = jnp.eye(2)[jnp.array([0, 0, 0, 0, 1, 1, 1, 1])]
      >>> scores = jnp.array([[-3.0], [-2.0], [-1.0], [1.0], [-1.0], [1.0], [2.0], [3.0]])
      >>> labels = jnp.array([[0.0], [0.0], [1.0], [1.0], [0.0], [0.0], [1.0], [1.0]])
      >>> state = post.fit(scores, groups, jnp.ones(8), labels, jnp.ones((8, 1)))
      >>> [float(s) for s in post.apply(state, scores, groups)[:, 0]]
      [-1.5, -0.5, 0.5, 2.5, -2.5, -0.5, 0.5, 1.5]
    """
    conditions = tuple(conditions)
    if len(conditions) >= len(LEVELS):
        raise ValueError(f"{len(conditions)} conditions; give at most {len(LEVELS) - 1}")
    places = levels or LEVELS[len(conditions)]

    def fit(
        scores: Array, groups: Array, weight: Array, labels: Array, label_mask: Array
    ) -> Curves:
        check_membership(groups, scores)
        count = groups.shape[1]
        is_counted = weight > 0
        cell = cells_of_groups(groups, (count,))
        own_cell = jnp.where(is_counted, cell, count)
        one_cell = jnp.where(is_counted, 0, 1)

        def of_task(score_n: Array, label_n: Array, mask_n: Array) -> Curves:
            score_n = keep(score_n, weight)
            mask_n = keep(mask_n, weight)
            label_n = keep(label_n, mask_n)
            chosen = [select(label_n, mask_n) for select in (known, *conditions)]
            rows_kn = weight * jnp.stack(chosen)
            own, own_counts = _curves(score_n, label_n, rows_kn, own_cell, count, points)
            pooled, pooled_counts = _curves(score_n, label_n, rows_kn, one_cell, 1, points)
            is_own = own_counts.rows >= max(minimum, 1)
            own_mass = jnp.where(is_own, own_counts.mass, 0.0)
            is_unknown = own_cell == count
            unknown_mass = jnp.sum(rows_kn[0] * is_unknown)
            borrowing_mass = unknown_mass + jnp.sum(jnp.where(is_own, 0.0, own_counts.mass))
            mass = jnp.append(own_mass, borrowing_mass)
            both = jax.tree.map(lambda *parts: jnp.concatenate(parts), own, pooled)
            return Curves(
                *both,
                row=jnp.concatenate([own_counts.row, pooled_counts.row]),
                share=divide(mass, jnp.sum(mass)),
                gap=_largest_difference(own_counts.half, is_own),
            )

        return jax.vmap(of_task, 1)(scores, labels, label_mask)

    def apply(
        state: Curves,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        del key
        check_membership(groups, scores)
        count = groups.shape[1]
        cell = cells_of_groups(groups, (count,))
        amount = jnp.asarray(amount)

        def thresholds_of_task(curves: Curves) -> Array:
            chosen_g = _thresholds(curves, (1.0 - amount) * curves.gap, places)
            own_g = jnp.where(curves.share > 0, chosen_g, chosen_g[-1])
            is_moved = (amount > 0) & jnp.any(curves.share > 0)
            return jnp.where(is_moved, own_g, 0.0)

        threshold_tg = jax.vmap(thresholds_of_task)(state)
        threshold = threshold_tg[:, cell].T
        return scores - threshold.astype(jnp.result_type(scores))

    return Post(fit, apply, "group_thresholds", labelled=True)


# --------------------------------------------------------------------------------------- the curves


def _curves(
    score: Array,
    label: Array,
    rows: Array,
    cell: Array,
    cells: int,
    points: int,
) -> tuple[tuple[Array, Array, Array], _Counts]:
    """Rates ``[C, R, P]``, errors and thresholds ``[C, P]`` of the cuts of C cells.

    Args:
      score: ``[N]``.
      label: ``[N]``, 0 where unknown.
      rows: ``[1 + R, N]`` weights of labelled rows, and of the rows of each condition.
      cell: ``[N]`` in ``0 .. C``; C is left out.
      cells: C.
      points: P.
    """
    # descending scores, cell by cell
    columns = (cell, -score, label * rows[0], *rows)
    cell, falling, positive, *rows = jax.lax.sort(columns, num_keys=2)
    score = -falling
    rows_kn = jnp.stack(rows)
    count_c = jnp.zeros(cells + 1, jnp.int32).at[cell].add(1)
    first_c = jnp.cumsum(count_c) - count_c

    def reach(columns_kn: Array) -> tuple[Array, Array]:
        """Sums from a cell's first row to each row, and over each cell."""
        sums = jnp.pad(jnp.cumsum(columns_kn, axis=1), ((0, 0), (1, 0)))
        before_kc = sums[:, first_c]
        total_kc = sums[:, first_c + count_c] - before_kc
        return sums[:, 1:] - before_kc[:, cell], total_kc

    reached_kn, total_kc = reach(rows_kn)
    (positive_n,), (positive_c,) = reach(positive[None])
    _, half_kc = reach(rows_kn * (score >= 0))
    wrong_n = reached_kn[0] - positive_n + positive_c[cell] - positive_n
    share_kn = divide(reached_kn, total_kc[:, cell])
    half_kc = divide(half_kc, total_kc)

    same_cell = jnp.append(cell[1:] == cell[:-1], False)
    next_score = jnp.append(score[1:], -jnp.inf)
    below = jnp.where(same_cell, next_score, -jnp.inf)
    greatest_c = jnp.where(count_c > 0, score[jnp.minimum(first_c, len(score) - 1)], 0.0)

    # the cut behind each row, then the cut of nobody in each cell
    cut_cell = jnp.append(cell, jnp.arange(cells + 1))
    is_cut = jnp.append(below < score, jnp.ones(cells + 1, bool)) & (cut_cell < cells)
    share_ke = jnp.pad(share_kn, ((0, 0), (0, cells + 1)))
    error_e = divide(jnp.append(wrong_n, positive_c), total_kc[0, cut_cell])
    threshold_e = jnp.append(cut_between(below, score), cut_between(greatest_c, greatest_c + 1.0))
    # without a condition a curve is kept by the share that it selects of the labelled rows
    axes = slice(1, None) if len(rows_kn) > 1 else slice(0, 1)
    place_e = jnp.mean(share_ke[axes], axis=0)
    half_c = jnp.mean(half_kc[axes], axis=0)
    cost_e = error_e + ROUNDING * jnp.abs(place_e - half_c[cut_cell])

    entry_cp = _least_entries(cost_e, place_e, cut_cell, is_cut, cells, points)
    kept = (
        jnp.moveaxis(share_ke[1:, entry_cp], 0, 1),
        cost_e[entry_cp],
        threshold_e[entry_cp],
    )
    zeros_kc = jnp.zeros((len(rows_kn), cells + 1))
    largest_kc = zeros_kc.at[:, cell].max(rows_kn)
    counted_kc = zeros_kc.at[:, cell].add(rows_kn > 0)
    counts = _Counts(
        row=divide(largest_kc, total_kc)[1:, :cells].T,
        rows=jnp.min(counted_kc, axis=0)[:cells],
        mass=total_kc[0, :cells],
        half=half_kc[1:, :cells].T,
    )
    return kept, counts


def _least_entries(
    cost: Array, place: Array, cell: Array, is_cut: Array, cells: int, points: int
) -> Array:
    """Indices ``[C, P]`` of the cut of least cost at each place of each cell's curve.

    A place without a cut has that of the place before it.
    """
    entries = len(cost)
    outside = cells * points
    at = jnp.round(place * (points - 1)).astype(jnp.int32)
    slot = jnp.where(is_cut, cell * points + at, outside)
    least = jnp.full(outside + 1, jnp.inf).at[slot].min(jnp.where(is_cut, cost, jnp.inf))
    least_slot = jnp.where(cost <= least[slot], slot, outside)
    first = jnp.full(outside + 1, entries).at[least_slot].min(jnp.arange(entries))
    entry_cp = first[:-1].reshape(cells, points)
    has_cut = entry_cp < entries
    latest = jax.lax.cummax(jnp.where(has_cut, jnp.arange(points), 0), axis=1)
    return jnp.take_along_axis(entry_cp, latest, axis=1)


def _largest_difference(rate: Array, is_own: Array) -> Array:
    """Largest difference of rates ``[G, R]`` between groups with a threshold of their own."""
    high = jnp.max(jnp.where(is_own[:, None], rate, 0.0), axis=0)
    low = jnp.min(jnp.where(is_own[:, None], rate, 1.0), axis=0)
    return jnp.max(high - low, initial=0.0)


# --------------------------------------------------------------------------------------- the search


def _thresholds(curves: Curves, tolerance: Array, levels: int) -> Array:
    """Thresholds ``[G + 1]`` of one task, inside the window of rates of least error."""
    if curves.rate.shape[1] == 0:
        return _at_least(curves.threshold, curves.error)
    level = np.linspace(0.0, 1.0, levels, dtype=np.float32)
    slack = 0.5 / (levels - 1) + 0.5 * curves.row[..., None]
    low_grl = level - slack
    high_grl = level + tolerance + slack
    window = _best_window(curves, low_grl, high_grl)
    condition = jnp.arange(len(window))
    low_gr = low_grl[:, condition, window]
    high_gr = high_grl[:, condition, window]
    under = low_gr[..., None] - curves.rate
    over = curves.rate - high_gr[..., None]
    outside_gp = jnp.max(jnp.maximum(jnp.maximum(under, over), 0.0), axis=1)
    # a curve for no rows may have no cut inside
    nearest_g1 = jnp.min(outside_gp, axis=1, keepdims=True)
    error_gp = jnp.where(outside_gp <= nearest_g1, curves.error, jnp.inf)
    return _at_least(curves.threshold, error_gp)


def _at_least(threshold: Array, error: Array) -> Array:
    """The thresholds ``[G]`` at the least error of each row of ``[G, P]``."""
    best_g1 = jnp.argmin(error, axis=1, keepdims=True)
    return jnp.take_along_axis(threshold, best_g1, axis=1)[:, 0]


def _best_window(curves: Curves, low: Array, high: Array) -> Array:
    """The window ``[R]`` of least error: indices of ``low`` and ``high`` ``[G + 1, R, L]``.

    Along a curve all rates rise, so that the cuts inside a window stand side by side, and their
    least error is that of two stretches of 2^k cuts each. A window without a cut of a curve that is
    used has infinite error; that of nobody never is one.
    """
    groups, conditions, levels = low.shape
    find = {}
    for side, bound in (("left", low), ("right", high)):
        in_curve = jax.vmap(jax.vmap(lambda rate, at, s=side: jnp.searchsorted(rate, at, s)))
        find[side] = in_curve(curves.rate, bound)
    stretches = _least_of_stretches(curves.error)
    group = jnp.arange(groups)
    condition = jnp.arange(conditions)

    def error_of(window: Array) -> Array:
        first_g = jnp.max(find["left"][:, condition, window], axis=1)
        end_g = jnp.min(find["right"][:, condition, window], axis=1)
        count_g = jnp.maximum(end_g - first_g, 1)
        power_g = 31 - jax.lax.clz(count_g)
        least_g = jnp.minimum(
            stretches[power_g, group, first_g],
            stretches[power_g, group, end_g - (1 << power_g)],
        )
        least_g = jnp.where(end_g > first_g, least_g, jnp.inf)
        return jnp.sum(jnp.where(curves.share > 0, curves.share * least_g, 0.0))

    axes = [jnp.arange(levels)] * conditions
    windows = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, conditions)
    errors = jax.lax.map(error_of, windows, batch_size=levels)
    return windows[jnp.argmin(errors)]


def _least_of_stretches(error: Array) -> Array:
    """Least of ``error[g, p : p + 2^k]``, ``[K, G, P]``."""
    points = error.shape[1]
    stretches = [error]
    length = 1
    while 2 * length <= points:
        shorter = stretches[-1]
        later = jnp.pad(shorter[:, length:], ((0, 0), (0, length)), constant_values=jnp.inf)
        stretches.append(jnp.minimum(shorter, later))
        length *= 2
    return jnp.stack(stretches)
