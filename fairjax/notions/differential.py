"""Differential fairness: the largest log-ratio between groups of the rates of outcomes.

``epsilon = max over outcomes of (max_g log theta_g - min_g log theta_g)``. It is 0 for exact
parity; the four-fifths rule is broken above 0.2231 = -log 0.8. Everything here works on counts
``joint[G, Y, K]``: how much weight of group g with true label y was given outcome k. There are two
estimators, which give different numbers:

* in training (:func:`running`, :func:`epsilon`): probabilities are counted, counts run over
  minibatches, rates are smoothed by a concentration;
* in evaluation (:func:`evaluated_epsilon`): decisions are counted, and 1 is added to every count.

Conditions on the label (``odds``) compare true positive rates and false positive rates, each class
against the rest.

References:
  Foulds, Islam, Keya, Pan: An intersectional definition of fairness, ICDE 2020 (differential
  fairness, the running estimator). Aguirre, Dredze: Transferring fairness using multi-task learning
  with limited demographic information, 2023 (epsilon-DEO). Of its released code: the counts' scale,
  starting point and smoothing, and the sum of both rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import check_membership, check_probabilities, divide, keep
from fairjax.core.types import Array
from fairjax.notions.conditions import everyone, negatives, positives
from fairjax.notions.maxima import smooth_maximum
from fairjax.notions.notion import Notion, TaskRows
from fairjax.notions.statistics import CLASSES


def count(prob: Array, label: Array, groups: Array, weight: Array) -> Array:
    """``joint_gyk = sum_i w_i m_ig 1[y_i = y] p_ik``: outcomes by group and true label.

    Args:
      prob: probabilities or decisions ``[N, K]``, rows that add up to 1; of a binary task
        ``(1 - p, p)``.
      label: ``[N, Y]`` one-hot true labels; one column of ones where labels do not matter (parity).
      groups: membership ``[N, G]``; rows of zeros (unknown) count nowhere.
      weight: ``[N]``, 0 where a label is missing.

    Returns:
      ``[G, Y, K]``.

    Raises:
      ValueError: a shape is another one (a single column of outcomes would have no ratio), or
        outcomes are no probabilities.
    """
    check_membership(groups, weight)
    if jnp.ndim(prob) != 2 or jnp.ndim(label) != 2 or jnp.shape(prob)[1] < 2:
        raise ValueError(
            f"outcomes have shape {jnp.shape(prob)} and labels {jnp.shape(label)}, expected "
            "[N, K] with K >= 2 and [N, Y]; two(outcome) makes two columns of a binary one [N]"
        )
    weight_n1 = weight[:, None]
    check_probabilities(prob, weight_n1)
    return jnp.einsum(
        "n,ng,ny,nk->gyk",
        weight,
        groups,
        keep(label, weight_n1),
        keep(prob, weight_n1),
        precision=jax.lax.Precision.HIGHEST,
    )


def two(prob: Array) -> Array:
    """Outcomes or labels of a binary task ``[N]`` as columns for no and yes, ``[N, 2]``.

    Axes before the last stay in front, ``[U, N]`` becomes ``[U, N, 2]``.
    """
    return jnp.stack([1.0 - prob, prob], axis=-1)


class RateTerms(NamedTuple):
    """Numerators and denominators of the rates that are compared, ``[G, R]`` each."""

    above: Array
    below: Array


Rate = Callable[[Array], RateTerms]


def parity_rates(joint: Array) -> RateTerms:
    """Every outcome's rate, whatever the label: epsilon-DF."""
    outcome_gk = jnp.sum(joint, axis=1)
    total_g1 = jnp.sum(outcome_gk, axis=1, keepdims=True)
    return RateTerms(outcome_gk, jnp.broadcast_to(total_g1, outcome_gk.shape))


def true_positive_rates(joint: Array) -> RateTerms:
    """Each class's rate among rows of that class; of two classes, the rate of the second."""
    classes = _classes(joint)
    chosen = [joint[:, k, k] for k in classes]
    in_class = [jnp.sum(joint[:, k], axis=1) for k in classes]
    return RateTerms(jnp.stack(chosen, 1), jnp.stack(in_class, 1))


