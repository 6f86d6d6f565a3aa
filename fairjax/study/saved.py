"""A trained model, alone and on disk.

The files are JSON for names and npz for arrays, formats that execute nothing when loaded.
``model.json`` holds the encoder, the names of the method and the network, the hyper-parameters, the
decision thresholds and what label 1 means. ``params.npz`` holds the parameters and the state of the
repair by key path. A network or a repair that no registry has is given again when the model is
loaded.
"""

from __future__ import annotations

import dataclasses
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fairjax.core.disk import read_arrays, read_json, write_arrays, write_json
from fairjax.core.inputs import TableLike
from fairjax.core.keys import Metric, parse_key
from fairjax.core.types import DataError, Dataset, Model, Post, PyTree, Spec, Splits
from fairjax.data import Encoder, Prepared
from fairjax.data.raw_table import RawTable
from fairjax.models import branch_text, compact, compact_shapes, expanded, parameter_count
from fairjax.models import scores as model_scores
from fairjax.study.config import NamedStudy
from fairjax.study.evaluation import DECISIONS, SPLITS, Scores, repair_scores
from fairjax.study.predictions import prediction_columns
from fairjax.study.run import Study, from_names
from fairjax.training import Runs, sweep

FORMAT = 4
FILES = ("model.json", "params.npz")


class Point(NamedTuple):
    """What was trained for a row of the table."""

    method: str
    hparams: dict[str, np.ndarray]  # each without a leading axis
    seed: int
    repair: tuple[str, float] | None  # name and amount


@dataclasses.dataclass(frozen=True)
class SavedRepair:
    """A fitted repair of a model's scores."""

    post: Post
    state: PyTree
    amount: float
    pool_rows: int  # rows that it was fitted on


class SavedConstraint(NamedTuple):
    """Under which bound a model was trained, and what became of it."""

    text: str
    verdict: str  # of fairjax.methods.verdict, on validation rows


