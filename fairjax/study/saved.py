"""A trained model, alone and on disk.

The files are JSON for names and npz for arrays, formats that execute nothing when loaded.
``model.json`` holds the encoder, the names of the method and the network, the hyper-parameters and
the decision thresholds. ``params.npz`` holds the parameters and the state of the repair by key
path. A network or a repair that no registry has is given again when the model is loaded.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from fairjax.core.disk import read_arrays, write_arrays, write_json
from fairjax.core.keys import Metric, escape, parse_key
from fairjax.core.tables import write_csv
from fairjax.core.types import DataError, Model, Post, PyTree, Spec
from fairjax.data import Encoder, Prepared
from fairjax.losses import probabilities
from fairjax.metrics import base_rate_threshold, base_rates
from fairjax.models import scores as model_scores
from fairjax.study.config import NamedStudy
from fairjax.study.evaluation import evaluator, repair_scores
from fairjax.study.run import Study, from_names
from fairjax.training import sweep

FORMAT = 2
FILES = ("model.json", "params.npz")


@dataclasses.dataclass(frozen=True)
class SavedRepair:
    """A fitted repair of a model's scores."""

    post: Post
    state: PyTree
    amount: float
    pool_rows: int  # rows that it was fitted on


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A trained model with what it needs to score new rows."""

    encoder: Encoder
    model: Model
    params: PyTree
    method: str
    hparams: dict[str, np.ndarray]  # each without a leading axis
    thresholds: tuple[float | None, ...]  # per task, on the score: the base rate on validation rows
    metrics: dict[Metric, float]
    repair: SavedRepair | None = None
    names: NamedStudy | None = None  # where the network and the repair come from the registries

    def predict(self, source) -> dict[str, np.ndarray]:
        """Probabilities and decisions for new rows.

        Binary: ``name`` (probability), ``name decision`` (probability at least one half) and
        ``name decision at base rate``. Multiclass and multilabel: a column per class or label.
        Regression: the prediction. With a repair, a row whose group is unknown is ranked among all
        rows.

        Args:
          source: a CSV path, a data frame or a dict of arrays.

        Returns:
          Columns ``[N]`` by name.

        Raises:
          DataError: the model's scores are repaired, and no row's level of an attribute is known.
        """
        data = self.encoder.encode(source)
        spec = self.encoder.spec
        scores = model_scores(self.model, self.params, data.x)
        if self.repair is not None:
            _check_groups(spec, data.groups)
            post = self.repair.post
            amount = self.repair.amount
            scores = post.apply(self.repair.state, scores, data.groups, amount=amount)
        return prediction_columns(spec, np.asarray(scores), self.thresholds)

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder."""
        folder = Path(folder)
        arrays = _flat("params", self.params)
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
            "thresholds": self.thresholds,
            "metrics": {str(key): value for key, value in self.metrics.items()},
            "repair": repair,
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
    description = json.loads((folder / "model.json").read_text())
    arrays = read_arrays(folder / "params.npz")
    encoder = Encoder.from_json(description["encoder"])
    method = description["method"]
    hparams = {name: np.float32(value) for name, value in description["hparams"].items()}
    metrics = {parse_key(text): value for text, value in description["metrics"].items()}
    names = None
    study = None
    if description["study"]:
        names = NamedStudy.from_json(description["study"])
        study = from_names(encoder.spec, names)
    if model is None:
        if study is None:
            raise DataError(f"{folder}: its network is no entry of a registry. Give it as model=.")
        model = study.recipes[method].build(hparams).model
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = _filled("params", shapes, arrays)
    fitted = _load_repair(folder, description["repair"], arrays, encoder.spec, study, repair)
    return SavedModel(
        encoder=encoder,
        model=model,
        params=params,
        method=method,
        hparams=hparams,
        thresholds=tuple(description["thresholds"]),
        metrics=metrics,
        repair=fitted,
        names=names,
    )


def train_one(
    data: Prepared,
    study: Study,
    method: str,
    hparams: dict[str, np.ndarray],
    seed: int,
    repair: tuple[str, float] | None = None,
) -> tuple[SavedModel, dict[str, np.ndarray]]:
    """Train one point with one seed, as a sweep would.

    Args:
      data: the data.
      study: has the method.
      method: a name of its methods.
      hparams: arrays without a leading axis.
      seed: of the member.
      repair: name and amount of one of the study's repairs; None for scores as they are.

    Returns:
      The model, and the scores ``[N, C]`` of the validation and test rows, repaired where the model
      repairs.
    """
    recipe = study.recipes[method]
    post = None
    posts = []
    amounts = []
    if repair is not None:
        name, amount = repair
        post = post_named(study, name)
        posts.append(post)
        amounts.append(amount)
    runs = sweep(
        recipe,
        study.config.train_config,
        {name: np.asarray(value)[None] for name, value in hparams.items()},
        [seed],
        data.splits,
        evaluator(data.spec, posts, amounts),
        root=study.config.seed,
        keep=("params", "scores"),
        chunk=1,
        devices=jax.local_devices()[:1],
    )
    params = jax.tree.map(lambda leaf: leaf[0], runs.params)
    scores = {split: value[0] for split, value in runs.scores.items()}
    if post is None:
        metrics = {key: float(value[0]) for key, value in runs.metrics["plain"].items()}
        fitted = None
    else:
        metrics = {key: float(value[0, 0]) for key, value in runs.metrics[post.name].items()}
        fitted = _fit_repair(post, amount, scores, data)
        scores = repaired(post, data, scores, amount)
    model = SavedModel(
        encoder=data.encoder,
        model=recipe.build(hparams).model,
        params=params,
        method=method,
        hparams=hparams,
        thresholds=thresholds_of(data, scores["validation"]),
        metrics=metrics,
        repair=fitted,
        names=study.names,
    )
    return model, scores


