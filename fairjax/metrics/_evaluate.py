"""All metrics of all tasks as one flat dict of named scalars; pure, so that a sweep can map and jit it.

Names are ``metric[task]``, ``metric[task|attribute]`` and ``metric[task|attribute=level]``. Without a suffix decisions
are made at the base-rate threshold of :mod:`fairjax.metrics.thresholds` (the papers' rule), with ``@0.5`` at
probability one half. Multiclass tasks choose the largest score and multilabel tasks use one half, both unsuffixed.
``error`` is the share of wrong decisions, for regression the root mean squared error in the units of the column, for
multilabel tasks the mean over labels. Differences of multiclass and multilabel tasks are those of the worst class or
label, each against the rest, as decided; one whose rate fewer than two groups have is left out (its rates given the label,
where it is rare), and the difference is NaN where none is left. Equalized odds is the larger of both worst ones. Of
the rates that they compare only selection rates are told, as ``selection_rate[task=class|attribute=level]``; of one run
:func:`fairjax.metrics.group_table` has all.

Of binary tasks (their probabilities) and regressions (in units) whole distributions are compared too, on all rows:
``kolmogorov_smirnov[task|attribute]``, the largest gap of selection rates over all thresholds, beside
``kolmogorov_smirnov_floor[...]``, what chance makes of it in groups of that size, and ``wasserstein[...]``; see
:mod:`fairjax.metrics.distribution`.

Of an attribute that is a number there are no groups, but ``correlation[task|attribute]``: the absolute Pearson correlation
of decisions (predictions of a regression; the largest over classes or labels) with it; of a binary task also
``correlation_given_positive``, ``correlation_given_negative`` (on rows of that label) and ``correlation_given_label``, the
larger of the two.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

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

DIFFERENCES = {
    "demographic_parity_difference": group.demographic_parity_difference,
    "true_positive_rate_difference": group.true_positive_rate_difference,
    "false_positive_rate_difference": group.false_positive_rate_difference,
    "equalized_odds_difference": group.equalized_odds_difference,
}
GIVEN = {"positive": positives, "negative": negatives}
TABLES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")

Blocks = list[tuple[Attribute, slice]]
Metrics = dict[str, Array]


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
      Scalars by name. NaN: a weighted score of the task was NaN, or the metric is not defined on these rows.

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
        column, labels = scores[:, spec.score_slice(t)].astype(jnp.float32), spec.label_slice(t)
        own = data._replace(labels=data.labels[:, labels], label_mask=data.label_mask[:, labels])
        out[f"loss[{task.name}]"] = _loss(task, column, own)
        out |= _KINDS[task.kind](task, column, own, blocks, base_rate[t])
    return out


def _loss(task: Task, scores: Array, data: Dataset) -> Array:
    loss_n, known_n = row_losses(task, scores, data.labels, data.label_mask)
    return mean(loss_n, known_n * data.weight)


def _binary(task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array) -> Metrics:
    score, mask = scores[:, 0], data.label_mask[:, 0]
    label, known = keep(data.labels[:, 0], mask), data.weight * mask
    ranked = rank(score, label, known)  # gives the area and the threshold
    out = {f"auc[{task.name}]": area_under_curve(ranked)} | _distributions(
        task, jax.nn.sigmoid(score), data, blocks
    )
    for suffix, threshold in (("", threshold_at_rate(ranked, base_rate)), ("@0.5", fixed(0.5))):
        decision = decide(score, jnp.asarray(threshold))
        out[f"error{suffix}[{task.name}]"] = error(decision, label, known)
        out[f"constant_output{suffix}[{task.name}]"] = constant_output(decision, known)
        rates = group.group_rates(decision, label, data.groups, data.weight, mask)
        given = {f"_given_{name}": data.weight * rows(label, mask) for name, rows in GIVEN.items()}
        for attribute, block in blocks:
            if attribute.continuous:
                out |= _correlations(
                    task.name,
                    attribute,
                    suffix,
                    decision[:, None],
                    data.groups[:, block],
                    data.weight,
                    given,
                )
            else:
                out |= _rate_metrics(task.name, attribute, suffix, group.of_attribute(rates, block))
    return out


def _correlations(
    task: str,
    attribute: Attribute,
    suffix: str,
    value_nc: Array,
    groups: Array,
    weight: Array,
    given: dict[str, Array],
) -> Metrics:
    """Correlations of values with a number, the largest over classes: on all rows, and on those given."""
    pair, found = f"{task}|{attribute.name}", {}
    for name, rows in {"": weight, **given}.items():
        found[name] = jnp.max(
            jax.vmap(group.attribute_correlation, (1, None, None))(value_nc, groups, rows)
        )
    if given:
        found["_given_label"] = jnp.max(jnp.stack([found[name] for name in given]))
    counted = {} if suffix else {f"count[{pair}]": jnp.sum(weight * groups[:, 0])}
    return counted | {f"correlation{name}{suffix}[{pair}]": value for name, value in found.items()}


def _distributions(task: Task, value: Array, data: Dataset, blocks: Blocks) -> Metrics:
    """Distances between the groups' distributions of a prediction, with or without a label: one sort for all attributes."""
    every, rarity = steps(value, data.groups, data.weight), rarities(data.groups, data.weight)
    out: Metrics = {}
    for attribute, block in blocks:
        if not attribute.continuous:
            own = Steps(every.score, every.reached[:, block], every.mass[block])
            found, pair = unfairness_of(own, rarity[block]), f"{task.name}|{attribute.name}"
            out |= {
                f"kolmogorov_smirnov[{pair}]": found.kolmogorov_smirnov,
                f"kolmogorov_smirnov_floor[{pair}]": found.floor,
                f"wasserstein[{pair}]": found.wasserstein,
            }
    return out


