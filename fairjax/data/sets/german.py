"""German Credit (UCI Statlog; Hofmann 1994; CC BY 4.0): bad credit and amount above 2,000, by sex.

As Wang et al. (KDD 2021) prepare it: label 1 is a BAD credit. Sex comes from attribute 9 and is a
feature; the amount is not a feature. Attribute 9 is known to be unreliable: A92 also holds single
men (Groemping 2019).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data.entry import CORRECTED_AND_PAPER, Entry
from fairjax.data.files import RawFile
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

FILES = (
    RawFile(
        "german.data",
        "https://archive.ics.uci.edu/dataset/144/statlog+german+credit+data",
        "https://archive.ics.uci.edu/ml/machine-learning-databases/statlog/german/german.data",
        "b21f3d81db8071257d5ff1deaeba1fd4303b62712e6fcc9715c7a86202cb5871",
    ),
)
COLUMNS = (
    "checking_status",
    "duration",
    "credit_history",
    "purpose",
    "credit_amount",
    "savings",
    "employment",
    "installment_rate",
    "personal_status",
    "other_debtors",
    "residence_since",
    "property",
    "age",
    "other_installments",
    "housing",
    "existing_credits",
    "job",
    "liable_people",
    "telephone",
    "foreign_worker",
    "class",
)
_NUMERIC = (
    "duration",
    "installment_rate",
    "residence_since",
    "age",
    "existing_credits",
    "liable_people",
)
_CATEGORICAL = (
    "checking_status",
    "sex",
    "credit_history",
    "purpose",
    "savings",
    "employment",
    "other_debtors",
    "property",
    "other_installments",
    "housing",
    "job",
    "telephone",
    "foreign_worker",
)
ROLES = Roles(
    tasks=("bad_credit: class == 2", "amount: credit_amount > 2000"),
    sensitive=("sex",),
    features=_NUMERIC + _CATEGORICAL,
    numeric=_NUMERIC,
    categorical=_CATEGORICAL,
    split="split",
    use_sensitive=True,
    levels={"sex": ("Male", "Female")},
)
_FEMALE = ("A92", "A95")


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns in the order of the file, with ``sex`` and a split of 800 and 200 rows."""
    table = read_csv(paths[0], delimiter=" ", header=COLUMNS)
    columns = {name: table.cells(name) for name in COLUMNS}
    status = columns.pop("personal_status")
    is_female = np.isin(status.astype(str), _FEMALE)
    columns["sex"] = np.where(is_female, "Female", "Male").astype(object)
    columns["split"] = draw_split(len(status), seed=0)
    return columns


def draw_split(n: int, seed: int) -> np.ndarray:
    """``[n]`` of train and test; one row in five is test."""
    split = np.full(n, "train", dtype=object)
    order = np.random.RandomState(seed).permutation(n)
    split[order[: n // 5]] = "test"
    return split


ENTRY = Entry(
    name="german",
    about="1,000 credits; bad credit and amount; by sex",
    terms="CC BY 4.0 (UCI)",
    files=FILES,
    read=read,
    roles=ROLES,
    forms=CORRECTED_AND_PAPER,
    draw_split=draw_split,
)
