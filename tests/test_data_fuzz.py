"""Mangled files: each is refused with a cure, or read as pandas reads the same bytes."""

from __future__ import annotations

import io
import re
import warnings

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from fairjax.cli import main
from fairjax.data import DataError, Roles, from_table
from fairjax.data.containers import decoded
from fairjax.data.csv_text import find_delimiter
from fairjax.data.raw_table import NA
from fairjax.data.read import as_table

ROLES = Roles(tasks=("y",), sensitive=("sex",))
MISSING = {text.lower() for text in NA}
WORDS = ["red", "Green", "blue sky", "naïve", "数", "a,b", "c;d", 'say "hi"', "x|y", "two\nlines"]
NAMES = ["x", "höhe", "a b", "pay>50K", "x:y", "`q`", "数", "is missing", "1", "a.b", "in", "X"]
CURE = re.compile(r".+: .+[.] [A-Z].*[.?]$|.+[.] [A-Z].*[.?]$", re.DOTALL)


def plain(text: str) -> float:
    return float(text)


def dotted(text: str) -> float:
    return float(text.replace(".", "").replace(",", "."))


def with_commas(text: str) -> float:
    return float(text.replace(",", ""))


def with_unit(text: str) -> float:
    return float(text.removesuffix("%").removesuffix("kg").removeprefix("$"))


def day(text: str) -> float:
    return (pd.Timestamp(text) - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)


# what a column holds: a cell, and the number that it means
KINDS = {
    "whole": (lambda rng: str(rng.integers(-50, 1000)), plain),
    "float": (lambda rng: f"{rng.normal():.4g}", plain),
    "large": (lambda rng: f"{rng.normal() * 10.0 ** rng.integers(-30, 30):.6e}", plain),
    "signed": (lambda rng: f"{rng.normal():+.2f}", plain),
    "commas": (lambda rng: f"{rng.integers(0, 10**7):,}", with_commas),
    "decimals": (lambda rng: f"{rng.normal() * 1e4:.2f}".replace(".", ","), dotted),
    "unit": (lambda rng: f"{rng.integers(1, 99)} kg", with_unit),
    "percent": (lambda rng: f"{rng.random() * 100:.1f}%", with_unit),
    "money": (lambda rng: f"${rng.integers(1, 99)}", with_unit),
    "date": (lambda rng: f"20{rng.integers(10, 24)}-{rng.integers(1, 13):02}-11", day),
    "words": (lambda rng: str(rng.choice(WORDS)), None),
    "truth": (lambda rng: str(rng.choice(["True", "false", "TRUE"])), None),
    "mixed": (lambda rng: str(rng.choice(["yes", "1", "no", "True", "0"])), None),
    "long": (lambda rng: "z" * int(rng.integers(1, 9)) * int(rng.choice([1, 3_000])), None),
    "empty": (lambda rng: "", None),
}


