"""From options to values: the data, the settings of a study, the folder and the devices."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import Any

import click

from fairjax.cli.console import echoed_rows
from fairjax.core.disk import cache_dir, read_json
from fairjax.core.threads import cores
from fairjax.core.types import DataError
from fairjax.data import REGISTRY, Prepared, Roles, from_table, load
from fairjax.data.merging import levels_from, merges_of
from fairjax.data.raw_table import NA
from fairjax.data.table import FRACTIONS
from fairjax.study import PAPER, table_settings
from fairjax.study.evaluation import validates_on_test

# options with the same name and meaning in a study
SHARED = (
    "model",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "schedule",
    "warm_up",
    "label_smoothing",
    "class_balance",
    "stop",
    "patience",
    "trunk",
    "head",
    "embedding",
    "dropout",
    "number_encoding",
    "notion",
    "condition",
    "decision",
    "smallest_group",
)
# a data set by name has these roles already
OWN_ROLES = {
    "tasks": "--task",
    "regression_loss": "--regression-loss",
    "features": "--features",
    "drop": "--drop",
    "numeric": "--numeric",
    "categorical": "--categorical",
    "text": "--text",
    "language": "--language",
    "image": "--image",
    "images": "--images",
    "image_size": "--image-size",
    "merge": "--merge",
    "levels": "--levels",
    "split_by": "--split-by",
    "split_at": "--split-at",
    "fractions": "--fractions",
    "header": "--header",
    "unpacked": "--unpacked",
    "na": "--na",
    "na_only": "--na-only",
}


def read_data(options: dict[str, Any]) -> Prepared:
    """The data set of the options: by name, or from a file.

    Raises:
      DataError: there is no such data, roles are missing, or a data set by name is given roles.
    """
    name = options["data"]
    if name in REGISTRY:
        return _load_by_name(name, options)
    if not (options["tasks"] and options["sensitive"]):
        if not Path(name).exists():
            names = ", ".join(REGISTRY)
            raise DataError(f"{name}: neither a file nor a data set by name ({names}).")
        raise DataError(
            f"{name}: say what to predict and for whom it should be fair, for example --task "
            "COLUMN --sensitive COLUMN; both may be given several times."
        )
    roles = Roles(
        tasks=options["tasks"],
        sensitive=options["sensitive"],
        regression_loss=options["regression_loss"] or "squared_error",
        features=options["features"],
        drop=options["drop"] or (),
        numeric=options["numeric"] or (),
        categorical=options["categorical"] or (),
        text=options["text"],
        language=options["language"],
        length=options["length"],
        minimum=options["minimum"],
        image=options["image"],
        images=options["images"] or "",
        image_size=options["image_size"] or 0,
        encoder=options["encoder"],
        weight=options["weight_column"],
        split=options["split_column"],
        split_by=options["split_by"],
        split_at=options["split_at"],
        missing=options["missing"],
        use_sensitive=options["use_sensitive"],
        merge=merges_of(options["merge"], "--merge"),
        levels=levels_from(options["levels"], "--levels"),
        **reading(options),
    )
    fractions = options["fractions"] or FRACTIONS
    with echoed_rows() as progress:
        return from_table(name, roles, fractions=fractions, seed=options["seed"], progress=progress)


def reading_arguments(options: dict[str, Any], na: tuple[str, ...] = NA) -> dict[str, Any]:
    """How files are read, as arguments of :func:`fairjax.data.read.as_table`."""
    given = reading(options, na)
    return {"na" if name == "na_values" else name: value for name, value in given.items()}


def reading(options: dict[str, Any], na: tuple[str, ...] = NA) -> dict[str, Any]:
    """How files are read, as fields of :class:`fairjax.data.Roles`: those that are given.

    Args:
      options: of the command.
      na: spellings of a missing cell to which ``--na`` adds.
    """
    names = ("delimiter", "encoding", "decimal", "header", "unpacked")
    given = {name: options[name] for name in names if options[name] is not None}
    if options["na_only"]:
        given["na_values"] = ("", *options["na_only"])
    elif options["na"]:
        given["na_values"] = (*na, *options["na"])
    return given


def _load_by_name(name: str, options: dict[str, Any]) -> Prepared:
    superfluous = [flag for option, flag in OWN_ROLES.items() if options[option]]
    if superfluous:
        raise DataError(
            f"{name} has roles of its own; leave out {', '.join(superfluous)}, or give a CSV file "
            "with --data."
        )
    with echoed_rows() as progress:
        return load(
            name,
            data_dir=options["data_dir"],
            form=options["form"],
            seed=options["seed"],
            sensitive=options["sensitive"] or None,
            encoder=options["encoder"],
            progress=progress,
        )


def chosen_preset(options: dict[str, Any], data: Prepared) -> str:
    """The preset of the options, or the one that suits the data, which is said.

    It is ``"table"`` for a table of one's own with validation rows, on which its runs are stopped;
    ``"paper"`` for data sets by name, texts, images and features of another network.
    """
    if options["preset"] is not None:
        return options["preset"]
    is_own = options["data"] not in REGISTRY
    is_table = data.spec.is_table and not data.encoder.frozen
    preset = "table" if is_own and is_table and not validates_on_test(data.splits) else "paper"
    if is_own:
        click.echo(f"Settings that are not given are those of --preset {preset}.", err=True)
    return preset


def study_settings(options: dict[str, Any], data: Prepared) -> dict[str, Any]:
    """Settings of a study for :func:`fairjax.study.named_study`.

    An option that is not given has the setting of the preset: of ``"table"`` those of
    ``study.table_settings``, of ``"paper"`` those that a data set by name has in ``study.PAPER``.
    What belongs to another optimizer than that of the options is left out.

    Args:
      options: of the command.
      data: of which the options tell.
    """
    chosen = {key: options[key] for key in SHARED if options[key] is not None}
    if options["preset"] == "table":
        given = {key: chosen[key] for key in ("epochs", "batch_size") if key in chosen}
        preset = table_settings(len(data.splits.train.weight), **given)
    else:
        preset = dict(PAPER.get(options["data"], {}))
    optimizer = preset.get("optimizer", "adagrad")
    if chosen.get("optimizer", optimizer) != optimizer:
        preset.pop("learning_rate", None)
        preset.pop("weight_decay", None)
    return {**preset, **chosen, "seed": options["seed"]}


def sweep_folder(out: Path | None, name: str, resume: bool) -> Path:
    """The folder of a sweep.

    Args:
      out: the folder; None: ``fairjax-runs/NAME``, numbered where it exists.
      name: of the data set.
      resume: go on with the sweep in ``out``, or in the newest numbered folder.

    Raises:
      DataError: ``out`` holds a sweep, which is not to be resumed.
    """
    if out is not None:
        if (out / "sweeps").exists() and not resume:
            raise DataError(
                f"{out}: holds a sweep already. Go on with --resume, or choose another folder "
                "with --out."
            )
        return out
    newest = folder = Path("fairjax-runs") / name
    for number in itertools.count(2):
        if not folder.exists():
            break
        newest = folder
        folder = folder.with_name(f"{name}-{number}")
    return newest if resume else folder


PROGRAMS = 2**28  # bytes of compiled programs that the user's cache keeps


def keep_programs() -> None:
    """Let JAX keep compiled programs in the user's cache, unless it keeps them already.

    JAX tells programs of other versions and machines apart. The longest unused ones make room.
    """
    import jax

    if jax.config.jax_compilation_cache_dir:
        return
    folder = cache_dir() / "programs"
    with contextlib.suppress(OSError):  # without a cache all works, and is slower
        folder.mkdir(parents=True, exist_ok=True)
        files = [(file.stat(), file) for file in folder.iterdir()]
        files.sort(key=lambda pair: pair[0].st_atime, reverse=True)
        room = PROGRAMS
        for stat, file in files:
            room -= stat.st_size
            if room < 0:
                file.unlink(missing_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def use_devices(count: int | None, out: Path) -> None:
    """Set the number of virtual CPU devices, before JAX's first use.

    Args:
      count: of devices; None: one per core.
      out: folder of a sweep; a sweep that is resumed keeps its number of devices.
    """
    import jax

    for manifest in sorted(out.glob("sweeps/*/manifest.json")):
        with contextlib.suppress(DataError):
            # a damaged manifest is named by its sweep
            count = read_json(manifest).get("devices", count)  # estimators use none
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    jax.config.update("jax_num_cpu_devices", count or cores())