def false_positive_rates(joint: Array) -> RateTerms:
    """Each class's rate among rows of other classes; of two classes, the rate of the second."""
    classes = _classes(joint)
    total = jnp.sum(joint, axis=(1, 2))
    chosen = [jnp.sum(joint[:, :, k], axis=1) - joint[:, k, k] for k in classes]
    not_in_class = [total - jnp.sum(joint[:, k], axis=1) for k in classes]
    return RateTerms(jnp.stack(chosen, 1), jnp.stack(not_in_class, 1))


def _classes(joint: Array) -> range:
    """The classes whose rates are compared."""
    _, labels, outcomes = joint.shape
    if labels != outcomes or labels < 2:
        raise ValueError(
            f"counts have shape {joint.shape}, expected [G, K, K] with two classes or more: "
            "conditions on the label need as many labels as outcomes"
        )
    return range(1 if labels == 2 else 0, labels)


parity: tuple[Callable[[Array], RateTerms], ...] = (parity_rates,)
opportunity: tuple[Callable[[Array], RateTerms], ...] = (true_positive_rates,)
odds: tuple[Callable[[Array], RateTerms], ...] = (true_positive_rates, false_positive_rates)


def epsilon(
    joint: Array,
    rates: tuple[Rate, ...] = odds,
    concentration: Array | float = 0.1,
    together: Callable[[Array], Array] = jnp.sum,
    temperature: float = 0.0,
) -> Array:
    """The training estimator: smoothed rates ``theta = (above + c / K) / (below + c)``.

    Args:
      joint: soft counts ``[G, Y, K]``, of :func:`count` or :func:`running`. A group without any
        count is left out.
      rates: :data:`parity`, :data:`opportunity` or :data:`odds`.
      concentration: c, spread over the K outcomes.
      together: of the epsilons of several rates, ``jnp.sum`` (the code's) or ``jnp.max`` (the
        definition, label by label).
      temperature: 0 for the largest log-ratio, whose gradient reaches two groups of one class. A
        positive one gives a smooth maximum.

    Returns:
      A scalar, not negative; 0 with fewer than two groups.
    """
    share = concentration / joint.shape[2]
    mass = jnp.sum(joint, axis=(1, 2))

    def of_rate(rate: Rate) -> Array:
        above, below = rate(joint)
        log_rate = jnp.log(above + share) - jnp.log(below + concentration)
        return _range(log_rate, mass, temperature)

    return together(jnp.stack([of_rate(rate) for rate in rates]))


def evaluated_epsilon(
    joint: Array,
    rates: tuple[Rate, ...] = odds,
    together: Callable[[Array], Array] = jnp.sum,
) -> Array:
    """The evaluation estimator, for counts of decisions: 1 is added to every count.

    Of K classes ``TPR = (TP + 1) / (P + 1)`` and ``FPR = (FP + K - 1) / (N + K - 1)``. Arguments
    and result are those of :func:`epsilon`. Parity is smoothed in another way, see
    :func:`smoothed_empirical_epsilon`.
    """
    if parity_rates in rates:
        raise ValueError(
            "evaluated_epsilon compares rates given the label; for parity there is "
            "smoothed_empirical_epsilon"
        )
    mass = jnp.sum(joint, axis=(1, 2))

    def of_rate(rate: Rate) -> Array:
        above, below = rate(joint)
        extra = jnp.asarray(joint.shape[2] - 1.0 if rate is false_positive_rates else 1.0)
        log_rate = jnp.log(above + extra) - jnp.log(below + extra)
        return _range(log_rate, mass, 0.0)

    return together(jnp.stack([of_rate(rate) for rate in rates]))