class Mangled:
    """A file from a seed: its bytes, how they are read, and the kinds of its columns."""

    def __init__(self, seed: int):
        self.rng = rng = np.random.default_rng(seed)
        rows = int(rng.choice([0, 1, 30, 60, 90], p=[0.03, 0.03, 0.3, 0.34, 0.3]))
        names = list(rng.choice(NAMES, rng.integers(1, 5), replace=False))
        self.kinds = {name: str(rng.choice(list(KINDS))) for name in names}
        share = rng.choice([0, 0, 0.1, 0.5])
        columns = {name: self.cells(kind, rows, share) for name, kind in self.kinds.items()}
        columns["sex"] = list(rng.choice(["f", "m"], rows))
        columns["y"] = list(rng.choice(["0", "1"], rows))
        if self.happens(0.03):
            columns = {"y": columns["y"]}
        self.delimiter = str(rng.choice([",", ";", "\t", "|"], p=[0.55, 0.25, 0.1, 0.1]))
        self.encoding = str(rng.choice(["utf-8", "latin-1", "utf-16"], p=[0.8, 0.1, 0.1]))
        self.end = str(rng.choice(["\n", "\r\n", "\r"], p=[0.6, 0.3, 0.1]))
        header = [self.strange(name) for name in columns]
        lines = [self.line(header)]
        lines += [self.line(cells) for cells in zip(*columns.values(), strict=True)]
        self.content = self.mangled(lines)
        self.given = {}
        if self.happens(0.5):
            self.given["delimiter"] = self.delimiter
        if self.encoding != "utf-8":
            self.given["encoding"] = self.encoding

    def happens(self, share: float) -> bool:
        return self.rng.random() < share

    def cells(self, kind: str, rows: int, share: float) -> list[str]:
        rng = self.rng
        cells = [KINDS[kind][0](rng) for _ in range(rows)]
        for i in np.flatnonzero(rng.random(rows) < share):
            text = str(rng.choice(NA))
            cells[i] = text.upper() if self.happens(0.3) else text
        if rows and self.happens(0.1):
            strange = [
                "1e400",
                "1e-400",
                "inf",
                "1_000",
                "0x1f",
                "n. d.",
                "\u22125",
                "nan(1)",
                "1e38",
            ]
            cells[rng.integers(rows)] = str(rng.choice(strange))
        return cells

    def strange(self, name: str) -> str:
        if self.happens(0.01):
            return str(self.rng.choice(["", "y", "sex", " ", "a\u0301", "\ufeff", "q" * 200_000]))
        return f" {name} " if self.happens(0.05) else name

    def line(self, cells) -> str:
        return self.delimiter.join(self.quoted(cell) for cell in cells)

    def quoted(self, cell: str) -> str:
        must = any(sign in cell for sign in (self.delimiter, '"', "\n"))
        if must or self.happens(0.02):
            cell = '"' + cell.replace('"', '""') + '"'
        return f" {cell} " if self.happens(0.02) and not must else cell

    def mangled(self, lines: list[str]) -> bytes:
        rng = self.rng
        if self.happens(0.1):
            # pandas takes blanks of a file with tabs for a row of empty cells
            blanks = "" if self.delimiter == "\t" else "  \t"
            lines.insert(rng.integers(1, len(lines) + 1), str(rng.choice(["", blanks, '""'])))
        if self.happens(0.05):
            i = rng.integers(len(lines))
            lines[i] = str(rng.choice([lines[i] + self.delimiter, lines[i][: len(lines[i]) // 2]]))
        text = self.end.join(lines) + (self.end if self.happens(0.8) else "")
        if self.happens(0.1) and text:
            sign = str(
                rng.choice(['"', "'", "\0", "\r", "\n", self.delimiter, "\ufeff", "\\", ' "'])
            )
            place = rng.integers(len(text))
            text = text[:place] + sign + text[place:]
        if self.delimiter == "\t":
            # pandas loses a tab behind a line that ends in a carriage return
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if self.encoding == "latin-1":
            return text.encode("latin-1", "replace")
        content = text.encode(self.encoding)
        if self.encoding == "utf-8":
            if self.happens(0.1):
                content = b"\xef\xbb\xbf" + content
            if self.happens(0.05) and content:
                place = rng.integers(len(content))
                content = content[:place] + bytes([rng.integers(128, 256)]) + content[place:]
        return content

    def by_pandas(self) -> pd.DataFrame:
        text = decoded("", self.content, self.encoding).decode()
        delimiter = self.given.get("delimiter") or find_delimiter(text.encode())
        frame = pd.read_csv(
            io.BytesIO(text.encode()),
            dtype=str,
            keep_default_na=False,
            sep=delimiter,
            index_col=False,
            skipinitialspace=True,
        )
        frame.columns = [str(name).strip() for name in frame.columns]
        return frame.apply(lambda cells: cells.str.strip())


def check(seed: int, path) -> bool:
    """Whether the file of a seed is a table; then it is the one of pandas."""
    file = Mangled(seed)
    path.write_bytes(file.content)
    roles = Roles(tasks=("y",), sensitive=("sex",), **file.given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = from_table(path, roles)
    except DataError as error:
        for complaint in str(error).splitlines():
            assert CURE.match(complaint), complaint[:300]
        return False
    want = file.by_pandas()
    table = as_table(path, **roles.reading)
    assert list(table.columns) == list(want.columns)
    assert len(table) == len(want)
    for name in want.columns:
        assert table.column(name).to_pylist() == want[name].tolist(), name
        is_missing = want[name].str.lower().isin(MISSING).to_numpy()
        np.testing.assert_array_equal(table.missing(name), is_missing, err_msg=name)
    compare_features(file, data, want)
    return True


def compare_features(file: Mangled, data, want: pd.DataFrame) -> None:
    kinds = dict(zip(want.columns, file.kinds.values(), strict=False))
    for j, feature in enumerate(data.encoder.numeric):
        read = KINDS[kinds[feature.name]][1]
        cells = want[feature.name]
        is_missing = cells.str.lower().isin(MISSING)
        texts = cells.str.replace("\u2212", "-")
        pairs = zip(texts, is_missing, strict=True)
        value = np.array([np.nan if gap else (read or plain)(text) for text, gap in pairs])
        train = value[data.origin["train"].row]
        known = train[np.isfinite(train)]
        np.testing.assert_allclose(feature.mean, known.mean(), rtol=1e-9, atol=1e-30)
        for split, origin in data.origin.items():
            expected = (value[origin.row] - feature.mean) / feature.deviation
            got = getattr(data.splits, split).x.numeric[:, j]
            np.testing.assert_allclose(
                got, np.nan_to_num(expected).astype(np.float32), rtol=1e-5, atol=1e-30
            )


@pytest.mark.parametrize("hundred", range(2))
def test_few_mangled_files(hundred, tmp_path):
    accepted = [check(seed, tmp_path / "a.csv") for seed in range(hundred * 75, hundred * 75 + 75)]
    assert 20 < sum(accepted) < 70


@pytest.mark.slow
def test_many_mangled_files(tmp_path):
    accepted = [check(seed, tmp_path / "a.csv") for seed in range(1_000, 6_000)]
    assert sum(accepted) > 1_500


# ---------------------------------------------------------------- the command line


def test_the_command_line_reads_or_says_why(tmp_path, monkeypatch):
    from fairjax.cli import frontier

    def only_read(options: dict):
        read_data(options)
        raise click.exceptions.Exit(0)

    read_data = frontier.read_data
    monkeypatch.setattr(frontier, "read_data", only_read)
    path = tmp_path / "a.csv"
    out = tmp_path / "out"
    codes = set()
    for seed in range(500, 560):
        file = Mangled(seed)
        path.write_bytes(file.content)
        given = [word for key, value in file.given.items() for word in (f"--{key}", value)]
        roles = ["--task", "y", "--sensitive", "sex", "--out", str(out)]
        done = CliRunner().invoke(main, ["frontier", "--data", str(path), *roles, *given])
        codes.add(done.exit_code)
        assert done.exit_code in (0, 2), (seed, done.exception)
        assert "Traceback" not in done.output
        assert (done.exit_code == 2) == done.output.startswith("Error: ")
        assert not out.exists()
    assert codes == {0, 2}


def test_repair_writes_all_or_nothing(tmp_path):
    path = tmp_path / "a.csv"
    codes = set()
    for seed in range(600, 610):
        file = Mangled(seed)
        score = next(iter(file.kinds))
        path.write_bytes(file.content)
        out = tmp_path / f"out{seed}"
        given = [word for key, value in file.given.items() for word in (f"--{key}", value)]
        roles = ["--score", score, "--sensitive", "sex", "--out", str(out)]
        done = CliRunner().invoke(main, ["repair", str(path), *roles, *given])
        codes.add(done.exit_code)
        assert done.exit_code in (0, 2), (seed, done.exception)
        assert "Traceback" not in done.output
        if done.exit_code == 2:
            assert "Error: " in done.output and not out.exists()
    assert codes == {0, 2}
