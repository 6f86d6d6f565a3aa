"""All metrics of all tasks in one flat dict of scalars. Pure, so that a sweep can map and jit it.

Keys are :class:`fairjax.core.keys.Metric` values. Binary tasks decide at a threshold that is given;
see :mod:`fairjax.metrics.thresholds`. Multiclass tasks choose the largest score, multilabel tasks
decide at one half.

Of a task:
  ``loss``; ``error``, the share of wrong decisions (regression: root mean squared error in the
  units of the column; multilabel: mean over labels); ``constant_output``, 1 where all rows get the
  same decision; ``auc`` and ``threshold`` (the probability that decides) of binary tasks.

  Utilities under scikit-learn's names: ``f1`` of label 1 and ``macro_f1`` of both labels (binary),
  ``macro_f1`` over classes or over labels (of label 1 alone, where
  :func:`fairjax.metrics.evaluate_differential` has both); ``mae`` and ``rmse`` in the units of the
  column, ``ccc`` and ``r2`` (regression). Where each is not defined: the functions of these names.

  A regression of several outputs has all metrics of a regression for every output, with the output
  as ``outcome`` and in its units. Without an outcome stand the means of ``error``, ``mae``,
  ``rmse``, ``ccc`` and ``r2`` over the outputs with known labels, and the gaps of the worst output.
  Outputs may have different units, so that these count in training deviations of each output.

Of a task and an attribute with levels:
  Differences and rates under fairlearn's names, and ``count``, the weight of every group. A rate of
  too few rows is in no difference.
  Multiclass and multilabel tasks compare the decisions of every class or label with the rest, and
  report the difference of the worst one. A class whose rate fewer than two groups have is left out
  (a rate given the label, of a rare class). Without any class the difference is NaN. Equalized odds
  is the larger of both worst differences. Of the rates per class only selection rates are reported,
  with the class as ``outcome``. :func:`fairjax.metrics.group_table` has all rates of one run.

  Distances between whole distributions, over all rows, of binary tasks (their probabilities) and
  regressions (in units): ``kolmogorov_smirnov``, the largest gap of selection rates over all
  thresholds; ``kolmogorov_smirnov_floor``, what chance makes of it in groups of that size;
  ``wasserstein``. See :mod:`fairjax.metrics.distribution`.

Of a task and an attribute that is a number:
  ``correlation``: the absolute Pearson correlation of decisions (regression: predictions) with it,
  the largest over classes or labels. Binary tasks also have ``correlation_given_positive`` and
  ``correlation_given_negative``, over rows of that label, and ``correlation_given_label``, the
  larger of the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.decisions import choose, chosen, decide
from fairjax.core.keys import Metric
from fairjax.core.masked import divide, group_mean, keep
from fairjax.core.ordering import Ordered, ordered
from fairjax.core.types import Array, Attribute, Dataset, Spec, Task
from fairjax.losses import against_rest, row_losses, total_loss
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
from fairjax.metrics.ranking import area_under_curve
from fairjax.metrics.scores import (
    ccc,
    error,
    f1,
    macro_f1,
    mean,
    mean_absolute_error,
    r2,
    root_mean_squared_error,
)
from fairjax.metrics.thresholds import constant_output, fixed
from fairjax.notions.conditions import negatives, positives
from fairjax.notions.differential import two
from fairjax.notions.distribution import Steps, steps

Blocks = list[tuple[Attribute, slice]]  # every attribute with its columns of groups
UTILITIES = ("error", "mae", "rmse", "ccc", "r2")  # of a regression
IN_UNITS = ("error", "mae", "rmse", "mean_prediction_difference", "wasserstein")
# of attributes; of several outputs the worst one counts
WORST = (
    "mean_prediction_difference",
    "kolmogorov_smirnov",
    "kolmogorov_smirnov_floor",
    "wasserstein",
    "correlation",
)


def evaluate(
    spec: Spec,
    scores: Array,
    data: Dataset,
    thresholds: Array,
    smallest_group: float = 0.0,
) -> Metrics:
    """Errors, areas, losses, group tables and gaps of all tasks.

    Args:
      spec: what the columns mean.
      scores: ``[N, C]`` logits, or predictions for regression.
      data: the rows of the scores. Padding does not count. Missing labels do not count where the
        label is needed.
      thresholds: ``[T]`` on the scores of binary tasks, anything for other tasks; from
        :func:`fairjax.metrics.decision_thresholds` on *validation* rows.
      smallest_group: rows that a rate of a group needs to be part of a difference: rows of the
        group, and of a rate given the label, rows of the group with this label.

    Returns:
      Scalars by :class:`fairjax.core.keys.Metric`, with an empty ``split``. NaN: a weighted score
      of the task was NaN, or the metric is not defined on these rows.

    Raises:
      ValueError: scores or thresholds do not have the spec's number of columns.
    """
    together = evaluate_together(spec, scores, data, thresholds, smallest_group)
    return by_task(spec, together)


def evaluate_together(
    spec: Spec,
    scores: Array,
    data: Dataset,
    thresholds: Array,
    smallest_group: float = 0.0,
) -> Metrics:
    """As :func:`evaluate`, with one entry ``[T]`` for all tasks that differ by name alone.

    It has the name of the first of them. One program measures them all, so that compilation hardly
    knows their number; :func:`by_task` takes them apart, best on the host.
    """
    width = sum(task.score_width for task in spec.tasks)
    if scores.shape[-1] != width or thresholds.shape != (len(spec.tasks),):
        raise ValueError(
            f"evaluate: expected scores [N, {width}] and thresholds [{len(spec.tasks)}], got "
            f"{scores.shape} and {thresholds.shape}; were they made with another spec?"
        )
    blocks = [(a, spec.group_slice(i)) for i, a in enumerate(spec.attributes)]
    out: Metrics = {}
    for places in _alike(spec.tasks):
        task = spec.tasks[places[0]]
        columns = [
            (
                scores[:, spec.score_slice(t)].astype(jnp.float32),
                data.labels[:, spec.label_slice(t)],
                data.label_mask[:, spec.label_slice(t)],
                thresholds[t],
            )
            for t in places
        ]
        measure = _measure_of(task, data, blocks, smallest_group)
        if len(places) == 1:  # mapped over one task, it would take half as long again
            out |= {key: value[None] for key, value in measure(*columns[0]).items()}
            continue
        stacked = [jnp.stack(arrays) for arrays in zip(*columns, strict=True)]
        out |= jax.vmap(measure)(*stacked)
    return out


def by_task(spec: Spec, together: Metrics) -> Metrics:
    """The metrics of every task, from those of :func:`evaluate_together`, leaves ``[..., T]``."""
    out: Metrics = {}
    for places in _alike(spec.tasks):
        first = spec.tasks[places[0]].name
        for i, t in enumerate(places):
            name = spec.tasks[t].name
            for key, values in together.items():
                if key.task == first:
                    out[key._replace(task=name)] = values[..., i]
    return out


def _alike(tasks: Sequence[Task]) -> list[list[int]]:
    """The places of tasks that differ by name alone, together."""
    places: dict[Task, list[int]] = {}
    for t, task in enumerate(tasks):
        levels = () if task.kind == "binary" else task.levels
        kind = dataclasses.replace(task, name="", levels=levels)
        places.setdefault(kind, []).append(t)
    return list(places.values())


def _measure_of(
    task: Task, data: Dataset, blocks: Blocks, smallest_group: float
) -> Callable[[Array, Array, Array, Array], Metrics]:
    """From scores, labels, their mask and the threshold of a task to its metrics."""

    def measure(scores: Array, labels: Array, label_mask: Array, threshold: Array) -> Metrics:
        rows = data._replace(labels=labels, label_mask=label_mask)
        loss = {Metric("loss", task.name): _loss(task, scores, rows)}
        metrics_of = _KINDS[task.kind]
        return loss | metrics_of(task, scores, rows, blocks, threshold, smallest_group)

    return measure


def _loss(task: Task, scores: Array, data: Dataset) -> Array:
    loss_n, has_label_n = row_losses(task, scores, data.labels, data.label_mask)
    label_weight_n = has_label_n * data.weight
    if task.loss == "ccc":
        total, mass = total_loss(task, scores, data.labels, data.label_mask, data.weight)
        return divide(total, mass, jnp.nan)
    return mean(loss_n, label_weight_n)


def _binary(
    task: Task,
    scores: Array,
    data: Dataset,
    blocks: Blocks,
    threshold: Array,
    smallest_group: float,
) -> Metrics:
    score = scores[:, 0]
    mask = data.label_mask[:, 0]
    label = keep(data.labels[:, 0], mask)
    label_weight = data.weight * mask
    # one sort serves the area and all distributions
    order = ordered(keep(score, data.weight))
    out = {Metric("auc", task.name): area_under_curve(order, label, label_weight)}
    prob_order = order._replace(value=jax.nn.sigmoid(order.value))
    out |= _distributions(task, prob_order, data, blocks, smallest_group)
    decision = decide(score, threshold)
    out[Metric("threshold", task.name)] = jax.nn.sigmoid(threshold)
    out[Metric("error", task.name)] = error(decision, label, label_weight)
    out[Metric("constant_output", task.name)] = constant_output(decision, label_weight)
    out[Metric("f1", task.name)] = f1(decision, label, label_weight)
    out[Metric("macro_f1", task.name)] = macro_f1(two(decision), two(label), label_weight)
    positive = data.weight * positives(label, mask)
    negative = data.weight * negatives(label, mask)
    rates = group.group_rates(decision, label, data.groups, data.weight, mask)
    rows = group.group_rows(label, data.groups, data.weight, mask)
    for attribute, block in blocks:
        subject = Metric("", task.name, attribute=attribute.name)
        if attribute.continuous:
            number = data.groups[:, block]
            values = decision[:, None]
            out |= correlation_metrics(subject, values, number, data.weight, positive, negative)
        else:
            attribute_rates = group.of_attribute(rates, block)
            attribute_rows = group.of_attribute(rows, block)
            measured = group.with_rows(attribute_rates, attribute_rows, smallest_group)
            out |= rate_metrics(subject, attribute.levels, attribute_rates, measured)
    return out


def _distributions(
    task: Task,
    order: Ordered,
    data: Dataset,
    blocks: Blocks,
    smallest_group: float,
) -> Metrics:
    """Distances between the groups' distributions of probabilities or predictions."""
    value, reached_ng, mass_g = steps(order, data.groups, data.weight)
    rarity_g = rarities(data.groups, data.weight)
    has_rows_g = group.row_counts(data.groups, data.weight) >= smallest_group
    mass_g = jnp.where(has_rows_g, mass_g, 0.0)
    rarity_g = jnp.where(has_rows_g, rarity_g, 0.0)
    out: Metrics = {}
    for attribute, block in blocks:
        if attribute.continuous:
            continue
        subject = Metric("", task.name, attribute=attribute.name)
        attribute_steps = Steps(value, reached_ng[:, block], mass_g[block])
        out |= distribution_metrics(subject, attribute_steps, rarity_g[block])
    return out


