"""The door: roles, rules, splits, statistics and every complaint about bad input."""

from __future__ import annotations

import dataclasses
import enum
import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairjax.data import DataError, Encoder, Roles, from_table, reload
from fairjax.data.raw_table import canonical
from fairjax.data.read import read_csv

ROLES = Roles(tasks=("income > 50000", "owner"), sensitive=("sex",))


def frame(n: int = 60) -> dict:
    rng = np.random.RandomState(0)
    return {
        "age": rng.randint(18, 80, n),
        "city": np.array(["rome", "oslo", "lima"])[rng.randint(0, 3, n)],
        "sex": np.array(["f", "m"])[np.arange(n) % 2],
        "income": rng.randint(10, 100, n) * 1000,
        "owner": np.array(["no", "yes"])[rng.randint(0, 2, n)],
    }


def write(path, columns: dict) -> str:
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


def leaves(data):
    return [*data.x, *data[1:]]


def same(ours, theirs) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(leaves(ours), leaves(theirs), strict=True))


# ---------------------------------------------------------------- sources


def test_csv_gzip_frame_and_arrays_give_the_same_data(tmp_path):
    path = write(tmp_path / "people.csv", frame())
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "people.csv").read_bytes()))
    want = from_table(path, ROLES)
    for source in (packed, tmp_path / "people.csv", pd.DataFrame(frame()), frame()):
        got = from_table(source, ROLES)
        assert got.spec == want.spec
        assert all(same(a, b) for a, b in zip(got.splits, want.splits, strict=True))


def test_shapes_types_and_names(tmp_path):
    data = from_table(write(tmp_path / "people.csv", frame()), ROLES)
    train = data.splits.train
    assert data.name == "people"
    assert [len(split.weight) for split in data.splits] == [36, 12, 12]
    assert train.x.numeric.shape == (36, 1) and train.x.codes.shape == (36, 1)
    assert train.labels.shape == (36, 2) and train.groups.shape == (36, 2)
    assert {a.dtype for a in leaves(train)} == {np.dtype(np.float32), np.dtype(np.int32)}
    assert data.spec.group_names == ("sex=f", "sex=m")
    assert data.spec.numeric == ("age",) and data.spec.categorical == (("city", 3),)
    assert [(t.name, t.kind) for t in data.spec.tasks] == [
        ("income", "binary"),
        ("owner", "binary"),
    ]


def test_delimiter_and_byte_order_mark(tmp_path):
    path = tmp_path / "x.csv"
    pd.DataFrame(frame()).to_csv(path, index=False, sep=";", encoding="utf-8-sig")
    assert from_table(path, dataclasses.replace(ROLES, delimiter=";")).spec.numeric == ("age",)


class Sex(str, enum.Enum):  # noqa: UP042 (str() of a StrEnum is its text)
    WOMAN = "f"
    MAN = "m"


@pytest.mark.parametrize("form", [list, pd.Series, lambda cells: np.array(cells, object)])
def test_a_member_of_an_enumeration_of_texts_is_its_text(form):
    members = [Sex(text) for text in frame()["sex"].tolist()]
    got = from_table(frame() | {"sex": form(members)}, ROLES)
    assert got.spec.group_names == ("sex=f", "sex=m")
    assert same(got.splits.train, from_table(frame(), ROLES).splits.train)


@pytest.mark.parametrize(
    ("roles", "column"),
    [
        (ROLES, "age"),
        (dataclasses.replace(ROLES, tasks=("age :regression",)), "age"),
        (dataclasses.replace(ROLES, sensitive=("age :number",)), "age"),
    ],
    ids=["feature", "label", "sensitive number"],
)
def test_numbers_beyond_single_precision_are_refused(roles, column):
    message = rf"column '{column}': 1 of 60 numbers are beyond 1e\+37, row 7 .*larger unit"
    columns = frame()
    columns[column] = columns[column].astype(float)
    fitted = from_table(columns, roles).encoder
    columns[column][7] = 1e308
    with pytest.raises(DataError, match=message):
        from_table(columns, roles)
    with pytest.raises(DataError, match=message):
        fitted.encode(columns, labels=True)


