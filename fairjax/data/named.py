"""Named data sets: a registry of declarations, and one way to load them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from fairjax.core.types import DataError
from fairjax.data.files import RawFile, find_file, obtain
from fairjax.data.read import Table, listing
from fairjax.data.roles import Roles, parse_rules
from fairjax.data.sets import acs, adult, compas, german, lsac, multilingual_hate
from fairjax.data.sets.synthetic import synthetic
from fairjax.data.table import Prepared, check_unchanged, from_table, prepare

FORMS = ("corrected", "paper")


@dataclasses.dataclass(frozen=True)
class Named:
    """A data set by name. ``read(paths)`` gives its columns; without files it is made, not read."""

    name: str
    about: str
    terms: str
    files: tuple[RawFile, ...] = ()
    read: Callable[..., dict] | None = None
    roles: Roles | None = None
    forms: tuple[str, ...] = ("corrected",)

    def obtain(self, data_dir: str | Path | None = None) -> list[Path]:
        """Paths of the raw files, fetched where they are absent and an address is known; raises DataError."""
        return [obtain(self.name, file, data_dir) for file in self.files]


_NAMED = (
    Named(
        "synthetic", "planted relatedness and group bias, two tasks, known Bayes gaps", "made here"
    ),
    Named(
        "adult",
        "48,842 people; income and capital gain; by sex",
        "CC BY 4.0 (UCI)",
        adult.FILES,
        adult.read,
        adult.ROLES,
        FORMS,
    ),
    Named(
        "german",
        "1,000 credits; bad credit and amount; by sex",
        "CC BY 4.0 (UCI)",
        german.FILES,
        german.read,
        german.ROLES,
        FORMS,
    ),
    Named(
        "lsac",
        "26,551 law students; first-year grades and bar; by sex",
        "unclear",
        lsac.FILES,
        lsac.read,
        lsac.ROLES,
        FORMS,
    ),
    Named(
        "compas",
        "6,172 defendants; recidivism and violent; by race and sex",
        "unclear",
        compas.FILES,
        compas.read,
        compas.ROLES,
    ),
    Named(
        "acs",
        "60,000 people; income, work, cover, commute, move; by sex and race",
        "public use (US Census)",
        acs.FILES,
        acs.read,
        acs.ROLES,
    ),
    Named(
        "multilingual_hate",
        "48,237 tweets as token ids; hate in five languages; by gender, age and ethnicity",
        "Apache-2.0",
        multilingual_hate.FILES,
        multilingual_hate.read,
        multilingual_hate.ROLES,
    ),
)
NAMED: dict[str, Named] = {entry.name: entry for entry in _NAMED}


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    form: str = "corrected",
    seed: int = 0,
    validation: float = 0.2,
    sensitive: Sequence[str] | None = None,
) -> Prepared:
    """A named data set, read from its raw files.

    ``"corrected"``: means, deviations and levels from training rows; the German split is fixed. ``"paper"``: as the
    code of Wang et al. (KDD 2021), with statistics and levels over train and test together and the German split drawn
    anew by ``seed``. Test rows are the published ones in both.

    Args:
        name: one of :data:`NAMED`.
        data_dir: where raw files are looked for first.
        form: ``"corrected"`` or ``"paper"``.
        seed: of the validation split (and of what else is drawn).
        validation: share of the training rows that is carved out; 0 trains on all of them and validates on the test
            data, as the paper does.
        sensitive: columns or rules in place of the data set's own sensitive attributes; their columns are then no features.

    Raises:
        DataError: unknown name or form, or a raw file is absent; says which, from where, goes where.
    """
    entry = entry_of(name, form)
    if not entry.files:
        if sensitive:
            raise DataError(
                f"{name}: its one attribute is {synthetic().spec.attributes[0].name}. Leave sensitive out."
            )
        made = synthetic(seed=seed)
        return dataclasses.replace(made, source=_source(name, data_dir, form, seed, validation))
    if sensitive:
        roles = dataclasses.replace(entry.roles, sensitive=tuple(sensitive), use_sensitive=False)
        entry = dataclasses.replace(entry, roles=roles)
    found = [find_file(name, file, data_dir) for file in entry.files]
    prepared = from_raw(entry, found, data_dir, form, seed, validation)
    if sensitive:
        prepared = dataclasses.replace(
            prepared, source=prepared.source | {"sensitive": list(sensitive)}
        )
    return prepared


def entry_of(name: str, form: str) -> Named:
    """The declaration of a name; raises DataError when there is none, or none of that form."""
    if name not in NAMED:
        raise DataError(
            f"{name}: no data set of that name among {len(NAMED)}. Give one of {listing(list(NAMED), 9)}."
        )
    if form not in NAMED[name].forms:
        raise DataError(f"{name}: no form {form!r}. Give one of {listing(NAMED[name].forms)}.")
    return NAMED[name]


def from_raw(
    entry: Named, paths: list[Path], data_dir, form: str, seed: int, validation: float
) -> Prepared:
    """A named data set from its raw files; see :func:`load`."""
    drawn = {"seed": seed} if (entry.name, form) == ("german", "paper") else {}
    return from_columns(entry, entry.read(paths, **drawn), data_dir, form, seed, validation)


def from_columns(
    entry: Named, columns: dict, data_dir, form: str, seed: int, validation: float
) -> Prepared:
    """A named data set from the columns that its ``read`` gave, wherever they were kept since."""
    roles = dataclasses.replace(entry.roles, standardise="all" if form == "paper" else "train")
    table = Table(entry.name, columns, na=roles.na_values)
    if (
        roles.features and not roles.use_sensitive
    ):  # sensitive attributes may be others than the data set's own
        sensitive = {rule.column for rule in parse_rules(roles.sensitive, table, "sensitive")}
        kept = {
            field: tuple(n for n in getattr(roles, field) if n not in sensitive)
            for field in ("features", "numeric", "categorical")
        }
        roles = dataclasses.replace(roles, **kept)
    if not 0 <= validation < 1:
        raise DataError(
            f"{entry.name}: validation is {validation}. Give a share of the training rows, 0 to below 1."
        )
    whole = 1.0 if roles.split else 0.8
    fractions = (whole * (1 - validation), whole * validation, 1 - whole)
    source = _source(entry.name, data_dir, form, seed, validation)
    return prepare(table, roles, fractions=fractions, seed=seed, name=entry.name, source=source)


def _source(name: str, data_dir, form: str, seed: int, validation: float) -> dict:
    place = None if data_dir is None else str(Path(data_dir).resolve())
    return {
        "kind": "named",
        "name": name,
        "data_dir": place,
        "form": form,
        "seed": int(seed),
        "validation": validation,
    }


def reload(source: dict | None) -> Prepared:
    """The data set that a ``Prepared.source`` describes, array by array the same.

    Args:
        source: the dict, perhaps after a way through JSON.

    Raises:
        DataError: rows that lived in memory only, a table that has changed, or a file that is gone.
    """
    kind, rest = (
        (source or {}).get("kind"),
        {k: v for k, v in (source or {}).items() if k != "kind"},
    )
    if kind == "named":
        return load(**rest)
    if kind == "synthetic":
        return synthetic(**rest)
    if kind == "table":
        check_unchanged(rest["path"], rest["sha256"])
        roles = Roles(**rest["roles"])
        return from_table(
            rest["path"], roles, fractions=tuple(rest["fractions"]), seed=rest["seed"]
        )
    raise DataError(
        "the rows came from memory and were not kept (source None). Write them to a file and give its path."
    )