def smoothed_empirical_epsilon(
    outcome: Array, groups: Array, weight: Array, concentration: Array | float = 1.0
) -> Array:
    """Smoothed empirical epsilon-DF of outcomes: AIF360's metric.

    Args:
      outcome: labels, decisions or probabilities: ``[N, K]``, K >= 2 columns that add up to 1, or
        ``[N]`` of a binary task, 0 to 1. Indices of classes are no outcomes: give them one-hot.
      groups: membership ``[N, G]``.
      weight: ``[N]``.
      concentration: see :func:`epsilon`.

    Raises:
      ValueError: a shape is another one.
    """
    if jnp.ndim(outcome) == 1:
        check_probabilities(outcome, weight)
        outcome = two(outcome)
    any_label = jnp.ones((len(outcome), 1))
    joint = count(outcome, any_label, groups, weight)
    return epsilon(joint, parity, concentration)


def bias_amplification(
    decision: Array, label: Array, groups: Array, weight: Array, concentration: Array | float = 1.0
) -> Array:
    """Epsilon-DF of decisions less that of labels: unfairness added to the data's.

    Arguments are those of :func:`smoothed_empirical_epsilon`.
    """
    of_decisions = smoothed_empirical_epsilon(decision, groups, weight, concentration)
    of_labels = smoothed_empirical_epsilon(label, groups, weight, concentration)
    return of_decisions - of_labels


def _range(log_rate: Array, mass: Array, temperature: float) -> Array:
    """Largest difference between present groups of ``log_rate[G, R]``, over all R."""
    present = mass > 0
    present_g1 = present[:, None]
    comparable = jnp.sum(present) >= 2
    if not temperature:
        top = jnp.max(jnp.where(present_g1, log_rate, -jnp.inf), axis=0)
        bottom = jnp.min(jnp.where(present_g1, log_rate, jnp.inf), axis=0)
        top = jnp.where(comparable, top, 0.0)
        bottom = jnp.where(comparable, bottom, 0.0)
        return jnp.max(jnp.where(comparable, top - bottom, 0.0))

    counts = comparable & present
    soft_maxima = jax.vmap(smooth_maximum, (1, None, None))
    top_r = soft_maxima(log_rate, counts, temperature)
    bottom_r = -soft_maxima(-log_rate, counts, temperature)
    every_rate = jnp.ones_like(top_r, bool)
    return smooth_maximum(top_r - bottom_r, every_rate, temperature)


# ----------------------------------------------------------------------------------- running counts


def start(
    size: Array | float, batch: Array | float, groups: Array, labels: int, outcomes: int
) -> Array:
    """Counts before the first batch: ``N / b`` of every label in every group that is present.

    They are spread evenly over outcomes, so all rates are equal and epsilon starts at 0. Counts
    grow to the scale of the data within about ``1 / rho`` steps.

    Args:
      size: N, weight of the training rows.
      batch: b, weight of a batch.
      groups: which groups are present ``[G]``, as weight or 0/1.
      labels: Y.
      outcomes: K.
    """
    present = (groups > 0).astype(jnp.float32)
    even = jnp.full((labels, outcomes), 1.0 / outcomes)
    scale = divide(jnp.asarray(size, jnp.float32), jnp.asarray(batch, jnp.float32))
    return present[:, None, None] * even * scale


def running(
    old: Array, batch: Array, size: Array | float, rows: Array | float, rho: Array | float = 0.1
) -> Array:
    """``(1 - rho) old + rho (N / b) batch``, without gradient through the old counts.

    The gradient of a prediction carries ``rho N / b``: another rho or batch size is another
    strength of the penalty. If a batch lies on several devices, counts and rows are added up over
    devices first.

    Args:
      old: counts ``[G, Y, K]`` so far, or other sums over rows, of any shape.
      batch: those of this batch.
      size: N, weight of the training rows.
      rows: b, weight of this batch's rows.
      rho: how fast old counts are forgotten.
    """
    scale = divide(jnp.asarray(size, batch.dtype), jnp.asarray(rows, batch.dtype))
    return (1.0 - rho) * jax.lax.stop_gradient(old) + rho * scale * batch


# -------------------------------------------------------------------------- the notion, with memory


class RunningCounts(NamedTuple):
    """Memory of :func:`differential_fairness`: part of the training state."""

    joint: Array  # [Q, G, Y, K], Q labels of a multilabel task, else 1
    size: Array  # [], weight of the training rows that count
    steps: Array  # [], number of steps that had such rows