def test_a_number_that_is_too_large_once_it_is_standardised_is_refused():
    small = frame()
    small["age"] = small["age"] * 1e-20
    fitted = from_table(small, ROLES).encoder
    large = frame() | {"age": np.full(60, 1e30)}
    with pytest.raises(DataError, match="column 'age': 60 of 60 numbers are beyond"):
        fitted.encode(large)


def test_pandas_missing_values_and_categories():
    table = pd.DataFrame(frame())
    table["city"] = table["city"].astype("category")
    table["owner"] = table["owner"].where(table.index % 3 > 0, None)
    table["income"] = table["income"].astype("Int64").where(table.index % 4 > 0, pd.NA)
    data = from_table(table, ROLES)
    assert sum(split.label_mask[:, 1].sum() for split in data.splits) == 40
    assert sum(split.label_mask[:, 0].sum() for split in data.splits) == 45


@given(st.integers(-(10**9), 10**9))
@settings(max_examples=50, deadline=None)
def test_one_spelling_per_number(value):
    assert canonical(str(value)) == canonical(float(value)) == canonical(f"{value}.0") == str(value)


def test_kept_columns_are_the_only_ones_read(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,name,a\n1,secret,2\n")
    assert {k: v.to_pylist() for k, v in read_csv(path, keep=["a"]).columns.items()} == {"a": ["1"]}


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        ("income > 50000", "income", [0, 0, 1, 1]),
        ("income >= 50000", "income", [0, 1, 1, 1]),
        ("rich: income>60000", "rich", [0, 0, 1, 1]),
        ("income < 5e4", "income", [1, 0, 0, 0]),
        ("income <= 50000", "income", [1, 1, 0, 0]),
        ("band == >50K", "band", [0, 0, 1, 1]),
        ('top: band = ">50K"', "top", [0, 0, 1, 1]),
        ("band != >50K", "band", [1, 1, 0, 0]),
        ("band", "band", [0, 0, 1, 1]),
        ("code == 2.0", "code", [0, 1, 0, 0]),
        ("clock == 12:30", "clock", [1, 0, 0, 1]),
        ("flag :binary", "flag", [0, 1, 0, 1]),
    ],
)
def test_rules(rule, name, expected):
    rows = {
        "income": [40000, 50000, 70000, 90000] * 10,
        "band": ["<=50K", "<=50K", ">50K", ">50K"] * 10,
        "code": [1, 2, 3, 4] * 10,
        "clock": ["12:30", "9:00", "8:00", "12:30"] * 10,
        "flag": [1, 2, 1, 2] * 10,
        "sex": ["f", "f", "m", "m"] * 10,
        "x": np.arange(40) % 7,
        "split": ["train"] * 20 + ["test"] * 20,
    }
    data = from_table(rows, Roles(tasks=rule, sensitive="sex", split="split"), fractions=(1, 0, 0))
    assert data.spec.tasks[0].name == name and data.spec.tasks[0].kind == "binary"
    assert data.splits.train.labels[:4, 0].tolist() == expected


def test_two_rules_on_one_column_keep_their_texts():
    roles = Roles(tasks=("income > 30000", "income > 60000"), sensitive=("sex",))
    assert [t.name for t in from_table(frame(), roles).spec.tasks] == [
        "income > 30000",
        "income > 60000",
    ]


def test_kinds_are_inferred_and_can_be_overridden():
    rows = frame() | {"score": np.arange(60) % 5, "job": np.array(["a", "b", "c"] * 20)}
    roles = Roles(tasks=("income", "job", "score :multiclass", "owner"), sensitive=("sex",))
    tasks = from_table(rows, roles).spec.tasks
    assert [t.kind for t in tasks] == ["regression", "multiclass", "multiclass", "binary"]
    assert tasks[1].levels == ("a", "b", "c") and tasks[2].levels == ("0", "1", "2", "3", "4")
    roles = Roles(tasks=("score",), sensitive=("sex",), kinds={"score": "multiclass"})
    data = from_table(rows, roles)
    assert data.spec.tasks[0].kind == "multiclass"
    assert set(data.splits.train.labels[:, 0]) == {0, 1, 2, 3, 4}