def _regression(
    task: Task,
    scores: Array,
    data: Dataset,
    blocks: Blocks,
    threshold: Array,
    smallest_group: float,
) -> Metrics:
    if task.is_vector:
        return _outputs(task, scores, data, blocks, threshold, smallest_group)
    prediction = task.in_units(scores[:, 0])
    label = task.in_units(data.labels[:, 0])
    label_weight = data.weight * data.label_mask[:, 0]
    square_error = root_mean_squared_error(prediction, label, label_weight)
    out = {
        Metric("error", task.name): square_error,
        Metric("constant_output", task.name): constant_output(prediction, label_weight),
        Metric("mae", task.name): mean_absolute_error(prediction, label, label_weight),
        Metric("rmse", task.name): square_error,
        Metric("ccc", task.name): ccc(prediction, label, label_weight),
        Metric("r2", task.name): r2(prediction, label, label_weight),
    }
    order = ordered(keep(prediction, data.weight))
    out |= _distributions(task, order, data, blocks, smallest_group)
    mean_g, mass_g = group_mean(prediction, data.groups, data.weight)
    mean_g = jnp.where(mass_g > 0, mean_g, jnp.nan)
    has_rows_g = group.row_counts(data.groups, data.weight) >= smallest_group
    for attribute, block in blocks:
        subject = Metric("", task.name, attribute=attribute.name)
        if attribute.continuous:
            number = data.groups[:, block]
            out |= correlation_metrics(subject, scores, number, data.weight)
        else:
            rates = mean_g[block], mass_g[block], has_rows_g[block]
            out |= mean_metrics(subject, attribute.levels, *rates)
    return out


