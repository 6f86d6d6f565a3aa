"""What explains one run.

It is the point behind a row of the table, its statistics in every group, and its conflicts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

from fairjax.core.disk import read_arrays
from fairjax.core.tables import Table, read_csv
from fairjax.core.types import Array, Components, DataError, PyTree
from fairjax.data import Prepared, reload
from fairjax.gradients import link_states, observe
from fairjax.metrics import GroupTable, group_table
from fairjax.postprocess import Audit, audit_model
from fairjax.study.config import NamedStudy
from fairjax.study.evaluation import SPLITS
from fairjax.study.run import Results, Study, from_names
from fairjax.study.saved import SavedModel, post_named, repaired, thresholds_of, train_one
from fairjax.study.table import repaired_name
from fairjax.training import keys, make_train

AUDITED = "barycenter"  # the repair that an audit measures
MINIMUM = 10.0  # weight of a group that has statistics of its own


class Point(NamedTuple):
    """What was trained for a row of the table."""

    method: str
    hparams: dict[str, np.ndarray]
    seed: int
    repair: tuple[str, float] | None  # name and amount


class Explanation(NamedTuple):
    """A closer look at one run."""

    groups: GroupTable
    audit: Audit | None
    # entries "groups" and "repair" of the study's info: of which run they are
    info: dict[str, dict]


def point_of(study: Study, table: Table, run: int) -> Point:
    """The point behind a run of a study's table."""
    name = str(table["method"][run])
    index = int(table["point"][run])
    seed = int(table["seed"][run])
    for method in study.recipes:
        all_hparams, _ = study.points(method)
        if name == method:
            hparams = _at(all_hparams, index)
            return Point(method, hparams, seed, None)
        for post in study.repairs:
            if name == repaired_name(method, post.name):
                point, place = divmod(index, len(study.amounts))
                hparams = _at(all_hparams, point)
                repair = (post.name, study.amounts[place])
                return Point(method, hparams, seed, repair)
    raise DataError(f"run {run}: the study has no method {name!r}")


def train_run(
    data: Prepared, results: Results, run: int
) -> tuple[SavedModel, dict[str, np.ndarray]]:
    """Train a run of a study again, to keep it.

    Args:
      data: the data of the study.
      results: of :func:`fairjax.study.run_study`.
      run: a row of its table.

    Returns:
      The model, and its scores ``[N, C]`` of the validation and test rows.

    Raises:
      DataError: the run is a single-task reference, which is one network per task.
    """
    refuse_reference(results.info, results.table, run)
    point = point_of(results.study, results.table, run)
    return train_one(data, results.study, point.method, point.hparams, point.seed, point.repair)


def refuse_reference(info: dict, table: Table, run: int) -> None:
    """Refuse a run that is a single-task reference."""
    method = str(table["method"][run])
    if method in info["reference_methods"]:
        raise DataError(
            f"run {run} is a single-task reference, one network per task. Choose a run of another "
            "method."
        )


def load_point(folder: Path, run: int | None) -> tuple[Prepared, Study, Point]:
    """Data, study and point of a run of a finished sweep on disk.

    Raises:
      DataError: the folder holds no finished sweep, or it has no such run, or the run is a
        single-task reference.
    """
    study_file = folder / "study.json"
    table_file = folder / "table.csv"
    if not study_file.exists() or not table_file.exists():
        raise DataError(
            f"{folder}: no finished sweep here (study.json and table.csv). Make one with 'fairjax "
            "frontier'."
        )
    info = json.loads(study_file.read_text())
    table = read_csv(table_file)
    if run is None or run >= table.rows:
        last_run = table.rows - 1
        raise DataError(f"--run: give a number from 0 to {last_run}, a row of {table_file}.")
    refuse_reference(info, table, run)
    data = reload(info["source"])
    names = NamedStudy.from_json(info["study"])
    study = from_names(data, names)
    return data, study, point_of(study, table, run)