def _rate_metrics(task: str, attribute: Attribute, suffix: str, rates: group.Rates) -> Metrics:
    pair = f"{task}|{attribute.name}"
    out = {f"{name}{suffix}[{pair}]": gap(rates) for name, gap in DIFFERENCES.items()}
    for name in TABLES:
        out |= _table(f"{name}{suffix}", pair, attribute, getattr(rates, name))
    if not suffix:
        out |= _table("count", pair, attribute, rates.count)
    if len(attribute.levels) == 2:
        for name in ("selection_rate", "true_positive_rate", "false_positive_rate"):
            out[f"{name}_signed_gap{suffix}[{pair}]"] = group.signed_gap(getattr(rates, name))
    return out


def _table(name: str, pair: str, attribute: Attribute, rate_g: Array) -> Metrics:
    return {f"{name}[{pair}={level}]": rate_g[i] for i, level in enumerate(attribute.levels)}


def _regression(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    prediction, known = task.in_units(scores[:, 0]), data.weight * data.label_mask[:, 0]
    out = {
        f"error[{task.name}]": root_mean_squared_error(
            prediction, task.in_units(data.labels[:, 0]), known
        ),
        f"constant_output[{task.name}]": constant_output(prediction, known),
    }
    out |= _distributions(task, prediction, data, blocks)
    mean_g, mass_g = group_mean(prediction, data.groups, data.weight)
    mean_g = jnp.where(mass_g > 0, mean_g, jnp.nan)
    for attribute, block in blocks:
        if attribute.continuous:
            out |= _correlations(
                task.name, attribute, "", scores, data.groups[:, block], data.weight, {}
            )
            continue
        pair, rate, mass = f"{task.name}|{attribute.name}", mean_g[block], mass_g[block]
        out[f"mean_prediction_difference[{pair}]"] = group.rate_difference(rate, mass)
        out |= _table("mean_prediction", pair, attribute, rate)
        out |= _table("count", pair, attribute, mass)
        if len(attribute.levels) == 2:
            out[f"mean_prediction_signed_gap[{pair}]"] = group.signed_gap(rate)
    return out


def _multiclass(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    choice, known = choose(scores), data.weight * data.label_mask[:, 0]
    out = {
        f"error[{task.name}]": error(choice, data.labels[:, 0], known),
        f"constant_output[{task.name}]": constant_output(choice, known),
    }
    return out | _class_metrics(task, chosen(scores), data, blocks)


def _multilabel(
    task: Task, scores: Array, data: Dataset, blocks: Blocks, base_rate: Array
) -> Metrics:
    del base_rate
    chosen_nc = decide(scores, jnp.asarray(fixed(0.5)))
    known_nc = data.weight[:, None] * data.label_mask
    wrong_c = jax.vmap(error, 1)(chosen_nc, data.labels, known_nc)
    constant_c = jax.vmap(constant_output, 1)(chosen_nc, known_nc)
    # a label nobody knows leaves the mean of the others alone
    seen_c = (jnp.sum(known_nc, axis=0) > 0).astype(jnp.float32)
    out = {
        f"error[{task.name}]": mean(wrong_c, seen_c),
        f"constant_output[{task.name}]": mean(constant_c, seen_c),
    }
    return out | _class_metrics(task, chosen_nc, data, blocks)


def _class_metrics(task: Task, chosen_nc: Array, data: Dataset, blocks: Blocks) -> Metrics:
    """Rates of every class against the rest, and their differences between groups in the worst class."""
    label_nc, mask_nc = against_rest(Spec((task,), ()), 0, data.labels, data.label_mask)
    rates_cg = jax.vmap(group.group_rates, (1, 1, None, None, 1))(
        chosen_nc, label_nc, data.groups, data.weight, mask_nc
    )
    out: Metrics = {}
    for attribute, block in blocks:
        if attribute.continuous:
            out |= _correlations(
                task.name, attribute, "", chosen_nc, data.groups[:, block], data.weight, {}
            )
            continue
        pair, rates = (
            f"{task.name}|{attribute.name}",
            jax.tree.map(lambda r, b=block: r[:, b], rates_cg),
        )
        selected, true, false = (
            _worst(rate, mass)
            for rate, mass in (
                (rates.selection_rate, rates.count),
                (rates.true_positive_rate, rates.positives),
                (rates.false_positive_rate, rates.negatives),
            )
        )
        out |= {
            f"demographic_parity_difference[{pair}]": selected,
            f"true_positive_rate_difference[{pair}]": true,
            f"false_positive_rate_difference[{pair}]": false,
            f"equalized_odds_difference[{pair}]": jnp.maximum(true, false),
        }
        out |= _table("count", pair, attribute, rates.count[0])
        for c, level in enumerate(task.levels):
            out |= _table(
                "selection_rate",
                f"{task.name}={level}|{attribute.name}",
                attribute,
                rates.selection_rate[c],
            )
    return out


def _worst(rate_cg: Array, mass_cg: Array) -> Array:
    """Largest difference over the classes that have a rate in two groups; NaN without one, or where a rate is broken."""
    known_c = jnp.sum(mass_cg > 0, axis=1) >= 2
    gap_c = jax.vmap(group.rate_difference)(rate_cg, mass_cg)
    return jnp.where(jnp.any(known_c), jnp.max(jnp.where(known_c, gap_c, -jnp.inf)), jnp.nan)


_KINDS = {
    "binary": _binary,
    "regression": _regression,
    "multiclass": _multiclass,
    "multilabel": _multilabel,
}