def test_sensitive_rule_and_two_attributes():
    data = from_table(frame(), Roles(tasks=("owner",), sensitive=("sex", "age > 40")))
    assert data.spec.group_names == ("sex=f", "sex=m", "age=no", "age=yes")
    assert (data.splits.train.groups.sum(1) == 2).all()
    assert "age" not in data.spec.numeric


# ---------------------------------------------------------------- what never becomes a feature


def test_labels_leaks_weight_split_and_sensitive_are_no_features():
    rows = frame() | {
        "leak": np.arange(60) % 9,
        "w": np.ones(60),
        "part": ["train", "val", "test"] * 20,
    }
    roles = dataclasses.replace(ROLES, drop=("leak",), weight="w", split="part")
    spec = from_table(rows, roles).spec
    assert spec.numeric + tuple(name for name, _ in spec.categorical) == ("age", "city")
    used = from_table(rows, dataclasses.replace(roles, use_sensitive=True)).spec
    assert [name for name, _ in used.categorical] == ["city", "sex"]


def test_feature_whitelist_keeps_its_order_and_refuses_a_label():
    rows = frame() | {"height": np.arange(60.0)}
    roles = dataclasses.replace(ROLES, features=("height", "age"))
    assert from_table(rows, roles).spec.numeric == ("height", "age")
    with pytest.raises(DataError, match="'income' cannot be a feature"):
        from_table(rows, dataclasses.replace(ROLES, features=("age", "income")))


# ---------------------------------------------------------------- statistics, gaps, new rows


def test_statistics_come_from_training_rows_only():
    rows = {
        "x": np.arange(12.0),
        "y": [0, 1] * 6,
        "s": ["a", "a", "b", "b"] * 3,
        "c": ["u"] * 8 + ["v"] * 4,
    }
    rows["split"] = ["train"] * 8 + ["test"] * 4
    roles = Roles(tasks=("y",), sensitive=("s",), split="split")
    data = from_table(rows, roles, fractions=(1, 0, 0))
    want = (rows["x"] - np.mean(rows["x"][:8])) / np.std(rows["x"][:8], ddof=1)
    np.testing.assert_allclose(data.splits.test.x.numeric[:, 0], want[8:], rtol=1e-6)
    assert data.spec.categorical == (("c", 1),) and (data.splits.test.x.codes == -1).all()
    both = from_table(rows, dataclasses.replace(roles, standardise="all"), fractions=(1, 0, 0))
    want = (rows["x"] - np.mean(rows["x"])) / np.std(rows["x"], ddof=1)
    np.testing.assert_allclose(both.splits.test.x.numeric[:, 0], want[8:], rtol=1e-6)
    assert both.spec.categorical == (("c", 2),) and (both.splits.test.x.codes == 1).all()


def test_levels_follow_first_appearance_in_training():
    rows = {"c": ["z", "b", "a", "z"] * 5, "y": [0, 1] * 10, "s": ["a", "a", "b", "b"] * 5}
    rows["split"] = ["test"] * 4 + ["train"] * 16
    rows["c"][:1] = ["b"]
    data = from_table(
        rows, Roles(tasks=("y",), sensitive=("s",), split="split"), fractions=(1, 0, 0)
    )
    assert data.encoder.categorical[0].levels == ("z", "b", "a")


def test_missing_labels_and_demographics():
    rows = frame()
    rows["owner"] = np.where(np.arange(60) % 5 == 0, "NA", rows["owner"])
    rows["sex"] = np.where(np.arange(60) % 6 == 0, "?", rows["sex"])
    data = from_table(rows, dataclasses.replace(ROLES, na_values=("", "NA", "?")))
    assert sum(s.label_mask[:, 1].sum() for s in data.splits) == 48
    assert sum((s.groups.sum(1) == 0).sum() for s in data.splits) == 10
    assert all(np.isfinite(s.labels).all() for s in data.splits)
    assert all((s.labels[s.label_mask == 0] == 0).all() for s in data.splits)
    # Not declared, '?' is a group of its own.
    undeclared = dataclasses.replace(ROLES, na_values=("", "NA"))
    assert "sex=?" in from_table(rows, undeclared, seed=1).spec.group_names


