"""Repair of anybody's scores, numpy in and numpy out: :class:`Repair` in scikit-learn's manner, :class:`Audit` for a report.

In: scores ``[N]`` or ``[N, T]`` of any model, and the groups of the rows as they stand in a table. Out: repaired scores, of
the same shape. Every complaint is made here, with column, count and cure; what is computed is :mod:`fairjax.post`.
"""

from fairjax.repair.audit import Audit
from fairjax.repair.scores import Repair

__all__ = ["Audit", "Repair"]