def member_of(study: Study, table: Table, run: int) -> int:
    """The place of a run among the members of its method's sweep."""
    methods = table["method"]
    same_method = methods[:run] == methods[run]
    place = int(same_method.sum())
    if point_of(study, table, run).repair is None:
        return place
    return place // len(study.amounts)


def groups_of(data: Prepared, study: Study, scores: dict[str, np.ndarray]) -> GroupTable:
    """Every statistic in every group of the test rows, decided at base rates.

    Groups of less weight than ``MINIMUM`` are left out.
    """
    rng = np.random.default_rng(study.config.seed)
    thresholds = thresholds_of(data, scores["validation"])
    return group_table(
        data.spec,
        scores["test"],
        data.splits.test,
        rng,
        thresholds=thresholds,
        minimum=MINIMUM,
    )


def explain_run(
    data: Prepared, study: Study, table: Table, run: int, sweeps: Path | None = None
) -> Explanation:
    """The group table of a run, and the audit of its repair.

    There is an audit where the study has the repair ``AUDITED`` and no other repair made the run.
    Its amount is that of the run, or the largest of the study where the run is not repaired.

    Args:
      data: the data.
      study: the study.
      table: of the study's runs.
      run: a row of the table.
      sweeps: folder of the methods' sweeps. Scores that they kept are read; otherwise the run is
        trained again.
    """
    point = point_of(study, table, run)
    member = member_of(study, table, run)
    scores = _scores_of(data, study, point, member, sweeps)
    if point.repair is None:
        name = AUDITED
        amount = max(study.amounts, default=None)
        final_scores = scores
    else:
        name, amount = point.repair
        final_scores = repaired(post_named(study, name), data, scores, amount)
    groups = groups_of(data, study, final_scores)
    subject = {"run": run, "method": str(table["method"][run])}
    info = {"groups": subject | {"minimum": MINIMUM, "left_out": groups.left_out}}
    repairs = [post.name for post in study.repairs]
    if name != AUDITED or name not in repairs:
        return Explanation(groups, None, info)
    audit = audit_model(data, scores, amount)
    info["repair"] = subject
    return Explanation(groups, audit, info)


def kept_scores(folder: Path, member: int) -> dict[str, np.ndarray] | None:
    """Scores of the validation and test rows that the sweep of one method kept of a member.

    Args:
      folder: of the sweep, with its chunk files; see :mod:`fairjax.training.manifest`.
      member: place of the run in the sweep.

    Returns:
      ``[N, C]`` by split; None where the sweep kept no scores.
    """
    files = {}
    for file in folder.glob("chunk-*.npz"):
        first_member = int(file.stem.removeprefix("chunk-"))
        if first_member <= member:
            files[first_member] = file
    if not files:
        return None
    first = max(files)
    arrays = read_arrays(files[first])
    if "scores.test" not in arrays:
        return None
    place = member - first
    return {split: arrays[f"scores.{split}"][place] for split in SPLITS}


def _scores_of(
    data: Prepared, study: Study, point: Point, member: int, sweeps: Path | None
) -> dict[str, np.ndarray]:
    """Scores of a run before any repair, read or trained again."""
    # a network that is told hyper-parameters has no member per run
    has_members = not study.recipes[point.method].told
    if sweeps is not None and has_members:
        scores = kept_scores(sweeps / point.method, member)
        if scores is not None:
            return scores
    _, scores = train_one(data, study, point.method, point.hparams, point.seed)
    return scores


def conflicts_of(
    data: Prepared, study: Study, point: Point
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Cosines between a method's rows of gradients at every step of a run.

    Returns:
      Cosines ``[steps, M, K, K]`` layer by layer, and the names of the K rows and the M layers, for
      :func:`fairjax.report.write_conflicts`. A layer that only one row reaches (of a task's own
      head) is left out.

    Raises:
      DataError: the method makes one loss of all tasks, so that there are no rows.
    """
    recipe = study.recipes[point.method]
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


def _layer(path: tuple) -> str:
    return jax.tree_util.keystr(path[:-1], simple=True, separator="/")


def _at(hparams: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(values)[index] for name, values in hparams.items()}
