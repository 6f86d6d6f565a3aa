"""Differential fairness of decisions, over attributes and over their intersections: one flat dict of named scalars.

Names are ``differential_equalized_odds[task|sex & race]`` (the evaluation estimator of
:mod:`fairjax.notions.differential`, true and false positive rates added up), ``differential_fairness[...]`` (smoothed
empirical, of decisions) and ``macro_f1[task]``; with ``@0.5`` decisions are made at probability one half, without it at the
base-rate threshold, as in :mod:`fairjax.metrics._evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fairjax.core.groups import crossed
from fairjax.core.keys import Metric
from fairjax.core.types import Array, Dataset, Spec
from fairjax.losses import against_rest
from fairjax.metrics.scores import chosen, macro_f1
from fairjax.metrics.thresholds import base_rate_threshold, decide, fixed
from fairjax.notions import differential


def evaluate_differential(
    spec: Spec, scores: Array, data: Dataset, base_rate: Array, cross: Sequence[Sequence[int]]
) -> dict[Metric, Array]:
    """Differential fairness and macro F1 of every task of classes.

    Args:
      spec: what the columns mean.
      scores: ``[N, C]`` logits.
      data: the rows they belong to; rows count where label and all crossed demographics are known.
      base_rate: ``[T]``, of :func:`fairjax.metrics.base_rates` on training data.
      cross: tuples of attributes, one for an attribute alone.

    Returns:
      Scalars by key. Of a multilabel task the mean over labels. NaN for a task without labels or with fewer than two groups.

    Reference:
      Aguirre, Dredze, 2023, and Foulds et al., ICDE 2020; see :mod:`fairjax.notions.differential`.
    """
    values = {}
    for t, task in enumerate(spec.tasks):
        if task.kind == "regression":
            continue
        label, known = against_rest(spec, t, data.labels, data.label_mask)
        score = scores[:, spec.score_slice(t)]
        decisions = _decisions(task.kind, score, known, data, base_rate[t])
        for threshold, decision in decisions.items():
            subject = Metric("", task.name, threshold=threshold)
            outcome, truth, weight = _questions(task.kind, decision, label, known, data.weight)
            score_u = jax.vmap(macro_f1)(outcome, truth, weight)
            values[subject._replace(metric="macro_f1")] = _mean(score_u, jnp.sum(weight, axis=1))
            for attributes in cross:
                name = " & ".join(spec.attributes[a].name for a in attributes)
                about = subject._replace(attribute=name)
                groups = crossed(spec, data.groups, attributes)
                values |= _epsilons(about, outcome, truth, groups, weight, data.weight)
    return values


def _decisions(
    kind: str, score: Array, known: Array, data: Dataset, rate: Array
) -> dict[str, Array]:
    """Decisions ``[N, U]`` by threshold."""
    if kind == "multiclass":
        return {"": chosen(score)}
    at_half = decide(score, jnp.asarray(fixed(0.5)))
    if kind == "multilabel":
        return {"": at_half}
    threshold = base_rate_threshold(score[:, 0], data.weight * known[:, 0], rate)
    return {"": decide(score, threshold), "0.5": at_half}


def _questions(
    kind: str, decision: Array, label: Array, known: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """Outcomes ``[Q, N, K]``, labels ``[Q, N, Y]`` and weights ``[Q, N]``: one question per label, one for all classes."""
    if kind == "multiclass":
        return decision[None], label[None], (known[:, 0] * weight)[None]
    return differential.two(decision.T), differential.two(label.T), known.T * weight


def _epsilons(
    about: Metric, outcome: Array, truth: Array, groups: Array, weight: Array, row_weight: Array
) -> dict[Metric, Array]:
    joint = jax.vmap(differential.count, (0, 0, None, 0))(outcome, truth, groups, weight)
    mass_ug = jnp.sum(joint, axis=(2, 3))
    has_gap = jnp.where(jnp.sum(mass_ug > 0, axis=1) >= 2, 1.0, 0.0)
    given_label = jax.vmap(differential.evaluated_epsilon)(joint)
    overall = jax.vmap(differential.smoothed_empirical_epsilon, (0, None, None))(
        outcome, groups, row_weight
    )
    return {
        about._replace(metric="differential_equalized_odds"): _mean(given_label, has_gap),
        about._replace(metric="differential_fairness"): _mean(overall, has_gap),
    }


def _mean(value: Array, weight: Array) -> Array:
    """Mean over the labels that can be measured; NaN where there is none."""
    measured = weight > 0
    total = jnp.sum(jnp.where(measured, value, 0.0))
    mean = total / jnp.maximum(jnp.sum(measured), 1)
    return jnp.where(jnp.any(measured), mean, jnp.nan)
