"""The features that a pretrained network gives of a table's column of texts or images."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairjax.data.complaints import complain
from fairjax.data.pixels import with_images
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles
from fairjax.pretrained import REGISTRY, Pretrained, Progress, features, load


class Frozen(NamedTuple):
    """A pretrained network's D features with the statistics of their training rows."""

    fingerprint: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def names(self, encoder: str) -> tuple[str, ...]:
        """``use 1``, ``use 2``, ... of the network's name or folder."""
        name = encoder_name(encoder)
        return tuple(f"{name} {j}" for j in range(1, len(self.mean) + 1))

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """``(value - mean) / deviation``, ``[N, D]`` float32."""
        centred = values - np.array(self.mean)
        return (centred / np.array(self.deviation)).astype(np.float32)


def fit_frozen(table: RawTable, rows: np.ndarray) -> Frozen:
    """Mean and deviation of some rows' features. The deviation of a constant is 1."""
    values = table.features[rows].astype(np.float64)
    is_constant = values.max(0) <= values.min(0)
    deviation = np.ones(values.shape[1])
    deviation[~is_constant] = values[:, ~is_constant].std(0, ddof=1)
    return Frozen(table.fingerprint, tuple(values.mean(0).tolist()), tuple(deviation.tolist()))


def encoder_name(encoder: str) -> str:
    """The name of a pretrained network, or that of its folder."""
    return encoder if encoder in REGISTRY else Path(encoder).name


def located(encoder: str | None) -> str | None:
    """A pretrained network's name as it is, a folder as a whole path."""
    is_folder = encoder is not None and str(encoder) not in REGISTRY
    return os.path.abspath(encoder) if is_folder else encoder


def with_features(
    table: RawTable,
    roles: Roles,
    frozen: Frozen | None = None,
    *,
    images: str = "",
    encoder: str = "",
    progress: Progress | None = None,
) -> RawTable:
    """The table with the features of its text or image; the table itself without an encoder.

    Args:
        table: N rows.
        roles: its column of texts or images, and the network.
        frozen: features that other rows have, of the same network.
        images: another folder or zip of images.
        encoder: another folder of the network.
        progress: is called with the network's name, rows that are done, and all rows.

    Raises:
        DataError: there is no such column or network; the network reads something else, or is not
            that of the other rows; or features are not finite.
    """
    if roles.encoder is None or (frozen is not None and table.fingerprint == frozen.fingerprint):
        return table
    table.column(roles.raw_feature)
    network = load(encoder or roles.encoder)
    if frozen is not None:
        _refuse_other(table, encoder or roles.encoder, network, frozen)
    _refuse_unreadable(table, roles, network)
    if roles.image is None:
        rows = table.written(roles.text)
    else:
        table = with_images(table, roles, images)
        rows = table.pixels[table.find(roles.image)]
    values = features(network, rows, progress=progress)
    _refuse_infinite(table, roles, values)
    # pixels have served
    return dataclasses.replace(table, features=values, fingerprint=network.fingerprint, pixels={})


def _refuse_other(table: RawTable, encoder: str, network: Pretrained, frozen: Frozen) -> None:
    if network.fingerprint != frozen.fingerprint:
        here, there = network.fingerprint[:12], frozen.fingerprint[:12]
        problem = f"encoder {encoder!r} has the fingerprint {here}, not {there} as in training"
        cure = "Give the network of training (--encoder FOLDER), or train again."
        raise complain(table.where, f"{problem} ({len(table):,} rows not read)", cure)


def _refuse_unreadable(table: RawTable, roles: Roles, network: Pretrained) -> None:
    kind = "texts" if roles.image is None else "images"
    if network.reads != kind:
        problem = f"encoder {roles.encoder!r} reads {network.reads}, but column"
        problem = f"{problem} {roles.raw_feature!r} is named as {kind} ({len(table):,} rows)"
        cure = f"Name the column as --{network.reads.removesuffix('s')}, or take another encoder."
        raise complain(table.where, problem, f"{cure} There are {', '.join(REGISTRY)}.")


def _refuse_infinite(table: RawTable, roles: Roles, values: np.ndarray) -> None:
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        problem = f"encoder {roles.encoder!r} gives {bad.sum():,} of {len(table):,} rows features"
        problem = f"{problem} that are not finite, {table.spots(bad)}"
        raise complain(table.where, problem, "Its weights are damaged: take another encoder.")
