"""Load a data set by name, and load it again from its description."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fairjax.core.types import DataError
from fairjax.data.complaints import complain, listing
from fairjax.data.entry import Entry
from fairjax.data.files import find_file
from fairjax.data.frozen import Progress, located
from fairjax.data.prepared import Prepared
from fairjax.data.raw_table import RawTable
from fairjax.data.read import as_table
from fairjax.data.registry import REGISTRY, entry_of
from fairjax.data.roles import Roles
from fairjax.data.rules import parse_rules
from fairjax.data.sets.synthetic import synthetic
from fairjax.data.table import check_unchanged, from_table, prepare

_TRAIN_SHARE = 0.8  # of a data set without a published test split; validation is a part of it


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    form: str = "corrected",
    seed: int = 0,
    validation: float = 0.2,
    sensitive: Sequence[str] | None = None,
    encoder: str | Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """A data set by name, read from its raw files.

    ``"corrected"``: means, deviations and levels come from training rows, and the German split is
    fixed. ``"paper"``: as in the code of Wang et al. (KDD 2021), statistics and levels come from
    training and test rows together, and ``seed`` draws the German split. Both forms use the
    published test rows. Another form has other tasks and attributes, which its data set describes.

    Args:
        name: a key of :data:`fairjax.data.REGISTRY`.
        data_dir: the first folder to look for raw files.
        form: ``"corrected"``, ``"paper"``, or one that the data set adds.
        seed: of the validation split, and of all else that is drawn.
        validation: share of the training rows for validation. With 0 all of them train, and the
            test data is also the validation data, as in the paper.
        sensitive: columns or rules that replace the data set's own sensitive attributes; their
            columns are then no features.
        encoder: a pretrained network that reads the raw texts or images, see :class:`Roles`.
        progress: see :func:`from_table`.

    Raises:
        DataError: unknown name or form; an encoder without raw texts or images; or an absent raw
            file; the message says which file, where to get it and where to put it.
    """
    entry = entry_of(name, form)
    if encoder is not None:
        _refuse_encoded(entry, encoder)
    if entry.draw is not None:
        return _drawn(entry, data_dir, form, seed, validation, sensitive)
    if form in entry.form_roles:
        entry = dataclasses.replace(entry, roles=entry.form_roles[form])
    if sensitive:
        roles = dataclasses.replace(entry.roles, sensitive=tuple(sensitive), use_sensitive=False)
        entry = dataclasses.replace(entry, roles=roles)
    read = entry.read
    if encoder is not None:
        roles = dataclasses.replace(entry.roles, encoder=located(encoder), language=None)
        entry = dataclasses.replace(entry, roles=roles)
        read = partial(read, size=roles.image_size) if roles.image else read
    paths = [find_file(name, file, data_dir) for file in entry.files]
    prepared = from_columns(entry, read(paths), data_dir, form, seed, validation, progress)
    given = {"sensitive": sensitive and list(sensitive), "encoder": entry.roles.encoder}
    source = prepared.source | {key: value for key, value in given.items() if value}
    return dataclasses.replace(prepared, source=source)


def _refuse_encoded(entry: Entry, encoder: str | Path) -> None:
    if not entry.is_raw:
        raw = [name for name, other in REGISTRY.items() if other.is_raw]
        raise DataError(
            f"{entry.name}: encoder {str(encoder)!r} needs a column of raw texts or images, and it "
            f"has none. Leave the encoder out, or take one of {listing(raw)}."
        )


def _drawn(
    entry: Entry,
    data_dir: str | Path | None,
    form: str,
    seed: int,
    validation: float,
    sensitive: Sequence[str] | None,
) -> Prepared:
    """A data set that is drawn by its seed and has no raw files."""
    prepared = entry.draw(seed)
    if sensitive:
        attributes = listing([attribute.name for attribute in prepared.spec.attributes])
        raise DataError(
            f"{entry.name}: it has its own attribute {attributes}. Leave sensitive out."
        )
    source = _source(entry.name, data_dir, form, seed, validation)
    return dataclasses.replace(prepared, source=source)


def from_columns(
    entry: Entry,
    columns: dict[str, Any],
    data_dir: str | Path | None,
    form: str,
    seed: int,
    validation: float,
    progress: Progress | None = None,
) -> Prepared:
    """A data set from the columns that ``entry.read`` gives, perhaps stored in between."""
    if not 0 <= validation < 1:
        raise DataError(
            f"{entry.name}: validation is {validation}. "
            "Give a share of the training rows, 0 to below 1."
        )
    if form == "paper" and entry.draw_split is not None:
        columns = columns | {"split": entry.draw_split(len(columns["split"]), seed)}
    table = as_table(columns, na=entry.roles.na_values)
    table = dataclasses.replace(table, where=entry.name, notes=(*table.notes, *entry.notes))
    standardise = "all" if form == "paper" else "train"
    roles = dataclasses.replace(entry.roles, standardise=standardise)
    roles = _without_sensitive_features(roles, table)
    train = 1.0 if roles.split else _TRAIN_SHARE
    fractions = (train * (1 - validation), train * validation, 1 - train)
    source = _source(entry.name, data_dir, form, seed, validation)
    return prepare(
        table,
        roles,
        fractions=fractions,
        seed=seed,
        name=entry.name,
        source=source,
        progress=progress,
    )


def _without_sensitive_features(roles: Roles, table: RawTable) -> Roles:
    """Roles whose features have no sensitive column, unless they use them."""
    if not roles.features or roles.use_sensitive:
        return roles
    sensitive = {rule.column for rule in parse_rules(roles.sensitive, table, "sensitive")}
    changes = {}
    for field in ("features", "numeric", "categorical"):
        names = getattr(roles, field)
        changes[field] = tuple(name for name in names if name not in sensitive)
    return dataclasses.replace(roles, **changes)


def _source(
    name: str, data_dir: str | Path | None, form: str, seed: int, validation: float
) -> dict[str, Any]:
    """The description from which :func:`reload` loads the data set again."""
    return {
        "kind": "named",
        "name": name,
        "data_dir": None if data_dir is None else str(Path(data_dir).resolve()),
        "form": form,
        "seed": int(seed),
        "validation": validation,
    }


def reload(source: dict[str, Any] | None) -> Prepared:
    """The data set that a ``Prepared.source`` describes. All arrays are the same.

    Args:
        source: the dict, also after a round trip through JSON.

    Raises:
        DataError: the rows were in memory only, the table, an image or the pretrained network has
            changed, or a file is absent.
    """
    options = dict(source or {})
    kind = options.pop("kind", None)
    fingerprint = options.pop("fingerprint", None)
    if kind == "named":
        prepared = load(**options)
        _refuse_changed_network(prepared, fingerprint)
        return prepared
    if kind == "synthetic":
        return synthetic(**options)
    if kind == "table":
        path = options["path"]
        check_unchanged(path, options["sha256"])
        roles = Roles(**options["roles"])
        fractions = tuple(options["fractions"])
        prepared = from_table(path, roles, fractions=fractions, seed=options["seed"])
        _refuse_changed_network(prepared, fingerprint)
        if prepared.source.get("images_sha256") != options.get("images_sha256"):
            rows = sum(len(split.weight) for split in prepared.splits)
            problem = f"images of the {rows:,} rows have changed since the run"
            raise complain(roles.images, problem, "Restore them, or start a new run.")
        return prepared
    raise DataError(
        "the rows came from memory and were not kept (source None). "
        "Write them to a file and give its path."
    )


def _refuse_changed_network(prepared: Prepared, fingerprint: str | None) -> None:
    found = prepared.source.get("fingerprint")
    if found != fingerprint:
        encoder = prepared.encoder.roles.encoder
        rows = sum(len(split.weight) for split in prepared.splits)
        problem = f"encoder {encoder!r} of {rows:,} rows has changed since the run"
        raise complain(prepared.name, problem, "Restore it, or start a new run.")