def repaired(
    post: Post, data: Prepared, scores: dict[str, np.ndarray], amount: float
) -> dict[str, np.ndarray]:
    """Scores of the validation and test rows after a repair, as a sweep evaluates them."""
    repair = jax.jit(lambda scores, splits: repair_scores(post, scores, splits, amount))
    repaired_scores = repair(scores, data.splits)
    return jax.tree.map(np.asarray, repaired_scores)


def thresholds_of(data: Prepared, scores: np.ndarray) -> tuple[float | None, ...]:
    """The thresholds at which scores select the base rate of the training labels.

    Args:
      data: the data.
      scores: ``[N, C]`` of the validation rows.

    Returns:
      A threshold per binary task, and None for every other task.
    """
    spec = data.spec
    rows = data.splits.validation
    rates = base_rates(spec, data.splits.train)
    thresholds = []
    for t, task in enumerate(spec.tasks):
        if task.kind != "binary":
            thresholds.append(None)
            continue
        score_column = spec.score_slice(t).start
        label_column = spec.label_slice(t).start
        weight = rows.weight * rows.label_mask[:, label_column]
        threshold = base_rate_threshold(scores[:, score_column], weight, rates[t])
        thresholds.append(float(threshold))
    return tuple(thresholds)


def prediction_columns(
    spec: Spec, scores: np.ndarray, thresholds: tuple[float | None, ...]
) -> dict[str, np.ndarray]:
    """Scores ``[N, C]`` as columns by name; see :meth:`SavedModel.predict`."""
    names = []
    for task in spec.tasks:
        names.append(task.name)
        names += [f"{task.name}={level}" for level in task.levels]
    is_ambiguous = len(set(names)) < len(names)
    probs = probabilities(spec, scores)
    columns = {}
    for t, task in enumerate(spec.tasks):
        prob = probs[t]
        name = escape(task.name) if is_ambiguous else task.name
        if task.kind in ("multiclass", "multilabel"):
            for c, level in enumerate(task.levels):
                label = escape(level) if is_ambiguous else level
                columns[f"{name}={label}"] = np.asarray(prob[:, c])
            continue
        columns[name] = np.asarray(task.in_units(prob[:, 0]))
        if task.kind == "binary":
            score = scores[:, spec.score_slice(t).start]
            above_half = score >= 0
            above_base_rate = score >= thresholds[t]
            columns[f"{name} decision"] = above_half.astype(int)
            columns[f"{name} decision at base rate"] = above_base_rate.astype(int)
    return columns


def write_predictions(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write :func:`prediction_columns` as CSV, after a column ``row`` that counts from 0.

    Decisions are 0 or 1.
    """
    first_column = next(iter(columns.values()))
    rows = len(first_column)
    cells = {"row": np.arange(rows)}
    for name, values in columns.items():
        is_decision = values.dtype.kind == "i"
        cells[name] = values.astype(str) if is_decision else values
    return write_csv(path, cells)


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


def _fit_repair(
    post: Post, amount: float, scores: dict[str, np.ndarray], data: Prepared
) -> SavedRepair:
    pool = data.splits.validation
    fit = jax.jit(post.fit)
    device_state = fit(scores["validation"], pool.groups, pool.weight)
    state = jax.tree.map(np.asarray, device_state)
    return SavedRepair(post, state, amount, len(pool.weight))


def _load_repair(
    folder: Path,
    description: dict | None,
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
    shapes = [(rows, columns), (rows, groups), (rows,)]
    pool = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    state_shapes = jax.eval_shape(post.fit, *pool)
    state = _filled("repair", state_shapes, arrays)
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
        name = f"{prefix}{jax.tree_util.keystr(path)}"
        arrays[name] = np.asarray(leaf)
    return arrays


def _filled(prefix: str, shapes: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    """A tree of these shapes from arrays by key path."""

    def leaf(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        name = f"{prefix}{jax.tree_util.keystr(path)}"
        array = arrays.get(name)
        if array is None or array.shape != shape.shape:
            actual = "nothing" if array is None else array.shape
            raise DataError(
                f"params.npz: {name} should be {shape.shape}, but is {actual}; it belongs to "
                "another model.json"
            )
        return array

    return jax.tree_util.tree_map_with_path(leaf, shapes)
