"""What explains one run.

It is the point behind a row of the table, its statistics in every group, and its conflicts.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from fairjax.core.disk import check_files, read_json
from fairjax.core.keys import Metric
from fairjax.core.tables import has_table, read_table
from fairjax.core.types import Array, Components, DataError, PyTree, Splits
from fairjax.data import Prepared, reload
from fairjax.gradients import link_states, observe
from fairjax.metrics import GroupTable, group_table
from fairjax.postprocess import Audit, audit_model
from fairjax.study.config import NamedStudy
from fairjax.study.evaluation import Scores
from fairjax.study.run import Results, Study, from_names
from fairjax.study.saved import (
    Decisions,
    Point,
    SavedModel,
    decisions_of,
    filled,
    finished_model,
    scores_of,
    train_params,
)
from fairjax.study.table import repaired_name
from fairjax.training import kept_arrays, keys, make_train

FORMAT = 1  # of study.json
ROUNDING = 1e-5  # a decision that differs changes a metric by more
AUDITED = "barycenter"  # the repair that an audit measures


class Explanation(NamedTuple):
    """A closer look at one run."""

    groups: GroupTable
    audit: Audit | None
    # entries "groups" and "repair" of the study's info: of which run they are
    info: dict[str, dict[str, Any]]


def point_of(results: Results, run: int) -> Point:
    """The point behind a run of a study's table; that of an estimator has no hyper-parameters.

    Raises:
      DataError: the run is a single-task reference, or there is no such run.
    """
    study = results.study
    table = results.table
    if not 0 <= run < table.rows:
        raise DataError(f"run {run}: give a number from 0 to {table.rows - 1}, a row of the table.")
    name = str(table["method"][run])
    if name in results.info["reference_methods"]:
        raise DataError(
            f"run {run} is a single-task reference, one network per task. Choose a run of another "
            "method."
        )
    index = int(table["point"][run])
    seed = int(table["seed"][run])
    for method in (*study.recipes, *study.estimators):
        all_hparams, _ = study.points(method)
        if name == method:
            return Point(method, _at(all_hparams, index), seed, None)
        for post in study.repairs:
            if name == repaired_name(method, post.name):
                point, place = divmod(index, len(study.amounts))
                repair = (post.name, study.amounts[place])
                return Point(method, _at(all_hparams, point), seed, repair)
    raise DataError(f"run {run}: the study has no method {name!r}")


def model_of_run(
    data: Prepared,
    results: Results,
    run: int,
) -> tuple[SavedModel, Scores]:
    """The model of a run: its parameters where the study kept them.

    Otherwise the run is trained again, which gives the same up to rounding.

    Args:
      data: the data of the study.
      results: of :func:`fairjax.study.run_study` or :func:`load_results`.
      run: a row of its table.

    Returns:
      The model, and its scores ``[N, C]`` of the rows of all splits.

    Raises:
      DataError: the run is a single-task reference, which is one network per task, or one of an
        estimator from outside; it diverged, or there is no such run.
    """
    point = _ended_point(results, run)
    params = params_of(data, results, run)
    model, scores = finished_model(data, results.study, point, params)
    if not different_metrics(model, results, run):
        # equal up to rounding: the model has the very numbers of the table
        metrics = {key: float(results.table[key][run]) for key in model.metrics}
        model = dataclasses.replace(model, metrics=metrics)
    return model, scores


def params_of(data: Prepared, results: Results, run: int) -> PyTree:
    """The parameters of a run, as kept or trained again; see :func:`model_of_run`."""
    study = results.study
    point = point_of(results, run)
    recipe = study.recipe(point.method)
    member = member_of(results, run)
    kept = results.params.get(point.method)
    if kept is not None:
        return jax.tree.map(lambda leaf: leaf[member], kept)
    if results.sweeps is not None:
        folder = results.sweeps / point.method
        arrays = kept_arrays(folder, member)
        if any(name.startswith("params.") for name in arrays):
            model = recipe.build(point.hparams).model
            shapes = jax.eval_shape(model.init, jax.random.key(0))
            return filled("params", shapes, arrays, folder)
    return train_params(data, study, point)


def scores_of_run(data: Prepared, results: Results, run: int) -> Scores:
    """Scores ``[N, C]`` of the rows of all splits, before any repair.

    They are those of the run's model, see :func:`model_of_run`, or of an estimator, as kept.

    Raises:
      DataError: as :func:`model_of_run` does; an estimator's scores are absent or damaged.
    """
    study = results.study
    point = _ended_point(results, run)
    if point.method not in study.estimators:
        params = params_of(data, results, run)
        model = study.recipe(point.method).build(point.hparams).model
        return scores_of(data, study, model, params)
    member = member_of(results, run)
    if results.sweeps is None:
        kept = results.scores[point.method]
        return {split: scores[member] for split, scores in kept.items()}
    folder = results.sweeps / point.method
    arrays = kept_arrays(folder, member)
    if not arrays:
        raise DataError(
            f"{folder}: the scores of run {run} are not here. Run the sweep again with --resume."
        )
    return {split: arrays[f"scores.{split}"] for split in Splits._fields}


def _ended_point(results: Results, run: int) -> Point:
    """The point of a run that did not diverge."""
    point = point_of(results, run)
    if results.table["diverged"][run]:
        raise DataError(f"run {run} diverged, so there is no model to keep. Choose another run.")
    return point


def different_metrics(model: SavedModel, results: Results, run: int) -> list[Metric]:
    """Metrics of a model that are not those of its run in the table, up to rounding."""
    different = []
    for key, value in model.metrics.items():
        expected = float(results.table[key][run])
        if not np.isclose(value, expected, rtol=ROUNDING, atol=ROUNDING, equal_nan=True):
            different.append(key)
    return different


def load_results(folder: Path) -> tuple[Prepared, Results]:
    """The data and the results of a finished sweep on disk.

    Raises:
      DataError: the folder holds no finished sweep.
    """
    info = read_study(folder)
    data = reload(info["source"])
    study = from_names(data, NamedStudy.from_json(info["study"]))
    results = Results(study, read_table(folder), info, sweeps=folder / "sweeps")
    return data, results


def read_study(folder: Path) -> dict[str, Any]:
    """The description of a finished sweep: names, settings, candidates.

    Raises:
      DataError: the folder holds no finished sweep, one of another format, or a file is damaged.
    """
    missing = [] if (folder / "study.json").exists() else ["study.json"]
    if not has_table(folder):
        missing.append("table.csv")
    if missing:
        raise DataError(
            f"{folder}: no finished sweep here (no {' and no '.join(missing)}). Finish it: fairjax "
            f"frontier --out {shlex.quote(str(folder))} --resume, with the options of its start."
        )
    info = read_json(folder / "study.json")
    if info.get("format") != FORMAT:
        raise DataError(
            f"{folder}: a sweep of format {info.get('format')!r}, this version reads {FORMAT}. Run "
            "it again."
        )
    check_files(folder, info.get("checksums", {}))
    return info


def member_of(results: Results, run: int) -> int:
    """The place of a run's network among the members of its method's sweep."""
    study = results.study
    point = point_of(results, run)
    _, seeds = study.points(point.method)
    if point.method in study.recipes and study.recipes[point.method].told:
        # one network per seed is told the hyper-parameters of every point
        return seeds.index(point.seed)
    index = int(results.table["point"][run])
    if point.repair is not None:
        index //= len(study.amounts)
    return index * len(seeds) + seeds.index(point.seed)


def groups_of(
    data: Prepared, study: Study, model: SavedModel | Decisions, scores: Scores
) -> GroupTable:
    """Every statistic in every group of the test rows, of scores decided at a model's thresholds.

    Groups of fewer rows than ``config.smallest_group`` are left out.
    """
    config = study.config
    rng = np.random.default_rng(config.seed)
    return group_table(
        data.spec,
        scores["test"],
        data.splits.test,
        rng,
        thresholds=model.thresholds,
        minimum=config.smallest_group,
    )


def explain_run(data: Prepared, results: Results, run: int) -> Explanation:
    """The group table of a run, and the audit of its repair.

    There is an audit where the study has the repair ``AUDITED`` and no other repair made the run.
    Its amount is that of the run, or the largest of the study where the run is not repaired.
    """
    study = results.study
    unrepaired = scores_of_run(data, results, run)
    decisions = decisions_of(data, study, point_of(results, run), unrepaired)
    groups = groups_of(data, study, decisions, decisions.scores)
    subject = {"run": run, "method": str(results.table["method"][run])}
    smallest = study.config.smallest_group
    info = {"groups": subject | {"minimum": smallest, "left_out": groups.left_out}}
    name = AUDITED
    amount = max(study.amounts, default=None)
    if decisions.repair is not None:
        name = decisions.repair.post.name
        amount = decisions.repair.amount
    repairs = [post.name for post in study.repairs]
    if name != AUDITED or name not in repairs:
        return Explanation(groups, None, info)
    audit = audit_model(data, unrepaired, amount)
    info["repair"] = subject
    return Explanation(groups, audit, info)


def conflicts_of(
    data: Prepared, study: Study, point: Point
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Cosines between a method's rows of gradients at every step of a run.

    Returns:
      Cosines ``[steps, M, K, K]`` layer by layer, and the names of the K rows and the M layers, for
      :func:`fairjax.report.write_conflicts`. A layer that only one row reaches (of a task's own
      head) is left out.

    Raises:
      DataError: the method makes one loss of all tasks, so that there are no rows, or it is an
        estimator from outside.
    """
    recipe = study.recipe(point.method)
    components = recipe.build(point.hparams)
    rows = components.objective.rows
    shapes = jax.eval_shape(components.model.init, jax.random.key(0))
    if len(rows) < 2:
        raise DataError(
            f"--conflicts: {point.method} takes one gradient of all its losses, so there are none "
            "to be in conflict. Choose a method with one per task, such as pcgrad, or per task "
            "and loss, such as pcgrad_split."
        )

    def build(hparams: PyTree) -> Components:
        components = recipe.build(hparams)
        observed = optax.chain(observe(len(rows), per=_layer), components.transform)
        return components._replace(transform=observed)

    def watch(state: PyTree) -> Array:
        first_link = link_states(state.opt_state)[0]
        return first_link.cosines

    observed_recipe = recipe._replace(build=build)
    train = make_train(study.config.train_config, observed_recipe, watch=watch)
    (key,), order_key = keys(study.config.seed, np.asarray([point.seed]))
    trained = jax.jit(train)(key, order_key, point.hparams, data.splits.train)
    cosines_smkk = np.asarray(trained.watched)
    paths = [path for path, _ in jax.tree.leaves_with_path(shapes)]
    layers = dict.fromkeys(_layer(path) for path in paths)
    first, second = np.triu_indices(len(rows), 1)
    cosines_smp = cosines_smkk[:, :, first, second]
    is_shared_m = np.any(cosines_smp, axis=(0, 2))
    names = tuple(name for name, shared in zip(layers, is_shared_m, strict=True) if shared)
    return cosines_smkk[:, is_shared_m], rows, names


def _layer(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path[:-1], simple=True, separator="/")


def _at(hparams: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(values)[index] for name, values in hparams.items()}