class Decisions(NamedTuple):
    """The scores of a run, and how they are decided."""

    scores: Scores  # [N, C] of the rows of all splits, repaired where the run repairs
    repair: SavedRepair | None
    thresholds: tuple[float | None, ...]  # per task; see SavedModel


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A trained model with what it needs to score new rows."""

    encoder: Encoder
    model: Model
    params: PyTree
    method: str
    hparams: dict[str, np.ndarray]  # each without a leading axis
    decision: str  # the rule of the thresholds, one of study.DECISIONS
    thresholds: tuple[float | None, ...]  # per task, on the score; None for other than binary tasks
    metrics: dict[Metric, float]
    repair: SavedRepair | None = None
    names: NamedStudy | None = None  # where the network and the repair come from the registries
    constraint: SavedConstraint | None = None  # of fairjax.study.constrain

    def predict(self, source: TableLike | RawTable) -> dict[str, np.ndarray]:
        """Probabilities and decisions for new rows.

        Binary: ``name`` (the probability of label 1, whose meaning is
        ``encoder.spec.tasks[t].positive``) and ``name decision`` (0 or 1). Multiclass:
        ``name decision`` (the class) and a probability per class, ``name=class``. Multilabel:
        ``name=label`` and ``name=label decision``. Regression: ``name``, the prediction; of
        several outputs ``name=output``. With a repair, a row whose group is unknown is ranked among
        all rows, or has the threshold of all rows.

        Args:
          source: a path, a data frame or a dict of arrays; see
            :func:`fairjax.data.read.as_table`.

        Returns:
          Columns ``[N]`` by name.

        Raises:
          DataError: the model's scores are repaired, and no row's level of an attribute is known;
            or a score is no finite number.
        """
        data = self.encoder.encode(source)
        spec = self.encoder.spec
        scores = model_scores(self.model, self.params, data.x)
        if self.repair is not None:
            _check_groups(spec, data.groups)
            post = self.repair.post
            amount = self.repair.amount
            scores = post.apply(self.repair.state, scores, data.groups, amount=amount)
        bad = ~np.isfinite(np.asarray(scores)).all(axis=1)
        if bad.any():
            raise DataError(
                f"{bad.sum():,} of {len(bad):,} rows have scores that are no finite numbers, the "
                f"first is row {int(np.argmax(bad))}. Their features are far outside of the "
                "training rows: correct them."
            )
        return prediction_columns(spec, np.asarray(scores), self.thresholds)

    def describe(self) -> str:
        """A line per task: what label 1 means, and from which probability on it is decided.

        Of a network that branches also its tree, and the number of its parameters; of a model
        under a constraint its bound and the verdict.
        """
        lines = []
        for task, threshold in zip(self.encoder.spec.tasks, self.thresholds, strict=True):
            if threshold is None:
                continue
            meaning = f"1 means {task.positive!r}; " if task.positive else ""
            probability = 1.0 / (1.0 + np.exp(-threshold))
            lines.append(
                f"{task.name}: {meaning}decided from probability {probability:.4f} on "
                f"({self.decision.replace('_', ' ')})"
            )
        if self.model.copies:
            params, labels = compact(self.params, self.model.layers)
            names = [task.name for task in self.encoder.spec.tasks]
            lines.append(
                f"branches from the input on: {branch_text(labels, names)} "
                f"({parameter_count(params):,} parameters)"
            )
        if self.constraint is not None:
            text, verdict = self.constraint
            lines.append(f"trained under {text} on validation rows: {verdict}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The description, for a notebook."""
        return f"<pre>{escape(self.method)}\n{escape(self.describe())}</pre>"

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder."""
        folder = Path(folder)
        params = self.params
        arrays = {}
        if self.model.copies:
            params, arrays["branches"] = compact(params, self.model.layers)
        arrays |= _flat("params", params)
        repair = None
        if self.repair is not None:
            arrays |= _flat("repair", self.repair.state)
            repair = {
                "name": self.repair.post.name,
                "amount": self.repair.amount,
                "pool_rows": self.repair.pool_rows,
            }
        write_arrays(folder / "params.npz", arrays)
        description = {
            "format": FORMAT,
            "encoder": self.encoder.to_json(),
            "study": self.names.to_json() if self.names else None,
            "method": self.method,
            "hparams": {name: np.asarray(value).tolist() for name, value in self.hparams.items()},
            "decision": self.decision,
            "thresholds": self.thresholds,
            "label_1": {task.name: task.positive for task in self.encoder.spec.tasks},
            "metrics": {str(key): value for key, value in self.metrics.items()},
            "repair": repair,
            "constraint": self.constraint._asdict() if self.constraint else None,
        }
        write_json(folder / "model.json", description)


def load_model(
    folder: str | Path, *, model: Model | None = None, repair: Post | None = None
) -> SavedModel:
    """Read a trained model.

    Args:
      folder: where it was saved.
      model: the network, where it does not come from the registries.
      repair: the post-processor, where it does not come from the registries.

    Raises:
      DataError: the folder holds no model, its arrays do not fit its description, or an object must
        be given.
    """
    folder = Path(folder)
    if not all((folder / file).exists() for file in FILES):
        files = " and ".join(FILES)
        raise DataError(
            f"{folder}: no trained model here ({files}). Make one with 'fairjax train'."
        )
    description = read_json(folder / "model.json")
    if description.get("format") != FORMAT:
        raise DataError(
            f"{folder}: a model of format {description.get('format')!r}, this version reads "
            f"{FORMAT}. Train it again."
        )
    arrays = read_arrays(folder / "params.npz")
    try:
        return _filled_model(folder, description, arrays, model, repair)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{folder}: model.json does not describe a model ({error!r}). Train it again."
        ) from error


def _filled_model(
    folder: Path,
    description: dict[str, Any],
    arrays: dict[str, np.ndarray],
    model: Model | None,
    repair: Post | None,
) -> SavedModel:
    """The model of a description, with its arrays."""
    encoder = Encoder.from_json(description["encoder"])
    method = description["method"]
    hparams = {name: np.float32(value) for name, value in description["hparams"].items()}
    metrics = {parse_key(text): value for text, value in description["metrics"].items()}
    names = None
    study = None
    if description["study"]:
        names = NamedStudy.from_json(description["study"])
        config = names.config.for_prediction()
        study = from_names(encoder.spec, dataclasses.replace(names, config=config))
    if model is None:
        if study is None:
            raise DataError(f"{folder}: its network is no entry of a registry. Give it as model=.")
        model = study.recipes[method].build(hparams).model
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    if model.copies:
        labels = _branches(folder, arrays, model)
        shapes = compact_shapes(shapes, labels, model.layers)
    params = filled("params", shapes, arrays, folder)
    if model.copies:
        params = expanded(params, labels, model.layers)
    fitted = _load_repair(folder, description["repair"], arrays, encoder.spec, study, repair)
    _check_loaded(folder, description, params, fitted)
    bound = description.get("constraint")  # older files have none
    return SavedModel(
        encoder=encoder,
        model=model,
        params=params,
        method=method,
        hparams=hparams,
        decision=description["decision"],
        thresholds=tuple(description["thresholds"]),
        metrics=metrics,
        repair=fitted,
        names=names,
        constraint=SavedConstraint(**bound) if bound else None,
    )


def train_one(data: Prepared, study: Study, point: Point) -> tuple[SavedModel, Scores]:
    """Train one point with one seed, as a sweep would, and return :func:`finished_model`."""
    params = train_params(data, study, point)
    return finished_model(data, study, point, params)


def train_params(data: Prepared, study: Study, point: Point) -> PyTree:
    """The parameters of one point with one seed; see :func:`train_alone`."""
    runs = train_alone(data, study, point)
    return jax.tree.map(lambda leaf: leaf[0], runs.params)


def train_alone(data: Prepared, study: Study, point: Point) -> Runs:
    """The sweep of one point with one seed: its parameters, and what its method records.

    Raises:
      DataError: the run diverged, or it is one of an estimator from outside.
    """
    runs = sweep(
        study.recipe(point.method),
        study.config.train_config,
        {name: np.asarray(value)[None] for name, value in point.hparams.items()},
        [point.seed],
        data.splits,
        lambda scores, splits: {},
        root=study.config.seed,
        keep=("params",),
        chunk=1,
        devices=jax.local_devices()[:1],
    )
    if runs.diverged[0]:
        raise _diverged(study, point, runs.values)
    return runs


def _diverged(study: Study, point: Point, values: np.ndarray | None) -> DataError:
    """The complaint about a run whose losses ``[1, blocks, K]`` or parameters went astray."""
    config = study.config.train_config
    how = "its last losses are more than ten times the first"
    finite_b = np.isfinite(values[0]).all(axis=1) if values is not None else np.ones(1, bool)
    if not finite_b.all():
        epoch = (int(np.argmin(finite_b)) + 1) * config.block
        how = f"by epoch {epoch} of {config.epochs} a loss is no finite number"
    rate = point.hparams.get("learning_rate", study.config.learning_rate)
    gentler = "a smaller --cap" if "cap" in point.hparams else "smaller fairness weights (--lam)"
    return DataError(
        f"the run of {point.method} diverged ({how}), so there is no model to keep. Take a smaller "
        f"--learning-rate than {float(rate):g}, or {gentler}."
    )


def finished_model(
    data: Prepared, study: Study, point: Point, params: PyTree
) -> tuple[SavedModel, Scores]:
    """Trained parameters as a model, with its thresholds and metrics.

    Args:
      data: the data.
      study: has the method.
      point: what was trained. Its repair is fitted to the scores of the validation rows.
      params: of the network.

    Returns:
      The model, and the scores ``[N, C]`` of the rows of all splits, repaired where the model
      repairs.
    """
    model = study.recipe(point.method).build(point.hparams).model
    decisions = decisions_of(data, study, point, scores_of(data, study, model, params))
    finished = SavedModel(
        encoder=data.encoder,
        model=model,
        params=params,
        method=point.method,
        hparams=point.hparams,
        decision=study.deployed.decision,
        thresholds=decisions.thresholds,
        metrics=_metrics(data, study, decisions.scores),
        repair=decisions.repair,
        names=study.names,
    )
    return finished, decisions.scores


def decisions_of(data: Prepared, study: Study, point: Point, scores: Scores) -> Decisions:
    """Scores of all splits, before any repair, as the point's run deploys them.

    Its repair is fitted to the scores of the validation rows.
    """
    fitted = None
    if point.repair is not None:
        name, amount = point.repair
        fitted = _fit_repair(post_named(study, name), amount, scores, data)
        scores = repaired(fitted, data, scores)
    return Decisions(scores, fitted, _thresholds(data, study, scores))


def scores_of(data: Prepared, study: Study, model: Model, params: PyTree) -> Scores:
    """Scores ``[N, C]`` of the rows of all splits, as a sweep computes them.

    A sweep scores its members side by side, which adds up in another order than one network alone.
    Two copies side by side give the numbers of the sweep.
    """
    copies = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), params)
    inputs = {split: rows.x for split, rows in data.splits._asdict().items()}
    found = study.scored(model, copies, inputs)
    return {split: np.asarray(score[0]) for split, score in found.items()}


def repaired(repair: SavedRepair, data: Prepared, scores: Scores) -> Scores:
    """Scores of all splits after a repair; validation and test rows as a sweep evaluates them."""
    post = repair.post
    rows = data.splits.train

    @jax.jit
    def apply(scores: Scores, splits: Splits) -> Scores:
        return repair_scores(post, scores, splits, repair.amount)

    train = post.apply(repair.state, scores["train"], rows.groups, amount=repair.amount)
    evaluated = apply(_evaluated(scores), data.splits)
    return jax.tree.map(np.asarray, {"train": train, **evaluated})


def _thresholds(data: Prepared, study: Study, scores: Scores) -> tuple[float | None, ...]:
    """The thresholds of a model's decisions on new rows."""
    found = study.thresholds(_evaluated(scores), data.splits)
    thresholds = []
    for task, threshold in zip(data.spec.tasks, found, strict=True):
        is_binary = task.kind == "binary"
        thresholds.append(float(threshold) if is_binary else None)
    return tuple(thresholds)


