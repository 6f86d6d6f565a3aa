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


class SweepFolder:
    """The folder of a sweep: its manifest and its chunk files.

    Args:
      path: the folder; it may not exist yet.
      identity: of :func:`settings`.

    Raises:
      DataError: the folder holds a sweep with other settings; the message names every difference.
    """

    def __init__(self, path: Path, identity: dict):
        self._path = path
        self._identity = identity
        self._structure: PyTree = None
        file = path / MANIFEST
        self._stored = json.loads(file.read_text()) if file.exists() else None
        self._check()

    @property
    def sizes(self) -> list[tuple[int, int]] | None:
        """The chunk sizes of the stored sweep; None if the folder holds no sweep."""
        if self._stored is None:
            return None
        return [(first, size) for first, size in self._stored["sizes"]]

    def add_program(self, lowered: jax.stages.Lowered) -> None:
        """Add the lowered program to what identifies the sweep.

        Its text covers what no setting says: the model, the notion, the metrics and the code.

        Raises:
          DataError: the stored sweep has another program.
        """
        text = lowered.as_text().encode()
        self._identity["program"] = hashlib.sha256(text).hexdigest()[:16]
        self._structure = lowered.out_info
        self._check()

    def write_sizes(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Write the manifest with these chunk sizes."""
        pairs = [list(pair) for pair in sizes]
        write_json(self._path / MANIFEST, {**self._identity, "sizes": pairs})

    def write_chunk(self, first: int, results: PyTree) -> None:
        """Write the results of the members from ``first`` on, leaves ``[members, ...]``."""
        names = _leaf_names(results)
        leaves = jax.tree.leaves(results)
        write_arrays(self._chunk_file(first), dict(zip(names, leaves, strict=True)))

    def read_chunk(self, first: int, members: int) -> PyTree | None:
        """Read the results of ``members`` members from ``first`` on; None if there is no file.

        The tree and its keys are those of the program's results.

        Raises:
          DataError: the file holds other results, or another number of members.
        """
        file = self._chunk_file(first)
        if not file.exists():
            return None
        arrays = read_arrays(file)
        names = _leaf_names(self._structure)
        difference = sorted(set(names) ^ set(arrays))
        if difference:
            raise DataError(
                f"{file}: {len(difference)} results are only in the file or only in the program, "
                f"such as {difference[0]}. Delete the file; its members are then trained again."
            )
        for name, array in arrays.items():
            if len(array) != members:
                raise DataError(
                    f"{file}: {name} holds {len(array)} members, expected {members}. Delete the "
                    "file; its members are then trained again."
                )
        leaves = [arrays[name] for name in names]
        return jax.tree.unflatten(jax.tree.structure(self._structure), leaves)

    def _chunk_file(self, first: int) -> Path:
        return self._path / f"chunk-{first:07d}.npz"

    def _check(self) -> None:
        stored = self._stored
        if stored is None:
            return
        differences = [
            f"{name} is {value!r} now and {stored.get(name)!r} there"
            for name, value in self._identity.items()
            if stored.get(name) != value
        ]
        if differences:
            raise DataError(
                f"{self._path}: holds another sweep: {'; '.join(differences)}. Choose another "
                "folder, or use the same settings."
            )


def _leaf_names(tree: PyTree) -> list[str]:
    """One text name per leaf, from its keys: ``metrics.error``, ``params.trunk.kernel``."""
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{len(twice)} results share a name, such as {twice[0]!r}: rename one")
    return names
