"""A trained model on disk, in formats that execute nothing when loaded: JSON for words, npz for arrays.

``model.json`` holds the encoder, the plan, the hparams and the decision thresholds; ``params.npz`` the parameters by key
path.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import optax

from fairjax.core.disk import read_arrays, write_arrays, write_json
from fairjax.core.types import Components, DataError, PyTree, Spec
from fairjax.data import Encoder, Prepared
from fairjax.gradients import link_states, observe
from fairjax.losses import probabilities
from fairjax.metrics import GroupTable, base_rate_threshold, base_rates, group_table
from fairjax.models import scores as model_scores
from fairjax.postprocess import QuantileTable, model_barycenter
from fairjax.study._study import StudyConfig, evaluator, recipe, repaired
from fairjax.training import keys, make_train, sweep

MINIMUM = 10.0  # weight of a group that has statistics of its own


@dataclasses.dataclass(frozen=True)
class Saved:
    """A trained model with what it needs to score new rows."""

    encoder: Encoder
    plan: StudyConfig
    method: str
    hparams: dict[str, np.ndarray]  # each without a leading axis
    params: PyTree
    thresholds: tuple[
        float | None, ...
    ]  # per task, on the score: the base-rate rule on validation rows
    metrics: dict[str, float]
    repair: float | None = None  # amount by which scores are repaired
    table: QuantileTable | None = None  # of that repair, fitted on the validation rows

    def predict(self, source) -> dict[str, np.ndarray]:
        """Probabilities and decisions for new rows (CSV path, data frame or dict of arrays), columns ``[N]``.

        Binary: ``name`` (probability), ``name decision`` (probability at least one half) and ``name decision at base
        rate``. Multiclass: a column per class. Regression: the prediction. With a repair, a row whose group is unknown is
        ranked among all rows.

        Raises:
          DataError: the model's scores are repaired, and of an attribute no row's level is known.
        """
        data = self.encoder.encode(source)
        spec = self.encoder.spec
        model = recipe(self.plan, spec, self.method).build(self.hparams).model
        scores = model_scores(model, self.params, data.x)
        if self.table is not None:
            for i, attribute in enumerate(spec.attributes):
                if not attribute.continuous and not np.any(data.groups[:, spec.group_slice(i)]):
                    raise DataError(
                        f"the scores of this model are repaired by {attribute.name!r}, of which none of the "
                        f"{len(scores)} rows has a level it knows ({', '.join(attribute.levels)}). Give that "
                        "column too, or train without --repair."
                    )
            scores = model_barycenter(spec).apply(
                self.table, scores, data.groups, amount=self.repair
            )
        return columns(spec, np.asarray(scores), self.thresholds)


def columns(
    spec: Spec, scores: np.ndarray, thresholds: tuple[float | None, ...]
) -> dict[str, np.ndarray]:
    """Scores ``[N, C]`` as named columns; see :meth:`Saved.predict`."""
    out = {}
    for i, (task, prob) in enumerate(zip(spec.tasks, probabilities(spec, scores), strict=True)):
        if task.kind in ("multiclass", "multilabel"):
            out |= {
                f"{task.name}={level}": np.asarray(prob[:, c])
                for c, level in enumerate(task.levels)
            }
            continue
        out[task.name] = np.asarray(task.in_units(prob[:, 0]))
        if task.kind == "binary":
            score = scores[:, spec.score_slice(i).start]
            out[f"{task.name} decision"] = (score >= 0).astype(int)
            out[f"{task.name} decision at base rate"] = (score >= thresholds[i]).astype(int)
    return out


def train_one(
    prepared: Prepared,
    plan: StudyConfig,
    method: str,
    hparams: dict[str, np.ndarray],
    seed: int,
    repair: float | None = None,
) -> tuple[Saved, dict[str, np.ndarray]]:
    """Train one point with one seed, as a sweep would; also the scores of the validation and test rows.

    Args:
      prepared: data with its encoder.
      plan: shapes, notion, optimizer.
      method: a name of the recipes.
      hparams: arrays without a leading axis.
      seed: of the member.
      repair: amount by which scores are repaired after training; None for a model without repair.
    """
    spec, splits = prepared.spec, prepared.splits
    amounts = () if repair is None else (repair,)
    runs = sweep(
        recipe(plan, spec, method),
        plan.train_config,
        {k: np.asarray(v)[None] for k, v in hparams.items()},
        [seed],
        splits,
        evaluator(spec, amounts),
        root=plan.seed,
        keep=("params", "scores"),
        chunk=1,
        devices=jax.local_devices()[:1],
    )
    result = {name: v[0] for name, v in runs.results.items()}
    flat = {
        name.removeprefix("params"): v for name, v in result.items() if name.startswith("params")
    }
    model = recipe(plan, spec, method).build(hparams).model
    scores = {name: result[f"scores.{name}"] for name in ("validation", "test")}
    metrics, table = {name: float(v) for name, v in result.items() if v.ndim == 0}, None
    if repair is not None:
        table = jax.tree.map(
            np.asarray,
            jax.jit(model_barycenter(spec).fit)(
                scores["validation"], splits.validation.groups, splits.validation.weight
            ),
        )
        scores = repaired_scores(prepared, scores, repair)
        metrics |= {
            name.removeprefix("repaired."): float(v[0])
            for name, v in result.items()
            if name.startswith("repaired.")
        }
    thresholds = thresholds_of(prepared, scores["validation"])
    return Saved(
        prepared.encoder,
        plan,
        method,
        hparams,
        _filled(model.init, flat),
        thresholds,
        metrics,
        repair,
        table,
    ), scores


def repaired_scores(
    prepared: Prepared, scores: dict[str, np.ndarray], amount: float
) -> dict[str, np.ndarray]:
    """Scores of the validation and test rows after repair, as a sweep evaluates them."""
    after = jax.jit(lambda scores, splits: repaired(prepared.spec, scores, splits, amount))(
        scores, prepared.splits
    )
    return jax.tree.map(np.asarray, after)


def thresholds_of(prepared: Prepared, scores: np.ndarray) -> tuple[float | None, ...]:
    """Where each binary task's scores ``[N, C]`` of validation rows select the base rate of its training labels."""
    spec, rows, rates = (
        prepared.spec,
        prepared.splits.validation,
        base_rates(prepared.spec, prepared.splits.train),
    )
    return tuple(
        float(
            base_rate_threshold(
                scores[:, spec.score_slice(t).start],
                rows.weight * rows.label_mask[:, spec.label_slice(t).start],
                rates[t],
            )
        )
        if task.kind == "binary"
        else None
        for t, task in enumerate(spec.tasks)
    )


