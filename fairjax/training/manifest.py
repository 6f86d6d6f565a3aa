"""A sweep on disk: what identifies it, how a killed sweep resumes, and its chunk files.

``manifest.json`` holds the settings, fingerprints of the data and of the program, and ``sizes``:
pairs ``[first member, members per device]``, the chunk size that holds from that member on.
``chunk-0000032.npz`` holds the members from 32 on; its arrays are named by their place in the
program's results, such as ``params.trunk.kernel``. A hundred metrics are the rows of one array,
which is read in a fraction of the time of a hundred arrays. A chunk says to which sweep and members
it belongs; one that does not belong here is trained again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fairjax.core.disk import read_arrays, read_json, write_arrays, write_json
from fairjax.core.types import DataError, Device, PyTree, Recipe
from fairjax.training._hosts import on_host
from fairjax.training.loop import TrainConfig

if TYPE_CHECKING:
    from fairjax.training.program import Lowered

MANIFEST = "manifest.json"
FORMAT = 1  # of the manifest and the chunk files
OWNER = "owner"  # in a chunk file: the sweep and the members that it belongs to
NUMBERS, NAMES = "numbers", "names"  # in a chunk file: one number per member and name; the names


def fingerprint(tree: PyTree) -> str:
    """Hash every array of a tree. It identifies the content of the data, not the file."""
    hasher = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = on_host(leaf)
        hasher.update(f"{array.shape}{array.dtype}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()[:16]


def settings(
    recipe: Recipe,
    train_config: TrainConfig,
    hparams: dict[str, np.ndarray],
    seeds: Sequence[int],
    splits: PyTree,
    root: int,
    keep: Sequence[str],
    devices: Sequence[Device],
    row_devices: int = 1,
) -> dict[str, Any]:
    """Everything that identifies a sweep before its program is known."""
    return {
        "format": FORMAT,
        "recipe": recipe.name,
        "epochs": train_config.epochs,
        "batch_size": train_config.batch_size,
        "block": train_config.block,
        "patience": train_config.patience,
        "points": len(next(iter(hparams.values()))),
        "hparams": fingerprint(hparams),
        "seeds": [int(seed) for seed in seeds],
        "root": root,
        "data": fingerprint(splits),
        "keep": list(keep),
        "devices": len(devices),
        "row_devices": row_devices,
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

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self._path = path
        self._identity = identity
        self._structure: PyTree = None
        file = path / MANIFEST
        self._stored = _stored_manifest(file)
        self._check()

    @property
    def sizes(self) -> list[tuple[int, int]] | None:
        """The chunk sizes of the stored sweep; None if the folder holds no sweep."""
        if self._stored is None:
            return None
        return [(first, size) for first, size in self._stored["sizes"]]

    def add_program(self, lowered: jax.stages.Lowered | Lowered) -> None:
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
        arrays = dict(zip(names, jax.tree.leaves(results), strict=True))
        members = len(next(iter(arrays.values())))
        owner = np.array(self._owner(first, members))
        write_arrays(self._chunk_file(first), _packed(arrays) | {OWNER: owner})

    def _owner(self, first: int, members: int) -> str:
        return f"{_digest(self._identity)} {first} {members}"

    def read_chunk(self, first: int, members: int) -> PyTree | None:
        """Read the results of ``members`` members from ``first`` on.

        The tree and its keys are those of the program's results. None if there is no file; also,
        with a warning, if the file is damaged or belongs to another sweep or place.
        """
        file = self._chunk_file(first)
        if not file.exists():
            return None
        try:
            arrays = chunk_arrays(file)
        except DataError as error:
            return _trained_again(str(error))
        owner = str(arrays.pop(OWNER, ""))
        if owner != self._owner(first, members):
            return _trained_again(f"{file}: belongs to another sweep, or to other members of it.")
        names = _leaf_names(self._structure)
        if set(names) != set(arrays):
            return _trained_again(f"{file}: holds other results than the program.")
        leaves = [arrays[name] for name in names]
        return jax.tree.unflatten(jax.tree.structure(self._structure), leaves)

    def _chunk_file(self, first: int) -> Path:
        return self._path / f"chunk-{first:07d}.npz"

    def _check(self) -> None:
        stored = self._stored
        if stored is None:
            return
        stored = {"row_devices": 1} | stored  # a manifest of fairjax 0.1.0 has none
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


def _stored_manifest(file: Path) -> dict[str, Any] | None:
    """The manifest; None where there is none, and, with a warning, where it is damaged."""
    if not file.exists():
        return None
    try:
        return read_json(file)
    except DataError as error:
        _trained_again(str(error))
        return None


def kept_arrays(folder: Path, member: int) -> dict[str, np.ndarray]:
    """What a sweep on disk kept of a member, by name; nothing where it has no such member.

    Args:
      folder: of the sweep.
      member: its place in the sweep.

    Raises:
      DataError: the manifest or the chunk file is damaged, or the file belongs to another sweep.
    """
    files = {int(file.stem.removeprefix("chunk-")): file for file in folder.glob("chunk-*.npz")}
    first_members = [first for first in files if first <= member]
    if not first_members:
        return {}
    first = max(first_members)
    identity = read_json(folder / MANIFEST)
    del identity["sizes"]
    arrays = chunk_arrays(files[first])
    owner = str(arrays.pop(OWNER, ""))
    if not owner.startswith(f"{_digest(identity)} {first} "):
        raise DataError(
            f"{files[first]}: belongs to another sweep, or to other members of it. Run the sweep "
            "again with --resume."
        )
    return {name: array[member - first] for name, array in arrays.items()}


def chunk_arrays(file: Path) -> dict[str, np.ndarray]:
    """What a chunk file holds, by name.

    Raises:
      DataError: the file is absent, damaged, or was changed.
    """
    arrays = read_arrays(file)
    if NAMES in arrays:  # a chunk of fairjax 0.1.0 has none
        names = json.loads(arrays.pop(NAMES).tobytes())
        arrays |= zip(names, arrays.pop(NUMBERS), strict=True)
    return arrays


def _packed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays, those of one single-precision number per member as rows of one array."""
    names = [
        name for name, array in arrays.items() if array.dtype == np.float32 and array.ndim == 1
    ]
    if not names:
        return arrays
    others = {name: array for name, array in arrays.items() if name not in names}
    numbers = np.stack([arrays[name] for name in names])
    text = json.dumps(names, separators=(",", ":")).encode()
    return others | {NUMBERS: numbers, NAMES: np.frombuffer(text, np.uint8)}


def _digest(identity: dict[str, Any]) -> str:
    """What tells sweeps apart, in one text."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _trained_again(reason: str) -> None:
    warnings.warn(f"{reason} Members that it had are trained again", stacklevel=3)


def _leaf_names(tree: PyTree) -> list[str]:
    """One text name per leaf, from its keys: ``metrics.error``, ``params.trunk.kernel``."""
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{len(twice)} results share a name, such as {twice[0]!r}: rename one")
    return names