def test_impute_takes_the_training_mean():
    rows = frame() | {"h": np.where(np.arange(60) % 4 == 0, np.nan, np.arange(60.0))}
    data = from_table(rows, ROLES)
    assert data.spec.numeric == ("age", "h", "h is missing")
    for split, origin in data.origin.items():
        gaps = getattr(data.splits, split).x.numeric[:, 2]
        np.testing.assert_array_equal(gaps, origin.row % 4 == 0)
    new = data.encoder.encode({**frame(2), "h": ["", "nan"]})
    assert all(np.isfinite(s.x.numeric).all() for s in data.splits)
    assert (new.x.numeric[:, data.spec.numeric.index("h")] == 0).all()
    assert (new.x.numeric[:, 2] == 1).all()
    np.testing.assert_allclose(data.splits.train.x.numeric[:, :2].mean(0), 0, atol=1e-6)


def test_constant_feature_does_not_blow_up():
    data = from_table(frame() | {"k": np.full(60, 0.1)}, ROLES)
    assert abs(data.splits.test.x.numeric[:, data.spec.numeric.index("k")]).max() < 1e-6


def test_encoder_survives_json_and_meets_new_rows():
    data = from_table(frame(), ROLES)
    encoder = Encoder.from_json(data.encoder.to_json())
    assert encoder == data.encoder
    assert same(encoder.encode(frame(), labels=True), data.encoder.encode(frame(), labels=True))
    new = encoder.encode({"city": ["oslo", "mars"], "age": [30, 40]})
    assert new.x.codes[1, 0] == -1 and new.x.codes[0, 0] >= 0
    assert not new.label_mask.any() and not new.groups.any() and (new.weight == 1).all()
    with pytest.raises(DataError, match="no column 'age'"):
        encoder.encode({"city": ["oslo"]})
    with pytest.raises(DataError, match="not the JSON of an encoder"):
        Encoder.from_json('{"roles": {}}')


def test_weights_are_carried_and_checked():
    rows = frame() | {"w": np.arange(60) % 3 + 0.5}
    data = from_table(rows, dataclasses.replace(ROLES, weight="w"))
    assert set(data.splits.train.weight) == {0.5, 1.5, 2.5}
    rows["w"][3] = -1
    with pytest.raises(DataError, match=r"weight column 'w': 1 of 60 .* row 3"):
        from_table(rows, dataclasses.replace(ROLES, weight="w"))


# ---------------------------------------------------------------- splits


def test_splits_are_disjoint_complete_and_seeded():
    rows = frame() | {"id": np.arange(60.0)}
    roles = dataclasses.replace(ROLES, features=("id",))

    def ids(seed):
        data = from_table(rows, roles, seed=seed)
        scale = data.encoder.numeric[0]
        return [
            np.round(s.x.numeric[:, 0] * scale.deviation + scale.mean).astype(int).tolist()
            for s in data.splits
        ]

    assert sorted(sum(ids(0), [])) == list(range(60))
    assert ids(0) == ids(0) != ids(1)


def test_split_column_without_validation_is_carved_or_left_whole():
    rows = frame() | {"part": ["train"] * 40 + ["test"] * 20}
    roles = dataclasses.replace(ROLES, split="part")
    carved = from_table(rows, roles)
    assert [len(s.weight) for s in carved.splits] == [30, 10, 20]
    whole = from_table(rows, roles, fractions=(1, 0, 0))
    assert [len(s.weight) for s in whole.splits] == [40, 20, 20]
    assert same(whole.splits.validation, whole.splits.test)


# ---------------------------------------------------------------- what a run needs to start again


def test_reload_gives_the_same_arrays_and_refuses_a_changed_file(tmp_path):
    path = write(tmp_path / "people.csv", frame())
    data = from_table(
        path,
        dataclasses.replace(ROLES, levels={"sex": ("m", "f")}),
        fractions=(0.5, 0.25, 0.25),
        seed=3,
    )
    source = json.loads(json.dumps(data.source))
    again = reload(source)
    assert again.spec == data.spec and again.encoder == data.encoder
    assert all(same(a, b) for a, b in zip(again.splits, data.splits, strict=True))
    write(tmp_path / "people.csv", frame(61))
    with pytest.raises(DataError, match="has changed"):
        reload(source)
    with pytest.raises(DataError, match="came from memory"):
        reload(from_table(frame(), ROLES).source)


