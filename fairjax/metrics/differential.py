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
from fairjax.core.types import Array, Dataset, Spec
from fairjax.losses import against_rest
from fairjax.metrics.scores import chosen, macro_f1
from fairjax.metrics.thresholds import base_rate_threshold, decide, fixed
from fairjax.notions import differential


def evaluate_differential(
    spec: Spec, scores: Array, data: Dataset, base_rate: Array, cross: Sequence[Sequence[int]]
) -> dict[str, Array]:
    """Differential fairness and macro F1 of every task of classes.

    Args:
      spec: what the columns mean.
      scores: ``[N, C]`` logits.
      data: the rows they belong to; rows count where label and all crossed demographics are known.
      base_rate: ``[T]``, of :func:`fairjax.metrics.base_rates` on training data.
      cross: tuples of attributes, one for an attribute alone.

    Returns:
      Scalars by name. Of a multilabel task the mean over labels. NaN for a task without labels or with fewer than two groups.

    Reference:
      Aguirre, Dredze, 2023, and Foulds et al., ICDE 2020; see :mod:`fairjax.notions.differential`.
    """
    out = {}
    for t, task in enumerate(spec.tasks):
        if task.kind == "regression":
            continue
        label, known = against_rest(spec, t, data.labels, data.label_mask)
        for suffix, outcome in _outcomes(
            task.kind, scores[:, spec.score_slice(t)], known, data, base_rate[t]
        ).items():
            if task.kind == "multiclass":
                outcome, truth, weight = (
                    outcome[None],
                    label[None],
                    (known[:, 0] * data.weight)[None],
                )
            else:
                outcome, truth = differential.two(outcome.T), differential.two(label.T)
                weight = known.T * data.weight
            out[f"macro_f1{suffix}[{task.name}]"] = _mean(
                jax.vmap(macro_f1)(outcome, truth, weight), jnp.sum(weight, axis=1)
            )
            for attributes in cross:
                name = f"{suffix}[{task.name}|{' & '.join(spec.attributes[a].name for a in attributes)}]"
                groups = crossed(spec, data.groups, attributes)
                joint = jax.vmap(differential.count, (0, 0, None, 0))(
                    outcome, truth, groups, weight
                )
                there = jnp.where(jnp.sum(jnp.sum(joint, axis=(2, 3)) > 0, axis=1) >= 2, 1.0, 0.0)
                out[f"differential_equalized_odds{name}"] = _mean(
                    jax.vmap(differential.evaluated_epsilon)(joint), there
                )
                chosen = jax.vmap(differential.differential_fairness, (0, None, None))(
                    outcome, groups, data.weight
                )
                out[f"differential_fairness{name}"] = _mean(chosen, there)
    return out


def _outcomes(
    kind: str, score: Array, known: Array, data: Dataset, rate: Array
) -> dict[str, Array]:
    """Decisions ``[N, U]`` by suffix."""
    if kind == "multiclass":
        return {"": chosen(score)}
    half = decide(score, jnp.asarray(fixed(0.5)))
    if kind == "multilabel":
        return {"": half}
    threshold = base_rate_threshold(score[:, 0], data.weight * known[:, 0], rate)
    return {"": decide(score, threshold), "@0.5": half}


def _mean(value: Array, there: Array) -> Array:
    """Mean over the labels that can be measured; NaN when there is none."""
    some = there > 0
    return jnp.where(
        jnp.any(some), jnp.sum(jnp.where(some, value, 0.0)) / jnp.maximum(jnp.sum(some), 1), jnp.nan
    )
