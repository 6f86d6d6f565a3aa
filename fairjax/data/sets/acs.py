"""American Community Survey of one state (US Census Bureau, public use): five tasks.

The tasks are those of folktables (Ding, Hardt, Miller, Schmidt, NeurIPS 2021): income above 50,000,
employed, public health coverage, more than 20 minutes to work, moved within a year. Each label is
known for the people who pass the task's filter. The attributes are sex and race. All tasks have the
same features. Columns that decide a task are no features (occupation, hours, income, coverage), nor
is whether a person gave birth, which tells the sex.

The data set is one file of persons, of any state: ``psam_p24.csv`` as the Census Bureau names it,
or Maryland 2024 with 38 of the columns. It is the one such file in its folder; ``data_dir`` names
the folder of another state.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data.entry import Entry
from fairjax.data.files import RawFile
from fairjax.data.raw_table import RawTable
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

FILES = (
    RawFile(
        "pums_person_md_2024_1yr_38cols.csv",
        "https://www.census.gov/programs-surveys/acs/microdata/access.html",
        patterns=("psam_p*.csv", "pums_person_*.csv"),
    ),
)
_NUMERIC = ("AGEP",)
_CATEGORICAL = (
    "SCHL",
    "MAR",
    "CIT",
    "NATIVITY",
    "LANX",
    "ENG",
    "MIL",
    "DEAR",
    "DEYE",
    "DREM",
    "DPHY",
    "PUMA",
)
_READ = (
    *_NUMERIC,
    *_CATEGORICAL,
    "SEX",
    "RAC1P",
    "PINCP",
    "WKHP",
    "ESR",
    "PWGTP",
    "JWMNP",
    "PUBCOV",
    "MIGSP",
)
TASKS = ("income", "employed", "coverage", "commute", "moved")
ROLES = Roles(
    tasks=tuple(f"{name}: {name} == yes" for name in TASKS),
    sensitive=("sex", "race"),
    features=_NUMERIC + _CATEGORICAL,
    numeric=_NUMERIC,
    categorical=_CATEGORICAL,
    levels={"sex": ("Male", "Female"), "race": ("White", "Black", "other")},
)


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Features as they are, sex and race as levels, tasks as yes, no, or empty if unknown.

    People who pass no task's filter are left out.
    """
    table = read_csv(paths[0], keep=_READ)
    labels = _labels(table)
    columns = {name: table.cells(name) for name in _NUMERIC + _CATEGORICAL}
    for name, (is_known, positive) in labels.items():
        answer = np.where(positive, "yes", "no")
        columns[name] = np.where(is_known, answer, "").astype(object)
    sex, _ = table.numbers("SEX")
    columns["sex"] = np.where(sex == 1, "Male", "Female").astype(object)
    race, _ = table.numbers("RAC1P")
    levels = np.select([race == 1, race == 2], ["White", "Black"], "other")
    columns["race"] = levels.astype(object)
    has_label = np.any([is_known for is_known, _ in labels.values()], axis=0)
    return {name: column[has_label] for name, column in columns.items()}


def _labels(table: RawTable) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per task ``(is_known [N] bool, positive [N] bool)``; is_known is the filter of folktables."""
    # NaN where a question was not asked
    age, _ = table.numbers("AGEP")
    income, _ = table.numbers("PINCP")
    hours, _ = table.numbers("WKHP")
    employment, _ = table.numbers("ESR")
    person_weight, _ = table.numbers("PWGTP")
    minutes_to_work, _ = table.numbers("JWMNP")
    public_coverage, _ = table.numbers("PUBCOV")
    is_adult = (age > 16) & (person_weight >= 1)
    is_employed = employment == 1
    commutes = is_adult & is_employed & ~np.isnan(minutes_to_work)
    return {
        "income": (is_adult & (income > 100) & (hours > 0), income > 50_000),
        "employed": ((age > 16) & (age < 90), is_employed),
        "coverage": ((age < 65) & (income <= 30_000), public_coverage == 1),
        "commute": (commutes, minutes_to_work > 20),
        "moved": ((age > 18) & (age < 35), ~table.missing("MIGSP")),
    }


ENTRY = Entry(
    name="acs",
    about="people of one state; income, work, cover, commute, move; by sex and race",
    terms="public use (US Census)",
    files=FILES,
    read=read,
    roles=ROLES,
)
