"""A fitted repair on disk: ``repair.json`` holds names and parameters, ``repair.npz`` arrays."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.core.disk import read_arrays, read_json, write_arrays, write_json
from fairjax.core.types import DataError
from fairjax.postprocess._pool import Fingerprint
from fairjax.postprocess.quantile_table import QuantileTable
from fairjax.postprocess.scales import scale_name

NAMES = "repair.json"
ARRAYS = "repair.npz"
FORMAT = 1


def save_repair(repair, folder: Path) -> None:
    """Write a fitted repair into a folder.

    Raises:
      DataError: its scale has no name, and functions cannot be written.
    """
    params = repair.get_params()
    params["scale"] = _named_scale(params["scale"])
    feature_names = getattr(repair, "feature_names_in_", None)
    names = {
        "format": FORMAT,
        "params": {name: _as_json(value) for name, value in params.items()},
        "how": [_named_scale(repair._scale_), repair._small_],
        "tasks": repair.tasks_,
        "attributes": repair.attributes_,
        "levels": repair.levels_,
        "names": repair._names_,
        "pool": repair._pool_,
        "features": repair.n_features_in_,
        "feature_names": None if feature_names is None else feature_names.tolist(),
    }
    write_arrays(folder / ARRAYS, repair.table_._asdict() | {"centre": repair.centre_})
    write_json(folder / NAMES, names)


def load_repair(repair_class: type[Any], folder: Path):
    """Read what :func:`save_repair` wrote; executes nothing.

    Raises:
      DataError: the folder holds no repair, or a repair whose parts do not fit one another.
    """
    if not (folder / NAMES).is_file() or not (folder / ARRAYS).is_file():
        raise DataError(
            f"{folder}: no repair here ({NAMES} and {ARRAYS}). Make one with 'fairjax repair' "
            "or save()."
        )
    names = read_json(folder / NAMES)
    arrays = read_arrays(folder / ARRAYS)
    if names.get("format") != FORMAT:
        raise DataError(
            f"{folder}: a repair of format {names.get('format')!r}, this version reads {FORMAT}. "
            "Fit it again."
        )
    try:
        repair = _filled(repair_class(**names["params"]), names, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder}: {NAMES} and {ARRAYS} cannot be read ({error!r}); copy both again."
        ) from error
    _check_table(folder, repair.table_)
    shape = repair.table_.quantiles.shape
    if shape[:2] != (len(repair.tasks_), len(repair.cells_) + 1):
        raise DataError(
            f"{folder}: quantiles of shape {shape} for {len(repair.tasks_)} scores and "
            f"{len(repair.cells_)} groups; "
            f"{ARRAYS} belongs to another {NAMES}."
        )
    return repair


def _check_table(folder: Path, table: QuantileTable) -> None:
    """Refuse quantiles that no fit gives."""
    is_finite = all(np.isfinite(array).all() for array in table)
    # an absent group has quantiles of all rows, so that all of them rise
    rises = bool((np.diff(table.quantiles, axis=-1) >= 0).all())
    if not (is_finite and rises):
        problem = "fall" if is_finite else "are no finite numbers"
        raise DataError(f"{folder}: {ARRAYS} holds quantiles that {problem}. Fit it again.")


def _filled(repair, names: dict[str, Any], arrays: dict[str, np.ndarray]):
    """A repair with the state of a fit."""
    repair.table_ = QuantileTable(*(arrays[field] for field in QuantileTable._fields))
    repair.centre_ = arrays["centre"]
    repair.rows_ = repair.table_.rows[:-1].astype(int)
    repair.levels_ = names["levels"]
    repair.cells_ = list(itertools.product(*repair.levels_))
    repair.tasks_ = tuple(names["tasks"])
    repair.attributes_ = tuple(names["attributes"])
    repair._names_ = tuple(None if group is None else tuple(group) for group in names["names"])
    repair._scale_, repair._small_ = names["how"]
    repair._pool_ = Fingerprint(*names["pool"])
    repair.n_features_in_ = names["features"]
    if names["feature_names"] is not None:
        repair.feature_names_in_ = np.asarray(names["feature_names"], object)
    return repair


def _named_scale(scale) -> str:
    name = scale_name(scale)
    if name is None:
        raise DataError(
            "save: the scale is a pair of your own functions, which cannot be written; take a "
            "scale that has a name."
        )
    return name


def _as_json(value):
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return [_as_json(entry) for entry in value] if isinstance(value, list | tuple) else value
