"""The repair of anybody's scores, in scikit-learn's manner: :class:`Repair`."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import expit
from scipy.special import logit as log_odds

from fairjax.core.disk import read_arrays, write_arrays, write_json
from fairjax.core.types import DataError
from fairjax.data.complaints import complain, listing
from fairjax.metrics.distribution import CHANCE
from fairjax.postprocess._barycenter import Table, proportional, uniform
from fairjax.postprocess._audit import Audit, audit
from fairjax.postprocess._barycenter import POINTS, Moves, along, fit_host, moves, staying, widths
from fairjax.postprocess.columns import (
    Read,
    crossed,
    digest,
    distinct,
    key_of,
    labels_of,
    listed,
    matched,
    matrix,
    named,
    of_length,
    place_of,
    placed,
    present,
    read,
    some_of,
    weights,
)

FEW = 400  # rows of a group below which its distance to others is .06 and more on new rows
CELLS = 2048  # crossed groups; the table of 2048 takes 8 MB per task
SIZE = 256  # least number of rows that are scored; fewer are padded
LARGEST = 1e37  # of a score, on the scale of the repair: single precision ends there


class Host(NamedTuple):
    """A scale in double precision, and which scores it has."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    outside: Callable[[np.ndarray], np.ndarray]
    needs: str


SCALES = {
    "identity": Host(
        lambda score: score, lambda value: value, lambda score: np.zeros(score.shape, bool), ""
    ),
    "logit": Host(
        log_odds, expit, lambda score: (score <= 0) | (score >= 1), "between 0 and 1, both excluded"
    ),
    "log": Host(np.log, np.exp, lambda score: score <= 0, "positive"),
}
SHARES = {"frequency": proportional, "uniform": uniform}
OUTSIDE = {"clamp": 0.0, "shift": 1.0}
MINIMA = {"raise": 2, "pool": 100, "shrink": 100}
_along = jax.jit(along)
_moves = jax.jit(moves, static_argnums=(1, 3))


class Rows(NamedTuple):
    """Rows that were read, against the levels of a pool."""

    score: np.ndarray  # [N, T] float64, as given
    codes: list[np.ndarray]  # per attribute [N], -1 where unknown
    cell: np.ndarray  # [N] in 0 .. G; G where a level is unknown
    shape: tuple[int, ...]  # of the answer
    dtype: np.dtype


