"""Kinds of trouble with tables that other libraries had: spellings, types and containers."""

from __future__ import annotations

import bz2
import dataclasses
import datetime
import decimal
import gzip
import io
import json
import lzma
import re
import shlex
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import feather

from fairjax.cli.frontier import frontier_command
from fairjax.cli.settings import read_data
from fairjax.data import DataError, Encoder, Roles, containers, from_table
from fairjax.data.merging import merge_options, merged, merges_of
from fairjax.data.new_rows import remarks
from fairjax.data.read import as_table, read_csv

ROLES = Roles(tasks=("y",), sensitive=("sex",))
N = 60


def rows(**columns) -> dict:
    """Sixty rows with some columns more; a short one is repeated."""
    base = {"x": np.arange(N) * 0.37 % 1, "sex": ["f", "m"], "y": [0, 1, 1, 0]}
    return {name: repeated(cells) for name, cells in {**base, **columns}.items()}


def repeated(cells):
    if isinstance(cells, np.ndarray):
        return cells
    return [cells[i % len(cells)] for i in range(N)]


def known_labels(data) -> float:
    return sum(float(split.label_mask.sum()) for split in data.splits)


def in_table_order(data, of) -> np.ndarray:
    """What a function takes from every split, in the order of the table."""
    got = np.zeros(N)
    for split, origin in data.origin.items():
        got[origin.row] = of(getattr(data.splits, split))
    return got


def feature(data, name: str) -> np.ndarray:
    """The numbers of a feature before they were standardised."""
    j = data.spec.numeric.index(name)
    scale = data.encoder.numeric[j]
    return in_table_order(data, lambda s: s.x.numeric[:, j] * scale.deviation + scale.mean)


def label(data) -> np.ndarray:
    return in_table_order(data, lambda split: split.labels[:, 0])


# ---------------------------------------------------------------- containers


def to_excel(frame, path):
    frame.to_excel(path, index=False)


def to_zip(frame, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._a.csv", b"junk")
        archive.writestr("a.csv", frame.to_csv(index=False))


WRITERS = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "gz": lambda frame, path: path.write_bytes(gzip.compress(frame.to_csv(index=False).encode())),
    "bz2": lambda frame, path: frame.to_csv(path, index=False, compression="bz2"),
    "xz": lambda frame, path: frame.to_csv(path, index=False, compression="xz"),
    "zip": to_zip,
    "utf-16": lambda frame, path: frame.to_csv(path, index=False, encoding="utf-16"),
    "parquet": lambda frame, path: frame.set_index(frame.index + 3).to_parquet(path),
    "feather": lambda frame, path: feather.write_feather(pa.Table.from_pandas(frame), path),
    "xlsx": to_excel,
}
FRAMES = {
    "pandas": lambda frame: frame,
    "objects": lambda frame: frame.astype(object),
    "numpy_nullable": lambda frame: frame.convert_dtypes(),
    "pyarrow_dtypes": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "categories": lambda frame: frame.astype({"sex": "category", "c": "category"}),
    "polars": pl.from_pandas,
    "polars_enum": lambda frame: pl.from_pandas(frame).cast({"sex": pl.Categorical}),
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "batch": lambda frame: pa.RecordBatch.from_pandas(frame, preserve_index=False),
    "lists": lambda frame: frame.astype(object).where(frame.notna(), None).to_dict("list"),
}


def people() -> pd.DataFrame:
    frame = pd.DataFrame(rows(c=["é", "b", "a"], whole=np.arange(N) % 7, flag=[True, False, True]))
    frame.loc[::7, "x"] = np.nan
    frame.loc[::9, "c"] = None
    frame["day"] = pd.date_range("2024-01-01", periods=N).astype("datetime64[us]")
    return frame


def arrays(data) -> list[np.ndarray]:
    return [array for split in data.splits for array in (*split.x, *split[1:])]


