"""All metrics of all tasks as one flat dict of scalars by key; pure, so that a sweep can map and jit it.

Keys are :class:`fairjax.core.keys.Metric`. Without a threshold in the key, decisions of a binary task are made at the
base-rate threshold of :mod:`fairjax.metrics.thresholds` (the papers' rule), with the threshold ``0.5`` at probability one
half. Multiclass tasks choose the largest score and multilabel tasks decide at one half; their keys have no threshold.

``error`` is the share of wrong decisions. For a regression it is the root mean squared error in the units of the column, for
a multilabel task the mean over labels. The differences of a multiclass or multilabel task are those of the worst class or
label, each against all others. A class whose rate fewer than two groups have is left out, and the difference is NaN where no
class is left. Equalized odds is the larger of both worst differences. Of the rates per class only selection rates are given,
with the class as outcome; for one run :func:`fairjax.metrics.group_table` has all.

For binary tasks (their probabilities) and regressions (in units) whole distributions are compared too, on all rows:
``kolmogorov_smirnov``, the largest gap of selection rates over all thresholds; ``kolmogorov_smirnov_floor``, what chance makes
of it in groups of that size; and ``wasserstein``. See :mod:`fairjax.metrics.distribution`.

An attribute that is a number has no groups, but a ``correlation``: the absolute Pearson correlation of decisions (or
predictions of a regression; the largest over classes or labels) with it. A binary task also has
``correlation_given_positive`` and ``correlation_given_negative``, on rows of that label, and ``correlation_given_label``, the
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
from fairjax.metrics.distribution import rarities, unfairness_of
from fairjax.metrics.ranking import area_under_curve, rank, threshold_at_rate
from fairjax.metrics.scores import choose, chosen, error, mean, root_mean_squared_error
from fairjax.metrics.thresholds import constant_output, decide, fixed
from fairjax.notions.conditions import negatives, positives
from fairjax.notions.distribution import Steps, steps
from fairjax.notions.statistics import CLASSES

DIFFERENCES = {
    "demographic_parity_difference": group.demographic_parity_difference,
    "true_positive_rate_difference": group.true_positive_rate_difference,
    "false_positive_rate_difference": group.false_positive_rate_difference,
    "equalized_odds_difference": group.equalized_odds_difference,
}
TABLES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")

Blocks = list[tuple[Attribute, slice]]
Metrics = dict[Metric, Array]


def base_rates(spec: Spec, train: Dataset) -> Array:
    """Share of positives among the known training labels of every binary task.

    Returns:
      ``[T]``; NaN for tasks of another kind, whose decisions need no rate, and for tasks without labels.
    """
    rates = []
    for t, task in enumerate(spec.tasks):
        column = spec.label_slice(t).start
        known = train.weight * train.label_mask[:, column]
        rates.append(
            mean(train.labels[:, column], known) if task.kind == "binary" else jnp.asarray(jnp.nan)
        )
    return jnp.stack(rates)


def evaluate(spec: Spec, scores: Array, data: Dataset, base_rate: Array) -> Metrics:
    """Errors, areas, losses, group tables and gaps of all tasks.

    Args:
      spec: what the columns mean.
      scores: ``[N, C]`` logits, or predictions for regression.
      data: the rows they belong to; padding and missing labels are left out where the label is needed.
      base_rate: ``[T]`` from :func:`base_rates` on *training* data.

    Returns:
      Scalars by key. NaN: a weighted score of the task was NaN, or the metric is not defined on these rows.

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
    values: Metrics = {}
    for t, task in enumerate(spec.tasks):
        column = scores[:, spec.score_slice(t)].astype(jnp.float32)
        labels = spec.label_slice(t)
        own = data._replace(labels=data.labels[:, labels], label_mask=data.label_mask[:, labels])
        values[Metric("loss", task.name)] = _loss(task, column, own)
        values |= _KINDS[task.kind](task, column, own, blocks, base_rate[t])
    return values


# the hard metric that measures the gap of a condition, for tasks of classes
GAPS = {
    "fpr": "false_positive_rate_difference",
    "tpr": "true_positive_rate_difference",
    "odds": "equalized_odds_difference",
    "parity": "demographic_parity_difference",
}
# the same for a binary task and an attribute that is a number
CORRELATION_GAPS = {
    "fpr": "correlation_given_negative",
    "tpr": "correlation_given_positive",
    "odds": "correlation_given_label",
    "parity": "correlation",
}


