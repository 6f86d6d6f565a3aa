"""What a fairness notion is: two pure functions over the rows of one task and a block of groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fairjax.core.masked import check_probabilities
from fairjax.core.types import KINDS, Array, PyTree
from fairjax.notions.averages import added
from fairjax.notions.conditions import Condition

Distance = Callable[..., Array]  # prob [B], groups [B, G], weight [B] -> scalar


class TaskRows(NamedTuple):
    """What a notion sees of a batch: one task and one block of groups.

    ``B`` rows, ``U`` columns (one of a binary task, else one per class or label), ``G`` groups.
    """

    prob: Array  # [B, U] probabilities, or predictions of a regression
    label: Array  # [B, U]; undefined where the weight is 0
    groups: Array  # [B, G]; of a continuous attribute (known, value) [B, 2]
    weights: tuple[Array, ...]  # per condition of the notion, [B, U]
    kind: str  # of the task
    # Rows of the batch: a distance counts in proportion to the rows it looks at; None: in full.
    batch_size: int | None


class Notion(NamedTuple):
    """A fairness notion: zero where it is satisfied, positive where it is not.

    A loss of the worst group (``robust_log``) is positive where groups agree too.

    ``init(rows, batch_size) -> memory`` sees the training rows (with probabilities of zero).
    ``apply(rows, memory) -> (value, memory)`` sees a batch. Memory is ``()`` for most notions;
    those that count over minibatches keep their counts there.

    ``violation(memory) -> scalar``, where a notion has it, is for multipliers and reports: how far
    the notion is violated by what its memory holds. ``apply`` has a smooth form of it to train.

    Most notions come from a distance between groups, see :func:`from_distance`.
    """

    name: str
    conditions: tuple[Condition, ...]  # which rows it looks at, one set of weights for each
    init: Callable[[TaskRows, int], PyTree]
    apply: Callable[[TaskRows, PyTree], tuple[Array, PyTree]]
    kinds: tuple[str, ...] = KINDS  # kinds of tasks it is for
    attributes: tuple[int, ...] | None = None  # which attributes of the spec; None: all of its sort
    continuous: bool = False  # its sort: attributes that are numbers, or attributes with levels
    crossed: bool = False  # one block of all combinations of levels, or one block per attribute
    joint: bool = False  # sees the columns of all tasks together
    violation: Callable[[PyTree], Array] | None = None  # memory -> scalar


def from_distance(
    distance: Distance,
    conditions: tuple[Condition, ...],
    *,
    name: str = "",
    kinds: tuple[str, ...] = KINDS,
    labelled: bool = False,
    average: Callable[..., Array] = added,
    attributes: tuple[int, ...] | None = None,
    continuous: bool = False,
    joint: bool = False,
    **options: Any,
) -> Notion:
    """A notion from a distance between groups, added up over conditions and attributes.

    ``from_distance(rate_gap, (negatives,))`` is equal opportunity by false positive rates (the
    notion of MTA-F), ``(positives,)`` by true positive rates, ``(negatives, positives)`` equalized
    odds, ``(everyone,)`` demographic parity. ``from_distance(gaussian_mmd, (negatives,),
    bandwidth=0.2)`` hands the bandwidth on to the distance.

    Args:
      distance: ``(prob[B], groups[B, G], weight[B]) -> scalar``, and ``label[B]`` as a fourth
        argument where ``labelled``. It is zero where the groups agree, and zero with zero gradient
        where fewer than two groups are present.
      conditions: which rows; see :mod:`fairjax.notions.conditions`.
      name: for tables and messages; by default the name of the distance.
      kinds: kinds of tasks it is for.
      labelled: whether the distance reads labels.
      average: how the columns of several classes or labels become one value, by default their sum;
        see :mod:`fairjax.notions.averages`. The reported gap is that of the worst one.
      attributes: which attributes; by default all of its sort.
      continuous: whether it is for attributes that are numbers.
      joint: whether one distance looks at the predictions of all tasks together; ``average`` must
        then be ``jointly``.
      options: of the distance.

    Raises:
      TypeError: the distance is no function, lacks an option or has no such option.

    Example:
      >>> import jax.numpy as jnp
      >>> from fairjax.notions import everyone
      >>> def largest_score_gap(prob, groups, weight):
      ...     top_g = jnp.max(prob[:, None] * groups * weight[:, None], axis=0)
      ...     return jnp.max(top_g) - jnp.min(top_g)
      >>> from_distance(largest_score_gap, (everyone,)).name
      'largest_score_gap'
    """

    arrays = (None,) * (4 if labelled else 3)
    inspect.signature(distance).bind(*arrays, **options)

    def apply(rows: TaskRows, memory: PyTree) -> tuple[Array, PyTree]:
        def of_column(prob: Array, groups: Array, weight: Array, label: Array) -> Array:
            labels = (label,) if labelled else ()
            value = distance(prob, groups, weight, *labels, **options)
            if rows.batch_size is None:
                return value
            known = groups[:, 0] if continuous else jnp.sum(groups, axis=1)
            return value * jnp.sum(weight * known) / rows.batch_size

        total = jnp.zeros((), jnp.float32)
        for weight in rows.weights:
            # A joint notion also sees the numbers of regressions.
            if not joint and rows.kind != "regression":
                check_probabilities(rows.prob, weight)
            total = total + average(of_column, rows.prob, rows.groups, weight, rows.label)
        return total, memory

    return Notion(
        name or getattr(distance, "__name__", "distance"),
        conditions,
        lambda rows, batch_size: (),
        apply,
        kinds,
        attributes,
        continuous,
        joint=joint,
    )