def _metrics(data: Prepared, study: Study, scores: Scores) -> dict[Metric, float]:
    """The metrics of a model's decisions."""
    found = study.measured(_evaluated(scores), data.splits)
    return {key: float(value) for key, value in found.items()}


def _evaluated(scores: Scores) -> Scores:
    return {split: scores[split] for split in SPLITS}


def post_named(study: Study, name: str) -> Post:
    """A study's repair by name.

    Raises:
      DataError: the study has no such repair.
    """
    for post in study.repairs:
        if post.name == name:
            return post
    existing = ", ".join(post.name for post in study.repairs) or "none"
    raise DataError(f"the study has no repair {name!r}; it has {existing}")


def _fit_repair(post: Post, amount: float, scores: Scores, data: Prepared) -> SavedRepair:
    pool = data.splits.validation
    fit = jax.jit(post.fit)
    device_state = fit(*post.pool(scores["validation"], pool))
    state = jax.tree.map(np.asarray, device_state)
    return SavedRepair(post, state, amount, len(pool.weight))


def _check_loaded(
    folder: Path, description: dict[str, Any], params: PyTree, fitted: SavedRepair | None
) -> None:
    """Refuse values that no trained model has."""
    decision = description["decision"]
    if decision not in DECISIONS:
        allowed = ", ".join(DECISIONS)
        raise DataError(
            f"{folder}: its decision {decision!r} is none of {allowed}. Train it again."
        )
    thresholds = [value for value in description["thresholds"] if value is not None]
    numbers = {"parameters": params, "thresholds": np.array(thresholds, np.float64)}
    if fitted is not None:
        numbers["repair"] = [fitted.state, np.float64(fitted.amount)]
    for name, tree in numbers.items():
        if not all(_is_finite(leaf) for leaf in jax.tree.leaves(tree)):
            raise DataError(f"{folder}: its {name} are not all finite numbers. Train it again.")


