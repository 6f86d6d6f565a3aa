"""Images: arrays, folders and zips with their labels, what is refused, the network, and a study."""

from __future__ import annotations

import csv
import dataclasses
import json
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import fairjax

from fairjax.core.types import Attribute, Images, Spec, Task
from fairjax.data import DataError, Encoder, Roles, from_images, from_table, join, load, reload
from fairjax.methods import vanilla
from fairjax.models import image_encoder, network, scores
from fairjax.study import StudyConfig, load_model, model_of_run, named_study, run_study

pytest.importorskip("click")
Image = pytest.importorskip("PIL.Image")

N = 60
SIZE = 16
ROLES = Roles(tasks=("smiles",), sensitive=("sex",), image="file", split="part")
FRACTIONS = (0.6, 0.2, 0.2)


def pixels(rows: int = N, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """Noise whose brightness says whether somebody smiles."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 100, (rows, height, width, 3))
    return (noise + 100 * np.array(columns(rows)["smiles"])[:, None, None, None]).astype(np.uint8)


def columns(rows: int = N) -> dict[str, list]:
    return {
        "file": [f"faces/{i}.png" for i in range(rows)],
        "sex": ["f", "m"] * (rows // 2),
        "smiles": [int(i % 4 > 1) for i in range(rows)],
        "part": ["test" if i % 5 == 4 else "train" for i in range(rows)],
    }


def write_table(path: Path, table: dict[str, list]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def write_folder(folder: Path, arrays=None) -> Path:
    (folder / "faces").mkdir(parents=True)
    for i, array in enumerate(pixels() if arrays is None else arrays):
        Image.fromarray(array).save(folder / "faces" / f"{i}.png")
    return folder


def write_zip(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "images")


def prepared(images, table=None, **changes):
    roles = dataclasses.replace(ROLES, **changes)
    return from_images(images, table or columns(), roles, fractions=FRACTIONS)


def leaves_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------------- ways to come in


def test_arrays_folders_and_zips_give_the_same_data(tmp_path, folder):
    table = columns()
    from_folder = prepared(folder)
    from_zip = prepared(write_zip(tmp_path / "images.zip", folder))
    del table["file"]
    from_array = prepared(pixels(), table, image="face")
    in_a_dict = from_table({"face": pixels(), **table}, dataclasses.replace(ROLES, image="face"))
    for other in (from_zip, from_array, in_a_dict):
        leaves_equal(other.splits, from_folder.splits)
        assert other.spec == from_folder.spec
    train = from_folder.splits.train
    assert isinstance(train.x, Images) and train.x.pixels.dtype == np.uint8
    np.testing.assert_array_equal(train.x.pixels, pixels()[from_folder.origin["train"].row])
    assert from_folder.spec.image_shape == (SIZE, SIZE) and not from_folder.spec.is_table
    text = from_folder.describe()
    assert "images of 16 x 16 pixels" in text and "image" in text


def test_a_column_of_file_names_is_no_feature_and_neither_is_any_other(folder):
    data = prepared(folder)
    assert data.spec.numeric == () and data.spec.categorical == ()
    roles = {column.name: column.role for column in data.columns}
    assert roles == {"file": "image", "sex": "sensitive", "smiles": "task", "part": "split"}


def test_a_folder_around_all_files_may_be_left_out(folder):
    table = columns()
    table["file"] = [name.partition("/")[2] for name in table["file"]]
    leaves_equal(prepared(folder, table).splits, prepared(folder).splits)


def test_images_without_a_row_are_counted_and_other_files_are_not(folder):
    Image.fromarray(pixels(2)[0]).save(folder / "extra.png")
    (folder / "labels.csv").write_text("a\n1\n")
    assert any("1 images of" in note and "have no row" in note for note in prepared(folder).notes)


def test_repeated_images_are_counted_across_splits(folder):
    data = prepared(folder)
    assert not any("pixel for pixel" in note for note in data.notes)
    trained = folder / "faces" / f"{data.origin['train'].row[0]}.png"
    (folder / "faces" / "4.png").write_bytes(trained.read_bytes())
    expected = "1 of 12 test rows show an image of the training rows, pixel for pixel"
    assert expected in prepared(folder).notes


def test_grey_transparent_palette_and_turned_images_become_rgb(folder):
    faces = folder / "faces"
    grey = np.arange(256, dtype=np.uint8).reshape(SIZE, SIZE)
    Image.fromarray(grey).save(faces / "0.png")
    clear = np.zeros((SIZE, SIZE, 4), np.uint8)
    clear[:8] = (9, 8, 7, 255)
    Image.fromarray(clear).save(faces / "1.png")
    Image.fromarray(pixels()[2]).quantize(4).save(faces / "2.png")
    turned = Image.fromarray(pixels()[3])
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held upright: turn it by 90 degrees to the right
    turned.save(faces / "3.png", exif=exif)
    encoded = prepared(folder).encoder.encode(columns()).x.pixels
    np.testing.assert_array_equal(encoded[0], np.repeat(grey[..., None], 3, axis=2))
    assert (encoded[1][:8] == (9, 8, 7)).all() and (encoded[1][8:] == 255).all()
    assert len(np.unique(encoded[2].reshape(-1, 3), axis=0)) == 4
    np.testing.assert_array_equal(encoded[3], np.rot90(pixels()[3], -1))


def test_a_size_cuts_the_centre_and_scales(tmp_path):
    wide = np.zeros((N, 8, 24, 3), np.uint8)
    wide[:, :, 8:16] = 200  # the square at the centre
    folder = write_folder(tmp_path / "images", wide)
    data = prepared(folder, image_size=4)
    assert data.spec.image_shape == (4, 4) and (data.splits.train.x.pixels == 200).all()
    table = columns()
    del table["file"]
    leaves_equal(prepared(wide, table, image="face", image_size=4).splits, data.splits)


def test_data_load_again_and_changed_images_are_noticed(tmp_path, folder):
    path = write_table(tmp_path / "labels.csv", columns())
    roles = dataclasses.replace(ROLES, images=str(folder))
    data = from_table(path, roles, fractions=FRACTIONS)
    again = reload(json.loads(json.dumps(data.source)))
    leaves_equal(again.splits, data.splits)
    assert again.source == data.source
    Image.fromarray(pixels()[1]).save(folder / "faces" / "0.png")
    with pytest.raises(DataError, match="images of the 60 rows have changed.*Restore"):
        reload(data.source)


def test_the_encoder_survives_json_and_takes_other_images(tmp_path, folder):
    encoder = Encoder.from_json(prepared(folder).encoder.to_json())
    assert encoder == prepared(folder).encoder
    others = write_folder(tmp_path / "others", pixels()[::-1])
    table = encoder.read({"file": ["faces/1.png", "0.png"]}, images=others)
    np.testing.assert_array_equal(encoder.encode(table).x.pixels, pixels()[[58, 59]])
    np.testing.assert_array_equal(encoder.encode({"file": pixels(2)}).x.pixels, pixels(2))
    with pytest.raises(DataError, match="2 images are 8 x 8 but 16 x 16 in training.*Scale"):
        encoder.encode({"file": pixels(2, 8, 8)})


# -------------------------------------------------------------------------------- what is refused


def break_files(folder: Path) -> None:
    (folder / "faces" / "3.png").write_text("no image")
    cut = (folder / "faces" / "5.png").read_bytes()
    (folder / "faces" / "5.png").write_bytes(cut[: len(cut) // 2])


def remove_files(folder: Path) -> None:
    (folder / "faces" / "7.png").unlink()


def mix_sizes(folder: Path) -> None:
    Image.new("RGB", (8, 20)).save(folder / "faces" / "9.png")


def deepen(folder: Path) -> None:
    Image.new("I;16", (SIZE, SIZE)).save(folder / "faces" / "2.png")


REFUSED = {
    "broken": (break_files, [r"2 of 60 images cannot be read, 'faces/3.png' \(no image\), "]),
    "absent": (remove_files, [r"'file': 1 of 60 rows name no file .*row 7 \('faces/7.png'\).*add"]),
    "mixed": (mix_sizes, [r"60 images of 2 sizes: 16 x 16 \(59\), 20 x 8 \(1\).*--image-size"]),
    "deep": (deepen, [r"1 of 60 images .*'faces/2.png' \(mode I;16: more than 8 bits"]),
}
REFUSED["all"] = (
    lambda folder: [damage(folder) for damage, _ in list(REFUSED.values())[:3]],
    ["name no file", "2 of 60 images cannot", "57 images of 2 sizes"],
)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_bad_images_are_refused_together(tmp_path, folder, name, kind):
    damage, messages = REFUSED[name]
    damage(folder)
    images = folder if kind == "folder" else write_zip(tmp_path / "images.zip", folder)
    for message in messages:
        with pytest.raises(DataError, match=message):
            prepared(images)


def test_places_without_images_are_refused(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="empty: a folder of 0 files.*Give"):
        prepared(empty)
    with pytest.raises(DataError, match="empty.zip: a zip of 0 files.*Give"):
        prepared(write_zip(tmp_path / "empty.zip", empty))
    whole = write_zip(tmp_path / "whole.zip", folder).read_bytes()
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged.zip: cannot be read as a zip.*Copy it again"):
        prepared(damaged)
    flipped = bytearray(whole)
    flipped[200] ^= 255
    damaged.write_bytes(flipped)
    with pytest.raises(DataError, match="1 of 60 images cannot be read, 'faces/0.png'"):
        prepared(damaged)
    with pytest.raises(DataError, match="nowhere: no such folder or zip.*--images"):
        prepared(tmp_path / "nowhere")


def test_a_file_outside_of_the_folder_is_not_read(folder):
    Image.fromarray(pixels(2)[0]).save(folder.parent / "secret.png")
    table = columns()
    table["file"][0] = "../secret.png"
    with pytest.raises(DataError, match="1 of 60 rows name no file"):
        prepared(folder, table)


def test_bombs_are_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match="60 of 60 images .*more than 200 pixels.*60 in all"):
        prepared(folder)
    monkeypatch.undo()
    limit = 10_000 / 2**30
    with pytest.raises(DataError, match="its images take .* GB, more than .*--unpacked"):
        prepared(write_zip(tmp_path / "images.zip", folder), unpacked=limit)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels().astype(float), r"'file' has shape \(60, 16, 16, 3\) and type float64.*uint8"),
        (pixels()[..., :2], r"shape \(60, 16, 16, 2\)"),
        (pixels()[:7], "unequal length, 'file' has 7 rows beside 60"),
        ([*pixels()[:59], pixels(2, 3, 3)[0]], r"60 images of 2 shapes, \(3, 3, 3\) to \(16, 16"),
    ],
)
def test_bad_arrays_are_refused(images, message):
    table = columns()
    del table["file"]
    with pytest.raises(DataError, match=message):
        prepared(images, table)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"features": ("sex",)}, "'features' beside image 'file'.*Leave them out"),
        ({"text": "sex"}, "'image' beside text 'sex'"),
        ({"image": None, "image_size": 8}, "'image_size' without a column of images"),
        ({"image_size": -1}, "image_size is -1"),
        ({"drop": ("file",)}, "'file' cannot be a feature.*dropped"),
        ({"image": "fil"}, "no column 'fil'.*'file'"),
    ],
)
def test_roles_that_contradict_images(folder, roles, message):
    with pytest.raises(DataError, match=message):
        prepared(folder, **roles)


def test_images_are_no_feature_of_a_table_and_files_must_be_known():
    table = {**columns(), "file": pixels()}
    roles = dataclasses.replace(ROLES, image=None)
    with pytest.raises(DataError, match="'file' holds images of 60 rows.*Name it as image"):
        from_table(table, roles)
    with pytest.raises(DataError, match="no files are known.*--images"):
        from_table(columns(), ROLES)
    with pytest.raises(DataError, match="'file' already"):
        from_images(pixels(), columns(), ROLES)
    with pytest.raises(DataError, match="'file' holds images in 1 of 2 sources"):
        join(table, columns())


# ------------------------------------------------------------------------------------ the network

SPEC = Spec((Task("a"), Task("b")), (Attribute("g", ("0", "1")),), image_shape=(7, 6))


def setting():
    """Model, parameters of every leaf away from zero, and images."""
    model = image_encoder(SPEC, widths=(4,), head=())
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes)
    return model, params, Images(rng.integers(0, 256, (5, 7, 6, 3)).astype(np.uint8))


def convolved(x, kernel, stride):
    """A 3 x 3 convolution position by position in float64."""
    height, width = -(-x.shape[0] // stride), -(-x.shape[1] // stride)
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    by_offset = kernel.reshape(3, 3, x.shape[2], -1)  # column, row, channel
    y = np.zeros((height, width, kernel.shape[1]))
    for i in range(height):
        for j in range(width):
            for a in range(3):
                for b in range(3):
                    y[i, j] += padded[stride * i + a, stride * j + b] @ by_offset[b, a]
    return y


def normalised(x, layer):
    """Groups of gcd(channels, 8) neighbouring channels; four channels are four groups."""
    assert x.shape[2] == 4
    standardised = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    return standardised * layer["scale"] + layer["bias"]


def relu(x):
    return np.maximum(x, 0)


def brute_force(params, image):
    stem, stage = params["trunk"]["stem_0"], params["trunk"]["stage_1"]
    x = np.float64(image) / 127.5 - 1
    for layer in (stem, stage["down"]):
        x = relu(
            normalised(convolved(x, layer["convolution"]["kernel"], 2), layer["normalisation"])
        )
    y = relu(
        normalised(convolved(x, stage["convolution_0"]["kernel"], 1), stage["normalisation_0"])
    )
    y = normalised(convolved(y, stage["convolution_1"]["kernel"], 1), stage["normalisation_1"])
    z = relu(x + y).mean((0, 1))
    heads = params["heads"]
    return [z @ heads[t]["output"]["kernel"][:, 0] + heads[t]["output"]["bias"][0] for t in "ab"]


def test_the_network_is_its_brute_force_in_float64():
    model, params, x = setting()
    wanted = [brute_force(params, image) for image in x.pixels]
    got = jax.jit(lambda params, x: scores(model, params, x))(params, x)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_blocks_of_rows_and_half_precision_change_little():
    model, params, x = setting()
    score = jax.jit(lambda params, x: scores(model, params, x))
    many = Images(np.tile(x.pixels, (60, 1, 1, 1)))
    np.testing.assert_allclose(score(params, many)[:5], score(params, x), rtol=1e-4, atol=1e-4)
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    rounded = score(half, x)
    assert rounded.dtype == jnp.bfloat16
    gap = np.abs(np.float32(rounded) - score(params, x)).max()
    assert gap < 0.1 * np.abs(score(params, x)).max()


def test_names_of_the_trunk_end_in_their_depth_and_a_network_takes_a_stage_per_width():
    for trunk, stages in (((2,), 3), ((2, 4), 2)):
        model = network(SPEC, trunk, head=(3,))
        trunk_shapes = jax.eval_shape(model.init, jax.random.key(0))["trunk"]
        assert set(trunk_shapes) == {"stem_0", *(f"stage_{i + 1}" for i in range(stages))}
    with pytest.raises(ValueError, match="0 stages"):
        image_encoder(SPEC, widths=())
    with pytest.raises(ValueError, match="image shape"):
        image_encoder(dataclasses.replace(SPEC, image_shape=()))


# ----------------------------------------------------------------------------------------- a study


@pytest.mark.slow
def test_a_study_of_arrays_and_its_saved_model(tmp_path):
    table = columns()
    del table["file"]
    data = prepared(pixels(), table, image="face")
    config = StudyConfig(runs=1, reference_seeds=2, epochs=2, batch_size=16)
    results = run_study(
        data,
        [vanilla()],
        model=lambda spec: image_encoder(spec, widths=(4,), head=()),
        config=config,
        progress=False,
    )
    assert results.table.rows == 3 and not results.table["diverged"].any()
    model, evaluated = model_of_run(data, results, 2)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model", model=model.model)
    predicted = again.predict({"face": pixels()})["smiles"][data.origin["test"].row]
    wanted = 1 / (1 + np.exp(-evaluated["test"][:, 0]))
    np.testing.assert_allclose(predicted, wanted, rtol=1e-4, atol=1e-5)


def run_command(*arguments: str, code: int = 0) -> str:
    done = fairjax(*arguments, cwd=None)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


@pytest.mark.slow
def test_a_study_of_images_from_sweep_to_predictions(tmp_path, folder):
    table = write_table(tmp_path / "labels.csv", columns())
    images = str(write_zip(tmp_path / "images.zip", folder))
    run = tmp_path / "run"
    data = ["--data", str(table), "--task", "smiles", "--sensitive", "sex"]
    data += ["--image", "file", "--images", images, "--image-size", "8", "--split-column", "part"]
    sizes = ["--methods", "vanilla", "--runs", "1", "--epochs", "2", "--trunk", "4,4"]
    sizes += ["--head", "3", "--batch-size", "16", "--devices", "1", "--out", str(run)]
    run_command("frontier", *data, *sizes)
    assert (run / "report.html").is_file() and (run / "table.csv").is_file()
    model = str(tmp_path / "model")
    said = run_command("train", "--like", str(run), "--run", "10", "--out", model)
    assert "metrics are those of run 10" in said
    others = write_folder(tmp_path / "others", pixels()[::-1])
    new = write_table(tmp_path / "new.csv", {"file": ["0.png", "1.png"]})
    out = tmp_path / "predictions.csv"
    said = run_command("predict", model, str(new), "--images", str(others), "--out", str(out))
    assert "58 images of" in said
    assert len(out.read_text().splitlines()) == 3
    (folder / "faces" / "0.png").unlink()
    shorter = str(write_zip(tmp_path / "shorter.zip", folder))
    again = [*data, *sizes]
    again[again.index(images)] = shorter
    again[-1] = str(tmp_path / "half")
    said = run_command("frontier", *again, code=2)
    assert "1 of 60 rows name no file" in said
    assert not (tmp_path / "half").exists()


def test_names_choose_the_network_of_images():
    names = named_study(trunk=(2,), head=(3,))
    assert "stage_3" in jax.eval_shape(names.build_model(SPEC).init, jax.random.key(0))["trunk"]
    assert names.conditioned_model(SPEC) is None


# ----------------------------------------------------------------------------------------- by name


def test_faces_have_a_form_for_age(data_dir, monkeypatch):
    if not (data_dir / "fairface_subset").is_dir():
        pytest.skip("no raw files of fairface_subset")
    monkeypatch.setenv("FAIRJAX_DATA", str(data_dir))
    data = load("fairface_subset", form="age")
    assert [task.name for task in data.spec.tasks] == ["gender", "white", "black", "asian"]
    assert [attribute.name for attribute in data.spec.attributes] == ["over_40"]
    assert data.spec.image_shape == (64, 64)
    test = data.splits.test
    assert test.labels.sum(0).tolist() == [525, 188, 173, 260]
    assert test.groups.sum(0).tolist() == [757, 243]
