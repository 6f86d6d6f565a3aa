"""Files: whole or absent, checked when they are read, and no larger in memory than on disk."""

import errno
import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from fairjax.core import disk
from fairjax.core.disk import (
    check_files,
    file_checksums,
    locked,
    read_arrays,
    read_json,
    whole_folder,
    write,
    write_arrays,
    write_json,
)
from fairjax.core.tables import Table, defused, read_csv, restored, write_csv
from fairjax.core.types import DataError

WORDS = {"names": ["a", "b"], "threshold": 0.1, "nan": float("nan"), "nested": {"x": [1, None]}}
ARRAYS = {
    "w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "scalar": np.float64(2.5),
    "text": np.array("words"),
    "none": np.zeros((0, 3), np.int32),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def test_json_and_arrays_come_back(tmp_path):
    words = read_json(write_json(tmp_path / "a.json", WORDS | {"n": np.float32(0.1)}))
    assert json.dumps(words) == json.dumps(WORDS | {"n": float(np.float32(0.1))})
    arrays = read_arrays(write_arrays(tmp_path / "a.npz", ARRAYS))
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == np.asarray(array).dtype


def flips(content: bytes, count: int):
    """The content with one bit turned, at ``count`` random places."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
        yield bytes(flipped)


@pytest.mark.parametrize("kind", ["json", "npz"])
def test_a_flipped_bit_is_refused_or_changes_nothing(kind, tmp_path):
    path = tmp_path / f"file.{kind}"
    reader = read_json if kind == "json" else read_arrays
    write_json(path, WORDS) if kind == "json" else write_arrays(path, ARRAYS)
    want = repr(reader(path))
    refused = 0
    for content in flips(path.read_bytes(), 400):
        path.write_bytes(content)
        try:
            assert repr(reader(path)) == want
        except DataError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            assert "allow_pickle" not in str(error)
    assert refused > 200


def test_an_edited_file_is_refused(tmp_path):
    path = write_json(tmp_path / "a.json", WORDS)
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(DataError, match="changed after it was written"):
        read_json(path)
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "b.json")


def test_edited_arrays_are_refused(tmp_path):
    path = write_arrays(tmp_path / "a.npz", ARRAYS)
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"w": arrays["w"] + 1})
    with pytest.raises(DataError, match="were changed after they were written"):
        read_arrays(path)


def archive(path, **members: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_bombs_pickles_and_headers_that_lie_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="larger than the file"):
        read_arrays(archive(path, big=bytes(10**7)))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    )
    with pytest.raises(DataError, match="damaged"):
        read_arrays(archive(path, huge=header.getvalue() + bytes(os.urandom(4000))))
    np.savez(path, objects=np.array([{}], object))
    with pytest.raises(DataError, match="objects"):
        read_arrays(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_refused_write_is_one_complaint_and_leaves_the_old_file(code, tmp_path, monkeypatch):
    path = write_json(tmp_path / "a.json", WORDS)
    before = path.read_bytes()

    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk.os, "fsync", refuse)
    with pytest.raises(DataError, match=r"a.json: cannot be written \(.*choose another folder"):
        write_json(path, {})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_path_below_a_file_is_one_complaint(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write(tmp_path / "file" / "a.json", b"")
    with (
        pytest.raises(DataError, match="cannot be written"),
        whole_folder(tmp_path / "file" / "out", "a"),
    ):
        pass


def test_a_folder_appears_whole(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), whole_folder(out, "last") as folder:
        write(folder / "first", b"1")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with whole_folder(out, "last") as folder:
        write(folder / "last", b"2")
        write(folder / "first", b"1")
        assert not out.exists()
    assert sorted(p.name for p in out.iterdir()) == ["first", "last"]
    with whole_folder(out, "last") as folder:
        write(folder / "last", b"3")
    assert (out / "last").read_bytes() == b"3" and (out / "first").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_dead_process_leaves_no_lock(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom fairjax.core.disk import locked\n"
        f"with locked(Path({str(tmp_path)!r}), 'a sweep'):\n    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with locked(tmp_path, "a sweep"):
        with pytest.raises(DataError, match="another process runs a sweep"):
            with locked(tmp_path, "a sweep"):
                pass
    assert not list(tmp_path.iterdir())


def test_tables_are_checked_by_their_checksums(tmp_path):
    write(tmp_path / "table.csv", b"a\n1\n")
    checksums = file_checksums(tmp_path, ("table.csv", "groups.csv"))
    check_files(tmp_path, checksums)
    write(tmp_path / "table.csv", b"a\n2\n")
    with pytest.raises(DataError, match="table.csv: absent, damaged or changed"):
        check_files(tmp_path, checksums)


FORMULAS = ["=1+1", "+x", "-y", "@z", "\tw", "'=a", "''=a", "- 5"]
PLAIN = ["-5", "-5e-3", "+.5", "-inf", "a=b", "'a", "", "<=50K"]


def test_formulas_are_defused_and_come_back(tmp_path):
    assert all(defused(text) == f"'{text}" and restored(defused(text)) == text for text in FORMULAS)
    assert all(defused(text) == text == restored(text) for text in PLAIN)
    table = Table({"method": np.array(FORMULAS), "=name": np.arange(8.0)})
    path = write_csv(tmp_path / "t.csv", table)
    assert "\n=" not in path.read_text() and ",'=name" in path.read_text().splitlines()[0]
    assert read_csv(path)["method"].tolist() == FORMULAS
    as_they_are = write_csv(tmp_path / "u.csv", table, formulas=True)
    assert "\n=1+1" in as_they_are.read_text()


@pytest.mark.parametrize("part", ["[],", "{},", '"":0,', "1.5,"])
def test_json_of_small_parts_is_refused_before_it_is_read(part, tmp_path):
    path = tmp_path / "a.json"
    inside = part * (2 * 10**6)
    text = f"{{{inside[:-1]}}}" if ":" in part else f'{{"a": [{inside[:-1]}]}}'
    path.write_text(text)
    tracemalloc.start()
    with pytest.raises(DataError, match="four times its size in memory"):
        read_json(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(text)


def test_long_json_of_large_parts_is_read(tmp_path):
    words = {"texts": ["word " * 100] * 20_000}
    assert read_json(write_json(tmp_path / "a.json", words)) == words
