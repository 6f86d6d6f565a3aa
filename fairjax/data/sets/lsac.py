"""LSAC bar passage (Wightman 1998; terms unclear): first-year grades and passing the bar, by sex.

The label of the grades is 1 above the average. As Wang et al. (KDD 2021) use it, after Lahoti et
al. (2020). The task order is that of their code: grades, then bar. Sex and race are features.
``zgpa``, the later grades, is a feature of both tasks, although it contains the first-year grades.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fairjax.data.entry import CORRECTED_AND_PAPER, Entry
from fairjax.data.files import RawFile
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

FILES = (
    RawFile(
        "lsac.csv",
        "https://github.com/MDuqi/Bargaining-Fair-PCA",
        "https://raw.githubusercontent.com/MDuqi/Bargaining-Fair-PCA/HEAD/lsac.csv",
        "53952f4c4809d16813640b5d31d91b3f459f3b7b5a08d1f2e9a5052b3e6cff27",
    ),
)
COLUMNS = (
    "zfygpa",
    "zgpa",
    "birth_year",
    "part_time",
    "sex",
    "race",
    "tier",
    "family_income",
    "lsat",
    "ugpa",
    "index",
    "pass_bar",
)
_NUMERIC = ("zgpa", "birth_year", "index", "tier", "family_income", "lsat", "ugpa")
_CATEGORICAL = ("part_time", "race", "sex")
ROLES = Roles(
    tasks=("gpa: zfygpa > 0", "bar: pass_bar == 1"),
    sensitive=("sex",),
    features=_NUMERIC + _CATEGORICAL,
    numeric=_NUMERIC,
    categorical=_CATEGORICAL,
    split="split",
    use_sensitive=True,
    levels={"sex": ("Male", "Female")},
)
_LEVELS = {
    "part_time": {"1": "yes", "2": "no"},
    "sex": {"1": "Male", "2": "Female"},
    "race": {"1": "White", "2": "Black", "3": "Other"},
}


def split_70_30(n: int) -> tuple[np.ndarray, np.ndarray]:
    """``(train, test)`` rows of scikit-learn's ``train_test_split``.

    The options are ``test_size=0.30, random_state=42``.
    """
    order = np.random.RandomState(42).permutation(n)
    test_rows = math.ceil(0.3 * n)
    return order[test_rows:], order[:test_rows]


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of the training rows, then of the test rows, in the order of the split.

    Codes become the names of their levels.
    """
    table = read_csv(paths[0], header=COLUMNS)
    columns = {name: table.cells(name) for name in COLUMNS}
    for name, level_of in _LEVELS.items():
        levels = [level_of.get(code, code) for code in columns[name]]
        columns[name] = np.array(levels, dtype=object)
    train, test = split_70_30(len(columns["sex"]))
    order = np.concatenate([train, test])
    ordered = {name: column[order] for name, column in columns.items()}
    splits = np.array(["train", "test"], dtype=object)
    ordered["split"] = np.repeat(splits, [len(train), len(test)])
    return ordered


ENTRY = Entry(
    name="lsac",
    about="26,551 law students; first-year grades and bar; by sex",
    terms="unclear",
    files=FILES,
    read=read,
    roles=ROLES,
    forms=CORRECTED_AND_PAPER,
)
