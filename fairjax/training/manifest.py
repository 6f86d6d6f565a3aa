"""A sweep on disk: what identifies it, how a killed sweep resumes, and its chunk files.

``manifest.json`` holds the settings, fingerprints of the data and of the program, and ``sizes``:
pairs ``[first member, members per device]``, the chunk size that holds from that member on.
``chunk-0000032.npz`` holds the members from 32 on; its arrays are named by their place in the
program's results, such as ``params.trunk.kernel``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from fairjax.core.disk import read_arrays, write_arrays, write_json
from fairjax.core.types import DataError, PyTree, Recipe, Splits
from fairjax.training.loop import TrainConfig

MANIFEST = "manifest.json"


def fingerprint(tree: PyTree) -> str:
    """Hash every array of a tree. It identifies the content of the data, not the file."""
    hasher = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        hasher.update(f"{array.shape}{array.dtype}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()[:16]


def settings(
    recipe: Recipe,
    train_config: TrainConfig,
    hparams: dict[str, np.ndarray],
    seeds: Sequence[int],
    splits: Splits,
    root: int,
    keep: Sequence[str],
    devices: Sequence[jax.Device],
) -> dict:
    """Everything that identifies a sweep before its program is known."""
    return {
        "recipe": recipe.name,
        "epochs": train_config.epochs,
        "batch_size": train_config.batch_size,
        "block": train_config.block,
        "points": len(next(iter(hparams.values()))),
        "hparams": fingerprint(hparams),
        "seeds": [int(seed) for seed in seeds],
        "root": root,
        "data": fingerprint(splits),
        "keep": list(keep),
        "devices": len(devices),
        "platform": devices[0].platform,
        "jax": jax.__version__,
    }


def program_digest(lowered: jax.stages.Lowered) -> str:
    """Hash the lowered program.

    It covers what no setting says: the model, the notion, the metrics and the code itself.
    """
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict | None:
    """Read the manifest of the sweep in ``folder``; None if the folder holds no sweep."""
    file = folder / MANIFEST
    return json.loads(file.read_text()) if file.exists() else None


def write_manifest(folder: Path, identity: dict, sizes: Sequence[tuple[int, int]]) -> None:
    """Write what identifies a sweep, and its chunk sizes."""
    write_json(folder / MANIFEST, {**identity, "sizes": [list(entry) for entry in sizes]})


def check_same(folder: Path, identity: dict, stored: dict) -> None:
    """Compare a sweep with the manifest in its folder.

    Raises:
      DataError: they differ; the message names every difference.
    """
    differences = [
        f"{name} is {value!r} now and {stored.get(name)!r} there"
        for name, value in identity.items()
        if stored.get(name) != value
    ]
    if differences:
        raise DataError(
            f"{folder}: holds another sweep: {'; '.join(differences)}. Choose another folder, or "
            "use the same settings."
        )


def chunk_file(folder: Path, first: int) -> Path:
    """The file of the chunk that begins with member ``first``."""
    return folder / f"chunk-{first:07d}.npz"


def write_chunk(file: Path, results: PyTree) -> None:
    """Write the results of a chunk's members, leaves ``[members, ...]``."""
    names = _leaf_names(results)
    write_arrays(file, dict(zip(names, jax.tree.leaves(results), strict=True)))


def read_chunk(file: Path, structure: PyTree, members: int) -> PyTree:
    """Read the results of a chunk.

    Args:
      file: a file of :func:`write_chunk`.
      structure: the program's results, or their shapes: it gives back the tree and its keys.
      members: the number of members that the chunk covers.

    Raises:
      DataError: the file holds other results, or another number of members.
    """
    arrays = read_arrays(file)
    names = _leaf_names(structure)
    if set(names) != set(arrays):
        difference = sorted(set(names) ^ set(arrays))
        raise DataError(
            f"{file}: {len(difference)} results are only in the file or only in the program, such "
            f"as {difference[0]}. Delete the file; its members are then trained again."
        )
    wrong = [name for name in names if len(arrays[name]) != members]
    if wrong:
        raise DataError(
            f"{file}: {wrong[0]} holds {len(arrays[wrong[0]])} members, expected {members}. "
            "Delete the file; its members are then trained again."
        )
    return jax.tree.unflatten(jax.tree.structure(structure), [arrays[name] for name in names])


def _leaf_names(tree: PyTree) -> list[str]:
    """One text name per leaf, from its keys: ``metrics.error``, ``params.trunk.kernel``."""
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{len(twice)} results share a name, such as {twice[0]!r}: rename one")
    return names