@pytest.fixture(scope="module")
def people_arrays():
    return arrays(from_table(people(), ROLES))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_container_gives_the_same_data(kind, tmp_path, people_arrays):
    path = tmp_path / "no.ending"
    to = tmp_path / "a.xlsx" if kind == "xlsx" else path
    WRITERS[kind](people(), to)
    data = from_table(to.rename(path), ROLES)
    assert data.spec.numeric == ("x", "whole", "day", "x is missing")
    for got, want in zip(arrays(data), people_arrays, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", FRAMES)
def test_every_frame_gives_the_same_data(kind, people_arrays):
    data = from_table(FRAMES[kind](people()), ROLES)
    for got, want in zip(arrays(data), people_arrays, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_a_spreadsheet_with_empty_rows_and_columns(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    for cells in ([None], [None, "x", "y", None], [None], [None, 1, "a", None], [None, None, "b"]):
        sheet.append(cells)
    sheet["E9"].number_format = "0.00"
    book.save(tmp_path / "a.xlsx")
    table = read_csv(tmp_path / "a.xlsx")
    assert list(table.columns) == ["x", "y"]
    assert table.column("x").to_pylist() == ["1", ""]
    assert table.column("y").to_pylist() == ["a", "b"]
    book.create_sheet("more").append(["z"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="2 sheets with rows.*a file of its own"):
        read_csv(tmp_path / "a.xlsx")


def archive(members: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def encrypted() -> bytes:
    content = bytearray(archive({"a.csv": "a,b\n1,2\n"}))
    content[6] |= 1  # of the member
    content[content.index(b"PK\x01\x02") + 8] |= 1  # of the directory
    return bytes(content)


BROKEN = {
    "spreadsheet": (archive({"xl/workbook.xml": "<x/>" * 40}), "Excel.*copy it again"),
    "two files": (archive({"a.csv": "a", "b.csv": "b"}), "a zip of 2 files.*one of them"),
    "encrypted": (encrypted(), "cannot be read: .*encrypted"),
    "cut zip": (archive({"a.csv": "a,b\n" * 99})[:90], "cannot be read"),
    "cut parquet": (b"PAR1" + b"1" * 40, "cannot be read"),
    "cut feather": (b"ARROW1\0\0" + b"1" * 40, "cannot be read"),
    "cut gzip": (gzip.compress(b"a,b\n1,2\n" * 50)[:30], "cannot be read"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel file.*Save it as .xlsx"),
    "zero byte": (b"a,b\n1,2\n3,\x00\n", "line 3 holds a zero byte.*utf-16"),
    "no mark": ("a,b\n1,2\n".encode("utf-16-le"), "zero byte.*utf-16"),
    "long header": (b"a" * 200_000 + b",b\n1,2\n", "no header.*quotes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_in_words(case, tmp_path):
    content, message = BROKEN[case]
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        from_table(path, ROLES)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf_8", "utf8", "U8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_name(encoding, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "é,b\n1,2\n".encode())
    assert list(read_csv(path, encoding=encoding).columns) == ["é", "b"]


@pytest.mark.parametrize("cell", ["z" * 3_000_000, '"' + "one\ntwo," * 400_000 + '"'])
def test_a_long_cell_is_read(cell, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n1,2\n{cell},4\n5,6\n")
    table = read_csv(path)
    assert table.column("a").to_pylist() == ["1", cell.strip('"'), "5"]
    assert table.column("b").to_pylist() == ["2", "4", "6"]


# ---------------------------------------------------------------- missing cells

MISSING = ["-nan", "NAN", "NULL", "None", "<NA>", "n/a", "nil", "NaT", "", "?", "--", " NA "]


@pytest.mark.parametrize("text", MISSING)
@pytest.mark.parametrize("of", [list, lambda cells: pa.array(cells), pd.Series])
def test_a_missing_spelling_is_no_label_no_group_and_no_level(text, of):
    pay = of([text if i % 4 == 0 else str(20 + 3 * i) for i in range(N)])
    hired = of([("no", "yes", "yes", text)[i % 4] for i in range(N)])
    table = rows() | {"pay": pay, "hired": hired}
    roles = dataclasses.replace(ROLES, tasks=("pay > 50",))
    assert known_labels(from_table(table, roles)) == 45
    data = from_table(table, dataclasses.replace(ROLES, tasks=("hired",)))
    assert data.spec.tasks[0].kind == "binary"
    data = from_table(table, Roles(tasks=("y",), sensitive=("hired", "pay > 50")))
    assert data.spec.group_names == ("hired=no", "hired=yes", "pay=no", "pay=yes")
    assert sum(split.groups.sum() for split in data.splits) == 90
    data = from_table(table, ROLES)
    assert data.spec.numeric == ("x", "pay", "pay is missing")
    expected = [i % 4 == 0 for i in range(N)]
    j = data.spec.numeric.index("pay is missing")
    assert in_table_order(data, lambda split: split.x.numeric[:, j]).tolist() == expected


def test_masked_cells_are_missing():
    masked = np.ma.array(np.arange(60.0), mask=np.arange(N) % 5 == 0)
    data = from_table(rows(z=masked), ROLES)
    assert data.spec.numeric == ("x", "z", "z is missing")


@pytest.mark.parametrize("cells", [["-999", "1", "2"], ["-999.0", "1.5", "2"], [-999.0, 1.0, 2.0]])
def test_a_number_may_mean_missing(cells):
    data = from_table(rows(z=cells), dataclasses.replace(ROLES, na_values=("", "-999")))
    assert data.spec.numeric == ("x", "z", "z is missing")


def test_a_blank_line_is_no_row_and_a_row_of_empty_cells_is_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("c,sex\na,f\n\n,\n \nb,m\n")
    table = read_csv(path)
    assert table.column("c").to_pylist() == ["a", "", "b"]
    assert table.lines.tolist() == [2, 4, 6]


# ---------------------------------------------------------------- number forms

VALUES = [(i * 37 % N) * 1250.5 - 20_000 for i in range(N)]
FORMS = {
    "thousands": "{:,.1f}",
    "plus": "{:+.1f}",
    "blanks": "{:_.1f}",
    "exponent": "{:.5e}",
    "percent": "{:.1f}%",
    "unit": "{:.1f} kg",
    "unit with a stroke": "{:.1f} km/h",
    "currency behind": "{:.1f} €",
}


def dollars(value: float) -> str:
    return f"{'-' if value < 0 else ''}${abs(value):,.2f}"


def swapped(text: str) -> str:
    return text.translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize("kind", [*FORMS, "minus", "dollars", "swapped", "comma", "narrow"])
def test_numbers_in_a_form(kind, tmp_path):
    spell = {
        "minus": lambda value: f"{value:.1f}".replace("-", "\u2212"),
        "dollars": dollars,
        "swapped": lambda value: swapped(f"{value:,.1f}"),
        "comma": lambda value: f"{value:.1f}".replace(".", ","),
        "narrow": lambda value: f"{value:,.1f}".replace(",", "\u202f"),
    }.get(kind) or (lambda value: FORMS[kind].format(value).replace("_", " "))
    frame = pd.DataFrame(rows(pay=[spell(value) for value in VALUES]))
    frame.loc[5, "pay"] = "NULL"
    frame.to_csv(tmp_path / "a.csv", index=False, sep=";")
    for source in (tmp_path / "a.csv", frame, pl.from_pandas(frame)):
        data = from_table(source, ROLES)
        want = np.array(VALUES)
        want[5] = data.encoder.numeric[data.spec.numeric.index("pay")].mean
        np.testing.assert_allclose(feature(data, "pay"), want, rtol=1e-4, atol=0.3)
    again = Encoder.from_json(json.dumps(json.loads(data.encoder.to_json())))
    assert again == data.encoder
    few = again.encode(frame[:3]).x.numeric
    np.testing.assert_array_equal(few, data.encoder.encode(frame).x.numeric[:3])


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("2024-02-{:02}", 19754),
        ("2024-02-{:02}T12:00", 19754.5),
        ("2024-02-{:02} 06:00:00Z", 19754.25),
        ("2024-02-{:02}T06:00:00+06:00", 19754),
    ],
)
def test_dates_are_days(spelling, expected):
    data = from_table(rows(day=[spelling.format(1 + i % 28) for i in range(28)]), ROLES)
    np.testing.assert_allclose(feature(data, "day")[:2], [expected, expected + 1], rtol=1e-6)


def moments(unit: str) -> np.ndarray:
    return np.datetime64("2024-02-01", unit) + np.arange(N) * np.timedelta64(1, "D")


MOMENTS = {
    "s": moments("s"),
    "ns": moments("ns"),
    "D": moments("D"),
    "texts": moments("D").astype(str),
    "pandas in UTC": pd.Series(moments("ns")).dt.tz_localize("UTC"),
    "arrow in UTC": pa.array(moments("us"), pa.timestamp("us", "UTC")),
    "dates": [datetime.date(2024, 2, 1) + datetime.timedelta(i) for i in range(N)],
    "moments": [
        datetime.datetime(2024, 2, 1, tzinfo=datetime.UTC) + datetime.timedelta(i) for i in range(N)
    ],
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_type_of_dates_does_not_matter(kind):
    table = rows()
    table["day"] = MOMENTS[kind]
    sources = [pd.DataFrame(table)]
    if not isinstance(table["day"], pa.Array):
        sources.append(table)
    for source in sources:
        np.testing.assert_allclose(
            feature(from_table(source, ROLES), "day"), 19754 + np.arange(N), rtol=1e-6
        )


def test_two_readings_are_refused_until_the_sign_is_given():
    table = rows(pay=[f"{1 + i},{250 + i}" for i in range(9)])
    with pytest.raises(DataError, match=r"'1,250' may be 1250 or 1.25.*--decimal"):
        from_table(table, ROLES)
    for sign, first in ((".", 1250), (",", 1.25)):
        data = from_table(table, dataclasses.replace(ROLES, decimal=sign))
        assert feature(data, "pay")[0] == pytest.approx(first, rel=1e-5)
    categorical = from_table(table, dataclasses.replace(ROLES, categorical=("pay",)))
    assert dict(categorical.spec.categorical)["pay"] == 9


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1 kg", "2 lb"] + [f"{i} kg" for i in range(3, 60)], "several forms.*one unit"),
        ([f"{1 + i % 12}/{1 + i % 28}/2024" for i in range(60)], "dates in several forms"),
        ([f"{i}" for i in range(58)] + ["12a", "n.d."], "2 of 60 cells are not numbers"),
    ],
)
def test_numbers_in_no_one_form_are_refused(cells, message):
    with pytest.raises(DataError, match=message):
        from_table(rows(z=cells), ROLES)


@pytest.mark.parametrize("cells", [["1E2", "100", "7"], ["007", "7", "07"], ["1_0", "10", "9"]])
def test_codes_stay_levels(cells):
    data = from_table(rows(ward=cells), dataclasses.replace(ROLES, sensitive=("ward",)))
    assert {name.removeprefix("ward=") for name in data.spec.group_names} == set(cells)


# ---------------------------------------------------------------- names

NAMES = {
    "stripped": (" paid", "paid"),
    "exact": (" paid", " paid"),
    "whole number": (5, 5),
    "text of a number": (5, "5"),
    "composed": ("Ge\u0301nero", "G\u00e9nero"),
    "decomposed": ("G\u00e9nero", "Ge\u0301nero"),
    "operator": ("pay>50K", "pay>50K"),
    "operator and rule": ("pay>50K", "pay>50K == 1"),
    "equality": ("a == b", "a == b == 1"),
    "quoted": ("a == b", "`a == b` == 1"),
    "quoted and named": ("a: b", "rich: `a: b` == 1"),
    "word in": ("born in", "born in in 1, 3"),
    "colon": ("a:b", "a:b > 0"),
    "kind": ("a", "a :binary"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_column_is_found_by_its_name(case):
    name, rule = NAMES[case]
    table = rows() | {name: repeated([0, 1, 1, 0])}
    data = from_table(table, Roles(tasks=(rule,), sensitive=("sex",), features=("x",)))
    assert label(data).tolist() == repeated([0, 1, 1, 0])


# ---------------------------------------------------------------- rules

RULES = {
    "race in b, c": [0, 1, 1, 0],
    "race not in b, c": [1, 0, 0, 1],
    "race in (b, 'c')": [0, 1, 1, 0],
    'race in ["b", "d, e"]': [0, 1, 0, 1],
    "kin: race in a": [1, 0, 0, 0],
    "code in 1, 3.0": [1, 0, 1, 0],
    "code not in {1, 3}": [0, 1, 0, 1],
    "price == 2.5": [1, 1, 0, 0],
    "price in 2.50, 4": [1, 1, 0, 1],
    "price != 2.5": [0, 0, 1, 1],
    "price ≥ 3": [0, 0, 1, 1],
    "pay == 3000.5": [0, 1, 0, 0],
    "pay in 3000.5, 5": [0, 1, 1, 0],
    "pay > 1,000.0": [0, 1, 0, 1],
    "school >= college": [0, 0, 1, 1],
    "school < school": [1, 0, 0, 0],
    "school == college": [0, 0, 1, 0],
}


@pytest.mark.parametrize("rule", RULES)
def test_rules_compare_lists_numbers_and_levels_in_order(rule):
    table = rows(
        race=["a", "b", "c", "d, e"],
        code=[1, 2, 3, 4],
        price=["2.50", "2.5", "3", "4.0"],
        pay=["10.5", "3,000.5", "5", "1,000.5"],
        school=["basic", "school", "college", "PhD"],
    )
    levels = {"school": ("basic", "school", "college", "PhD")}
    data = from_table(table, Roles(tasks=(rule,), sensitive=("sex",), levels=levels))
    assert label(data).tolist() == repeated(RULES[rule])
    few = {name: cells[:2] for name, cells in table.items()}
    assert data.encoder.encode(few, labels=True).labels[:, 0].tolist() == RULES[rule][:2]


def test_a_rule_in_order_refuses_other_levels():
    table = rows(school=["basic", "school", "college", "PhD"])
    roles = dataclasses.replace(ROLES, tasks=("school > school",))
    with pytest.raises(DataError, match="'school' is not a number.*--levels 'school: LOWEST"):
        from_table(table, roles)
    with pytest.raises(DataError, match="15 of 60 cells are not 'basic', 'school', 'PhD'"):
        from_table(table, dataclasses.replace(roles, levels={"school": ("basic", "school", "PhD")}))


# ---------------------------------------------------------------- levels and merges


@pytest.mark.parametrize(
    ("levels", "pairs"),
    [
        (["f", "F"], 1),
        (["<=50K", ">50K", ">50K."], 1),
        (["yes", "no", "Yes", "1"], 2),
        (["New York", "New  York", "Boston"], 1),
        (["caf\u00e9", "cafe\u0301", "x"], 1),
        (["true", "0", "T", "f"], 2),
    ],
)
@pytest.mark.parametrize("role", ["tasks", "sensitive"])
def test_alike_levels_are_refused_and_both_cures_work(levels, pairs, role):
    table = rows(z=[levels[i % len(levels)] for i in range(59)])
    roles = dataclasses.replace(ROLES, **{role: ("z",)})
    with pytest.raises(DataError, match="may mean the same") as error:
        from_table(table, roles)
    cure = str(error.value).rpartition("Merge them")[2]
    merges = re.findall(r"--merge '(.*?)'", cure)
    assert len(merges) == pairs
    kept = cured(table, roles, re.findall(r"(--levels) '(.*?)'", cure)[0])
    if role == "sensitive":
        assert set(kept.spec.attributes[0].levels) == set(levels)
    else:
        assert set(kept.spec.tasks[0].levels) == set(levels)
    if len(levels) - pairs > 1:
        merged = cured(table, roles, *[("--merge", merge) for merge in merges])
        block = merged.spec.attributes[0] if role == "sensitive" else merged.spec.tasks[0]
        assert len(block.levels) == len(levels) - pairs


@pytest.mark.parametrize("levels", [["F", "M", "N"], ["A", "B"], ["y", "x"], ["0", "1", "2"]])
def test_levels_that_only_look_like_truth_values_are_kept(levels):
    data = from_table(rows(z=levels), dataclasses.replace(ROLES, sensitive=("z",)))
    assert set(data.spec.attributes[0].levels) == set(levels)


def test_given_levels_are_all_levels_in_their_order():
    table = rows(z=["A", "a", "b"])
    roles = Roles(tasks=("y",), sensitive=("z",), levels={"z": ("b", "a", "A")})
    assert from_table(table, roles).spec.group_names == ("z=b", "z=a", "z=A")
    with pytest.raises(DataError, match="'z' in 60 rows holds 'a' beside the given levels"):
        from_table(table, dataclasses.replace(roles, levels={"z": ("A", "b")}))
    with pytest.raises(DataError, match="no column 'zz'"):
        from_table(table, dataclasses.replace(roles, kinds={"zz": "binary"}))
    whole = dataclasses.replace(roles, levels={"z": (2, 1)})
    assert from_table(rows(z=[1.0, 2.0]), whole).spec.group_names == ("z=2", "z=1")


def test_merges_hold_for_new_rows_and_refuse_unknown_levels():
    merge = {"race": {"Other": "rest", "n. s.": "rest"}, "z": {"v": "u"}, "y": {"maybe": "1"}}
    table = rows(
        race=["White", "Other", "n. s.", "Black"], z=["u", "v", "w"], y=["0", "1", "maybe", "0"]
    )
    data = from_table(table, Roles(tasks=("y",), sensitive=("race",), merge=merge), seed=1)
    assert data.spec.group_names == ("race=Black", "race=White", "race=rest")
    assert label(data).tolist() == repeated([0, 1, 1, 0])
    new = {"x": [0.1, 0.2], "z": ["v", "u"], "sex": ["f", "f"], "race": ["Other", "White"]}
    encoder = Encoder.from_json(data.encoder.to_json())
    encoded = encoder.encode(new)
    assert encoded.groups.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert encoded.x.codes[0].tolist() == encoded.x.codes[1].tolist()
    with pytest.raises(DataError, match="no row of 60 has 'Othr'.*'Black'.*--merge"):
        from_table(table, Roles(tasks=("y",), sensitive=("race",), merge={"race": {"Othr": "x"}}))


# ---------------------------------------------------------------- splits


def test_equal_cells_are_in_one_split_and_the_split_is_seeded():
    home = np.arange(N) // 3
    table = rows(home=np.where(home == 4, "NA", home.astype(str)))
    roles = dataclasses.replace(ROLES, split_by="home")

    def parts(seed):
        data = from_table(table, roles, seed=seed)
        return {split: origin.row.tolist() for split, origin in data.origin.items()}

    assert parts(0) == parts(0) != parts(1)
    homes = [set(home[rows_of]) - {4} for rows_of in parts(0).values()]
    assert not (homes[0] & homes[1] or homes[0] & homes[2] or homes[1] & homes[2])
    assert sorted(sum(parts(0).values(), [])) == list(range(N))
    assert "home" not in from_table(table, roles).spec.numeric


def test_a_rule_splits_rows_and_its_column_is_no_feature():
    table = rows(year=2015 + np.arange(N) % 6)
    roles = dataclasses.replace(ROLES, split_at="year < 2019")
    data = from_table(table, roles, fractions=(0.75, 0.25, 0))
    early = np.flatnonzero(table["year"] < 2019)
    assert sorted([*data.origin["train"].row, *data.origin["validation"].row]) == early.tolist()
    assert len(data.origin["validation"].row) == 10
    assert (table["year"][data.origin["test"].row] >= 2019).all()
    assert data.spec.numeric == ("x",)
    with pytest.raises(DataError, match="compares nothing"):
        from_table(table, dataclasses.replace(ROLES, split_at="year"))
    with pytest.raises(DataError, match="split_by.*split_at.*Give one"):
        dataclasses.replace(roles, split_by="year")


# ---------------------------------------------------------------- types of cells


@pytest.mark.parametrize(
    "cells",
    [
        [[1, 2], [3]],
        [{"a": 1}],
        [complex(1, 2)],
        np.ones(N, complex),
        [b"a", object()],
        [np.zeros(2)],
    ],
    ids=range(6),
)
def test_cells_that_are_no_cells_are_refused(cells):
    table = rows()
    table["z"] = (
        cells if isinstance(cells, np.ndarray) else pd.Series(repeated(cells), dtype=object)
    )
    with pytest.raises(DataError, match="column 'z': .* are of type"):
        from_table(table, ROLES)


def test_lists_of_arrow_are_refused():
    table = pl.DataFrame(rows()).with_columns(z=pl.concat_list("x", "x"))
    with pytest.raises(DataError, match="column 'z': 60 of 60 cells are of type .*list.*spread"):
        from_table(table, ROLES)


@pytest.mark.parametrize("of", [pl.DataFrame, pa.table, pd.DataFrame])
def test_large_whole_numbers_keep_their_digits(of):
    whole = [2**60 + i % 3 for i in range(N)]
    table = as_table(of(rows(z=whole)))
    assert table.column("z").to_pylist() == [str(value) for value in whole]
    gaps = as_table(pl.DataFrame(rows(z=whole[:-1] + [None])))
    assert gaps.column("z").to_pylist() == [str(value) for value in whole[:-1]] + [""]


def test_decimals_are_numbers():
    cells = [decimal.Decimal(f"{i}.25") for i in range(N)]
    for source in (rows(z=cells), pa.table(rows(z=cells)), pl.DataFrame(rows(z=cells))):
        np.testing.assert_allclose(
            feature(from_table(source, ROLES), "z"), np.arange(N) + 0.25, rtol=1e-5, atol=1e-5
        )


# ---------------------------------------------------------------- complaints and their cures


def test_all_complaints_come_in_one_error():
    table = rows(z=["1", "x"], age=["3", "4", "fuor"] + ["5"] * 57)
    roles = Roles(
        tasks=("yy", "x > three"),
        sensitive=("sx",),
        drop=("zz",),
        weight="w",
        split="part",
        merge={"sex": {"g": "f"}},
    )
    with pytest.raises(DataError) as error:
        from_table(table, roles)
    lines = str(error.value).splitlines()
    for word in ("'yy'", "'three'", "'sx'", "'zz'", "'w'", "'part'", "has 'g'"):
        assert sum(word in line for line in lines) == 1, lines
    roles = Roles(tasks=("y", "x > 9"), sensitive=("sex", "y2"), numeric=("z",))
    with pytest.raises(DataError) as error:
        from_table(table | {"y2": ["a"] * N}, roles)
    said = str(error.value)
    for part in ("matches none", "1 group", "'z': 30 of 60", "'age': 1 of 60"):
        assert part in said, said


def cured(table: dict, roles: Roles, *options: tuple[str, str]):
    """The data of the command line with the options of a cure."""
    words = ["--task", *roles.tasks, "--sensitive", *roles.sensitive, "--seed", "2"]
    words += [word for option in options for word in option]
    folder = pytest.tmp
    path = folder / "a.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    context = frontier_command.make_context("frontier", ["--data", str(path), *words])
    return read_data(context.params)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pytest, "tmp", tmp_path, raising=False)


IDENTIFIER = np.array([f"p{i}" for i in range(400)])
CURES = {
    "--na": (rows(z=["4", "5", "unknown"] + ["6"] * 57), "are not numbers", "unknown"),
    "--categorical": (rows(z=["4", "5", "unknown"] + ["6"] * 57), "are not numbers", "z"),
    "--decimal": (rows(z=["1,250", "2,500"]), "may be 1250 or 1.25", ","),
    "--missing": (rows(z=[1.5, np.nan, 3.0]), "are empty, NaN", "impute"),
    "--drop": (
        {name: np.resize(cells, 400) for name, cells in rows().items()} | {"z": IDENTIFIER},
        "looks like an identifier",
        "z",
    ),
    "--merge": (rows(sex=["f", "m", "F"]), "may mean the same", None),
    "--levels": (rows(sex=["f", "m", "F"]), "may mean the same", None),
}


@pytest.mark.parametrize("flag", CURES)
def test_a_cure_that_a_message_names_works(flag):
    table, message, value = CURES[flag]
    before = [("--missing", "error")] if flag == "--missing" else []
    with pytest.raises(DataError, match=message) as error:
        cured(table, ROLES, *before)
    said = str(error.value)
    assert flag in said
    if value is None:
        value = re.search(rf"{flag} '(.*?)'", said)[1]
    assert len(cured(table, ROLES, (flag, value)).splits.train.weight)


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zip"])
def test_a_file_that_unpacks_to_too_much_is_refused(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "_UNPACKED", 2**20)
    text = b"a,b\n" + b"1,2\n" * 600_000
    path = tmp_path / f"t.csv.{pack}"
    if pack == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.csv", text)
    else:
        opened = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[pack]
        with opened(path, "wb") as stream:
            stream.write(text)
    with pytest.raises(DataError, match=r"unpacks to more than .*--unpacked GB"):
        as_table(path)
    assert len(as_table(path, unpacked=0.01)) == 600_000


def test_remarks_on_new_rows_change_nothing_in_them():
    rows = {"x": list(range(40)), "sex": ["f", "m"] * 20, "y": [0, 1, 1, 0] * 10}
    encoder = from_table(rows, Roles(tasks=("y",), sensitive=("sex",))).encoder
    table = encoder.read({"x": [1, "", 99], "sex": ["f", "other", ""]})
    said = remarks(encoder, table)
    assert [text.split(":")[0] for text in said] == ["x", "x", "sex"]
    assert "2 of 3 cells are of no group" in said[2] and "1 of 3 cells are missing" in said[0]
    assert table.missing("sex").tolist() == [False, False, True]


def test_a_merged_column_of_dates_holds_levels():
    day = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[D]")
    table = as_table({"day": np.resize(day, 30)})
    assert table.form("day").is_date
    assert not merged(table, {"day": {"19723": "first"}}).dates


def test_the_cure_of_alike_levels_quotes_commas():
    rules = merge_options("job", [("Cook, chef", "cook, Chef")])
    assert merges_of(shlex.split(rules)[1:]) == {"job": {"cook, Chef": "Cook, chef"}}