def gap_metric(condition: str, kind: str, continuous: bool) -> str:
    """Name of the metric that measures the gap of a condition on decisions.

    Args:
      condition: a key of ``fairjax.notions.CONDITIONS``.
      kind: of the task; a regression has no positives, so its gap is on everyone.
      continuous: whether the attribute is a number.
    """
    if continuous:
        return CORRELATION_GAPS[condition] if kind == "binary" else "correlation"
    return GAPS[condition] if kind in CLASSES else "mean_prediction_difference"


def _loss(task: Task, scores: Array, data: Dataset) -> Array:
    loss_n, known_n = row_losses(task, scores, data.labels, data.label_mask)
    return mean(loss_n, known_n * data.weight)


def _binary(task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array) -> Metrics:
    score = scores[:, 0]
    mask = data.label_mask[:, 0]
    label = keep(data.labels[:, 0], mask)
    known = data.weight * mask
    ranked = rank(score, label, known)  # gives the area and the threshold
    values = {Metric("auc", task.name): area_under_curve(ranked)}
    values |= _distributions(task, jax.nn.sigmoid(score), data, blocks)
    rows = {
        "correlation": data.weight,
        "correlation_given_negative": data.weight * negatives(label, mask),
        "correlation_given_positive": data.weight * positives(label, mask),
    }
    thresholds = {"": threshold_at_rate(ranked, base_rate), "0.5": fixed(0.5)}
    for name, threshold in thresholds.items():
        subject = Metric("", task.name, threshold=name)
        decision = decide(score, jnp.asarray(threshold))
        values[subject._replace(metric="error")] = error(decision, label, known)
        values[subject._replace(metric="constant_output")] = constant_output(decision, known)
        rates = group.group_rates(decision, label, data.groups, data.weight, mask)
        for attribute, block in blocks:
            about = subject._replace(attribute=attribute.name)
            if attribute.continuous:
                found = _correlations(about, decision[:, None], data.groups[:, block], rows)
            else:
                found = _rate_metrics(about, attribute, group.of_attribute(rates, block))
            values |= found
    return values


def _correlations(about: Metric, value_nc: Array, groups: Array, rows: dict[str, Array]) -> Metrics:
    """Correlations of values with a number, the largest over classes, on all rows and on those of a label.

    Args:
      about: task, attribute and threshold.
      value_nc: decisions or predictions.
      groups: of the attribute, (known, value) ``[N, 2]``.
      rows: weights ``[N]`` by the name of the metric.
    """
    values = {}
    for name, weight in rows.items():
        correlation_c = jax.vmap(group.attribute_correlation, (1, None, None))(
            value_nc, groups, weight
        )
        values[about._replace(metric=name)] = jnp.max(correlation_c)
    if "correlation_given_negative" in rows:
        given = [
            values[about._replace(metric=f"correlation_given_{label}")]
            for label in ("positive", "negative")
        ]
        values[about._replace(metric="correlation_given_label")] = jnp.max(jnp.stack(given))
    if not about.threshold:
        values[about._replace(metric="count")] = jnp.sum(rows["correlation"] * groups[:, 0])
    return values


def _distributions(task: Task, value: Array, data: Dataset, blocks: Blocks) -> Metrics:
    """Distances between the groups' distributions of a prediction, with or without a label; one sort for all attributes."""
    functions = steps(value, data.groups, data.weight)
    rarity = rarities(data.groups, data.weight)
    values: Metrics = {}
    for attribute, block in blocks:
        if attribute.continuous:
            continue
        own = Steps(functions.score, functions.reached[:, block], functions.mass[block])
        distances = unfairness_of(own, rarity[block])
        about = Metric("", task.name, attribute=attribute.name)
        values[about._replace(metric="kolmogorov_smirnov")] = distances.kolmogorov_smirnov
        values[about._replace(metric="kolmogorov_smirnov_floor")] = distances.floor
        values[about._replace(metric="wasserstein")] = distances.wasserstein
    return values


def _rate_metrics(about: Metric, attribute: Attribute, rates: group.Rates) -> Metrics:
    values = {about._replace(metric=name): gap(rates) for name, gap in DIFFERENCES.items()}
    for name in TABLES:
        values |= _per_level(about._replace(metric=name), attribute, getattr(rates, name))
    if not about.threshold:
        values |= _per_level(about._replace(metric="count"), attribute, rates.count)
    if len(attribute.levels) == 2:
        for name in ("selection_rate", "true_positive_rate", "false_positive_rate"):
            key = about._replace(metric=f"{name}_signed_gap")
            values[key] = group.signed_gap(getattr(rates, name))
    return values


def _per_level(about: Metric, attribute: Attribute, rate_g: Array) -> Metrics:
    return {about._replace(group=level): rate_g[g] for g, level in enumerate(attribute.levels)}


