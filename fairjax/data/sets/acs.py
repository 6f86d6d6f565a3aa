"""American Community Survey, people of one state (US Census Bureau, public use): five tasks, by sex and race.

The tasks are those of folktables (Ding, Hardt, Miller, Schmidt, NeurIPS 2021), each known for the people its filter lets
through: income above 50,000, employed, public health coverage, more than 20 minutes to work, moved within a year. One set of
features serves all; columns that decide any of the tasks are left out of it (occupation, hours, income, cover), and so is
whether a person gave birth, which tells the sex. The file at hand is Maryland, 2024, with 38 of the columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data.files import RawFile
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

FILES = (
    RawFile(
        "pums_person_md_2024_1yr_38cols.csv",
        "https://www.census.gov/programs-surveys/acs/microdata/access.html",
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
    """Features as they are, tasks as yes and no (empty where a filter leaves a person out), sex and race in words."""
    table = read_csv(paths[0])

    def number(name: str) -> np.ndarray:
        return table.numbers(name)[0]  # NaN where a question was not asked

    age, income, hours, work = number("AGEP"), number("PINCP"), number("WKHP"), number("ESR")
    of_age = (age > 16) & (number("PWGTP") >= 1)
    asked = {
        "income": (of_age & (income > 100) & (hours > 0), income > 50_000),
        "employed": ((age > 16) & (age < 90), work == 1),
        "coverage": ((age < 65) & (income <= 30_000), number("PUBCOV") == 1),
        "commute": (of_age & (work == 1) & ~np.isnan(number("JWMNP")), number("JWMNP") > 20),
        "moved": ((age > 18) & (age < 35), ~table.missing("MIGSP")),
    }
    columns = {name: table.columns[name] for name in _NUMERIC + _CATEGORICAL}
    columns |= {
        name: np.where(known, np.where(yes, "yes", "no"), "").astype(object)
        for name, (known, yes) in asked.items()
    }
    columns["sex"] = np.where(number("SEX") == 1, "Male", "Female").astype(object)
    columns["race"] = np.select(
        [number("RAC1P") == 1, number("RAC1P") == 2], ["White", "Black"], "other"
    ).astype(object)
    some = np.any([known for known, _ in asked.values()], axis=0)
    return {name: column[some] for name, column in columns.items()}
