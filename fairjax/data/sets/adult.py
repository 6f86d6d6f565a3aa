"""Adult (UCI Census Income; Becker & Kohavi 1996; CC BY 4.0): income and capital gain, by sex.

As Wang et al. (KDD 2021) prepare it: sex is no feature, but marital status is one. The missing mark
``?`` is a level. Relationship and capital loss are not used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.data.entry import CORRECTED_AND_PAPER, Entry
from fairjax.data.files import RawFile
from fairjax.data.read import read_csv
from fairjax.data.roles import Roles

_PAGE = "https://archive.ics.uci.edu/dataset/2/adult"
_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/"
FILES = (
    RawFile(
        "adult.data",
        _PAGE,
        _URL + "adult.data",
        "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    ),
    RawFile(
        "adult.test",
        _PAGE,
        _URL + "adult.test",
        "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
    ),
)
COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
)
_NUMERIC = ("age", "fnlwgt", "education-num", "hours-per-week")
_CATEGORICAL = ("workclass", "education", "marital-status", "occupation", "race", "native-country")
ROLES = Roles(
    tasks=("income: income == >50K", "capital_gain: capital-gain > 0"),
    sensitive=("sex",),
    features=_NUMERIC + _CATEGORICAL,
    numeric=_NUMERIC,
    categorical=_CATEGORICAL,
    split="split",
    levels={"sex": ("Male", "Female")},
    na_values=("",),  # '?' is a level
)


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of the training rows, then of the test rows. ``split`` tells them apart.

    Labels of the test file end in a dot, which is removed.
    """
    train, test = [read_csv(path, header=COLUMNS, comment="|") for path in paths]
    columns = {}
    for name in COLUMNS:
        columns[name] = np.concatenate([train.cells(name), test.cells(name)])
    income = [cell.rstrip(".") for cell in columns["income"]]
    columns["income"] = np.array(income, dtype=object)
    splits = np.array(["train", "test"], dtype=object)
    columns["split"] = np.repeat(splits, [len(train), len(test)])
    return columns


ENTRY = Entry(
    name="adult",
    about="48,842 people; income and capital gain; by sex",
    terms="CC BY 4.0 (UCI)",
    files=FILES,
    read=read,
    roles=ROLES,
    forms=CORRECTED_AND_PAPER,
)