def _outputs(
    task: Task,
    scores: Array,
    data: Dataset,
    blocks: Blocks,
    threshold: Array,
    smallest_group: float,
) -> Metrics:
    """A regression of several outputs: metrics of each, their means, and gaps of the worst one."""
    of_outputs = []
    for u, output in enumerate(task.columns):
        block = slice(u, u + 1)
        labels, mask = data.labels[:, block], data.label_mask[:, block]
        output_data = data._replace(labels=labels, label_mask=mask)
        args = (scores[:, block], output_data, blocks, threshold, smallest_group)
        metrics = _regression(output, *args)
        of_outputs.append({key._replace(task=task.name): value for key, value in metrics.items()})
    known_u = jnp.sum(data.weight[:, None] * data.label_mask, axis=0) > 0
    known_u = known_u.astype(jnp.float32)
    deviation_u = np.array([output.deviation for output in task.columns], np.float32)
    out: Metrics = {}
    for key in of_outputs[0]:
        value_u = jnp.stack([metrics[key] for metrics in of_outputs])
        if key.metric in IN_UNITS:
            value_u = value_u / deviation_u
        if key.metric in (*UTILITIES, "constant_output"):
            out[key] = mean(value_u, known_u)
        elif key.metric in WORST:
            out[key] = jnp.max(value_u)
        elif key.metric == "count":
            out[key] = value_u[0]
    for level, metrics in zip(task.levels, of_outputs, strict=True):
        out |= {key._replace(outcome=level): value for key, value in metrics.items()}
    return out