def test_describe_counts_tasks_groups_and_splits():
    text = from_table(frame(), ROLES).describe()
    assert "income (1: income > 50000)" in text and "owner (1: owner == yes)" in text
    assert "train" in text and "sex=m" in text and "36" in text


# ---------------------------------------------------------------- bad input


def bad(columns=None, roles=None, **changes):
    """Columns and roles with changes; a callable column changes the good one."""
    rows = frame() | (columns or {})
    return rows, dataclasses.replace(roles or ROLES, **changes)


def cell(name, row, value):
    column = [str(v) for v in frame()[name]]
    column[row] = value
    return {name: column}


ALL = ["train"] * 60
BAD = {
    "unknown task": (
        bad(tasks=("incme > 5",)),
        r"no column 'incme' among 5 columns, 60 rows.*'income'",
    ),
    "unknown feature": (bad(features=("age", "agee")), r"no column 'agee'.*'age'"),
    "no task": (bad(tasks=()), r"no task column.*60 rows"),
    "no sensitive": (bad(sensitive=()), r"no sensitive column.*60 rows"),
    "constant label": (
        bad({"owner": ["no"] * 60}),
        r"task 'owner'.*constant \('no' in 60 rows\).*remove",
    ),
    "rule matches nothing": (
        bad(tasks=("income > 1e9",)),
        r"income > 1e9' matches none of 60.*change the rule",
    ),
    "rule matches everything": (bad(tasks=("income > 0",)), r"matches every one of 60"),
    "rule on a text": (
        bad(tasks=("owner > yes",)),
        r"60 rows: 'yes' is not a number\. Compare with a number, write owner == 'yes'.*--levels",
    ),
    "rule compares text cells": (
        bad(tasks=("city > 3",)),
        r"'city': 60 of 60 cells are not numbers, line 2",
    ),
    "text in a declared numeric": (
        bad(numeric=("city",)),
        r"'city': 60 of 60 cells are not numbers.*categorical",
    ),
    "typing error in numbers": (
        bad(cell("age", 7, "4o")),
        r"'age': 1 of 60 cells are not numbers, line 9 \('4o'\)",
    ),
    "NaN feature": (
        bad(cell("age", 7, "nan"), missing="error"),
        r"'age': 1 of 60 cells are empty, NaN or infinite, line 9.*impute",
    ),
    "infinite feature": (
        bad(cell("age", 0, "inf")),
        r"'age': 1 of 60 cells are infinite, line 2.*--na",
    ),
    "empty feature": (
        bad(cell("age", 0, ""), missing="error"),
        r"'age': 1 of 60 cells are empty.*--missing",
    ),
    "no labels": (bad({"owner": [""] * 60}), r"task 'owner'.*0 labels in 60 rows"),
    "labels in no test row": (
        bad(
            {"owner": ["no", "yes"] * 20 + [""] * 20, "part": ["train"] * 40 + ["test"] * 20},
            split="part",
        ),
        r"task 'owner' has 0 labels in the 20 test rows",
    ),
    "label constant in training": (
        bad(
            {"owner": ["no"] * 40 + ["yes", "no"] * 10, "part": ["train"] * 40 + ["test"] * 20},
            split="part",
        ),
        r"task 'owner': its label is constant \(0\) in the 30 labelled train rows",
    ),
    "group absent from a split": (
        bad(
            {"sex": ["f", "m"] * 20 + ["f"] * 20, "part": ["train"] * 40 + ["test"] * 20},
            split="part",
        ),
        r"group 'sex=m' has 0 of the 20 test rows",
    ),
    "one group": (bad({"sex": ["f"] * 60}), r"sensitive column 'sex' has 1 group in 60 rows"),
    "numeric sensitive": (
        bad(sensitive=("income",), tasks=("owner",)),
        r"'income' has .* values in 60 rows.*> 25",
    ),
    "split with one value": (
        bad({"part": ALL}, split="part"),
        r"split column 'part' has one value, 'train', in 60",
    ),
    "split with strange values": (
        bad({"part": ["train", "hold"] * 30}, split="part"),
        r"holds 'hold' among 60 rows",
    ),
    "split without test": (
        bad({"part": ["train", "val"] * 30}, split="part"),
        r"0 test rows among 60",
    ),
    "sensitive is a task": (
        bad(sensitive=("owner",)),
        r"'owner' is sensitive and also a task \(60 rows\)",
    ),
    "sensitive rule is a task": (
        bad(sensitive=("income > 20000",)),
        r"'income' is sensitive and also a task",
    ),
    "two values wanted": (
        bad(tasks=("city :binary",)),
        r"'city' is binary.*holds 3 values in 60 rows.*Cut it",
    ),
    "identifier": (
        bad(
            {"id": [f"p{i}" for i in range(400)]}
            | {k: np.resize(v, 400) for k, v in frame().items()}
        ),
        r"'id' has 240 levels in 240 training rows.*Drop it",
    ),
    "no feature left": (bad(drop=("age", "city")), r"0 features are left in 60 rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_table(case, tmp_path):
    (rows, roles), message = BAD[case]
    with pytest.raises(DataError, match=message) as error:
        from_table(write(tmp_path / "people.csv", rows), roles)
    assert "people.csv" in str(error.value)
    assert str(error.value).endswith((".", "?"))


BAD_FILES = {
    "missing file": (None, r"no such file \(0 rows read\)\. Check the path"),
    "empty file": (b"", r"empty \(0 bytes, 0 rows\)"),
    "blank file": (b"\n\n", r"empty"),
    "header only": (b"age,sex,owner\n", r"0 rows under the header of 3 columns"),
    "ragged rows": (
        b"age,sex,owner\n1,f,0\n2,m\n3,f,1,9\n",
        r"2 of 3 rows do not have the 3 cells .*line 3 has 2, line 4 has 4.*delimiter",
    ),
    "duplicate column": (
        b"age,sex,age\n1,f,0\n",
        r"column 'age' occurs 2 times \(columns 1, 3; 1 rows\)\. Rename",
    ),
    "unnamed column": (b",sex,owner\n1,f,0\n", r"column 1 of 3 has no name \(1 rows\).*index"),
    "wrong encoding": (
        "age,sex\n1,f\n2,\xfc\n".encode("latin-1"),
        r"line 3 is not utf-8 \(byte 0xfc\).*latin-1",
    ),
    "unclear delimiter": (
        b"age sex;owner\n1 f 0\n2 m 1\n",
        r"1 column in 2 rows.*Give delimiter ';'",
    ),
    "open quote": (b'age,sex,owner\n1,"f,0\n2,m,1\n', r"line 3: unexpected end of data.*quotes"),
    "broken gzip": (b"\x1f\x8b\x08garbage", r"cannot be read"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file(case, tmp_path):
    content, message = BAD_FILES[case]
    path = tmp_path / "people.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        from_table(path, Roles(tasks=("owner",), sensitive=("sex",)))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.5, 0.6, 0.2), (1.0, 0.0, 0.0), (0.6, 0.5, -0.1)]
)
def test_bad_fractions(fractions):
    with pytest.raises(DataError, match="fractions"):
        from_table(frame(), ROLES, fractions=fractions)


def test_bad_arrays_and_frames():
    with pytest.raises(DataError, match=r"unequal length.*'b': 2"):
        from_table({"a": [1, 2, 3], "b": [1, 2]}, ROLES)
    with pytest.raises(DataError, match="column 'a' has shape"):
        from_table({"a": np.zeros((3, 2))}, ROLES)
    with pytest.raises(DataError, match=r"DataFrame: column 'a' occurs 2 times"):
        from_table(pd.DataFrame([[1, 2]], columns=["a", "a"]), ROLES)
    with pytest.raises(DataError, match="cannot read a table from int"):
        from_table(3, ROLES)


# ---------------------------------------------------------------- weight of the import


def test_import_is_light():
    heavy = (
        "flax",
        "ott",
        "tensorflow_datasets",
        "pandas",
        "matplotlib",
        "sklearn",
        "urllib.request",
    )
    code = f"import sys, fairjax.data; print([m for m in {heavy!r} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "[]"
    )
