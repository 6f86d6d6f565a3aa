"""What is known of a row: one table dealt out to parts, each of which knows some tasks' labels and some attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairjax.core.types import DataError, Dataset, Spec, Splits


class Part(NamedTuple):
    """Names of the tasks whose labels, and of the attributes, that a part of the rows knows; ``share`` of all rows."""

    tasks: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    share: float = 1.0


def mask_supervision(splits: Splits, spec: Spec, parts: Sequence[Part], seed: int = 0) -> Splits:
    """Training and validation rows dealt to parts at random, each left with what its part knows; test rows keep everything.

    For studies of partial knowledge: ``(Part(("income",)), Part(("capital_gain",), ("sex",)))`` makes two data sets of one
    table, of which only the second has demographics. What is not known is masked, and 0.

    Raises:
      DataError: a part names a task or an attribute that is not there.
    """
    tasks, attributes = [t.name for t in spec.tasks], [a.name for a in spec.attributes]
    for part in parts:
        for what, names, there in (
            ("task", part.tasks, tasks),
            ("attribute", part.attributes, attributes),
        ):
            for name in names:
                if name not in there:
                    raise DataError(
                        f"a part knows {what} {name!r}, but there are {', '.join(there)}"
                    )
    rng, shares = np.random.default_rng(seed), np.array([p.share for p in parts], float)
    labels = np.float32(
        [sum(([t.name in p.tasks] * t.label_width for t in spec.tasks), []) for p in parts]
    )
    groups = np.float32(
        [sum(([a.name in p.attributes] * a.width for a in spec.attributes), []) for p in parts]
    )

    def deal(data: Dataset) -> Dataset:
        count = len(data.weight)
        # in proportion, as evenly as whole rows can be
        of = rng.permutation(
            np.searchsorted(np.cumsum(shares) / shares.sum(), (np.arange(count) + 0.5) / count)
        )
        known = np.asarray(data.label_mask) * labels[of]
        return data._replace(
            labels=np.where(known > 0, data.labels, 0).astype(np.float32),
            label_mask=known,
            groups=np.asarray(data.groups) * groups[of],
        )

    return splits._replace(train=deal(splits.train), validation=deal(splits.validation))