def _is_finite(leaf: np.ndarray) -> bool:
    leaf = np.asarray(leaf)
    return leaf.dtype.kind not in "fc" or bool(np.isfinite(leaf).all())


def _branches(folder: Path, arrays: dict[str, np.ndarray], model: Model) -> np.ndarray:
    """The labels ``[D, T]`` of a network that branches."""
    shape = (len(model.layers), model.copies)
    labels = arrays.get("branches")
    if labels is None or labels.shape != shape or labels.dtype.kind != "i":
        actual = "nothing" if labels is None else f"{labels.dtype} {labels.shape}"
        raise DataError(
            f"{folder}: its branches should be whole numbers {shape}, but are {actual}; it belongs "
            "to another model"
        )
    return labels


def _load_repair(
    folder: Path,
    description: dict[str, Any] | None,
    arrays: dict[str, np.ndarray],
    spec: Spec,
    study: Study | None,
    post: Post | None,
) -> SavedRepair | None:
    if description is None:
        return None
    if post is None:
        if study is None:
            raise DataError(f"{folder}: its repair is no entry of a registry. Give it as repair=.")
        post = post_named(study, description["name"])
    rows = description["pool_rows"]
    columns = sum(task.score_width for task in spec.tasks)
    groups = sum(attribute.width for attribute in spec.attributes)
    labels = len(spec.label_tasks)
    shapes = [(rows, columns), (rows, labels), (rows, labels), (rows, groups), (rows,)]
    scores, *fields = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    pool = Dataset(None, *fields)
    state_shapes = jax.eval_shape(post.fit, *post.pool(scores, pool))
    state = filled("repair", state_shapes, arrays, folder)
    return SavedRepair(post, state, description["amount"], rows)


def _check_groups(spec: Spec, groups: np.ndarray) -> None:
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            continue
        members = groups[:, spec.group_slice(i)]
        if not np.any(members):
            levels = ", ".join(attribute.levels)
            raise DataError(
                f"the scores of this model are repaired by {attribute.name!r}, but none of the "
                f"{len(groups)} rows has a level that it knows ({levels}). Give that column too, "
                "or train without --repair."
            )


def _flat(prefix: str, tree: PyTree) -> dict[str, np.ndarray]:
    """Leaves by key path."""
    arrays = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        arrays[_leaf_name(prefix, path)] = np.asarray(leaf)
    return arrays


def filled(
    prefix: str,
    shapes: PyTree,
    arrays: dict[str, np.ndarray],
    where: Path,
) -> PyTree:
    """A tree of these shapes from arrays by key path.

    Raises:
      DataError: an array is absent or has another shape.
    """

    def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> np.ndarray:
        name = _leaf_name(prefix, path)
        array = arrays.get(name)
        if array is None or array.shape != shape.shape:
            actual = "nothing" if array is None else array.shape
            raise DataError(
                f"{where}: {name} should be {shape.shape}, but is {actual}; it belongs to another "
                "model"
            )
        return array

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def _leaf_name(prefix: str, path: tuple[Any, ...]) -> str:
    place = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"{prefix}.{place}" if place else prefix