class Repair:
    """Scores of any model to the barycenter of the groups' score distributions: nothing in them tells the group any more.

    ``fit`` on rows that the model was not trained on, ``transform`` on others; labels are not needed, the groups are, of
    every row. See :func:`fairjax.postprocess._barycenter` for what is computed. A level is text, a number or a truth value: 1 and 1.0
    are the same, True and "1" are not. A missing one (None, NaN) is unknown: such rows are no part of the pool, and are
    ranked among all rows.

    Args:
      amount: how far scores go, 0 (as they are) to 1 (all the way), one or per attribute.
      scale: on which quantiles are averaged: "identity", "logit" (of probabilities), "log" (of what is positive).
      share: weight of the groups in the barycenter: "frequency" (scores change least), "uniform", or an array ``[G]`` in
        the order of ``cells_``.
      small: groups of fewer than ``minimum`` rows are refused ("raise"), take the quantiles of all rows ("pool"), or lean on
        those as if they had ``minimum`` rows of them ("shrink"). With "raise" groups and combinations of levels that the
        pool does not have are refused in ``transform`` too; otherwise they are ranked among all rows.
      minimum: rows; by default 2, 100, 100. With several attributes a group is a combination of their levels.
      outside: scores beyond those of the pool stay at its end ("clamp") or keep their distance to it ("shift").
      sensitive: which columns of X hold the groups, by position or name; the others are scores. Then ``sensitive_features``
        are not given, and the repair may stand in a pipeline.
      points: levels at which a group's quantiles are kept.

    Attributes (after ``fit``):
      tasks_, attributes_: names of the T scores and the A attributes.
      levels_: per attribute its levels. ``cells_``: the G groups, tuples of one level per attribute; ``rows_`` ``[G]`` of the
        pool.
      table_: the fitted :class:`fairjax.postprocess.Table` of scores on the scale of the repair, less ``centre_`` ``[T]``.
      n_features_in_, feature_names_in_: of X.

    Example:
      >>> import numpy as np
      >>> scores, sex = np.array([1.0, 2.0, 3.0, 5.0, 6.0, 7.0]), np.array(["f", "f", "f", "m", "m", "m"])
      >>> import warnings; warnings.simplefilter("ignore")  # so few rows
      >>> repair = Repair(outside="shift").fit(scores, sensitive_features=sex)
      >>> repair.transform([2.0, 6.0, 8.0], sensitive_features=["f", "m", "m"]).round(4).tolist()
      [4.0, 4.0, 6.0]
      >>> repair.transform([2.0, 6.0], sensitive_features=["f", None], amount=0.5).round(4).tolist()
      [3.0, 5.375]
    """

    def __init__(
        self,
        amount=1.0,
        *,
        scale="identity",
        share="frequency",
        small="raise",
        minimum=None,
        outside="clamp",
        sensitive=None,
        points=POINTS,
    ):
        self.amount = amount
        self.scale = scale
        self.share = share
        self.small = small
        self.minimum = minimum
        self.outside = outside
        self.sensitive = sensitive
        self.points = points

    # -------------------------------------------------------------------------------------------- fit and transform

    def fit(self, X, y=None, *, sensitive_features=None, sample_weight=None) -> Repair:
        """Learn every group's quantiles from a pool of rows.

        Args:
          X: scores ``[N]`` or ``[N, T]`` of rows that the model was not trained on: array, list, Series, data frame, mapping.
          y: not used; labels are not needed.
          sensitive_features: levels ``[N]``, or several columns of them.
          sample_weight: ``[N]``, not negative.

        Raises:
          DataError: scores that are no finite numbers or not on the scale; too few rows; too many or too small groups;
            lengths that differ.

        Warns of groups in which few rows leave a distance on new rows.
        """
        del y
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self._check()
        whole, scores, groups = self._open(X, sensitive_features)
        (score, _), tasks, attributes = (
            matrix(scores),
            named(scores, "score"),
            named(groups, "sensitive"),
        )
        if not len(score):
            raise DataError(
                "X: 0 rows (0 sample(s)), a minimum of 1 is required; give the scores of a pool."
            )
        self._amounts(None, attributes)
        weight, (levels, cell) = (
            weights(sample_weight, len(score)),
            _learned(attributes, groups.columns, len(score)),
        )
        cells = list(itertools.product(*levels))
        inside = (cell < len(cells)) & (True if weight is None else weight > 0)
        rows = np.bincount(cell[inside], minlength=len(cells))
        self._judge(cells, rows)

        value = _forward(self.scale, tasks, score)
        centre = np.median(value[inside], axis=0)
        self.table_ = self._table(value - centre, cell, weight, len(cells))
        self.centre_, self.rows_, self.cells_, self.levels_ = centre, rows, cells, levels
        self.tasks_, self.attributes_, self._how_ = tasks, attributes, (self.scale, self.small)
        self._names_ = (
            scores.names if not scores.flat else None,
            groups.names if not groups.flat else None,
        )
        self._pool_ = (len(score), digest(score[:SIZE], cell[:SIZE]), digest(score, cell))
        self.n_features_in_ = len(whole.columns)
        if whole.names is not None and not whole.flat:
            self.feature_names_in_ = np.asarray(whole.names, object)
        return self

    def transform(self, X, *, sensitive_features=None, amount=None, seed=None) -> np.ndarray:
        """Repaired scores, in the shape of X and, where X is of floats, in its type.

        Args:
          X: scores of any rows, one alone or many; the columns of ``fit``.
          sensitive_features: their groups.
          amount: instead of the repair's own.
          seed: takes runs of equal scores apart at random; without it they move together, to the middle of where they
            belong. The answer for a row then depends on its place in the batch.

        Raises:
          DataError: as ``fit``; a group that the pool does not have, where ``small`` is "raise".

        Warns when the rows are those of the pool, on which the groups agree whatever the repair is worth.
        """
        rows = self._rows(X, sensitive_features)
        self._warn_of_pool(rows)
        return self._alone(rows, seed)(amount).reshape(rows.shape)

    def fit_transform(
        self, X, y=None, *, sensitive_features=None, sample_weight=None
    ) -> np.ndarray:
        """``fit`` and ``transform`` of the same rows, which says nothing of the repair: see :meth:`cross_fit_transform`."""
        self.fit(X, y, sensitive_features=sensitive_features, sample_weight=sample_weight)
        return self.transform(X, sensitive_features=sensitive_features)

    def cross_fit_transform(
        self,
        X,
        sensitive_features=None,
        folds: int = 5,
        seed: int = 0,
        *,
        sample_weight=None,
        ties: int | None = None,
    ) -> np.ndarray:
        """The pool's own rows, each repaired by the rows of all folds but its own; leaves the repair fitted on all of them.

        Args:
          X, sensitive_features, sample_weight: as of ``fit``.
          folds: at least 2; every group is spread evenly over them.
          seed: of the folds.
          ties: as ``seed`` of ``transform``.
        """
        self.fit(X, sensitive_features=sensitive_features, sample_weight=sample_weight)
        rows = self._rows(X, sensitive_features)
        repaired = self._cross(rows, weights(sample_weight, len(rows.cell)), folds, seed, ties)
        return repaired(None).reshape(rows.shape)

    def path(self, X, amounts, *, sensitive_features=None) -> np.ndarray:
        """Repaired scores for several amounts, ``[P, ...]`` with X's shape behind."""
        rows = self._rows(X, sensitive_features)
        self._warn_of_pool(rows)
        repaired = self._alone(rows, None)
        return np.stack([repaired(amount).reshape(rows.shape) for amount in amounts])

    def price(self, amount=None) -> np.ndarray:
        """Mean squared change of a score in every group, ``[T, G]``, on the scale of the repair; no labels are needed.

        ``int_0^1 (target_s(u) - Q_s(u))^2 du``; NaN of a group that the pool does not have.
        """
        moved, stays = self._moves(amount), float(staying(self._amounts(amount)))
        change = np.asarray(moved.target, np.float64) - (1 - stays) * np.asarray(
            moved.quantiles, np.float64
        )
        return np.where(
            self.rows_ > 0, np.square(change[:, :-1]) @ widths(change.shape[-1]), np.nan
        )

    def audit(
        self,
        X,
        sensitive_features=None,
        y=None,
        sample_weight=None,
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
        rows = self._rows(X, sensitive_features)
        weight = weights(sample_weight, len(rows.cell))
        if folds is None:
            self._warn_of_pool(rows)
        repaired = (
            self._alone(rows, ties)
            if folds is None
            else self._cross(rows, weight, folds, seed, ties)
        )
        weight = np.ones(len(rows.cell)) if weight is None else weight
        return audit(self, rows, weight, repaired, labels_of(y, rows.score.shape))

    # -------------------------------------------------------------------------------------------- on disk

    def save(self, folder: Path | str) -> None:
        """Write the repair into a folder: ``repair.json`` (words) and ``repair.npz`` (arrays)."""
        self._need_fit()
        names = getattr(self, "feature_names_in_", None)
        write_arrays(Path(folder) / "repair.npz", {**self.table_._asdict(), "centre": self.centre_})
        write_json(
            Path(folder) / "repair.json",
            {
                "format": 1,
                "params": {name: _json(value) for name, value in self.get_params().items()},
                "how": self._how_,
                "tasks": self.tasks_,
                "attributes": self.attributes_,
                "levels": self.levels_,
                "names": self._names_,
                "pool": self._pool_,
                "features": self.n_features_in_,
                "feature_names": None if names is None else names.tolist(),
            },
        )

    @classmethod
    def load(cls, folder: Path | str) -> Repair:
        """Read what :meth:`save` wrote; executes nothing.

        Raises:
          DataError: the folder holds no repair, or one whose parts do not fit one another.
        """
        folder = Path(folder)
        if not (folder / "repair.json").is_file() or not (folder / "repair.npz").is_file():
            raise DataError(
                f"{folder}: no repair here (repair.json and repair.npz). Make one with 'fairjax repair' or save()."
            )
        try:
            words, arrays = (
                json.loads((folder / "repair.json").read_text()),
                read_arrays(folder / "repair.npz"),
            )
            self = cls(**words["params"])
            self.table_, self.centre_ = (
                Table(*(arrays[name] for name in Table._fields)),
                arrays["centre"],
            )
            self.levels_, self.tasks_, self.attributes_ = (
                words["levels"],
                tuple(words["tasks"]),
                tuple(words["attributes"]),
            )
            self.cells_ = list(itertools.product(*self.levels_))
            self._names_ = tuple(
                None if names is None else tuple(names) for names in words["names"]
            )
            self._how_, self._pool_, self.n_features_in_ = (
                tuple(words["how"]),
                tuple(words["pool"]),
                words["features"],
            )
            if words["feature_names"] is not None:
                self.feature_names_in_ = np.asarray(words["feature_names"], object)
        except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{folder}: repair.json and repair.npz cannot be read ({error!r}); copy both again."
            ) from error
        self.rows_ = self.table_.rows[:-1].astype(int)
        if self.table_.quantiles.shape[:2] != (len(self.tasks_), len(self.cells_) + 1):
            raise DataError(
                f"{folder}: quantiles of shape {self.table_.quantiles.shape} for {len(self.tasks_)} scores and "
                f"{len(self.cells_)} groups; repair.npz belongs to another repair.json."
            )
        return self

    # -------------------------------------------------------------------------------------------- scikit-learn's manner

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor."""
        del deep
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params) -> Repair:
        """Change arguments of the constructor: amount and outside at once, the others for the next ``fit``."""
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(
                    f"Repair has no parameter {name!r}; it has {', '.join(self.get_params())}"
                )
            setattr(self, name, value)
        return self

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the scores, ``[T]``."""
        del input_features
        self._need_fit()
        return np.asarray(self.tasks_, object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "table_")

    def __sklearn_tags__(self):
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(one_d_array=self.sensitive is None),
        )

    # -------------------------------------------------------------------------------------------- inside

    def _check(self) -> None:
        for name, known in (("scale", SCALES), ("small", MINIMA), ("outside", OUTSIDE)):
            if getattr(self, name) not in known:
                raise DataError(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}.")
        if isinstance(self.share, str) and self.share not in SHARES:
            raise DataError(
                f"share {self.share!r} is neither {' nor '.join(SHARES)} nor an array of one weight per group."
            )

    def _need_fit(self) -> None:
        if not hasattr(self, "table_"):
            raise DataError(
                "this Repair is not fitted yet; call fit with the scores and groups of a pool first."
            )

    @property
    def _least(self) -> float:
        return MINIMA[self.small] if self.minimum is None else self.minimum

    def _open(self, X, sensitive_features) -> tuple[Read, Read, Read]:
        """All columns of X, those that are scores, and those that are groups."""
        whole = read("X", X)
        if not whole.columns:
            raise DataError(
                f"X: 0 feature(s) (shape={np.shape(X)}) while a minimum of 1 is required."
            )
        if whole.flat and self.sensitive is not None:
            raise DataError(
                "X: one dimension, with the groups among its columns two are needed. Reshape your data."
            )
        if len(whole.columns) != getattr(self, "n_features_in_", len(whole.columns)):
            raise DataError(
                f"X has {len(whole.columns)} features, but Repair is expecting {self.n_features_in_} features as "
                "input."
            )
        if self.sensitive is None:
            if sensitive_features is None:
                raise DataError(
                    "sensitive_features are missing: give the groups of the rows, or name columns of X that hold "
                    "them with Repair(sensitive=[...])."
                )
            return whole, whole, read("sensitive_features", sensitive_features, side_by_side=True)
        if sensitive_features is not None:
            raise DataError(
                f"sensitive_features are given, and columns {self.sensitive!r} of X are named as sensitive; "
                "leave out one of them."
            )
        places = [place_of(whole, which) for which in listed(self.sensitive)]
        rest = [i for i in range(len(whole.columns)) if i not in places]
        if not rest:
            raise DataError(
                f"X: all {len(places)} feature(s) are sensitive, a minimum of 1 score is required."
            )
        return whole, some_of(whole, rest), some_of(whole, places)

    def _judge(self, cells: list[tuple], rows: np.ndarray) -> None:
        """Refuse groups that are too small, and warn of those that leave much to chance."""
        least, there = self._least, rows > 0
        counts = dict(zip(cells, rows.tolist(), strict=True))
        tiny, few = (
            _counted({c: n for c, n in counts.items() if 0 < n < most}) for most in (least, FEW)
        )
        if not there.any():
            raise DataError(
                "sensitive_features: no row has a known group and a weight above 0; give some."
            )
        if tiny and self.small == "raise":
            raise DataError(
                f"sensitive_features: {_of(rows, least)} groups have fewer than {least:g} rows ({tiny}); join "
                "levels, or give small='pool' or small='shrink'."
            )
        if there.sum() == 1:
            only = _word(cells[int(np.argmax(rows))])
            warnings.warn(
                f"all {rows.sum():,} rows are of one group, {only}: scores stay as they are",
                stacklevel=3,
            )
        elif few:
            what = {
                "raise": "",
                "pool": f"; those of fewer than {least:g} take the quantiles of all rows",
                "shrink": f"; they lean on all rows as if they had {least:g} of them",
            }[self.small]
            apart = CHANCE * math.sqrt(np.sum(1 / np.sort(rows[there])[:2]))
            warnings.warn(
                f"{_of(rows, FEW)} groups have fewer than {FEW} rows ({few}){what}. On new rows the two smallest "
                f"will be about {min(apart, 1):.2f} apart after repair (Kolmogorov-Smirnov, 0.87 sqrt(1/n + 1/m))",
                stacklevel=3,
            )

    def _table(
        self, value: np.ndarray, cell: np.ndarray, weight: np.ndarray | None, count: int
    ) -> Table:
        share = (
            SHARES[self.share] if isinstance(self.share, str) else _given_share(self.share, count)
        )
        minimum, prior = (self._least if self.small == word else 0 for word in ("pool", "shrink"))
        return fit_host(
            value, cell, weight, count, share, points=self.points, minimum=minimum, prior=prior
        )

    def _rows(self, X, sensitive_features) -> Rows:
        """Rows of X, with their groups looked up among those of the pool."""
        self._need_fit()
        _, scores, groups = self._open(X, sensitive_features)
        scores = matched("X", scores, self._names_[0], self.tasks_)
        groups = matched("sensitive_features", groups, self._names_[1], self.attributes_)
        score, dtype = matrix(scores)
        codes = [
            self._codes(a, of_length(name, column, len(score)))
            for a, (name, column) in enumerate(zip(self.attributes_, groups.columns, strict=True))
        ]
        cell = crossed(codes, [len(held) for held in self.levels_])
        seen = np.bincount(cell, minlength=len(self.cells_) + 1)[:-1]
        unseen = np.flatnonzero((seen > 0) & (self.rows_ == 0))
        self._refuse_unseen({self.cells_[c]: int(seen[c]) for c in unseen}, "combination")
        return Rows(score, codes, cell, score.shape if not scores.flat else score.shape[:1], dtype)

    def _codes(self, attribute: int, column) -> np.ndarray:
        codes, found = distinct(self.attributes_[attribute], column)
        known = {key_of(level): i for i, level in enumerate(self.levels_[attribute])}
        self._refuse_unseen(
            {(key[1],): n for key, n in present(codes, found).items() if key not in known},
            f"level of {self.attributes_[attribute]!r}",
        )
        return placed(codes, found, known)

    def _refuse_unseen(self, counts: dict[tuple, int], what: str) -> None:
        if not counts:
            return
        said = f"sensitive_features: {sum(counts.values()):,} rows have a {what} that the pool has not ({_counted(counts)})"
        if self._how_[1] == "raise":
            held = _counted(
                {c: int(n) for c, n in zip(self.cells_, self.rows_, strict=True) if n}, 12
            )
            raise DataError(
                f"{said}; it has {held}. Leave them out, give their groups as missing, or fit with small='pool'."
            )
        warnings.warn(f"{said}; they are ranked among all rows", stacklevel=4)

    def _warn_of_pool(self, rows: Rows) -> None:
        held = (
            rows.score,
            rows.cell,
        )  # most other rows are told by their number or the first of them
        if (
            len(rows.cell) == self._pool_[0]
            and digest(*(a[:SIZE] for a in held)) == self._pool_[1]
            and digest(*held) == self._pool_[2]
        ):
            warnings.warn(
                f"these {len(rows.cell):,} rows are those of the pool: on them the groups agree by construction, "
                "which says nothing of new rows; use cross_fit_transform, or a pool of other rows",
                stacklevel=3,
            )

    def _amounts(self, amount, names: Sequence[str] | None = None) -> np.ndarray:
        """How far each attribute's repair goes, ``[A]``."""
        names = self.attributes_ if names is None else names
        given = np.asarray(self.amount if amount is None else amount, np.float32)
        if given.shape not in ((), (len(names),)) or not np.all((given >= 0) & (given <= 1)):
            raise DataError(
                f"amount {given.tolist()} is neither a number from 0 to 1 nor one for each of the {len(names)} "
                f"attributes ({listing(names)})."
            )
        return np.broadcast_to(given, len(names))

    def _moves(self, amount, table: Table | None = None, drawn: bool = False) -> Moves:
        """Where scores go, by the fitted table or another."""
        self._need_fit()
        sizes = tuple(len(held) for held in self.levels_)
        return _moves(self.table_ if table is None else table, sizes, self._amounts(amount), drawn)

    def _repaired(
        self,
        rows: Rows,
        moved: Moves,
        amount,
        seed: int | None = None,
        cell: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores ``[N, T]`` after repair; where they go is found in single precision, what stays of them is in double."""
        value = _forward(self._how_[0], self.tasks_, rows.score)
        from_centre, size = (
            (value - self.centre_).astype(np.float32),
            max(SIZE, 1 << max(len(value) - 1, 0).bit_length()),
        )
        chosen = (
            None if seed is None else np.random.default_rng(seed).random(value.shape, np.float32)
        )
        inside, target = (
            np.asarray(a)[: len(value)]
            for a in _along(
                moved,
                _padded(from_centre, size),
                _padded(rows.cell if cell is None else cell, size),
                _padded(chosen, size),
            )
        )
        stays = float(staying(self._amounts(amount)))
        found = target + (stays * value + (1 - stays) * self.centre_)
        if OUTSIDE[self.outside]:
            further = (1 - stays) * OUTSIDE[self.outside] * (value - self.centre_ - inside)
            found += np.where(inside == from_centre, 0, further)
        return SCALES[self._how_[0]].inverse(found).astype(rows.dtype, copy=False)

    def _alone(self, rows: Rows, ties: int | None) -> Callable[..., np.ndarray]:
        """``repaired(amount) -> [N, T]`` of rows that are not of the pool."""

        def repaired(amount) -> np.ndarray:
            return self._repaired(rows, self._moves(amount, drawn=ties is not None), amount, ties)

        return repaired

    def _cross(
        self, rows: Rows, weight: np.ndarray | None, folds: int, seed: int, ties: int | None
    ) -> Callable[..., np.ndarray]:
        """``repaired(amount) -> [N, T]`` of the pool's own rows, each by a fit on all folds but its own."""
        count = len(self.cells_)
        if not 2 <= folds <= len(rows.cell):
            raise DataError(f"folds {folds} is not between 2 and the {len(rows.cell):,} rows.")
        fold, value = (
            folds_of(rows.cell, folds, seed),
            _forward(self._how_[0], self.tasks_, rows.score) - self.centre_,
        )
        tables = [
            self._table(
                value[rest], rows.cell[rest], None if weight is None else weight[rest], count
            )
            for rest in (fold != k for k in range(folds))
        ]

        def repaired(amount) -> np.ndarray:
            each = [self._moves(amount, table, ties is not None) for table in tables]
            moved = Moves(*(np.concatenate(parts, axis=1) for parts in zip(*each, strict=True)))
            return self._repaired(rows, moved, amount, ties, rows.cell + fold * np.int32(count + 1))

        return repaired


def _forward(word: str, names: Sequence[str], score: np.ndarray) -> np.ndarray:
    """Scores ``[N, T]`` on a scale of the repair."""
    scale = SCALES[word]
    for name, bad in zip(names, scale.outside(score).T, strict=True):
        if bad.any():
            what = f"{bad.sum():,} of {len(bad):,} scores are not {scale.needs}, as the scale {word!r} needs them"
            raise complain(name, what, "Clip them, or take the scale 'identity'.")
    value = scale.forward(score)
    for name, bad in zip(names, (np.abs(value) > LARGEST).T, strict=True):
        if bad.any():
            raise complain(
                name,
                f"{bad.sum():,} of {len(bad):,} scores are beyond {LARGEST:g}",
                "Take a larger unit.",
            )
    return value


def _learned(names: Sequence[str], columns: Sequence, rows: int) -> tuple[list[list], np.ndarray]:
    """Levels of each attribute, in order, and cells ``[N]``."""
    found = [
        distinct(name, of_length(name, column, rows))
        for name, column in zip(names, columns, strict=True)
    ]
    levels = [list(present(*one)) for one in found]
    _refuse_many(names, levels)
    codes = [
        placed(*one, {key: i for i, key in enumerate(held)})
        for one, held in zip(found, levels, strict=True)
    ]
    return [[level for _, level in held] for held in levels], crossed(
        codes, [len(held) for held in levels]
    )


def _padded(values: np.ndarray | None, size: int) -> np.ndarray | None:
    """Rows of zeros behind, so that batches of all sizes share a few programs."""
    return (
        None
        if values is None
        else np.concatenate(
            [values, np.zeros((size - len(values), *values.shape[1:]), values.dtype)]
        )
    )


def folds_of(cell: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Folds ``[N]``, every cell spread evenly over them."""
    shuffled = np.random.default_rng(seed).permutation(len(cell))
    fold = np.empty(len(cell), np.int32)
    fold[shuffled[np.argsort(cell[shuffled], kind="stable")]] = (
        np.arange(len(cell), dtype=np.int32) % folds
    )
    return fold


def _given_share(given, count: int) -> Callable[[np.ndarray], np.ndarray]:
    share = np.asarray(given, np.float64)
    if share.shape != (count,) or not np.all(share >= 0) or not 0 < share.sum() < np.inf:
        raise DataError(
            f"share of shape {share.shape} is no weight of at least 0 for each of the {count} groups."
        )
    return lambda mass: share / share.sum()


def _refuse_many(names: Sequence[str], levels: Sequence[Sequence]) -> None:
    cells = math.prod(map(len, levels))
    if cells > CELLS:
        widest = int(np.argmax([len(held) for held in levels]))
        raise DataError(
            f"sensitive_features: {cells:,} groups, {names[widest]!r} with {len(levels[widest]):,} levels; at most "
            f"{CELLS:,} can be repaired: join levels, or cut numbers into ranges."
        )


def _of(rows: np.ndarray, most: float) -> str:
    return f"{((rows > 0) & (rows < most)).sum()} of {(rows > 0).sum()}"


def _word(cell: tuple) -> str:
    return " & ".join(map(repr, cell))


def _counted(counts: dict[tuple, int], most: int = 4) -> str:
    """``'f' & 'x' 3, 'm' & 'x' 12, ... (9 in all)``, the fewest first."""
    words = [f"{_word(cell)} {n:,}" for cell, n in sorted(counts.items(), key=lambda item: item[1])]
    return ", ".join(words[:most]) + (f", ... ({len(words):,} in all)" if len(words) > most else "")


def _json(value):
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return [_json(v) for v in value] if isinstance(value, list | tuple) else value