def _multiclass(
    task: Task,
    scores: Array,
    data: Dataset,
    blocks: Blocks,
    threshold: Array,
    smallest_group: float,
) -> Metrics:
    del threshold
    choice = choose(scores)
    label = data.labels[:, 0]
    label_weight = data.weight * data.label_mask[:, 0]
    decision_nc = chosen(scores)
    label_nc, _ = against_rest(Spec((task,), ()), 0, data.labels, data.label_mask)
    out = {
        Metric("error", task.name): error(choice, label, label_weight),
        Metric("constant_output", task.name): constant_output(choice, label_weight),
        Metric("macro_f1", task.name): macro_f1(decision_nc, label_nc, label_weight),
    }
    return out | _classes(task, decision_nc, data, blocks, smallest_group)


def _multilabel(
    task: Task,
    scores: Array,
    data: Dataset,
    blocks: Blocks,
    threshold: Array,
    smallest_group: float,
) -> Metrics:
    del threshold
    half = jnp.asarray(fixed(0.5))
    decision_nc = decide(scores, half)
    label_weight_nc = data.weight[:, None] * data.label_mask
    error_c = jax.vmap(error, 1)(decision_nc, data.labels, label_weight_nc)
    constant_c = jax.vmap(constant_output, 1)(decision_nc, label_weight_nc)
    # the mean leaves out a label that no row has
    labelled_c = jnp.sum(label_weight_nc, axis=0) > 0
    labelled_c = labelled_c.astype(jnp.float32)
    out = {
        Metric("error", task.name): mean(error_c, labelled_c),
        Metric("constant_output", task.name): mean(constant_c, labelled_c),
        Metric("macro_f1", task.name): macro_f1(decision_nc, data.labels, label_weight_nc),
    }
    return out | _classes(task, decision_nc, data, blocks, smallest_group)


def _classes(
    task: Task,
    decision_nc: Array,
    data: Dataset,
    blocks: Blocks,
    smallest_group: float,
) -> Metrics:
    """Metrics of every attribute, each class or label against the rest."""
    task_alone = Spec((task,), ())
    label_nc, mask_nc = against_rest(task_alone, 0, data.labels, data.label_mask)
    rates_of_classes = jax.vmap(group.group_rates, (1, 1, None, None, 1))
    rates_cg = rates_of_classes(decision_nc, label_nc, data.groups, data.weight, mask_nc)
    rows_of_classes = jax.vmap(group.group_rows, (1, None, None, 1))
    rows_cg = rows_of_classes(label_nc, data.groups, data.weight, mask_nc)
    measured_cg = group.with_rows(rates_cg, rows_cg, smallest_group)
    out: Metrics = {}
    for attribute, block in blocks:
        subject = Metric("", task.name, attribute=attribute.name)
        if attribute.continuous:
            number = data.groups[:, block]
            out |= correlation_metrics(subject, decision_nc, number, data.weight)
        else:
            attribute_rates = group.GroupRates(*(rate_cg[:, block] for rate_cg in rates_cg))
            measured = group.GroupRates(*(rate_cg[:, block] for rate_cg in measured_cg))
            out |= class_metrics(subject, task.levels, attribute.levels, attribute_rates, measured)
    return out


_KINDS = {
    "binary": _binary,
    "regression": _regression,
    "multiclass": _multiclass,
    "multilabel": _multilabel,
}
