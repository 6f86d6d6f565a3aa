"""The robust log loss: the cross-entropy of the group that a class serves worst."""

from __future__ import annotations

from fairjax.core.types import Array
from fairjax.notions.gaps import worst
from fairjax.notions.statistics import log_loss, parity


def robust_log(prob: Array, groups: Array, weight: Array, label: Array) -> Array:
    """Largest mean cross-entropy of a group, over the rows of one class.

    ``max_g sum_i w_i m_ig CE(p_i, y_i) / sum_i w_i m_ig``. On negatives and on positives, added up,
    it is the robust log loss of FairBranch, ``F_t = sum_y max_g mean(CE | y, g)``. Unlike a
    distance it is not 0 where the groups agree: it is then the loss that they share.

    With ``reduction="mean"`` an objective has ``F_t`` itself, with ``"batch"`` every class counts
    in proportion to its rows. Of several classes, each against the rest, the notion of the registry
    is the mean; ``get("robust_log", (positives,), average=added)`` is ``sum_y max_g mean(-log p_y |
    y, g)`` instead.

    Args:
      prob: ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``, 0 outside the class.
      label: ``[N]``, anything where the weight is 0.

    Returns:
      A scalar over the groups that are present, be it one; 0 with gradient 0 where none is. A
      certain prediction that is wrong costs 16 nats in float32, and has no gradient.

    Raises:
      ValueError: groups are not one column per group, or values are no probabilities.

    Reference:
      Roy, Koutlis, Papadopoulos, Ntoutsi: FairBranch, IJCNN 2024, equation 1. The released code
      takes the means over other rows than these cells.
    """
    return parity(prob, groups, weight, label, statistic=log_loss, gap=worst)
