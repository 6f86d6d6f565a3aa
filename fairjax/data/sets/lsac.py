"""LSAC bar passage (Wightman 1998; terms unclear): first-year grades above average and passing the bar, by sex.

As Wang et al. (KDD 2021) use it, after Lahoti et al. (2020): task order as in their code (grades, then bar); sex and
race are features. ``zgpa``, the later grades, stays a feature of both tasks, though first-year grades enter it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

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
_WORDS = {
    "part_time": {"1": "yes", "2": "no"},
    "sex": {"1": "Male", "2": "Female"},
    "race": {"1": "White", "2": "Black", "3": "Other"},
}


def split_70_30(n: int) -> tuple[np.ndarray, np.ndarray]:
    """``(train, test)`` row indices of scikit-learn's ``train_test_split(test_size=0.30, random_state=42)``."""
    order = np.random.RandomState(42).permutation(n)
    held = math.ceil(0.3 * n)
    return order[held:], order[:held]


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of training rows followed by test rows, each in the order of the split; codes become words."""
    raw = read_csv(paths[0], header=COLUMNS).columns
    for name, words in _WORDS.items():
        raw[name] = np.array([words.get(cell, cell) for cell in raw[name]], dtype=object)
    train, test = split_70_30(len(raw["sex"]))
    order = np.concatenate([train, test])
    split = np.repeat(np.array(["train", "test"], dtype=object), [len(train), len(test)])
    return {name: column[order] for name, column in raw.items()} | {"split": split}
