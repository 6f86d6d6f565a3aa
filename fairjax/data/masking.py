"""Hide labels and demographics: deal the rows of a table to parts with partial knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairjax.core.types import DataError, Dataset, Spec, Splits


class Part(NamedTuple):
    """A part of the rows: its tasks with labels, its known attributes, its share of all rows."""

    tasks: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    share: float = 1.0


def mask_supervision(splits: Splits, spec: Spec, parts: Sequence[Part], seed: int = 0) -> Splits:
    """Deal training and validation rows to parts at random, and mask what a part does not know.

    For studies of partial knowledge. ``(Part(("income",)), Part(("capital_gain",), ("sex",)))``
    makes two data sets of one table, and only the second has demographics. An unknown label or
    group is masked and 0. Test rows keep all labels and groups.

    Args:
      splits: the data sets.
      spec: names tasks and attributes.
      parts: what each part knows. Shares are relative to their sum.
      seed: of the random parts.

    Raises:
      DataError: a part names an unknown task or attribute.
    """
    _check_names(spec, parts)
    # one row per part: 1 in the columns that it knows
    label_known = np.float32([_known_labels(spec, part) for part in parts])
    group_known = np.float32([_known_groups(spec, part) for part in parts])
    shares = np.array([part.share for part in parts], float)
    rng = np.random.default_rng(seed)

    def mask(data: Dataset) -> Dataset:
        parts_in_order = _proportional(shares, len(data.weight))
        part_n = rng.permutation(parts_in_order)
        label_mask = np.asarray(data.label_mask) * label_known[part_n]
        labels = np.where(label_mask > 0, data.labels, 0)
        groups = np.asarray(data.groups) * group_known[part_n]
        return data._replace(
            labels=labels.astype(np.float32),
            label_mask=label_mask,
            groups=groups,
        )

    # training rows draw first
    train = mask(splits.train)
    validation = mask(splits.validation)
    return splits._replace(train=train, validation=validation)


def _proportional(shares: np.ndarray, count: int) -> np.ndarray:
    """``[count]`` part indices in order, with the shares as exact as whole rows allow."""
    row_middle = (np.arange(count) + 0.5) / count
    cumulative_share = np.cumsum(shares) / shares.sum()
    return np.searchsorted(cumulative_share, row_middle)


def _check_names(spec: Spec, parts: Sequence[Part]) -> None:
    tasks = [task.name for task in spec.tasks]
    attributes = [attribute.name for attribute in spec.attributes]
    for part in parts:
        _refuse_unknown("task", part.tasks, tasks)
        _refuse_unknown("attribute", part.attributes, attributes)


def _refuse_unknown(role: str, names: Sequence[str], existing: list[str]) -> None:
    for name in names:
        if name not in existing:
            raise DataError(
                f"a part names {role} {name!r}, but the data set has {', '.join(existing)}. "
                "Correct the name."
            )


def _known_labels(spec: Spec, part: Part) -> list[bool]:
    columns = []
    for task in spec.tasks:
        is_known = task.name in part.tasks
        columns += [is_known] * task.label_width
    return columns


def _known_groups(spec: Spec, part: Part) -> list[bool]:
    columns = []
    for attribute in spec.attributes:
        is_known = attribute.name in part.attributes
        columns += [is_known] * attribute.width
    return columns
