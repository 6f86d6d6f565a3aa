"""Every command, killed and interrupted at random moments: nothing is half done, nothing is lost.

``FAIRJAX_KILLS=20 pytest tests/test_crashes.py`` kills every command twenty times, and finds the
disk full at every write; by default it is once, and at some writes.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fairjax import Repair
from fairjax.cli import main
from fairjax.core import disk
from fairjax.core.types import DataError
from fairjax.study import load_model, load_results

KILLS = int(os.environ.get("FAIRJAX_KILLS", "1"))
ROLES = "--task rich --sensitive sex".split()
SMALL = "--methods vanilla --runs 3 --epochs 2 --batch-size 64 --trunk 4 --head 2".split()
SWEEP = ["frontier", "--data", "people.csv", *ROLES, *SMALL, "--out", "out"]
COMMANDS = {
    "frontier": SWEEP,
    "report": ["report", "out"],
    "train": ["train", "--like", "out", "--run", "RUN", "--out", "model"],
    "predict": ["predict", "model", "people.csv", "--out", "predicted.csv"],
    "repair": ["repair", "scores.csv", "--score", "pd", "--sensitive", "sex", "--out", "fixed"],
}
# what a command needs, and what it makes
NEEDS = {"report": ["out"], "train": ["out"], "predict": ["model"]}
MAKES = {
    "frontier": ["out/table.csv", "out/groups.csv"],  # the page tells what a resumed run compiled
    "report": ["out/table.csv", "out/groups.csv", "out/report.html"],
    "train": ["model/model.json", "model/params.npz", "model/predictions.csv", "model/groups.csv"],
    "predict": ["predicted.csv"],
    "repair": ["fixed/repaired.csv", "fixed/repair.json", "fixed/repair.npz"],
}
pytestmark = pytest.mark.slow


def write(path: Path, columns: dict) -> None:
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "fairjax", *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(arguments: list[str], folder: Path) -> tuple[int, str]:
    process = start(arguments, folder)
    output, errors = process.communicate()
    assert "Traceback" not in errors, errors
    return process.returncode, output + errors


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder in which every command has run to its end, the commands, and their seconds."""
    folder = tmp_path_factory.mktemp("done")
    rng = np.random.default_rng(0)
    rows = 300
    sex = rng.choice(["f", "m"], rows)
    age = rng.integers(18, 80, rows)
    rich = (age + 10 * (sex == "m") + rng.normal(0, 15, rows) > 50).astype(int)
    write(folder / "people.csv", {"age": age, "sex": sex, "rich": rich})
    score = np.clip(0.5 + 0.1 * (sex == "m") + rng.normal(0, 0.1, rows), 0, 1)
    write(folder / "scores.csv", {"pd": score, "sex": sex})
    commands = dict(COMMANDS)
    seconds = {}
    for name in COMMANDS:
        begin = time.monotonic()
        code, said = finish(commands[name], folder)
        assert code == 0, said
        seconds[name] = time.monotonic() - begin
        if name == "frontier":
            with open(folder / "out" / "table.csv", newline="") as stream:
                methods = [row["method"] for row in csv.DictReader(stream)]
            run = str(methods.index("vanilla"))
            commands["train"] = [run if word == "RUN" else word for word in COMMANDS["train"]]
    return folder, commands, seconds


def prepared(name: str, reference: Path, folder: Path) -> None:
    """The inputs of a command."""
    for file in ("people.csv", "scores.csv"):
        shutil.copy(reference / file, folder / file)
    for needed in NEEDS.get(name, []):
        shutil.copytree(reference / needed, folder / needed)


def check_files(name: str, reference: Path, folder: Path) -> None:
    """Files that are there are those of a run that nobody stopped."""
    for file in MAKES[name]:
        if (folder / file).exists():
            assert (folder / file).read_bytes() == (reference / file).read_bytes(), file


