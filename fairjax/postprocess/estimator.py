"""The repair of anybody's scores, in scikit-learn's manner: :class:`Repair`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairjax.core.inputs import ColumnsLike
from fairjax.core.types import DataError
from fairjax.data.complaints import listing
from fairjax.data.input_columns import (
    column_names,
    read_labels,
    read_weights,
    score_matrix,
)
from fairjax.postprocess._audit import Audit, audit_repair
from fairjax.postprocess._barycenter import POINTS, frequency_share, uniform_share
from fairjax.postprocess._host_repair import (
    jitted_repair_map,
    join_maps,
    repair_values,
    scale_scores,
)
from fairjax.postprocess._parameters import Parameters
from fairjax.postprocess._pool import (
    MINIMA,
    check_group_sizes,
    fingerprint,
    is_pool,
    learn_groups,
)
from fairjax.postprocess._read_rows import Rows, read_rows, split_columns
from fairjax.postprocess._repair_files import load_repair, save_repair
from fairjax.postprocess._repair_map import RepairMap, unrepaired_share
from fairjax.postprocess.folds import assign_folds
from fairjax.postprocess.quantile_table import (
    Borrowing,
    QuantileTable,
    fit_table_on_host,
    level_widths,
)
from fairjax.postprocess.scales import Scale, scale_name, scale_named

SHARES = {"frequency": frequency_share, "uniform": uniform_share}
SLOPES = {"clamp": 0.0, "shift": 1.0}  # of the map outside the pool's range


class Repair(Parameters):
    """Scores of any model to the barycenter of the groups' score distributions: nothing in them
    tells the group any more.

    ``fit`` on rows that the model was not trained on, ``transform`` on others; labels are not
    needed, the groups are, of every row. See :func:`fairjax.postprocess.barycenter` for what is
    computed. A level is text, a number or a truth value: 1 and 1.0 are the same, True and "1" are
    not. A missing level (None, NaN, empty text and the other texts that tables take for missing) is
    unknown: such rows are no part of the pool, and are ranked among all rows. Blanks around text do
    not count.

    Scores, groups and weights belong together by position; the index of a data frame is not looked
    at. Columns of scores and of groups that have names are matched by name.

    Weights are not repetition. A weight says for how much of its group a row stands. A score of
    weight 2 stands at one rank, the middle of its weight; two equal scores stand at two, and the
    quantiles between these are level. Where rows are counted (``rows_``, ``minimum``, the warning
    of small groups) a row of any positive weight is one.

    Args:
      amount: how far scores go, 0 (as they are) to 1 (all the way), one or per attribute.
      scale: on which quantiles are averaged: "identity", "logit" (of probabilities), "log" (of what
        is positive), or a :class:`fairjax.postprocess.Scale`.
      share: weight of the groups in the barycenter: "frequency" (scores change least), "uniform",
        or an array ``[G]`` in the order of ``cells_``.
      small: groups of fewer than ``minimum`` rows are refused ("raise"), take the quantiles of all
        rows ("pool"), or lean on those as if they had ``minimum`` rows of them ("shrink"). With
        "raise" groups and combinations of levels that the pool does not have are refused in
        ``transform`` too; otherwise they are ranked among all rows.
      minimum: rows; by default 2, 100, 100. With several attributes a group is a combination of
        their levels.
      outside: scores beyond those of the pool stay at its end ("clamp") or keep their distance to
        it ("shift").
      sensitive: which columns of X hold the groups, by position or name; the others are scores.
        Then ``sensitive_features`` are not given, and the repair may stand in a pipeline.
      points: levels at which a group's quantiles are kept.

    Attributes:
      tasks_: names of the T scores. This and what follows is there after ``fit``.
      attributes_: names of the A attributes.
      levels_: per attribute its levels.
      cells_: the G groups, tuples of one level per attribute.
      rows_: ``[G]``, rows of the pool.
      table_: the fitted :class:`fairjax.postprocess.QuantileTable` of scores on the scale of the
        repair, less ``centre_`` ``[T]``.
      n_features_in_: columns of X.
      feature_names_in_: their names, where they have names.

    Example:
      >>> import numpy as np
      >>> scores = np.array([1.0, 2.0, 3.0, 5.0, 6.0, 7.0])
      >>> sex = np.array(["f", "f", "f", "m", "m", "m"])
      >>> import warnings; warnings.simplefilter("ignore")  # so few rows
      >>> repair = Repair(outside="shift").fit(scores, sensitive_features=sex)
      >>> repair.transform([2.0, 6.0, 8.0], sensitive_features=["f", "m", "m"]).round(4).tolist()
      [4.0, 4.0, 6.0]
      >>> repair.transform([2.0, 6.0], sensitive_features=["f", None], amount=0.5).round(4).tolist()
      [3.0, 5.375]
    """

    def __init__(
        self,
        amount: float | Sequence[float] = 1.0,
        *,
        scale: str | Scale = "identity",
        share: str | ArrayLike = "frequency",
        small: str = "raise",
        minimum: float | None = None,
        outside: str = "clamp",
        sensitive: int | str | Sequence[int | str] | None = None,
        points: int = POINTS,
    ) -> None:
        self.amount = amount
        self.scale = scale
        self.share = share
        self.small = small
        self.minimum = minimum
        self.outside = outside
        self.sensitive = sensitive
        self.points = points

    # ---------------------------------------------------------------------------- fit and transform

    def fit(
        self,
        X: ColumnsLike,
        y: Any = None,
        *,
        sensitive_features: ColumnsLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Repair:
        """Learn every group's quantiles from a pool of rows.

        Args:
          X: scores ``[N]`` or ``[N, T]`` of rows that the model was not trained on: array, list,
            Series, data frame, mapping.
          y: not used; labels are not needed.
          sensitive_features: levels ``[N]``, or several columns of them.
          sample_weight: ``[N]``, not negative.

        Raises:
          DataError: scores that are no finite numbers, not on the scale or too large for single
            precision; infinite levels; too few rows; too many or too small groups; lengths that
            differ.

        Warns of groups in which few rows leave a distance on new rows.
        """
        del y
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self._check_parameters()
        columns, scores, groups = split_columns(X, sensitive_features, self.sensitive)
        score, _ = score_matrix(scores)
        self.tasks_: tuple[str, ...] = column_names(scores, "score")
        self.attributes_: tuple[str, ...] = column_names(groups, "sensitive")
        count = len(score)
        if not count:
            raise DataError(
                "X: 0 rows (0 sample(s)), a minimum of 1 is required; give the scores of a pool."
            )
        self._amounts(None)
        weight = read_weights(sample_weight, count)
        self.levels_: list[list[Any]]
        self.levels_, cell = learn_groups(self.attributes_, groups.values, count)
        self.cells_: list[tuple[Any, ...]] = list(itertools.product(*self.levels_))
        inside = cell < len(self.cells_)
        if weight is not None:
            inside = inside & (weight > 0)
        self.rows_: np.ndarray = np.bincount(cell[inside], minlength=len(self.cells_))
        check_group_sizes(self.cells_, self.rows_, self.small, self._minimum)

        self._scale_ = self.scale
        self._small_ = self.small
        value = self._on_scale(score)
        self.centre_: np.ndarray = np.median(value[inside], axis=0)
        self._names_ = (
            None if scores.flat else scores.names,
            None if groups.flat else groups.names,
        )
        self._pool_ = fingerprint(score, cell)
        self.n_features_in_: int = len(columns.values)
        if columns.names is not None and not columns.flat:
            self.feature_names_in_: np.ndarray = np.asarray(columns.names, object)
        # last, as a repair with a table is fitted
        self.table_: QuantileTable = self._fit_table(value - self.centre_, cell, weight)
        return self

    def transform(
        self,
        X: ColumnsLike,
        *,
        sensitive_features: ColumnsLike | None = None,
        amount: float | Sequence[float] | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Repaired scores, in the shape of X and, where X is of floats of one type, in its type.

        Args:
          X: scores of any rows, one alone or many; the columns of ``fit``.
          sensitive_features: their groups.
          amount: instead of the repair's own.
          seed: separates equal scores at random; without it they move together, to the middle of
            where they belong. The answer for a row then depends on its place in the batch.

        Raises:
          DataError: as ``fit``; a group that the pool does not have, where ``small`` is "raise".

        Warns when the rows are those of the pool, on which the groups agree whatever the repair is
        worth.
        """
        rows = read_rows(self, X, sensitive_features)
        self._warn_of_pool(rows)
        return self._repaired(rows, seed)(amount).reshape(rows.shape)

    def fit_transform(
        self,
        X: ColumnsLike,
        y: Any = None,
        *,
        sensitive_features: ColumnsLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> np.ndarray:
        """``fit`` and ``transform`` of the same rows; prefer :meth:`cross_fit_transform`.

        On the rows of the fit the groups agree whatever the repair is worth.
        """
        self.fit(X, y, sensitive_features=sensitive_features, sample_weight=sample_weight)
        return self.transform(X, sensitive_features=sensitive_features)

    def cross_fit_transform(
        self,
        X: ColumnsLike,
        sensitive_features: ColumnsLike | None = None,
        folds: int = 5,
        seed: int = 0,
        *,
        sample_weight: ArrayLike | None = None,
        ties: int | None = None,
    ) -> np.ndarray:
        """The pool's own rows, each row repaired by the rows of the other folds; leaves the repair
        fitted on all rows.

        Args:
          X, sensitive_features, sample_weight: as of ``fit``.
          folds: at least 2; every group is spread evenly over them.
          seed: of the folds.
          ties: as ``seed`` of ``transform``.
        """
        self.fit(X, sensitive_features=sensitive_features, sample_weight=sample_weight)
        rows = read_rows(self, X, sensitive_features)
        weight = read_weights(sample_weight, len(rows.cell))
        return self._cross_fitted(rows, weight, folds, seed, ties)(None).reshape(rows.shape)

    def path(
        self,
        X: ColumnsLike,
        amounts: Iterable[float | Sequence[float]],
        *,
        sensitive_features: ColumnsLike | None = None,
    ) -> np.ndarray:
        """Repaired scores for several amounts, ``[P, ...]`` with X's shape behind."""
        rows = read_rows(self, X, sensitive_features)
        self._warn_of_pool(rows)
        repaired = self._repaired(rows, None)
        return np.stack([repaired(amount).reshape(rows.shape) for amount in amounts])

    def price(self, amount: float | Sequence[float] | None = None) -> np.ndarray:
        """Mean squared change of a score in every group, ``[T, G]``, on the scale of the repair; no
        labels are needed.

        ``int_0^1 (target_s(u) - Q_s(u))^2 du``; NaN of a group that the pool does not have.
        """
        self._require_fit()
        mapping = self._map(self.table_, amount)
        quantiles = np.asarray(mapping.quantiles, np.float64)
        repaired_part = 1 - self._unrepaired_share(amount)
        change = np.asarray(mapping.target, np.float64) - repaired_part * quantiles
        price = np.square(change[:, :-1]) @ level_widths(change.shape[-1])
        return np.where(self.rows_ > 0, price, np.nan)

    def audit(
        self,
        X: ColumnsLike,
        sensitive_features: ColumnsLike | None = None,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        folds: int | None = None,
        seed: int = 0,
        ties: int | None = None,
    ) -> Audit:
        """What a report of this repair shows, measured on rows X; see :class:`Audit`.

        Args:
          X, sensitive_features: rows that are not of the pool; those of the pool with ``folds``.
          y: labels ``[N]`` or ``[N, T]`` for the risk, NaN where missing.
          sample_weight: ``[N]``.
          folds, seed, ties: as of :meth:`cross_fit_transform`; ``ties`` goes without folds too.
        """
        rows = read_rows(self, X, sensitive_features)
        weight = read_weights(sample_weight, len(rows.cell))
        if folds is None:
            self._warn_of_pool(rows)
            repaired = self._repaired(rows, ties)
        else:
            repaired = self._cross_fitted(rows, weight, folds, seed, ties)
        if weight is None:
            weight = np.ones(len(rows.cell))
        return audit_repair(self, rows, weight, repaired, read_labels(y, rows.score.shape))

    # ---------------------------------------------------------------------------- on disk and names

    def save(self, folder: Path | str) -> None:
        """Write ``repair.json`` (names, parameters) and ``repair.npz`` (arrays) into a folder."""
        self._require_fit()
        save_repair(self, Path(folder))

    @classmethod
    def load(cls, folder: Path | str) -> Repair:
        """Read what :meth:`save` wrote; executes nothing.

        Raises:
          DataError: the folder holds no repair, or one whose parts do not fit one another.
        """
        return load_repair(cls, Path(folder))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the scores, ``[T]``."""
        del input_features
        self._require_fit()
        return np.asarray(self.tasks_, object)

    # ----------------------------------------------------------------------------------- parameters

    def _check_parameters(self) -> None:
        scale_named(self.scale)
        for name, choices in (("small", MINIMA), ("outside", SLOPES)):
            if getattr(self, name) not in choices:
                raise DataError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(choices)}."
                )
        if isinstance(self.share, str) and self.share not in SHARES:
            raise DataError(
                f"share {self.share!r} is neither {' nor '.join(SHARES)} nor an array of one "
                "weight per group."
            )

    def _require_fit(self) -> None:
        if not hasattr(self, "table_"):
            raise DataError(
                "this Repair is not fitted yet; call fit with the scores and groups of a pool "
                "first."
            )

    @property
    def _minimum(self) -> float:
        return MINIMA[self.small] if self.minimum is None else self.minimum

    def _amounts(self, amount) -> np.ndarray:
        """How far each attribute's repair goes, ``[A]``."""
        count = len(self.attributes_)
        amounts = np.asarray(self.amount if amount is None else amount, np.float32)
        in_range = np.all((amounts >= 0) & (amounts <= 1))
        if amounts.shape not in ((), (count,)) or not in_range:
            raise DataError(
                f"amount {amounts.tolist()} is neither a number from 0 to 1 nor one for each of "
                f"the {count} "
                f"attributes ({listing(self.attributes_)})."
            )
        return np.broadcast_to(amounts, count)

    def _unrepaired_share(self, amount) -> float:
        return float(unrepaired_share(self._amounts(amount)))

    # ------------------------------------------------------------------------------------ computing

    def _warn_of_pool(self, rows: Rows) -> None:
        if is_pool(self._pool_, rows.score, rows.cell):
            warnings.warn(
                f"these {len(rows.cell):,} rows are those of the pool: on them the groups agree "
                "by construction, "
                "which says nothing of new rows; use cross_fit_transform, or a pool of other rows",
                stacklevel=3,
            )

    def _on_scale(self, score: np.ndarray) -> np.ndarray:
        scale = scale_named(self._scale_)
        return scale_scores(scale, scale_name(self._scale_) or "given", self.tasks_, score)

    def _fit_table(
        self, value: np.ndarray, cell: np.ndarray, weight: np.ndarray | None
    ) -> QuantileTable:
        count = len(self.cells_)
        share = (
            SHARES[self.share] if isinstance(self.share, str) else fixed_share(self.share, count)
        )
        minimum = self._minimum if self.small == "pool" else 0
        prior = self._minimum if self.small == "shrink" else 0
        borrowing = Borrowing(minimum, prior)
        return fit_table_on_host(value, cell, weight, count, share, self.points, borrowing)

    def _map(self, table: QuantileTable, amount, drawn: bool = False) -> RepairMap:
        sizes = tuple(len(levels) for levels in self.levels_)
        return jitted_repair_map(table, sizes, self._amounts(amount), drawn)

    def _repair(
        self, rows: Rows, mapping: RepairMap, cell: np.ndarray, amount, ties: int | None
    ) -> np.ndarray:
        """Scores ``[N, T]`` after repair by a map whose cells are ``cell``."""
        value = self._on_scale(rows.score)
        stays = self._unrepaired_share(amount)
        slope = SLOPES[self.outside]
        repaired = repair_values(mapping, value, cell, self.centre_, stays, slope, ties)
        return scale_named(self._scale_).inverse(repaired).astype(rows.dtype, copy=False)

    def _repaired(self, rows: Rows, ties: int | None) -> Callable[..., np.ndarray]:
        """``repaired(amount) -> [N, T]`` of rows that are not of the pool."""

        def repaired(amount) -> np.ndarray:
            mapping = self._map(self.table_, amount, ties is not None)
            return self._repair(rows, mapping, rows.cell, amount, ties)

        return repaired

    def _cross_fitted(
        self, rows: Rows, weight: np.ndarray | None, folds: int, seed: int, ties: int | None
    ) -> Callable[..., np.ndarray]:
        """``repaired(amount) -> [N, T]`` of the pool's own rows, by fits on the other folds."""
        if not 2 <= folds <= len(rows.cell):
            raise DataError(f"folds {folds} is not between 2 and the {len(rows.cell):,} rows.")
        fold = random_folds(rows.cell, folds, seed)
        value = self._on_scale(rows.score) - self.centre_
        tables = []
        for k in range(folds):
            others = fold != k
            other_weight = None if weight is None else weight[others]
            tables.append(self._fit_table(value[others], rows.cell[others], other_weight))
        cell_of_fold = rows.cell + fold * np.int32(len(self.cells_) + 1)

        def repaired(amount) -> np.ndarray:
            mappings = [self._map(table, amount, ties is not None) for table in tables]
            return self._repair(rows, join_maps(mappings), cell_of_fold, amount, ties)

        return repaired


def random_folds(cell: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Random folds ``[N]`` of rows in cells ``[N]``, every cell spread evenly over them."""
    rank = np.argsort(np.random.default_rng(seed).permutation(len(cell)))
    return assign_folds(cell, rank, folds)


def fixed_share(weights: Sequence[float], count: int) -> Callable[[np.ndarray], np.ndarray]:
    """Barycenter weights that are given; raises DataError if they do not fit ``count`` groups."""
    share = np.asarray(weights, np.float64)
    valid = share.shape == (count,) and np.all(share >= 0) and 0 < share.sum() < np.inf
    if not valid:
        raise DataError(
            f"share of shape {share.shape} is no weight of at least 0 for each of the {count} "
            "groups."
        )
    return lambda mass: share / share.sum()