def _regression(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    prediction = task.in_units(scores[:, 0])
    label = task.in_units(data.labels[:, 0])
    known = data.weight * data.label_mask[:, 0]
    values = {
        Metric("error", task.name): root_mean_squared_error(prediction, label, known),
        Metric("constant_output", task.name): constant_output(prediction, known),
    }
    values |= _distributions(task, prediction, data, blocks)
    mean_g, mass_g = group_mean(prediction, data.groups, data.weight)
    mean_g = jnp.where(mass_g > 0, mean_g, jnp.nan)
    for attribute, block in blocks:
        about = Metric("", task.name, attribute=attribute.name)
        if attribute.continuous:
            rows = {"correlation": data.weight}
            values |= _correlations(about, scores, data.groups[:, block], rows)
            continue
        rate = mean_g[block]
        mass = mass_g[block]
        difference = group.rate_difference(rate, mass)
        values[about._replace(metric="mean_prediction_difference")] = difference
        values |= _per_level(about._replace(metric="mean_prediction"), attribute, rate)
        values |= _per_level(about._replace(metric="count"), attribute, mass)
        if len(attribute.levels) == 2:
            values[about._replace(metric="mean_prediction_signed_gap")] = group.signed_gap(rate)
    return values


def _multiclass(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    choice = choose(scores)
    known = data.weight * data.label_mask[:, 0]
    values = {
        Metric("error", task.name): error(choice, data.labels[:, 0], known),
        Metric("constant_output", task.name): constant_output(choice, known),
    }
    return values | _class_metrics(task, chosen(scores), data, blocks)


def _multilabel(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    chosen_nc = decide(scores, jnp.asarray(fixed(0.5)))
    known_nc = data.weight[:, None] * data.label_mask
    wrong_c = jax.vmap(error, 1)(chosen_nc, data.labels, known_nc)
    constant_c = jax.vmap(constant_output, 1)(chosen_nc, known_nc)
    # a label that is known of no row leaves the mean of the others as it is
    has_rows_c = (jnp.sum(known_nc, axis=0) > 0).astype(jnp.float32)
    values = {
        Metric("error", task.name): mean(wrong_c, has_rows_c),
        Metric("constant_output", task.name): mean(constant_c, has_rows_c),
    }
    return values | _class_metrics(task, chosen_nc, data, blocks)


def _class_metrics(task: Task, chosen_nc: Array, data: Dataset, blocks: Blocks) -> Metrics:
    """Rates of every class against all others, and their differences between groups in the worst class."""
    label_nc, mask_nc = against_rest(Spec((task,), ()), 0, data.labels, data.label_mask)
    rates_cg = jax.vmap(group.group_rates, (1, 1, None, None, 1))(
        chosen_nc, label_nc, data.groups, data.weight, mask_nc
    )
    values: Metrics = {}
    for attribute, block in blocks:
        about = Metric("", task.name, attribute=attribute.name)
        if attribute.continuous:
            rows = {"correlation": data.weight}
            values |= _correlations(about, chosen_nc, data.groups[:, block], rows)
            continue
        rates = jax.tree.map(lambda rate, b=block: rate[:, b], rates_cg)
        selected = _worst(rates.selection_rate, rates.count)
        true_positive = _worst(rates.true_positive_rate, rates.positives)
        false_positive = _worst(rates.false_positive_rate, rates.negatives)
        differences = {
            "demographic_parity_difference": selected,
            "true_positive_rate_difference": true_positive,
            "false_positive_rate_difference": false_positive,
            "equalized_odds_difference": jnp.maximum(true_positive, false_positive),
        }
        values |= {about._replace(metric=name): gap for name, gap in differences.items()}
        values |= _per_level(about._replace(metric="count"), attribute, rates.count[0])
        for c, level in enumerate(task.levels):
            of_class = about._replace(metric="selection_rate", outcome=level)
            values |= _per_level(of_class, attribute, rates.selection_rate[c])
    return values


def _worst(rate_cg: Array, mass_cg: Array) -> Array:
    """Largest difference over the classes that have a rate in two groups; NaN without one, or where a rate is broken."""
    known_c = jnp.sum(mass_cg > 0, axis=1) >= 2
    gap_c = jax.vmap(group.rate_difference)(rate_cg, mass_cg)
    largest = jnp.max(jnp.where(known_c, gap_c, -jnp.inf))
    return jnp.where(jnp.any(known_c), largest, jnp.nan)


_KINDS = {
    "binary": _binary,
    "regression": _regression,
    "multiclass": _multiclass,
    "multilabel": _multilabel,
}
