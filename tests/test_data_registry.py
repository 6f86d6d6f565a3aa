"""Laws of every registered data set: one row of a table each."""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
import pytest

from fairjax.core.types import Columns, Images
from fairjax.data import REGISTRY, DataError, Prepared, load, reload, table
from fairjax.data.files import find_file
from fairjax.data.splitting import split_rows


@dataclasses.dataclass(frozen=True)
class Stated:
    """What a data set promises: rows of train, validation and test, its tasks and attributes."""

    rows: tuple[int, int, int]
    tasks: tuple[str, ...]
    attributes: tuple[str, ...]


LANGUAGES = ("English", "Italian", "Polish", "Portuguese", "Spanish")
STATED = {
    "synthetic": Stated((3_600, 1_200, 1_200), ("task0", "task1"), ("group",)),
    "adult": Stated((26_049, 6_512, 16_281), ("income", "capital_gain"), ("sex",)),
    "german": Stated((640, 160, 200), ("bad_credit", "amount"), ("sex",)),
    "lsac": Stated((14_868, 3_717, 7_966), ("gpa", "bar"), ("sex",)),
    "compas": Stated((3_950, 988, 1_234), ("two_year_recid", "is_violent_recid"), ("race", "sex")),
    "acs": Stated(
        (33_739, 8_435, 10_543),
        ("income", "employed", "coverage", "commute", "moved"),
        ("sex", "race"),
    ),
    "multilingual_hate": Stated((30_872, 7_718, 9_647), LANGUAGES, ("gender", "age", "ethnicity")),
    "hatecheck": Stated(
        (11_842, 3_035, 3_792), ("hateful", "functionality", "disagreement"), ("target",)
    ),
    "fairface_subset": Stated((2_400, 600, 1_000), ("gender", "over_40", "under_20"), ("race",)),
}
every = pytest.mark.parametrize("name", REGISTRY)


class Loaded(NamedTuple):
    """A data set, and how its rows were split: their number and the indices of each split."""

    data: Prepared
    rows: int
    parts: tuple[np.ndarray, np.ndarray, np.ndarray]


def load_with_parts(name: str) -> Loaded:
    calls = []

    def spy(raw_table, *args):
        parts = split_rows(raw_table, *args)
        calls.append((len(raw_table), parts))
        return parts

    with mock.patch.object(table, "split_rows", spy):
        data = load(name)
    ((rows, parts),) = calls
    return Loaded(data, rows, parts)


@pytest.fixture(scope="module")
def loaded():
    """Data sets by name; each is read once."""
    cache = {}

    def get(name: str) -> Loaded:
        for file in REGISTRY[name].files:
            try:
                find_file(name, file)
            except DataError:
                pytest.skip(f"no raw file {file.name} of {name}")
        if name not in cache:
            cache[name] = load_with_parts(name)
        return cache[name]

    return get


@pytest.fixture(autouse=True)
def raw_files(monkeypatch, request):
    """Look for raw files where the other tests do."""
    try:
        monkeypatch.setenv("FAIRJAX_DATA", str(request.getfixturevalue("data_dir")))
    except pytest.skip.Exception:
        pass  # the data sets that need raw files are skipped, the others are tested


def assert_same(ours, theirs):
    ours_leaves, ours_tree = jax.tree.flatten(ours)
    theirs_leaves, theirs_tree = jax.tree.flatten(theirs)
    assert ours_tree == theirs_tree
    for a, b in zip(ours_leaves, theirs_leaves, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_every_data_set_has_a_row_and_a_name_of_its_own():
    assert list(STATED) == list(REGISTRY)
    for name, entry in REGISTRY.items():
        assert entry.name == name and entry.about and entry.terms
        assert (entry.draw is None) == bool(entry.files and entry.read and entry.roles)


@every
def test_names_and_sizes_are_the_stated_ones(loaded, name):
    data = loaded(name).data
    stated = STATED[name]
    assert data.name == name
    assert tuple(len(split.weight) for split in data.splits) == stated.rows
    assert tuple(task.name for task in data.spec.tasks) == stated.tasks
    assert tuple(attribute.name for attribute in data.spec.attributes) == stated.attributes


@every
def test_arrays_are_well_formed(loaded, name):
    data = loaded(name).data
    spec = data.spec
    for split in data.splits:
        rows = len(split.weight)
        known = split.label_mask > 0
        assert {leaf.dtype.name for leaf in jax.tree.leaves(split)} <= {"float32", "int32", "uint8"}
        assert {len(leaf) for leaf in jax.tree.leaves(split)} == {rows}
        assert split.labels.shape == split.label_mask.shape == (rows, len(spec.tasks))
        assert split.groups.shape == (rows, len(spec.group_names))
        assert np.isin(split.label_mask, (0, 1)).all() and known.any(0).all()
        assert np.isfinite(split.labels[known]).all()
        assert (split.weight > 0).all() and np.isfinite(split.weight).all()
        for t, task in enumerate(spec.tasks):
            if task.kind == "binary":
                assert set(np.unique(split.labels[known[:, t], t])) == {0, 1}
        for a, attribute in enumerate(spec.attributes):
            block = split.groups[:, spec.group_slice(a)]
            assert not attribute.continuous
            assert np.isin(block, (0, 1)).all() and np.isin(block.sum(1), (0, 1)).all()
            assert block.any(0).all()


@every
def test_features_are_well_formed(loaded, name):
    data = loaded(name).data
    spec = data.spec
    for split in data.splits:
        if isinstance(split.x, Columns):
            levels = np.array([count for _, count in spec.categorical])
            assert split.x.numeric.shape[1] == len(spec.numeric)
            assert split.x.codes.shape[1] == len(levels)
            assert np.isfinite(split.x.numeric).all()
            assert (split.x.codes >= -1).all() and (split.x.codes < levels).all()
        elif isinstance(split.x, Images):
            assert split.x.pixels.shape[1:] == (*spec.image_shape, 3)
        else:
            assert (split.x.tokens >= 0).all() and (split.x.tokens < spec.vocab_size).all()


@every
def test_splits_are_disjoint_and_cover_every_row(loaded, name):
    data, rows, parts = loaded(name)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(rows))
    assert [len(part) for part in parts] == [len(split.weight) for split in data.splits]


@every
def test_another_seed_gives_other_rows(loaded, name):
    data = loaded(name).data
    other = load(name, seed=1)
    assert [task.name for task in other.spec.tasks] == [task.name for task in data.spec.tasks]
    assert not np.array_equal(other.splits.validation.labels, data.splits.validation.labels)


@every
def test_the_same_seed_gives_the_same_arrays_also_from_a_source_in_json(loaded, name):
    data = loaded(name).data
    again = reload(json.loads(json.dumps(data.source)))
    assert again.spec == data.spec and again.source == data.source
    assert again.encoder == data.encoder
    assert_same(again.splits, data.splits)


@every
def test_describe_names_the_data_set_its_tasks_and_its_groups(loaded, name):
    data = loaded(name).data
    text = data.describe()
    for part in (name, *STATED[name].tasks, *data.spec.group_names):
        assert part in text
    for rows in STATED[name].rows:
        assert f"{rows:,}" in text
