"""The TFDS road gives the arrays of the direct road, offline, and fails at once without files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from fairjax.data import REGISTRY, DataError, load
from fairjax.data.files import find_file, roots

pytest.importorskip("tensorflow_datasets", reason="pip install 'fairjax[data]'")
pytest.importorskip("importlib_resources", reason="pip install 'fairjax[data]'")

from fairjax.data.tfds import load_tfds, prepared_builder  # noqa: E402


@pytest.fixture(scope="module")
def manual(data_dir, tmp_path_factory):
    """Heads of the raw files, so that the test is quick; german whole."""
    folder = tmp_path_factory.mktemp("manual")
    for name, rows in (("adult", 900), ("german", 1000), ("lsac", 1200)):
        for file in REGISTRY[name].files:
            path = find_file(name, file, data_dir)
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            (folder / file.name).write_bytes(b"\n".join(raw.splitlines()[:rows]) + b"\n")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.mark.parametrize("form", ["corrected", "paper"])
@pytest.mark.parametrize("name", ["adult", "german", "lsac"])
def test_both_roads_give_identical_arrays(manual, store, name, form):
    direct = load(name, data_dir=manual, form=form, seed=4)
    by_way = load_tfds(name, data_dir=manual, tfds_dir=store, form=form, seed=4)
    assert (
        by_way.spec == direct.spec
        and by_way.encoder == direct.encoder
        and by_way.source == direct.source
    )
    for ours, theirs in zip(by_way.splits, direct.splits, strict=True):
        for a, b in zip([*ours.x, *ours[1:]], [*theirs.x, *theirs[1:]], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_every_row_is_kept_in_order_and_nothing_is_prepared_twice(manual, store):
    builder = prepared_builder("german", store, manual)
    source = builder.as_data_source()
    assert {split: len(rows) for split, rows in source.items()} == {"train": 800, "test": 200}
    rows = [example["row"] for example in source["test"]]
    assert rows == sorted(rows) and builder.info.splits["train"].num_examples == 800
    # The prepared files are enough: an empty manual directory is not looked at.
    again = prepared_builder("german", store, manual / "absent")
    assert len(again.as_data_source("train")) == 800


def test_without_files_and_network_it_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("FAIRJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(DataError, match=r"no network.*german\.data.*put it at"):
        load_tfds("german", data_dir=tmp_path / "none", tfds_dir=tmp_path / "tfds")
    assert not (tmp_path / "tfds").exists() and roots()[0] == tmp_path / "cache" / "fairjax"


def test_unknown_builder(tmp_path):
    with pytest.raises(DataError, match=r"compas: no TFDS builder.*'adult'"):
        load_tfds("compas", tfds_dir=tmp_path)
