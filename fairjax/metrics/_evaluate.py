"""All metrics of all tasks in one flat dict of scalars; pure, so that a sweep can map and jit it.

Keys are :class:`fairjax.core.keys.Metric` values. Their ``threshold`` says how binary tasks decide:
``""`` at the base-rate threshold of :mod:`fairjax.metrics.thresholds` (the papers' rule), ``"0.5"``
at probability one half. Multiclass tasks choose the largest score, multilabel tasks decide at one
half; both have the threshold ``""``.

Of a task:
  ``loss``; ``error``, the share of wrong decisions (regression: root mean squared error in the
  units of the column; multilabel: mean over labels); ``constant_output``, 1 where all rows get the
  same decision; ``auc`` of binary tasks.

Of a task and an attribute with levels:
  Differences and rates under fairlearn's names, and ``count``, the weight of every group.
  Multiclass and multilabel tasks compare the decisions of every class or label with the rest, and
  report the difference of the worst one. A class whose rate fewer than two groups have is left out
  (a rate given the label, of a rare class); without any class the difference is NaN. Equalized odds
  is the larger of both worst differences. Of the rates per class only selection rates are reported,
  with the class as ``outcome``; :func:`fairjax.metrics.group_table` has all rates of one run.

  Whole distributions, over all rows, of binary tasks (their probabilities) and regressions (in
  units): ``kolmogorov_smirnov``, the largest gap of selection rates over all thresholds;
  ``kolmogorov_smirnov_floor``, what chance makes of it in groups of that size; ``wasserstein``; see
  :mod:`fairjax.metrics.distribution`.

Of a task and an attribute that is a number:
  ``correlation``: the absolute Pearson correlation of decisions (regression: predictions) with it,
  the largest over classes or labels. Binary tasks also have ``correlation_given_positive`` and
  ``correlation_given_negative``, over rows of that label, and ``correlation_given_label``, the
  larger of the two.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.keys import Metric
from fairjax.core.masked import group_mean, keep
from fairjax.core.types import Array, Attribute, Dataset, Spec, Task
from fairjax.losses import against_rest, row_losses
from fairjax.metrics import group
from fairjax.metrics._by_group import (
    Metrics,
    class_metrics,
    correlation_metrics,
    distribution_metrics,
    mean_metrics,
    rate_metrics,
)
from fairjax.metrics.distribution import rarities
from fairjax.metrics.ranking import area_under_curve, rank, threshold_at_rate
from fairjax.metrics.scores import choose, chosen, error, mean, root_mean_squared_error
from fairjax.metrics.thresholds import constant_output, decide, fixed
from fairjax.notions.conditions import negatives, positives
from fairjax.notions.distribution import Steps, steps

Blocks = list[tuple[Attribute, slice]]  # every attribute with its columns of groups


def base_rates(spec: Spec, train: Dataset) -> Array:
    """Share of positives among the known training labels of every binary task.

    Returns:
      ``[T]``; NaN for tasks of another kind, whose decisions need no rate, and for tasks without
      labels.
    """
    rates = []
    for t, task in enumerate(spec.tasks):
        column = spec.label_slice(t).start
        known = train.weight * train.label_mask[:, column]
        binary = task.kind == "binary"
        rates.append(mean(train.labels[:, column], known) if binary else jnp.asarray(jnp.nan))
    return jnp.stack(rates)


def evaluate(spec: Spec, scores: Array, data: Dataset, base_rate: Array) -> Metrics:
    """Errors, areas, losses, group tables and gaps of all tasks.

    Args:
      spec: what the columns mean.
      scores: ``[N, C]`` logits, or predictions for regression.
      data: the rows of the scores; padding does not count, and missing labels do not count where
        the label is needed.
      base_rate: ``[T]`` from :func:`base_rates` on *training* data.

    Returns:
      Scalars by :class:`fairjax.core.keys.Metric`, with an empty ``split``. NaN: a weighted score
      of the task was NaN, or the metric is not defined on these rows.

    Raises:
      ValueError: scores or base rates do not have the spec's number of columns.
    """
    width = sum(task.score_width for task in spec.tasks)
    if scores.shape[-1] != width or base_rate.shape != (len(spec.tasks),):
        raise ValueError(
            f"evaluate: expected scores [N, {width}] and base rates [{len(spec.tasks)}], got "
            f"{scores.shape} and {base_rate.shape}; were they made with another spec?"
        )
    blocks = [(a, spec.group_slice(i)) for i, a in enumerate(spec.attributes)]
    out: Metrics = {}
    for t, task in enumerate(spec.tasks):
        task_scores = scores[:, spec.score_slice(t)].astype(jnp.float32)
        columns = spec.label_slice(t)
        task_data = data._replace(
            labels=data.labels[:, columns], label_mask=data.label_mask[:, columns]
        )
        out[Metric("loss", task.name)] = _loss(task, task_scores, task_data)
        out |= _KINDS[task.kind](task, task_scores, task_data, blocks, base_rate[t])
    return out


def _loss(task: Task, scores: Array, data: Dataset) -> Array:
    loss_n, known_n = row_losses(task, scores, data.labels, data.label_mask)
    return mean(loss_n, known_n * data.weight)


def _binary(task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array) -> Metrics:
    score = scores[:, 0]
    mask = data.label_mask[:, 0]
    label = keep(data.labels[:, 0], mask)
    ranked = rank(score, label, data.weight * mask)  # gives the area and the threshold
    out = {Metric("auc", task.name): area_under_curve(ranked)}
    out |= _distributions(task, jax.nn.sigmoid(score), data, blocks)
    thresholds = {"": threshold_at_rate(ranked, base_rate), "0.5": fixed(0.5)}
    for threshold, value in thresholds.items():
        decision = decide(score, jnp.asarray(value))
        out |= _binary_decisions(task, threshold, decision, label, data, blocks)
    return out


def _binary_decisions(
    task: Task, threshold: str, decision: Array, label: Array, data: Dataset, blocks: Blocks
) -> Metrics:
    mask = data.label_mask[:, 0]
    known = data.weight * mask
    positive = data.weight * positives(label, mask)
    negative = data.weight * negatives(label, mask)
    rates = group.group_rates(decision, label, data.groups, data.weight, mask)
    out = {
        Metric("error", task.name, threshold=threshold): error(decision, label, known),
        Metric("constant_output", task.name, threshold=threshold): constant_output(decision, known),
    }
    for attribute, block in blocks:
        subject = Metric("", task.name, attribute=attribute.name, threshold=threshold)
        if attribute.continuous:
            number = data.groups[:, block]
            values = decision[:, None]
            out |= correlation_metrics(subject, values, number, data.weight, positive, negative)
        else:
            out |= rate_metrics(subject, attribute.levels, group.of_attribute(rates, block))
    return out


def _distributions(task: Task, value: Array, data: Dataset, blocks: Blocks) -> Metrics:
    """Distances between the groups' distributions; one sort serves all attributes."""
    all_steps = steps(value, data.groups, data.weight)
    rarity_g = rarities(data.groups, data.weight)
    out: Metrics = {}
    for attribute, block in blocks:
        if attribute.continuous:
            continue
        subject = Metric("", task.name, attribute=attribute.name)
        of_attribute = Steps(all_steps.score, all_steps.reached[:, block], all_steps.mass[block])
        out |= distribution_metrics(subject, of_attribute, rarity_g[block])
    return out


