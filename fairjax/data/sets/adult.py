"""Adult (UCI Census Income; Becker & Kohavi 1996; CC BY 4.0): income and capital gain, by sex.

As Wang et al. (KDD 2021) prepare it: sex is withheld from the features while marital status stays; the missing mark
``?`` is a level; relationship and capital loss are not used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
)


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Columns of training rows followed by test rows; ``split`` says which. Labels lose the test file's dot."""
    parts = [read_csv(path, header=COLUMNS, comment="|").columns for path in paths]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    columns["income"] = np.array([word.rstrip(".") for word in columns["income"]], dtype=object)
    columns["split"] = np.repeat(
        np.array(["train", "test"], dtype=object), [len(part["age"]) for part in parts]
    )
    return columns
