"""Several data sets as one: what each lacks is masked."""

from __future__ import annotations

import numpy as np
import pytest

from fairjax import DataError
from fairjax.data import Roles, from_table, join

RNG = np.random.default_rng(0)
A = {"age": RNG.integers(20, 60, 40), "job": RNG.choice(["x", "y"], 40), "paid": np.arange(40) % 2}
B = {
    "job": RNG.choice(["y", "z"], 30),
    "age": RNG.integers(20, 60, 30).astype(str),
    "hours": RNG.normal(40, 5, 30),
    "promoted": (np.arange(30) // 2) % 2,
    "sex": np.array(["f", "m", ""])[np.arange(30) % 3],
}


def test_labels_and_demographics_that_a_source_lacks_are_masked():
    joined = join(A, B, part="from")
    assert list(joined) == ["age", "job", "paid", "hours", "promoted", "sex", "from"]
    assert all(len(column) == 70 for column in joined.values())
    roles = Roles(tasks=("paid", "promoted"), sensitive=("sex",), drop=("from",))
    prepared = from_table(joined, roles, seed=3)
    spec = prepared.spec
    assert spec.numeric == ("age", "hours", "hours is missing") and [
        name for name, _ in spec.categorical
    ] == ["job"]
    total = np.zeros(3)
    for data in prepared.splits:
        assert (data.label_mask.sum(axis=1) == 1).all()  # of one source or the other
        first = data.label_mask[:, 0] > 0
        assert (data.groups[first] == 0).all() and (data.labels[first, 1] == 0).all()
        known = data.groups.sum(axis=1) > 0
        assert np.isfinite(data.x.numeric).all()
        total += [first.sum(), (~first).sum(), known.sum()]
    assert total.tolist() == [40, 30, 20]


def test_numbers_without_a_source_can_be_refused():
    with pytest.raises(DataError, match="'hours'.*40 of"):
        from_table(join(A, B), Roles(tasks=("paid",), sensitive=("sex",), missing="error"))


def test_text_and_numbers_of_one_name_are_one_column():
    ages = join(A, B)["age"]
    assert ages.dtype == object and [int(cell) for cell in ages] == [
        *A["age"].tolist(),
        *map(int, B["age"]),
    ]


def test_files_are_read_and_complaints_are_short(tmp_path):
    for name, text in (("a.csv", "age,paid\n30,0\n40,1\n"), ("b.csv", "age,sex\n50,f\n")):
        (tmp_path / name).write_text(text)
    joined = join(tmp_path / "a.csv", tmp_path / "b.csv")
    assert joined["sex"].tolist() == ["", "", "f"] and joined["age"].tolist() == ["30", "40", "50"]
    with pytest.raises(DataError, match="no column is in two of 2 sources: 'age', 'lohn'.*Rename"):
        join({"age": [1]}, {"lohn": [2]})
    with pytest.raises(DataError, match="two sources or more"):
        join(A)
    with pytest.raises(DataError, match="a column 'age' already"):
        join(A, B, part="age")
