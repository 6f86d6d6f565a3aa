"""Differential fairness of decisions, over attributes and their intersections: a dict of scalars.

Keys are :class:`fairjax.core.keys.Metric` values: ``differential_equalized_odds`` (the evaluation
estimator of :mod:`fairjax.notions.differential`, true and false positive rates added up),
``differential_fairness`` (smoothed empirical, of decisions) and ``macro_f1``. Attributes of an
intersection are joined, ``sex & race``. Thresholds are those of :mod:`fairjax.metrics._evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fairjax.core.decisions import chosen, decide
from fairjax.core.groups import crossed
from fairjax.core.keys import Metric
from fairjax.core.types import Array, Dataset, Spec
from fairjax.losses import against_rest
from fairjax.metrics.scores import macro_f1
from fairjax.metrics.thresholds import base_rate_threshold, fixed
from fairjax.notions import differential


def evaluate_differential(
    spec: Spec,
    scores: Array,
    data: Dataset,
    base_rate: Array,
    cross: Sequence[Sequence[int]],
) -> dict[Metric, Array]:
    """Differential fairness and macro F1 of every task of classes.

    Args:
      spec: what the columns mean.
      scores: ``[N, C]`` logits.
      data: the rows of the scores; a row counts where its label and all crossed attributes are
        known.
      base_rate: ``[T]``, of :func:`fairjax.metrics.base_rates` on training data.
      cross: tuples of indices of attributes; a tuple of one index is an attribute alone.

    Returns:
      Scalars by key. Of a multiclass task epsilon is that of the worst class, of a multilabel task
      the mean over its labels. NaN for a task without labels, or with fewer than two groups.

    Reference:
      Aguirre, Dredze, 2023, and Foulds et al., ICDE 2020; see :mod:`fairjax.notions.differential`.
    """
    groups_of = {}
    for attributes in cross:
        names = [spec.attributes[a].name for a in attributes]
        groups_of[" & ".join(names)] = crossed(spec, data.groups, attributes)
    out = {}
    for t, task in enumerate(spec.tasks):
        if task.kind == "regression":
            continue
        label, mask = against_rest(spec, t, data.labels, data.label_mask)
        score = scores[:, spec.score_slice(t)]
        decisions = _decisions(task.kind, score, mask, data, base_rate[t])
        for threshold, decision in decisions.items():
            subject = Metric("", task.name, threshold=threshold)
            # [U, N, K], [U, N, K], [U, N]: U labels of a multilabel task, else 1
            if task.kind == "multiclass":
                outcome = decision[None]
                truth = label[None]
                label_weight = (mask[:, 0] * data.weight)[None]
            else:
                outcome = differential.two(decision.T)
                truth = differential.two(label.T)
                label_weight = mask.T * data.weight[None]
            f1 = jax.vmap(macro_f1)(outcome, truth, label_weight)
            labelled = jnp.sum(label_weight, axis=1) > 0
            out[subject._replace(metric="macro_f1")] = _mean(f1, labelled)
            for name, groups in groups_of.items():
                subject = subject._replace(attribute=name)
                out |= _of_groups(subject, outcome, truth, groups, label_weight, data.weight)
    return out


def _of_groups(
    subject: Metric,
    outcome: Array,
    truth: Array,
    groups: Array,
    label_weight: Array,
    weight: Array,
) -> dict[Metric, Array]:
    """Both metrics of a task, over groups ``[N, G]``.

    ``label_weight[U, N]`` is the weight of rows whose label is known, ``weight[N]`` that of all
    rows.
    """
    joint_counts = jax.vmap(differential.count, (0, 0, None, 0))
    joint = joint_counts(outcome, truth, groups, label_weight)
    present = jnp.sum(joint, axis=(2, 3)) > 0
    comparable = jnp.sum(present, axis=1) >= 2
    equalized_odds = jax.vmap(differential.evaluated_epsilon)(joint)
    smoothed_epsilons = jax.vmap(differential.smoothed_empirical_epsilon, (0, None, None))
    fairness = smoothed_epsilons(outcome, groups, weight)
    return {
        subject._replace(metric="differential_equalized_odds"): _mean(equalized_odds, comparable),
        subject._replace(metric="differential_fairness"): _mean(fairness, comparable),
    }


def _decisions(
    kind: str,
    score: Array,
    mask: Array,
    data: Dataset,
    rate: Array,
) -> dict[str, Array]:
    """Decisions ``[N, U]`` by threshold."""
    if kind == "multiclass":
        return {"": chosen(score)}
    half = jnp.asarray(fixed(0.5))
    at_half = decide(score, half)
    if kind == "multilabel":
        return {"": at_half}
    label_weight = data.weight * mask[:, 0]
    threshold = base_rate_threshold(score[:, 0], label_weight, rate)
    return {"": decide(score, threshold), "0.5": at_half}


def _mean(value: Array, comparable: Array) -> Array:
    """Mean over the labels that can be measured; NaN if there is none."""
    value_or_zero = jnp.where(comparable, value, 0.0)
    total = jnp.sum(value_or_zero)
    count = jnp.maximum(jnp.sum(comparable), 1)
    mean = total / count
    return jnp.where(jnp.any(comparable), mean, jnp.nan)
