"""COMPAS (ProPublica 2016, Broward County; no licence stated): recidivism in two years, and violent, by race and sex.

Rows pass ProPublica's own filter. Names, dates of birth and case numbers are not kept when the file is read. Races of
fewer than 100 rows are one level, Other. The two-year label is known to be flawed (Barenstein 2019).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data.files import RawFile
from fairjax.data.read import Table, read_csv
from fairjax.data.roles import Roles

# No address: the original holds names, so that a person decides to fetch it.
FILES = (RawFile("compas-scores-two-years.csv", "https://github.com/propublica/compas-analysis"),)
_NUMERIC = ("age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count")
_FILTER = (
    "days_b_screening_arrest",
    "is_recid",
    "score_text",
)  # leaks: is_recid is the label over a longer time
COLUMNS = (
    *_NUMERIC,
    "c_charge_degree",
    "race",
    "sex",
    "two_year_recid",
    "is_violent_recid",
    *_FILTER,
)
ROLES = Roles(
    tasks=("two_year_recid", "is_violent_recid"),
    sensitive=("race", "sex"),
    features=(*_NUMERIC, "c_charge_degree"),
    drop=_FILTER,
    numeric=_NUMERIC,
    categorical=("c_charge_degree",),
    levels={
        "race": ("Caucasian", "African-American", "Hispanic", "Other"),
        "sex": ("Male", "Female"),
    },
)
_SMALL = 100


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of the rows that pass the filter; every other column is dropped as the file is read."""
    table = read_csv(paths[0], keep=COLUMNS)
    rows = passes(table)
    columns = {name: column[rows] for name, column in table.columns.items()}
    names, counts = np.unique(columns["race"].astype(str), return_counts=True)
    small = set(names[counts < _SMALL].tolist())
    columns["race"] = np.array(
        ["Other" if race in small else race for race in columns["race"]], dtype=object
    )
    return columns


def passes(table: Table) -> np.ndarray:
    """Screened within 30 days of the arrest, recidivism known, not an ordinary traffic offence, scored."""
    days = table.numbers("days_b_screening_arrest")[0]
    known = table.text("is_recid") != "-1"
    scored = (table.text("score_text") != "N/A") & ~table.missing("score_text")
    return (np.abs(days) <= 30) & known & (table.text("c_charge_degree") != "O") & scored