def groups_of(prepared: Prepared, plan: StudyConfig, scores: dict[str, np.ndarray]) -> GroupTable:
    """Every statistic in every group of the test rows, decided at base rates; groups of less than ``MINIMUM`` are left out."""
    return group_table(
        prepared.spec,
        scores["test"],
        prepared.splits.test,
        np.random.default_rng(plan.seed),
        thresholds=thresholds_of(prepared, scores["validation"]),
        minimum=MINIMUM,
    )


def kept_scores(folder: Path, member: int) -> dict[str, np.ndarray] | None:
    """Scores of the validation and test rows that a method's sweep in ``folder`` kept of a member; None if it kept none."""
    files = {int(file.stem.removeprefix("chunk-")): file for file in folder.glob("chunk-*.npz")}
    first = max((f for f in files if f <= member), default=None)
    held = {} if first is None else read_arrays(files[first])
    if "scores.test" not in held:
        return None
    return {name: held[f"scores.{name}"][member - first] for name in ("validation", "test")}


def conflicts_of(
    prepared: Prepared, plan: StudyConfig, method: str, hparams: dict[str, np.ndarray], seed: int
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Cosines between a method's rows of gradients at every step of the run that :func:`train_one` makes.

    Returns:
      Cosines ``[steps, M, K, K]`` layer by layer, and the names of the K rows and the M layers, for
      :func:`fairjax.report.write_conflicts`. A layer that only one row reaches (of a task's own head) is left out.

    Raises:
      DataError: the method makes one loss of all tasks, so that there are no rows.
    """
    made = recipe(plan, prepared.spec, method)
    parts = made.build(hparams)
    rows, shapes = parts.objective.rows, jax.eval_shape(parts.model.init, jax.random.key(0))
    if len(rows) < 2:
        raise DataError(
            f"--conflicts: {method} takes one gradient of all its losses, so there are none to be in conflict. "
            "Choose a method with one per task, such as pcgrad, or per task and loss, such as pcgrad_split."
        )

    def layer(path: tuple) -> str:
        return jax.tree_util.keystr(path[:-1], simple=True, separator="/")

    def build(hparams: PyTree) -> Components:
        parts = made.build(hparams)
        return parts._replace(transform=optax.chain(observe(len(rows), per=layer), parts.transform))

    train = make_train(
        plan.train_config,
        made._replace(build=build),
        watch=lambda state: link_states(state.opt_state)[0].cosines,
    )
    (key,), order_key = keys(plan.seed, np.asarray([seed]))
    cosines = np.asarray(jax.jit(train)(key, order_key, hparams, prepared.splits.train).watched)
    layers = tuple(dict.fromkeys(layer(path) for path, _ in jax.tree.leaves_with_path(shapes)))
    one, two = np.triu_indices(len(rows), 1)
    shared = np.any(cosines[:, :, one, two], axis=(0, 2))
    return (
        cosines[:, shared],
        rows,
        tuple(name for name, kept in zip(layers, shared, strict=True) if kept),
    )


def save(folder: Path, saved: Saved) -> None:
    """Write a trained model into a folder."""
    flat = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(saved.params)
    }
    if saved.table is not None:
        flat |= {f"repair.{name}": array for name, array in saved.table._asdict().items()}
    write_arrays(folder / "params.npz", flat)
    write_json(
        folder / "model.json",
        {
            "format": 1,
            "encoder": saved.encoder.to_json(),
            "plan": dataclasses.asdict(saved.plan),
            "method": saved.method,
            "hparams": {name: np.asarray(v).tolist() for name, v in saved.hparams.items()},
            "thresholds": saved.thresholds,
            "metrics": saved.metrics,
            "repair": saved.repair,
        },
    )


def load_saved(folder: Path) -> Saved:
    """Read a trained model.

    Raises:
      DataError: the folder holds none, or its parameters do not fit its description.
    """
    file = folder / "model.json"
    if not file.exists() or not (folder / "params.npz").exists():
        raise DataError(
            f"{folder}: no trained model here (model.json and params.npz). Make one with 'fairjax train'."
        )
    words = json.loads(file.read_text())
    flat = read_arrays(folder / "params.npz")
    encoder, plan = Encoder.from_json(words["encoder"]), StudyConfig(**words["plan"])
    hparams = {name: np.float32(v) for name, v in words["hparams"].items()}
    model = recipe(plan, encoder.spec, words["method"]).build(hparams).model
    amount = words.get("repair")
    table = (
        None
        if amount is None
        else QuantileTable(**{name: flat[f"repair.{name}"] for name in QuantileTable._fields})
    )
    return Saved(
        encoder,
        plan,
        words["method"],
        hparams,
        _filled(model.init, flat),
        tuple(words["thresholds"]),
        words["metrics"],
        amount,
        table,
    )


def _filled(init, flat: dict[str, np.ndarray]) -> PyTree:
    """Parameters of the model's shape from arrays by key path."""

    def leaf(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        if name not in flat or flat[name].shape != shape.shape:
            found = flat[name].shape if name in flat else "nothing"
            raise DataError(
                f"params.npz: {name} should be {shape.shape}, found {found}; it belongs to another model.json"
            )
        return flat[name]

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(init, jax.random.key(0)))
