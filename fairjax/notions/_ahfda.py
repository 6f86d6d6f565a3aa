"""AHFDA: the violations of all groups that a task serves worse than the reference, as one number.

This is our reading of FairMT (arXiv 2512.00469), whose equations were not available to us: the
asymmetric aggregation of fairness disparities of heterogeneous tasks. Every formula here is ours.

A *risk* of a group is lower where the group is served better. A group violates the constraint as
far as its risk lies above the reference; one that is served better than the reference violates
nothing and has no gradient, so no group is pushed down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import check_membership, check_probabilities, divide, keep
from fairjax.core.types import KINDS, Array
from fairjax.notions.conditions import everyone, known
from fairjax.notions.differential import running, start
from fairjax.notions.maxima import hard_maximum, smooth_maximum
from fairjax.notions.notion import Notion, TaskRows
from fairjax.notions.statistics import (
    CLASSES,
    REGRESSIONS,
    Statistic,
    fraction,
    rejection_rate,
    selection_rate,
    squared_loss,
)

REFERENCES = ("best", "overall")
DIRECTED_KINDS = ("binary", "multilabel")  # one direction is good in every column

miss_rate = fraction("miss_rate", lambda p, y: (1 - p) * y, lambda p, y: y)
false_alarm_rate = fraction("false_alarm_rate", lambda p, y: p * (1 - y), lambda p, y: 1 - y)
huber_loss = fraction(
    "huber_loss",
    lambda p, y: optax.losses.huber_loss(p, y),
    lambda p, y: jnp.ones_like(p),
    REGRESSIONS,
)

BOTH_ERRORS = (miss_rate, false_alarm_rate)
# Risks by name: the statistics of every column of a task, per kind of task.
RISKS: dict[str, dict[str, tuple[Statistic, ...]]] = {
    "default": {
        "binary": BOTH_ERRORS,
        "multiclass": (miss_rate,),
        "multilabel": BOTH_ERRORS,
        "regression": (squared_loss,),
    },
    "opportunity": dict.fromkeys(CLASSES, (miss_rate,)),
    "huber": dict.fromkeys(REGRESSIONS, (huber_loss,)),
}


class GroupSums(NamedTuple):
    """Memory of :func:`ahfda`: running sums of U units in G groups. A risk is above by below."""

    above: Array  # [U, G]
    below: Array  # [U, G], at the scale of training rows
    size: Array  # [], weight of the training rows that count
    deviation: Array  # [C], of each column's labels in a regression; 1 in tasks of classes


def directional_violations(
    sums: GroupSums,
    reference: str | Array | float = "best",
    tolerance: Array | float = 0.0,
    min_count: Array | float = 1.0,
) -> tuple[Array, Array]:
    """``v_ug = max(0, r_ug - reference_u - tolerance)`` with ``r = above / below``.

    The reference has no gradient. So ``v`` never falls as a risk rises, and of a group that is at
    the reference or better, within the tolerance, its gradient is exactly 0.

    Args:
      sums: of :func:`ahfda`.
      reference: ``"best"``, the smallest risk of a valid group in each unit; ``"overall"``, the
        risk of all groups together; or a number, the bound on every risk.
      tolerance: delta.
      min_count: rows that a valid entry rests on, ``below >= min_count``.

    Returns:
      ``v[U, G]``, 0 where it is not valid, and ``valid[U, G]``.
    """
    risk_ug = divide(sums.above, sums.below)
    valid_ug = (sums.below > 0) & (sums.below >= min_count)
    bound = jax.lax.stop_gradient(_reference(sums, risk_ug, valid_ug, reference))
    # relu has gradient 0 at 0, where the best group stands; jnp.maximum has one half
    excess_ug = jax.nn.relu(risk_ug - bound - tolerance)
    return jnp.where(valid_ug, excess_ug, 0.0), valid_ug


def _reference(
    sums: GroupSums, risk_ug: Array, valid_ug: Array, reference: str | Array | float
) -> Array:
    """The reference of every unit ``[U, 1]``, or a number for all."""
    if not isinstance(reference, str):
        return jnp.asarray(reference, risk_ug.dtype)
    if reference == "overall":
        total_u1 = jnp.sum(sums.above, axis=1, keepdims=True)
        count_u1 = jnp.sum(sums.below, axis=1, keepdims=True)
        return divide(total_u1, count_u1)
    best_u1 = jnp.min(jnp.where(valid_ug, risk_ug, jnp.inf), axis=1, keepdims=True)
    any_valid_u1 = jnp.any(valid_ug, axis=1, keepdims=True)
    return jnp.where(any_valid_u1, best_u1, 0.0)


def ahfda(
    risk: str | Statistic = "default",
    reference: str | Array | float = "best",
    tolerance: Array | float = 0.0,
    temperature: Array | float = 0.1,
    rho: Array | float = 0.1,
    min_count: Array | float = 1.0,
    attributes: tuple[int, ...] | None = None,
    favorable: int | None = None,
    axis: str | None = None,
) -> Notion:
    """A smooth maximum of directional violations, of running risks, for every kind of task.

    ``tau log mean_{u, g} exp(v_ug / tau)`` over valid units and groups, with ``v`` of
    :func:`directional_violations`. Risks are ratios of sums that run over minibatches, as counts of
    differential fairness do; the gradient of a prediction carries ``rho``. Groups are all
    combinations of the attributes' levels. Rows without demographics, or without the label, are not
    summed; a batch without such rows has value 0 and leaves the sums as they are.

    Units and default risks:

    * binary and multilabel: per column the miss rate (1 - TPR) and the false alarm rate (1 - TNR);
    * multiclass: per class the miss rate (1 - recall);
    * regression: the squared error by the variance of the training labels.

    The notion's ``violation`` is the hard maximum of the same ``v``: the smooth one lies below it,
    so a constraint is meant of the hard one. With fewer than two groups there is no violation,
    unless the reference is a number; the notion is then no gap, and not 0 where groups agree.

    Its condition are the rows whose label is known, and then no row is exclusive to one of several
    tasks: for MTA-F take ``get("ahfda", kind=...)``, which looks at negatives and positives.

    Args:
      risk: ``"default"``; ``"opportunity"``, the miss rate alone; ``"huber"``, of regressions, with
        its corner at one standard deviation; ``"parity"``, of binary and multilabel tasks, see
        ``favorable``; or a statistic of :mod:`fairjax.notions.statistics` that is a fraction of
        sums and lower where it is better, one unit per column. Regressions are measured in standard
        deviations of the training labels.
      reference: see :func:`directional_violations`; a number may be traced.
      tolerance: delta, how far above the reference a risk may lie.
      temperature: tau, of :func:`fairjax.notions.smooth_maximum`.
      rho: how fast old sums are forgotten, see :func:`fairjax.notions.differential.running`.
      min_count: training rows that a group's running risk rests on, else it does not count.
      attributes: which attributes are crossed; by default all that have levels.
      favorable: with ``risk="parity"`` and no other: +1 where a selection is good for a person (the
        risk is 1 - rate), -1 where it is bad (the risk is the rate).
      axis: name of a mapped axis of devices over which sums are added up.

    Raises:
      ValueError: an unknown risk or reference, a statistic that is no fraction of sums, or a
        direction that is missing or has no meaning.

    Reference:
      Our reading of FairMT (arXiv 2512.00469), AHFDA. Bounded group loss: Agarwal, Dudik, Wu, ICML
      2019.

    >>> ahfda("parity", favorable=1).kinds
    ('binary', 'multilabel')
    """
    _check_reference(reference)

    def value(sums: GroupSums) -> Array:
        v, valid = directional_violations(sums, reference, tolerance, min_count)
        return smooth_maximum(v, valid, temperature)

    def violation(sums: GroupSums) -> Array:
        return hard_maximum(*directional_violations(sums, reference, tolerance, min_count))

    notion = _on_group_sums(value, risk, rho, attributes, favorable, axis)
    return notion._replace(name="ahfda", violation=violation)


def best_group_risk(
    risk: str | Statistic = "default",
    rho: Array | float = 0.1,
    min_count: Array | float = 1.0,
    attributes: tuple[int, ...] | None = None,
    favorable: int | None = None,
    axis: str | None = None,
) -> Notion:
    """The risk of the groups that are served best, ``mean_u min_g r_ug`` over units with a group.

    It is no gap, but a loss of its own: beside :func:`ahfda` it says what the groups pay that the
    others are compared with. Its gradient reaches the best group of every unit alone. Arguments are
    those of :func:`ahfda`.
    """

    def value(sums: GroupSums) -> Array:
        risk_ug = divide(sums.above, sums.below)
        valid_ug = (sums.below > 0) & (sums.below >= min_count)
        has_group_u = jnp.any(valid_ug, axis=1)
        best_u = jnp.min(jnp.where(valid_ug, risk_ug, jnp.inf), axis=1)
        best_u = jnp.where(has_group_u, best_u, 0.0)
        return divide(jnp.sum(best_u), jnp.sum(has_group_u))

    notion = _on_group_sums(value, risk, rho, attributes, favorable, axis)
    return notion._replace(name="best_group_risk")


def _on_group_sums(
    value: Callable[[GroupSums], Array],
    risk: str | Statistic,
    rho: Array | float,
    attributes: tuple[int, ...] | None,
    favorable: int | None,
    axis: str | None,
) -> Notion:
    """A notion that is a function of running sums."""
    statistics_of = _statistics(risk, favorable)

    def sums_of(rows: TaskRows, deviation: Array) -> tuple[Array, Array]:
        return _group_sums(statistics_of[rows.kind], rows, deviation)

    def init(rows: TaskRows, batch_size: int) -> GroupSums:
        weight = _weight(rows)
        size = jnp.max(jnp.sum(weight, axis=0))
        deviation = _deviation(rows, weight)
        _, cells_ug = sums_of(rows, deviation)

        def counts(cells_g: Array) -> Array:
            return start(size, batch_size, cells_g, 1, 1)[:, 0, 0]

        below = jax.vmap(counts)(cells_ug)
        above = _uninformed(rows.kind, rows.prob.shape[1]) * below
        return GroupSums(above, below, size, deviation)

    def apply(rows: TaskRows, memory: GroupSums) -> tuple[Array, GroupSums]:
        above, below = sums_of(rows, memory.deviation)
        batch_weight = jnp.max(jnp.sum(_weight(rows), axis=0))
        if axis is not None:
            above, below, batch_weight = jax.lax.psum((above, below, batch_weight), axis)
        updated = memory._replace(
            above=running(memory.above, above, memory.size, batch_weight, rho),
            below=running(memory.below, below, memory.size, batch_weight, rho),
        )
        # A batch without rows of this task leaves the sums as they are.
        any_rows = batch_weight > 0
        of_batch = jnp.where(any_rows, value(updated), 0.0)
        kept = jax.tree.map(lambda new, old: jnp.where(any_rows, new, old), updated, memory)
        return of_batch, jax.lax.stop_gradient(kept)

    return Notion(
        "",
        (everyone,) if risk == "parity" else (known,),
        init,
        apply,
        tuple(kind for kind in KINDS if kind in statistics_of),
        attributes,
        crossed=True,
    )


def _statistics(risk: str | Statistic, favorable: int | None) -> dict[str, tuple[Statistic, ...]]:
    """The statistics of every column, per kind of task."""
    if risk == "parity":
        if favorable not in (1, -1):
            raise ValueError(
                "ahfda: risk 'parity' has no direction of its own. Give favorable=1 where a "
                f"selection is good for a person, or favorable=-1 where it is bad, not {favorable}"
            )
        rate = rejection_rate if favorable == 1 else selection_rate
        return dict.fromkeys(DIRECTED_KINDS, (rate,))
    if favorable is not None:
        raise ValueError(
            f"ahfda: favorable={favorable} is the direction of risk='parity'; other risks have one "
            "of their own, leave it out"
        )
    if isinstance(risk, Statistic):
        if risk.above is None or risk.below is None:
            raise ValueError(
                f"ahfda: the statistic {risk.name} is no fraction of sums over rows, so it does "
                "not run over minibatches; statistics.fraction makes one that does"
            )
        return dict.fromkeys(risk.kinds, (risk,))
    if risk not in RISKS:
        raise ValueError(
            f"ahfda: risk {risk!r} is not one of {', '.join(RISKS)}, parity, and is no Statistic"
        )
    return RISKS[risk]


def _check_reference(reference: str | Array | float) -> None:
    if isinstance(reference, str) and reference not in REFERENCES:
        raise ValueError(
            f"ahfda: reference {reference!r} is not one of {', '.join(REFERENCES)}, and is no "
            "number"
        )


def _group_sums(
    risks: tuple[Statistic, ...], rows: TaskRows, deviation: Array
) -> tuple[Array, Array]:
    """Numerators and denominators ``[U, G]`` of a batch: U statistics and columns."""
    weight = _weight(rows)
    check_membership(rows.groups, rows.prob)
    if rows.kind != "regression":
        check_probabilities(rows.prob, weight)
    prob = keep(rows.prob, weight) / deviation
    label = keep(rows.label, weight) / deviation

    def add_up(terms: Callable[[Statistic], Array]) -> Array:
        parts = [weight * terms(statistic) for statistic in risks]
        terms_nu = jnp.concatenate(parts, axis=1)
        return jnp.matmul(terms_nu.T, rows.groups, precision=jax.lax.Precision.HIGHEST)

    def label_of(statistic: Statistic) -> Array:
        # where labels do not matter they may be missing in rows that count
        return label if statistic.labelled else jnp.zeros_like(label)

    above = add_up(lambda statistic: statistic.above(prob, label_of(statistic)))
    below = add_up(lambda statistic: statistic.below(prob, label_of(statistic)))
    return above, below


def _weight(rows: TaskRows) -> Array:
    """``[B, C]``; conditions on the label divide the rows that are known."""
    first, *others = rows.weights
    return sum(others, first)


def _deviation(rows: TaskRows, weight: Array) -> Array:
    """Standard deviation of each column's labels ``[C]``; 1 of a constant and of classes."""
    if rows.kind != "regression":
        return jnp.ones(rows.prob.shape[1], jnp.float32)
    mass = jnp.sum(weight, axis=0)
    label = keep(rows.label, weight)
    mean = divide(jnp.sum(weight * label, axis=0), mass)
    variance = divide(jnp.sum(weight * jnp.square(label - mean), axis=0), mass)
    varies = variance > 0
    return jnp.sqrt(jnp.where(varies, variance, 1.0))


def _uninformed(kind: str, columns: int) -> float:
    """The default risk of a prediction that knows nothing: where all groups start."""
    if kind == "regression":
        return 1.0
    outcomes = columns if kind == "multiclass" else 2
    return 1.0 - 1.0 / outcomes
