"""COMPAS (ProPublica 2016, Broward County; no licence stated): two recidivism labels.

The tasks are recidivism in two years and violent recidivism, by race and sex. ProPublica's own
filter selects the rows. Names, dates of birth and case numbers are not kept when the file is read.
Races of fewer than 100 rows become one level, Other. The two-year label is known to be flawed
(Barenstein 2019).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data.entry import Entry
from fairjax.data.files import RawFile
from fairjax.data.raw_table import RawTable
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

# No address: the original file holds names, so a person decides whether to download it.
FILES = (RawFile("compas-scores-two-years.csv", "https://github.com/propublica/compas-analysis"),)
_NUMERIC = ("age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count")
# These columns reveal the label: is_recid is the label over a longer time.
_FILTER = ("days_b_screening_arrest", "is_recid", "score_text")
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
    """Columns of the rows that pass the filter. Other columns are dropped while reading."""
    table = read_csv(paths[0], keep=COLUMNS)
    rows = passes(table)
    columns = {name: table.cells(name)[rows] for name in table.columns}
    races, counts = np.unique(columns["race"].astype(str), return_counts=True)
    small = set(races[counts < _SMALL].tolist())
    merged = ["Other" if race in small else race for race in columns["race"]]
    columns["race"] = np.array(merged, dtype=object)
    return columns


def passes(table: RawTable) -> np.ndarray:
    """``[N]`` bool, ProPublica's filter.

    A row passes if the person was screened within 30 days of the arrest, recidivism is known, the
    offence is no ordinary traffic offence, and there is a score.
    """
    days, _ = table.numbers("days_b_screening_arrest")
    is_known = table.text("is_recid") != "-1"
    is_criminal = table.text("c_charge_degree") != "O"
    is_scored = (table.text("score_text") != "N/A") & ~table.missing("score_text")
    return (np.abs(days) <= 30) & is_known & is_criminal & is_scored


ENTRY = Entry(
    name="compas",
    about="6,172 defendants; recidivism and violent; by race and sex",
    terms="unclear",
    files=FILES,
    read=read,
    roles=ROLES,
)