def _regression(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    prediction = task.in_units(scores[:, 0])
    label = task.in_units(data.labels[:, 0])
    known = data.weight * data.label_mask[:, 0]
    out = {
        Metric("error", task.name): root_mean_squared_error(prediction, label, known),
        Metric("constant_output", task.name): constant_output(prediction, known),
    }
    out |= _distributions(task, prediction, data, blocks)
    mean_g, mass_g = group_mean(prediction, data.groups, data.weight)
    mean_g = jnp.where(mass_g > 0, mean_g, jnp.nan)
    for attribute, block in blocks:
        subject = Metric("", task.name, attribute=attribute.name)
        if attribute.continuous:
            out |= correlation_metrics(subject, scores, data.groups[:, block], data.weight)
        else:
            out |= mean_metrics(subject, attribute.levels, mean_g[block], mass_g[block])
    return out


def _multiclass(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    choice = choose(scores)
    known = data.weight * data.label_mask[:, 0]
    out = {
        Metric("error", task.name): error(choice, data.labels[:, 0], known),
        Metric("constant_output", task.name): constant_output(choice, known),
    }
    return out | _classes(task, chosen(scores), data, blocks)


def _multilabel(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    decision_nc = decide(scores, jnp.asarray(fixed(0.5)))
    known_nc = data.weight[:, None] * data.label_mask
    error_c = jax.vmap(error, 1)(decision_nc, data.labels, known_nc)
    constant_c = jax.vmap(constant_output, 1)(decision_nc, known_nc)
    # the mean leaves out a label that no row has
    labelled_c = (jnp.sum(known_nc, axis=0) > 0).astype(jnp.float32)
    out = {
        Metric("error", task.name): mean(error_c, labelled_c),
        Metric("constant_output", task.name): mean(constant_c, labelled_c),
    }
    return out | _classes(task, decision_nc, data, blocks)


def _classes(task: Task, decision_nc: Array, data: Dataset, blocks: Blocks) -> Metrics:
    """Metrics of every attribute, each class or label against the rest."""
    label_nc, mask_nc = against_rest(Spec((task,), ()), 0, data.labels, data.label_mask)
    rates_cg = jax.vmap(group.group_rates, (1, 1, None, None, 1))(
        decision_nc, label_nc, data.groups, data.weight, mask_nc
    )
    out: Metrics = {}
    for attribute, block in blocks:
        subject = Metric("", task.name, attribute=attribute.name)
        if attribute.continuous:
            out |= correlation_metrics(subject, decision_nc, data.groups[:, block], data.weight)
        else:
            rates = group.GroupRates(*(rate_cg[:, block] for rate_cg in rates_cg))
            out |= class_metrics(subject, task.levels, attribute.levels, rates)
    return out


_KINDS = {
    "binary": _binary,
    "regression": _regression,
    "multiclass": _multiclass,
    "multilabel": _multilabel,
}