def differential_fairness(
    rates: tuple[Rate, ...] = odds,
    *,
    attributes: tuple[int, ...] | None = None,
    target: Array | float = 0.0,
    concentration: Array | float = 0.1,
    rho: Array | float = 0.1,
    burn_in: int = 0,
    together: Callable[[Array], Array] = jnp.sum,
    temperature: float = 0.0,
    axis: str | None = None,
) -> Notion:
    """Differential fairness as a notion: ``max(0, epsilon - target)`` of running soft counts.

    It compares all combinations of the attributes' levels. Of a multilabel task the label with the
    largest epsilon counts. Rows without demographics, or without the label, are not counted.

    Args:
      rates: :data:`parity`, :data:`opportunity` or :data:`odds`.
      attributes: which attributes are crossed; by default all that have levels.
      target: an epsilon that is small enough.
      concentration: see :func:`epsilon`.
      rho: how fast old counts are forgotten, see :func:`running`.
      burn_in: steps without a penalty, in which nothing is counted.
      together: see :func:`epsilon`.
      temperature: see :func:`epsilon`.
      axis: name of a mapped axis of devices over which counts are added up.

    Reference:
      Aguirre, Dredze: Transferring fairness using multi-task learning with limited demographic
      information, 2023; Foulds, Islam, Keya, Pan: An intersectional definition of fairness, ICDE
      2020.
    """
    on_everyone = parity_rates in rates

    def init(rows: TaskRows, batch_size: int) -> RunningCounts:
        prob, label, weight = _questions(rows, on_everyone)
        size = jnp.max(jnp.sum(weight, axis=1))
        mass_g = jnp.sum(rows.groups, axis=0)
        joint = start(size, batch_size, mass_g, label.shape[2], prob.shape[2])
        joint = jnp.broadcast_to(joint, (len(label), *joint.shape))
        return RunningCounts(joint, size, jnp.zeros((), jnp.int32))

    def of_counts(joint: Array) -> Array:
        return epsilon(joint, rates, concentration, together, temperature)

    def apply(rows: TaskRows, memory: RunningCounts) -> tuple[Array, RunningCounts]:
        prob, label, weight = _questions(rows, on_everyone)
        batch_weight = jnp.max(jnp.sum(weight, axis=1))
        counts = jax.vmap(count, (0, 0, None, 0))(prob, label, rows.groups, weight)
        if axis is not None:
            counts, batch_weight = jax.lax.psum((counts, batch_weight), axis)
        joint = running(memory.joint, counts, memory.size, batch_weight, rho)
        epsilon_q = jax.vmap(of_counts)(joint)
        # A batch without rows of this task leaves the counts as they are.
        any_rows = batch_weight > 0
        counted = any_rows & (memory.steps >= burn_in)
        excess = jax.nn.relu(jnp.max(epsilon_q) - target)
        value = jnp.where(counted, excess, 0.0)
        joint = jax.lax.stop_gradient(jnp.where(counted, joint, memory.joint))
        steps = memory.steps + any_rows.astype(jnp.int32)
        return value, RunningCounts(joint, memory.size, steps)

    conditions = (everyone,) if on_everyone else (negatives, positives)
    return Notion(
        "differential_fairness",
        conditions,
        init,
        apply,
        CLASSES,
        attributes,
        crossed=True,
    )


def _questions(rows: TaskRows, on_everyone: bool) -> tuple[Array, Array, Array]:
    """Probabilities ``[Q, B, K]``, one-hot labels ``[Q, B, Y]`` and weights ``[Q, B]``.

    The classes of a multiclass task are the outcomes of one question; every label of a multilabel
    task is a question with two outcomes.
    """
    first, *others = rows.weights
    weight = sum(others, first)
    if rows.kind == "multiclass":
        prob = rows.prob[None]
        label = rows.label[None]
        weight = weight[None, :, 0]
    else:
        prob = two(rows.prob.T)
        label = two(rows.label.T)
        weight = weight.T
    if on_everyone:
        label = jnp.ones((*label.shape[:2], 1))
    return prob, label, weight
