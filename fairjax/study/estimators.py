"""Classifiers and regressors from outside, such as boosted trees, as one more method of a study.

One is fitted per label column, to the training rows. Its scores of all rows then go through the
metrics, decisions and repairs of the study, as those of a network do.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.types import DataError, Dataset, Spec, Splits, Task
from fairjax.postprocess.scales import SMALLEST_PROBABILITY, logit
from fairjax.study.evaluation import validates_on_test

# From a task of one label column and a seed to an object with scikit-learn's
# ``fit(X, y, sample_weight=...)`` and ``predict_proba(X)``, of a regression ``predict(X)``.
Estimator = Callable[[Task, int], Any]

ROUNDS = 1000  # of boosting, at most
PATIENCE = 50  # rounds without a better loss on validation rows
UNENDED = 100  # rounds where no validation rows may end them; LightGBM's default
LIBRARIES = ("lightgbm", "scikit-learn", "xgboost", "catboost")  # whose versions are recorded
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Rows(NamedTuple):
    """Rows whose label is known."""

    x: np.ndarray  # [n, F]
    label: np.ndarray  # [n] codes of the classes from 0 on, or numbers in units
    weight: np.ndarray  # [n]


# ---------------------------------------------------------------------------------- the registry


@dataclasses.dataclass
class BoostedTrees:
    """LightGBM: at most ``ROUNDS`` rounds at rate .05, ended by the loss on validation rows.

    ``PATIENCE`` rounds without a better loss end it, and the best round counts; without validation
    rows there are ``UNENDED`` rounds. It takes one thread: on a table of a few thousand rows more
    would wait for each other.

    Args:
      regression: of numbers, not of classes.
      levels: columns that are codes of levels.
      seed: of LightGBM's draws; without subsampling it hardly matters.
    """

    regression: bool
    levels: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        self._lightgbm = _library("lightgbm", "lightgbm")

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        validation: Rows | None = None,
    ) -> BoostedTrees:
        """Grow the trees."""
        train = self._lightgbm.Dataset(
            X, y, weight=sample_weight, categorical_feature=list(self.levels)
        )
        rounds = UNENDED
        ended = {}
        if validation is not None:
            rounds = ROUNDS
            held_out = train.create_valid(validation.x, validation.label, validation.weight)
            stop = self._lightgbm.early_stopping(PATIENCE, verbose=False)
            ended = {"valid_sets": [held_out], "callbacks": [stop]}
        params = {
            **self._objective(y),
            "learning_rate": 0.05,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        self._booster = self._lightgbm.train(params, train, rounds, **ended)
        return self

    def _objective(self, y: np.ndarray) -> dict[str, Any]:
        if self.regression:
            return {"objective": "regression"}
        classes = len(np.unique(y))
        if classes == 2:
            return {"objective": "binary"}
        return {"objective": "multiclass", "num_class": classes}

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Numbers ``[n]``."""
        return self._booster.predict(X)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities ``[n, K]`` of the classes."""
        prob = self._booster.predict(X)
        return np.stack([1.0 - prob, prob], axis=1) if prob.ndim == 1 else prob


@dataclasses.dataclass
class Linear:
    """scikit-learn's logistic regression (C = 1) or ridge regression, with a column per level.

    Args:
      regression: of numbers, not of classes.
      numbers: columns from the first on that are numbers; the others are codes of levels.
    """

    regression: bool
    numbers: int

    def __post_init__(self) -> None:
        self._linear_model = _library("sklearn.linear_model", "scikit-learn")

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Linear:
        """Fit the design and the model."""
        compose = importlib.import_module("sklearn.compose")
        preprocessing = importlib.import_module("sklearn.preprocessing")
        columns = list(range(X.shape[1]))
        one_hot = preprocessing.OneHotEncoder(handle_unknown="ignore")
        self._design = compose.ColumnTransformer(
            [
                ("numbers", "passthrough", columns[: self.numbers]),
                ("levels", one_hot, columns[self.numbers :]),
            ]
        )
        self._model = self._linear_model.LogisticRegression(max_iter=1000)
        if self.regression:
            self._model = self._linear_model.Ridge()
        self._model.fit(self._design.fit_transform(X), y, sample_weight)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Numbers ``[n]``."""
        return self._model.predict(self._design.transform(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities ``[n, K]`` of the classes."""
        return self._model.predict_proba(self._design.transform(X))


def trees(spec: Spec) -> Estimator:
    """Boosted trees that know which columns are levels; see :class:`BoostedTrees`."""
    numbers = len(spec.numeric)
    levels = tuple(range(numbers, numbers + len(spec.categorical)))
    return lambda task, seed: BoostedTrees(task.kind == "regression", levels, seed)


def linear(spec: Spec) -> Estimator:
    """Linear models; see :class:`Linear`."""
    return lambda task, seed: Linear(task.kind == "regression", len(spec.numeric))


ESTIMATORS: dict[str, Callable[[Spec], Estimator]] = {"trees": trees, "linear": linear}


def _library(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"this estimator needs {package}, which is not installed: pip install 'fairjax[trees]'"
        ) from error


# ------------------------------------------------------------------------------------ the scores


def check_estimators(spec: Spec, estimators: Mapping[str, Estimator]) -> None:
    """Refuse estimators of data that are no table, and objects that are no functions.

    Raises:
      DataError: there is one of them.
    """
    if estimators and not spec.is_table:
        features = "texts" if spec.vocab_size else "images"
        raise DataError(
            f"{len(estimators)} estimators ({', '.join(estimators)}) read tables, but the features "
            f"are {features}. Leave the estimators out, or give a table."
        )
    for name, estimator in estimators.items():
        if not callable(estimator):
            kind = type(estimator).__name__
            raise DataError(
                f"estimator {name!r} is no function but one {kind}. Give a function of a task and "
                f"a seed that makes a new one: lambda task, seed: {kind}()."
            )


def identity_of(spec: Spec, name: str, estimator: Estimator, seed: int) -> dict[str, Any]:
    """What tells the scores of an estimator from those of another; JSON-safe.

    Raises:
      DataError: it lacks a function that a task needs, or its library is not installed.
    """
    texts = []
    for task in spec.label_tasks:
        model = estimator(task, seed)
        needed = "predict" if task.kind == "regression" else "predict_proba"
        lacking = [function for function in ("fit", needed) if not hasattr(model, function)]
        if lacking:
            cure = "Give an object that has scikit-learn's functions"
            if lacking == ["predict_proba"]:
                cure = "Put sklearn.calibration.CalibratedClassifierCV around it"
            raise DataError(
                f"estimator {name!r}: its {type(model).__name__} for the task {task.name!r} "
                f"({task.kind}) has no {' and no '.join(lacking)}. {cure}."
            )
        texts.append(_ADDRESS.sub("", repr(model)))
    return {"estimator": name, "objects": texts, "libraries": library_versions()}


def library_versions() -> dict[str, str]:
    """Versions of the libraries of estimators that are installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def estimated_scores(
    spec: Spec, splits: Splits, name: str, estimator: Estimator, seed: int
) -> dict[str, np.ndarray]:
    """Scores ``[N, C]`` of the rows of all splits, float32.

    One object is fitted per label column, to the training rows whose label is known: the numbers
    of the table, then the codes of its levels (-1: unseen in training), as float32 ``[n, F]``.
    Classes are coded from 0 on, in their order, without those that no training row has; numbers are
    in their units. Weights are given where rows have other weights than one. A ``fit`` with the
    parameter ``validation`` is given the :class:`Rows` whose label is known there, or None where
    the validation rows are the test rows.

    Scores are log-odds, log-probabilities of classes, and standardised predictions. A probability
    has a distance of at least ``SMALLEST_PROBABILITY`` to 0 and 1. Where the training rows have
    fewer than two classes the score is a constant.

    Raises:
      DataError: rows have weights, which the object does not take, or it predicts another shape.
    """
    inputs = {split: _features(rows) for split, rows in splits._asdict().items()}
    parts = []
    for column, task in enumerate(spec.label_tasks):
        known = {
            split: _known(task, column, rows, inputs[split])
            for split, rows in splits._asdict().items()
        }
        validation = None if validates_on_test(splits) else known["validation"]
        made = _Made(name, task, estimator(task, seed))
        scores_of = _of_numbers if task.kind == "regression" else _of_classes
        parts.append(scores_of(made, known["train"], validation, inputs))
    return {
        split: np.concatenate([part[split] for part in parts], axis=1, dtype=np.float32)
        for split in splits._fields
    }


class _Made(NamedTuple):
    """An object that an estimator made for a task."""

    name: str
    task: Task
    model: Any

    def fit(self, train: Rows, validation: Rows | None) -> None:
        """Fit it to rows, with what its ``fit`` takes."""
        parameters = inspect.signature(self.model.fit).parameters
        given = {}
        weighted = int((train.weight != 1).sum())
        if weighted:
            if "sample_weight" not in parameters:
                raise DataError(
                    f"estimator {self.name!r}: {weighted:,} of {len(train.weight):,} training rows "
                    f"have another weight than 1, but {type(self.model).__name__} takes no "
                    "sample_weight. Leave --weight-column out, or give another estimator."
                )
            given["sample_weight"] = train.weight
        if "validation" in parameters and validation is not None and len(validation.label):
            given["validation"] = validation
        self.model.fit(train.x, train.label, **given)

    def predicted(self, function: str, x: np.ndarray, *width: int) -> np.ndarray:
        """Its predictions ``[N, *width]``, float64."""
        values = np.asarray(getattr(self.model, function)(x), np.float64)
        if values.shape != (len(x), *width):
            raise DataError(
                f"estimator {self.name!r}: {function} of its {type(self.model).__name__} gives "
                f"{values.shape} for the task {self.task.name!r}, which needs {(len(x), *width)}. "
                f"Give an estimator for a task that is {self.task.kind}."
            )
        return values


def _of_numbers(
    made: _Made, train: Rows, validation: Rows | None, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Standardised predictions ``[N, 1]`` by split; 0, the mean, where no label is known."""
    if not len(train.label):
        return {split: np.zeros((len(x), 1)) for split, x in inputs.items()}
    made.fit(train, validation)
    return {
        split: made.task.standardised(made.predicted("predict", x))[:, None]
        for split, x in inputs.items()
    }


def _of_classes(
    made: _Made, train: Rows, validation: Rows | None, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Log-odds ``[N, 1]`` or log-probabilities ``[N, K]`` by split."""
    task = made.task
    width = len(task.levels) if task.kind == "multiclass" else 2
    classes = np.unique(train.label).astype(int)
    if len(classes) > 1:
        if validation is not None:
            validation = _coded(validation, classes)
        made.fit(_coded(train, classes), validation)
    scores = {}
    for split, x in inputs.items():
        prob = np.zeros((len(x), width))
        if len(classes) > 1:
            prob[:, classes] = made.predicted("predict_proba", x, len(classes))
        elif len(classes) == 1:
            prob[:, classes] = 1.0
        else:
            prob[:] = 1.0 / width
        prob = np.clip(prob, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
        scores[split] = np.log(prob) if task.kind == "multiclass" else logit.forward(prob[:, 1:])
    return scores


def _coded(rows: Rows, classes: np.ndarray) -> Rows:
    """Rows of these classes, their labels as places among them."""
    is_kept = np.isin(rows.label, classes)
    x, label, weight = (array[is_kept] for array in rows)
    return Rows(x, np.searchsorted(classes, label), weight)


def _known(task: Task, column: int, rows: Dataset, x: np.ndarray) -> Rows:
    weight = np.asarray(rows.weight) * np.asarray(rows.label_mask)[:, column]
    is_known = weight > 0
    label = np.asarray(rows.labels, np.float64)[is_known, column]
    return Rows(x[is_known], task.in_units(label), weight[is_known])


def _features(rows: Dataset) -> np.ndarray:
    """Numbers, then codes of levels ``[N, F]``, float32."""
    return np.concatenate([rows.x.numeric, rows.x.codes], axis=1, dtype=np.float32)