def goes_on(name: str, arguments: list[str], reference: Path, folder: Path) -> None:
    """The same command finishes the work, or finds it finished."""
    again = [*arguments, "--resume"] if name == "frontier" else arguments
    code, said = finish(again, folder)
    is_finished = code == 2 and "already" in said
    assert code == 0 or is_finished, said
    for file in MAKES[name]:
        assert (folder / file).read_bytes() == (reference / file).read_bytes(), file


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_nothing_half_done(name, done, tmp_path):
    reference, commands, seconds = done
    rng = np.random.default_rng(list(COMMANDS).index(name))
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        folder.mkdir()
        prepared(name, reference, folder)
        process = start(commands[name], folder)
        time.sleep(rng.uniform(0.3, 1.0) * seconds[name])
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check_files(name, reference, folder)
        goes_on(name, commands[name], reference, folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_ends_with_130_and_keeps_what_is_finished(name, done, tmp_path):
    reference, commands, seconds = done
    rng = np.random.default_rng(100 + list(COMMANDS).index(name))
    for stop in range(KILLS):
        folder = tmp_path / str(stop)
        folder.mkdir()
        prepared(name, reference, folder)
        process = start(commands[name], folder)
        time.sleep(max(3.0, rng.uniform(0.1, 1.0) * seconds[name]))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        # -SIGINT: Python had not begun the program
        assert process.returncode in (0, 130, -signal.SIGINT), errors
        if process.returncode == 130:
            assert "Stopped." in errors and "Traceback" not in errors
            check_files(name, reference, folder)
            assert not [path for path in folder.rglob("*.tmp") if path.is_file()]
    goes_on(name, commands[name], reference, folder)


# the first writes succeed, the next finds the disk full
FULL_DISK = """
import errno, os, sys
from fairjax.__main__ import run
from fairjax.core import disk

left = int(sys.argv.pop(1))
sync = os.fsync

def sync_or_refuse(handle):
    global left
    left -= 1
    if left < 0:
        raise OSError(errno.ENOSPC, "No space left on device")
    sync(handle)

disk.os.fsync = sync_or_refuse
run()
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_complaint_at_every_write(name, done, tmp_path):
    reference, commands, _ = done
    # commands write many files of one kind
    step = 1 if KILLS > 1 else {"frontier": 8, "predict": 1}.get(name, 3)
    for writes in range(0, 40, step):
        folder = tmp_path / str(writes)
        folder.mkdir()
        prepared(name, reference, folder)
        ended = subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(writes), *commands[name]],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        check_files(name, reference, folder)
        if ended.returncode == 0:
            break
        assert ended.returncode == 2, ended.stderr
        assert "cannot be written (No space left on device)" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr
        assert not [path for path in folder.rglob("*.tmp")]
    else:
        pytest.fail("the command never ended well")
    assert writes > 0


READ_BACK = {
    "model/model.json": load_model,
    "model/params.npz": load_model,
    "out/study.json": load_results,
    "out/table.csv": load_results,
    "out/groups.csv": load_results,
    "fixed/repair.json": Repair.load,
    "fixed/repair.npz": Repair.load,
}


@pytest.mark.parametrize("file", READ_BACK)
def test_a_flipped_bit_in_a_file_is_one_complaint(file, done, tmp_path, monkeypatch):
    reference, _, _ = done
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(30):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            READ_BACK[file](path.parent)
        except DataError as error:
            refused += 1
            assert path.name in str(error) and "\n" not in str(error)
    # blanks between words of JSON say nothing
    assert refused > 20


def spoiled_json(**changes):
    def spoil(folder: Path) -> None:
        words = disk.read_json(folder / "model.json")
        disk.write_json(folder / "model.json", words | changes)

    return spoil


def spoiled_params(folder: Path) -> None:
    arrays = disk.read_arrays(folder / "params.npz")
    name = next(name for name in arrays if name.startswith("params."))
    disk.write_arrays(folder / "params.npz", arrays | {name: np.full_like(arrays[name], np.nan)})


def other_shapes(folder: Path) -> None:
    arrays = disk.read_arrays(folder / "params.npz")
    disk.write_arrays(folder / "params.npz", {name: array[:1] for name, array in arrays.items()})


FORGED = {
    "of another format": (spoiled_json(format=99), "format 99"),
    "with an unknown decision": (spoiled_json(decision="sometimes"), "'sometimes' is none of"),
    "with a threshold that is no number": (spoiled_json(thresholds=[float("nan")]), "thresholds"),
    "with parameters that are no numbers": (spoiled_params, "parameters are not all finite"),
    "with parameters of other shapes": (other_shapes, "should be"),
    "of an unknown method": (spoiled_json(method="none"), "does not describe a model"),
    "without hyper-parameters": (spoiled_json(hparams=3), "does not describe a model"),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_model_is_refused(forged, done, tmp_path):
    reference, _, _ = done
    shutil.copytree(reference / "model", tmp_path / "model")
    spoil, message = FORGED[forged]
    spoil(tmp_path / "model")
    with pytest.raises(DataError, match=message) as error:
        load_model(tmp_path / "model")
    assert "\n" not in str(error.value)


def test_a_diverged_run_leaves_no_model(done, tmp_path, monkeypatch):
    reference, _, _ = done
    prepared("frontier", reference, tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--data", "people.csv", *ROLES, "--method", "vanilla", "--epochs", "2"]
    ended = CliRunner().invoke(main, [*arguments, "--learning-rate", "1e30", "--out", "model"])
    assert ended.exit_code == 2 and "diverged" in ended.output, ended.output
    assert "--learning-rate" in ended.output and not (tmp_path / "model").exists()


@pytest.mark.parametrize("options", [[], ["--learning-rate", "0.2"]], ids=["equal", "different"])
def test_two_sweeps_at_once_do_not_mix(options, done, tmp_path):
    reference, _, _ = done
    for pair in range(KILLS):
        folder = tmp_path / str(pair)
        folder.mkdir()
        prepared("frontier", reference, folder)
        rivals = [start(SWEEP, folder), start([*SWEEP, *options], folder)]
        outputs = [rival.communicate() for rival in rivals]
        codes = [rival.returncode for rival in rivals]
        assert sorted(codes) == [0, 2], outputs
        complaint = " ".join(errors for _, errors in outputs)
        assert "another process" in complaint or "holds a sweep already" in complaint
        written = (folder / "out" / "table.csv").read_bytes()
        is_first = written == (reference / "out" / "table.csv").read_bytes()
        assert is_first == (codes[0] == 0 or not options)
