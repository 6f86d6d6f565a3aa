"""Named data sets against their published counts and scikit-learn's split."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from fairjax.data import REGISTRY, DataError, load, reload
from fairjax.data.files import RawFile, find_file, obtain
from fairjax.data.sets.lsac import split_70_30

# Female and male rows: negatives of each task, then exclusive negatives of each task
# (Wang et al., KDD 2021, sets of section 4).
SUBSETS = {
    ("adult", "train"): [(9592, 15128), (10148, 19701), (348, 687), (904, 5260)],
    ("adult", "test"): [(4831, 7604), (5106, 9852), (179, 330), (454, 2578)],
    ("lsac", "train"): [(4502, 5413), (1666, 2049), (3180, 3768), (344, 404)],
    ("lsac", "test"): [(1954, 2321), (687, 881), (1405, 1627), (138, 187)],
    ("german", "all"): [(201, 499), (159, 273), (96, 293), (54, 67)],
}
WIDTHS = {  # numeric columns, levels of the categorical ones, rows of train and test
    "adult": (4, [9, 16, 7, 15, 5, 42], 32561, 16281),
    "german": (6, [4, 2, 5, 10, 5, 5, 3, 4, 3, 3, 4, 2, 2], 800, 200),
    "lsac": (7, [2, 3, 2], 18585, 7966),
}


@pytest.fixture(scope="module")
def papers(data_dir):
    return {name: load(name, data_dir=data_dir, form="paper", validation=0) for name in WIDTHS}


def subsets(labels, groups):
    negative = labels == 0
    masks = [
        negative[:, 0],
        negative[:, 1],
        negative[:, 0] & ~negative[:, 1],
        negative[:, 1] & ~negative[:, 0],
    ]
    return [
        (int((m & (groups[:, 1] == 1)).sum()), int((m & (groups[:, 0] == 1)).sum())) for m in masks
    ]


@pytest.mark.parametrize(("name", "split"), SUBSETS)
def test_published_subset_sizes(papers, name, split):
    splits = papers[name].splits
    chosen = [splits.train, splits.test] if split == "all" else [getattr(splits, split)]
    labels, groups = (
        np.concatenate([getattr(s, field) for s in chosen]) for field in ("labels", "groups")
    )
    assert subsets(labels, groups) == SUBSETS[name, split]


@pytest.mark.parametrize("name", WIDTHS)
def test_paper_form_has_the_published_inputs(papers, name):
    numeric, levels, train, test = WIDTHS[name]
    data = papers[name]
    assert len(data.spec.numeric) == numeric and [n for _, n in data.spec.categorical] == levels
    assert (len(data.splits.train.weight), len(data.splits.test.weight)) == (train, test)
    assert data.splits.validation.labels is data.splits.test.labels or np.array_equal(
        *[s.labels for s in data.splits[1:]]
    )
    assert data.spec.group_names == ("sex=Male", "sex=Female")
    both = np.concatenate([data.splits.train.x.numeric, data.splits.test.x.numeric]).astype(
        np.float64
    )
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(both.std(0, ddof=1), 1, atol=1e-5)
    assert min(data.splits.test.x.codes.min(), data.splits.train.x.codes.min()) == 0


@pytest.mark.parametrize("name", WIDTHS)
def test_corrected_form_uses_training_statistics(data_dir, papers, name):
    data = load(name, data_dir=data_dir)
    train, test = WIDTHS[name][2:]
    assert len(data.splits.train.weight) + len(data.splits.validation.weight) == train
    assert len(data.splits.validation.weight) == round(0.2 * train)
    np.testing.assert_allclose(data.splits.train.x.numeric.astype(np.float64).mean(0), 0, atol=1e-5)
    np.testing.assert_array_equal(data.splits.test.labels, papers[name].splits.test.labels)


def test_adult_positive_rates(papers):
    np.testing.assert_allclose(
        papers["adult"].splits.train.labels.mean(0), [0.2408, 0.0833], atol=5e-5
    )
    assert not {"sex", "capital-gain", "income"} & {n for n, _ in papers["adult"].spec.categorical}


def test_reload_after_json(data_dir):
    data = load("german", data_dir=data_dir, form="paper", seed=3, validation=0.3)
    again = reload(json.loads(json.dumps(data.source)))
    assert again.encoder == data.encoder and again.source == data.source
    np.testing.assert_array_equal(again.splits.validation.x.codes, data.splits.validation.x.codes)


def test_german_split_is_fixed_unless_the_paper_form_redraws_it(data_dir):
    def labels(**options):
        return load("german", data_dir=data_dir, validation=0, **options).splits.test.labels

    np.testing.assert_array_equal(labels(seed=0), labels(seed=5))
    np.testing.assert_array_equal(labels(seed=0), labels(seed=0, form="paper"))
    assert not np.array_equal(labels(seed=0, form="paper"), labels(seed=5, form="paper"))


@pytest.mark.parametrize("n", [10, 101, 26551])
def test_lsac_split_is_that_of_scikit_learn(n):
    train, test = train_test_split(np.arange(n), test_size=0.30, random_state=42)
    ours = split_70_30(n)
    np.testing.assert_array_equal(ours[0], train)
    np.testing.assert_array_equal(ours[1], test)


ACS = {
    "income": (34_450, 0.599),
    "employed": (51_239, 0.605),
    "coverage": (15_309, 0.322),
    "commute": (25_541, 0.576),
    "moved": (11_265, 0.200),
}


def test_acs_tasks_are_known_where_their_filter_lets_people_through(data_dir):
    data = load("acs", data_dir=data_dir)
    mask, labels = (
        np.concatenate([getattr(s, field) for s in data.splits])
        for field in ("label_mask", "labels")
    )
    assert [t.name for t in data.spec.tasks] == list(ACS)
    for t, (rows, share) in enumerate(ACS.values()):
        assert int(mask[:, t].sum()) == rows
        assert abs(labels[mask[:, t] > 0, t].mean() - share) < 6e-4
    assert (mask.max(1) == 1).all() and (data.splits.train.groups.sum(1) == 2).all()


def census(rows: int) -> dict[str, list]:
    """Made-up persons with the columns of a file of the Census Bureau."""
    rng = np.random.default_rng(0)
    columns = {
        name: rng.integers(1, 3, rows)
        for name in ("SCHL", "MAR", "CIT", "NATIVITY", "LANX", "ENG", "MIL", "PUBCOV", "SEX")
    }
    columns |= {name: rng.integers(1, 3, rows) for name in ("DEAR", "DEYE", "DREM", "DPHY")}
    return columns | {
        "SERIALNO": np.array([f"2018HU{i:07d}" for i in range(rows)]),
        "ST": np.full(rows, "06"),
        "PUMA": rng.choice(["00101", "00102"], rows),
        "PWGTP": rng.integers(1, 50, rows),
        "AGEP": rng.integers(19, 35, rows),
        "RAC1P": np.arange(rows) % 3 + 1,
        "PINCP": rng.integers(1_000, 100_000, rows),
        "WKHP": rng.integers(1, 60, rows),
        "ESR": rng.choice([1, 6], rows),
        "JWMNP": rng.integers(1, 60, rows),
        "MIGSP": rng.choice(["", "006"], rows),
    }


def write_census(path, columns: dict[str, list]):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("file", ["psam_p06.csv", "acs/psam_p48.csv.gz", "pums_person_ca.csv"])
def test_acs_takes_the_file_of_any_state(nowhere, file):
    folder = nowhere / "mine"
    columns = census(300)
    write_census(folder / file, columns)
    data = load("acs", data_dir=folder)
    assert [task.name for task in data.spec.tasks] == list(ACS)
    mask = np.concatenate([split.label_mask for split in data.splits])
    labels = np.concatenate([split.labels for split in data.splits])
    assert mask[:, 0].sum() == 300
    assert labels[:, 0].sum() == (columns["PINCP"] > 50_000).sum()
    again = reload(json.loads(json.dumps(data.source)))
    np.testing.assert_array_equal(again.splits.train.labels, data.splits.train.labels)


def test_acs_says_which_files_it_cannot_choose_from_or_read(nowhere):
    folder = nowhere / "mine"
    with pytest.raises(DataError, match=r"nor 'psam_p\*.csv'.*census.gov.*--data-dir"):
        load("acs", data_dir=folder)
    columns = census(300)
    write_census(folder / "psam_p06.csv", columns)
    write_census(folder / "psam_p06.csv.gz", columns)  # the same file
    load("acs", data_dir=folder)
    write_census(folder / "psam_p48.csv", columns)
    message = "2 files in .*mine may be the data .'psam_p06.csv', 'psam_p48.csv'.*folder that holds"
    with pytest.raises(DataError, match=message):
        load("acs", data_dir=folder)
    del columns["MIGSP"]
    write_census(nowhere / "old" / "psam_p06.csv", columns)
    with pytest.raises(DataError, match=r"old.psam_p06.csv: no column 'MIGSP' .*original file"):
        load("acs", data_dir=nowhere / "old")


def test_other_sensitive_attributes_are_no_features(data_dir):
    own = load("lsac", data_dir=data_dir)
    other = load("lsac", data_dir=data_dir, sensitive=("race", "old: birth_year < 60"))
    assert (
        other.spec.attributes[0].levels == ("Black", "Other", "White")
        and other.spec.attributes[1].name == "old"
    )
    features = {*other.spec.numeric, *(name for name, _ in other.spec.categorical)}
    assert features == {*own.spec.numeric, *(name for name, _ in own.spec.categorical)} - {
        "race",
        "birth_year",
    }
    again = reload(json.loads(json.dumps(other.source)))
    assert again.spec == other.spec
    np.testing.assert_array_equal(again.splits.train.groups, other.splits.train.groups)
    with pytest.raises(
        DataError, match="synthetic: it has its own attribute .*Leave sensitive out"
    ):
        load("synthetic", sensitive=("sex",))


def test_compas_passes_the_filter_and_keeps_no_names(data_dir, tmp_path):
    data = load("compas", data_dir=data_dir)
    groups = sum(split.groups.sum(0) for split in data.splits)
    named = dict(zip(data.spec.group_names, groups.astype(int).tolist(), strict=True))
    assert sum(len(split.weight) for split in data.splits) == 6172
    assert named["race=African-American"] == 3175 and named["race=Caucasian"] == 2103
    assert set(data.spec.numeric) == {
        "age",
        "priors_count",
        "juv_fel_count",
        "juv_misd_count",
        "juv_other_count",
    }
    assert data.spec.categorical == (("c_charge_degree", 2),)
    with pytest.raises(DataError, match="no form 'paper'"):
        load("compas", data_dir=data_dir, form="paper")


# ---------------------------------------------------------------- where raw files are found


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("FAIRJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    "place", ["given/toy/a.csv", "env/a.csv", "env/toy/a.csv.gz", "cache/fairjax/toy/a.csv"]
)
def test_files_are_found(nowhere, monkeypatch, place):
    monkeypatch.setenv("FAIRJAX_DATA", str(nowhere / "env"))
    path = nowhere / place
    path.parent.mkdir(parents=True)
    path.write_text("a\n1\n")
    assert find_file("toy", RawFile("a.csv", "https://example.org"), nowhere / "given") == path


@pytest.mark.parametrize("name", [name for name, entry in REGISTRY.items() if entry.files])
def test_absent_file_says_which_whence_and_where(nowhere, name):
    file = REGISTRY[name].files[0]
    with pytest.raises(DataError) as error:
        load(name, data_dir=nowhere / "mine")
    for word in (
        file.name,
        file.page,
        str(nowhere / "mine" / name / file.name),
        "0 rows",
        "$FAIRJAX_DATA",
    ):
        assert word in str(error.value)


def test_download_fails_at_once_and_leaves_nothing(nowhere):
    file = RawFile("a.csv", "https://example.org", (nowhere / "absent.csv").as_uri(), "0" * 64)
    with pytest.raises(DataError, match=r"cannot be read .* put it at"):
        obtain("toy", file, nowhere / "mine")
    (nowhere / "absent.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"not the known 'a.csv'"):
        obtain("toy", file, nowhere / "mine")
    assert not (nowhere / "mine").exists()


def test_download_is_checked_and_kept(nowhere):
    import hashlib

    (nowhere / "source.csv").write_text("a\n1\n")
    pin = hashlib.sha256(b"a\n1\n").hexdigest()
    path = obtain("toy", RawFile("a.csv", "", (nowhere / "source.csv").as_uri(), pin))
    assert path == nowhere / "cache/fairjax/toy/a.csv" and path.read_text() == "a\n1\n"


def test_unknown_name_and_bad_validation(data_dir):
    with pytest.raises(DataError, match=r"no data set of that name.*'adult'"):
        load("adlt")
    with pytest.raises(DataError, match="validation is 1"):
        load("german", data_dir=data_dir, validation=1.0)
