"""Points, the one program of a sweep, chunk sizes, and sweeps that are killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from cases import dataset, tabular_spec, tiny_sweep

from fairjax.core.disk import locked, read_arrays, write_arrays
from fairjax.core.types import DataError, Range
from fairjax.training import (
    Compiler,
    Measure,
    Part,
    Program,
    Runs,
    TrainConfig,
    chunk_of,
    chunks,
    draw,
    fingerprint,
    grid,
    kept_arrays,
    member,
    members_of,
    start_size,
    sweep,
)
from fairjax.training import keys as member_keys
from fairjax.training.chunks import ChunkSizes
from fairjax.training.manifest import NUMBERS, chunk_arrays

# ------------------------------------------------------------------------------------------- points

SPACE = {
    "weight": Range(np.full(3, 1 / 3), 0.0, 1.0, simplex=True),
    "lam": Range(np.ones(3), 0.0, 5.0),
    "r": Range(1.0, 0.1, 10.0, log=True),
    "rate": Range(0.02),
}
both = pytest.mark.parametrize("sequence", ["uniform", "sobol"])


@both
def test_draws_lie_in_their_ranges(sequence):
    hparams = draw(SPACE, 200, 0, sequence=sequence)
    assert {k: v.shape for k, v in hparams.items()} == {
        "weight": (200, 3),
        "lam": (200, 3),
        "r": (200,),
        "rate": (200,),
    }
    assert all(v.dtype == np.float32 for v in hparams.values())
    np.testing.assert_allclose(hparams["weight"].sum(1), 1, rtol=1e-6)
    assert hparams["weight"].min() >= 0
    assert 0 <= hparams["lam"].min() < 0.2 and 4.8 < hparams["lam"].max() <= 5
    assert 0.1 <= hparams["r"].min() < 0.12 and 8 < hparams["r"].max() <= 10
    np.testing.assert_array_equal(hparams["rate"], np.float32(0.02))


@both
def test_draws_are_uniform_in_their_measure(sequence):
    hparams = draw(SPACE, 2048, 1, sequence=sequence)
    for sample, law in (
        (hparams["lam"][:, 1], scipy.stats.uniform(0, 5)),
        (hparams["r"], scipy.stats.loguniform(0.1, 10)),
        (hparams["weight"][:, 2], scipy.stats.beta(1, 2)),
    ):  # a corner of the uniform simplex of three
        assert scipy.stats.kstest(sample, law.cdf).pvalue > 1e-3


def test_a_sobol_sequence_fills_more_evenly():
    space = {"a": Range(0.0, 0.0, 1.0), "b": Range(0.0, 0.0, 1.0)}
    spread = {
        how: scipy.stats.qmc.discrepancy(
            np.clip(np.stack(list(draw(space, 64, 3, sequence=how).values()), 1), 0, 1)
        )
        for how in ("uniform", "sobol")
    }
    assert spread["sobol"] < spread["uniform"] / 3


@both
def test_a_seed_fixes_the_draw(sequence):
    one, same, other = (draw(SPACE, 5, seed, sequence=sequence) for seed in (3, 3, 4))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_an_unknown_sequence_is_refused():
    with pytest.raises(ValueError, match="'uniform' or 'sobol', got 'halton'"):
        draw(SPACE, 3, 0, sequence="halton")


def test_a_grid_is_the_product_with_defaults_elsewhere():
    hparams = grid(SPACE, {"r": [0.5, 1, 2], "lam": [[0, 0, 0], [1, 2, 3]]})
    assert [
        (float(r), *map(float, lam)) for r, lam in zip(hparams["r"], hparams["lam"], strict=True)
    ] == [(r, *lam) for r in (0.5, 1, 2) for lam in ((0, 0, 0), (1, 2, 3))]
    np.testing.assert_array_equal(hparams["weight"], np.full((6, 3), 1 / 3, np.float32))
    np.testing.assert_array_equal(
        grid(SPACE, {"lam": [0, 4]})["lam"], [[0, 0, 0], [4, 4, 4]]
    )  # one number for all tasks
    assert {len(v) for v in grid(SPACE, {}).values()} == {1}


def test_a_grid_over_an_unknown_hparam_is_refused():
    with pytest.raises(ValueError, match="no hparam 'lambda'; there are weight, lam, r, rate"):
        grid(SPACE, {"lambda": [1]})


# ---------------------------------------------------------------------------------------- one sweep

KEEP, SEEDS, CHUNK = ("scores", "params"), (0, 7), 3


def arguments():
    """What every sweep of this file is given: four points and two seeds."""
    recipe, train_config, data, evaluate = tiny_sweep()
    return recipe, train_config, draw(recipe.space, 4, 0), SEEDS, data, evaluate


@pytest.fixture(scope="module")
def program():
    """The compiled sweep on one device, shared by the file."""
    recipe, train_config, _, _, _, evaluate = arguments()
    return Program(recipe, train_config, evaluate, KEEP, devices=jax.local_devices()[:1])


def run(program=None, **how) -> Runs:
    recipe, train_config, hparams, seeds, data, evaluate = arguments()
    named = {
        "recipe": recipe,
        "train_config": train_config,
        "hparams": hparams,
        "seeds": seeds,
        "splits": data,
        "evaluate": evaluate,
        "keep": KEEP,
        "chunk": CHUNK,
        "devices": jax.local_devices()[:1],
        "program": program,
        **how,
    }
    return sweep(**named)


@pytest.fixture(scope="module")
def finished(program, tmp_path_factory) -> tuple[Runs, Path]:
    """A sweep of eight members in chunks of three, and its folder."""
    folder = tmp_path_factory.mktemp("sweep")
    return run(program, out=folder), folder


def identical(one: Runs, two: Runs, members=slice(None)):
    def same(path, got, want):
        name = jax.tree_util.keystr(path)
        np.testing.assert_array_equal(got[members], want[members], err_msg=name)

    jax.tree.map_with_path(same, results(one), results(two))


def results(runs: Runs) -> dict:
    """Everything that the program returned."""
    names = ("metrics", "diverged", "block", "values", "scores", "params", "record")
    return {name: getattr(runs, name) for name in names}


def test_one_compilation_serves_all_chunks_and_the_ragged_last(finished):
    runs, folder = finished
    assert runs.compilations == 1 and runs.chunk == CHUNK
    assert sorted(f.name for f in folder.glob("*.npz")) == [
        "chunk-0000000.npz",
        "chunk-0000003.npz",
        "chunk-0000006.npz",
    ]
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*"))


def test_members_are_points_times_seeds(finished):
    runs, _ = finished
    assert list(zip(runs.point, runs.seed, strict=True)) == [
        (p, s) for p in range(4) for s in SEEDS
    ]
    np.testing.assert_array_equal(runs.hparams["lam"], np.repeat(arguments()[2]["lam"], 2, axis=0))


def test_results_have_one_entry_per_member(finished):
    runs = finished[0]
    assert runs.metrics["error"].shape == (8, 2) and runs.metrics["square"].shape == (8,)
    assert runs.diverged.shape == (8,) and not runs.diverged.any()
    assert runs.values.shape == (8, 2, 2)
    assert {name: v.shape for name, v in runs.scores.items()} == {
        "validation": (8, 9, 2),
        "test": (8, 11, 2),
    }
    assert runs.params["trunk"]["kernel"].shape == (8, 4, 4)
    assert runs.params["heads"]["task1"]["output"]["bias"].shape == (8, 1)
    labels = arguments()[4].test.labels
    np.testing.assert_allclose(
        runs.metrics["error"][3], np.mean((runs.scores["test"][3] > 0) != labels, axis=0)
    )


def test_what_is_not_kept_is_absent():
    runs = run(keep=(), chunk=8)
    assert runs.scores == {} and runs.params is None and runs.record == ()


def test_a_member_is_the_run_by_itself(finished):
    runs, _ = finished
    recipe, train_config, hparams, _, data, evaluate = arguments()
    alone = jax.jit(member(recipe, train_config, evaluate, KEEP))
    each, order = member_keys(0, runs.seed)
    for m in range(8):
        single = alone(each[m], order, {k: v[runs.point[m]] for k, v in hparams.items()}, data)
        jax.tree.map(
            lambda got, want, m=m: np.testing.assert_allclose(got[m], want, rtol=1e-4, atol=1e-5),
            results(runs),
            single,
        )


class Listed(Compiler):
    """Lists the stages that it was asked for."""

    def __init__(self):
        super().__init__()
        self.keys = set()

    def stage(self, key, program, *given, **how):
        self.keys.add(key)
        return super().stage(key, program, *given, **how)

    @property
    def counts(self) -> tuple[int, ...]:
        kinds = [kind for kind, *_ in self.keys]
        return tuple(kinds.count(kind) for kind in ("start", "train", "measure"))


def test_methods_share_their_start_and_their_measure(finished):
    runs, _ = finished
    recipe, train_config, *_, evaluate = arguments()
    compiler = Listed()
    how = {"devices": jax.local_devices()[:1], "compiler": compiler, "measured": 4}
    for size in (CHUNK, 8):  # measured in fours: chunks are filled up, or cut
        program = Program(recipe, train_config, evaluate, KEEP, **how)
        close(run(program, chunk=size), runs)
    assert compiler.counts == (2, 2, 1)
    other = Program(recipe._replace(name="other"), train_config, evaluate, KEEP, **how)
    close(run(other, chunk=CHUNK), runs)
    assert compiler.counts == (2, 3, 1)


def test_a_measure_in_two_parts_is_the_measure(finished, tmp_path):
    runs, folder = finished
    *_, evaluate = arguments()

    def program(scores, splits):
        found = evaluate(scores, splits)
        return jnp.append(found["error"], found["square"])

    def finish(together):
        return {"error": together[..., :2], "square": together[..., 2]}

    measure = Measure(program, finish)
    recipe, train_config, *_ = arguments()
    devices = jax.local_devices()[:1]
    apart = Program(recipe, train_config, measure, KEEP, devices=devices, measured=2)
    ways = (
        {"out": tmp_path},
        {"out": tmp_path},  # read
        {"chunk": 8},
        {"program": apart},
    )
    for how in ways:
        found = run(evaluate=measure, **how)
        for name, values in runs.metrics.items():
            np.testing.assert_allclose(found.metrics[name], values, rtol=1e-6)
    assert (
        chunk_arrays(tmp_path / "chunk-0000000.npz").keys()
        == chunk_arrays(folder / "chunk-0000000.npz").keys()
    )


def test_a_network_may_start_by_its_hyper_parameters():
    recipe, train_config, hparams, seeds, data, evaluate = arguments()

    def build(point):
        parts = recipe.build(point)

        def init(key):
            return jax.tree.map(lambda leaf: point["lam"][0] * leaf, parts.model.init(key))

        return parts._replace(model=parts.model._replace(init=init))

    scaled = recipe._replace(build=build)
    still = {**hparams, "learning_rate": np.zeros(4, np.float32)}
    runs = run(None, recipe=scaled, hparams=still, chunk=8)
    plain = run(None, hparams=still, chunk=8)
    times = runs.hparams["lam"][:, 0].reshape(-1, 1, 1)
    kernel = plain.params["trunk"]["kernel"]
    np.testing.assert_allclose(runs.params["trunk"]["kernel"], times * kernel, rtol=1e-6)


def test_a_program_begins_to_compile_before_it_runs():
    recipe, train_config, hparams, seeds, data, evaluate = arguments()
    program = Program(recipe, train_config, evaluate, KEEP, devices=jax.local_devices()[:1])
    point, seed = members_of(hparams, seeds)
    first = chunk_of(hparams, point, seed, 0, 0, CHUNK)
    program.begin(*first, data)
    assert program._cache_size() == 0 and program.compile_seconds == 0
    assert run(program).compilations == 1
    assert program.compile_seconds > 0


def test_points_of_one_seed_start_alike_and_seeds_differ(program):
    still = run(program, hparams={**arguments()[2], "learning_rate": np.zeros(4, np.float32)})
    kernel = still.params["trunk"]["kernel"].reshape(4, 2, 4, 4)
    np.testing.assert_array_equal(kernel, np.broadcast_to(kernel[:1], kernel.shape))
    assert np.any(kernel[0, 0] != kernel[0, 1])


def test_a_member_that_diverges_stays_in_its_lane(program, finished):
    hparams = arguments()[2]
    rates = hparams["learning_rate"].copy()
    rates[2] = 1e6
    wild = run(program, hparams={**hparams, "learning_rate": rates})
    identical(wild, finished[0], wild.point != 2)
    assert wild.compilations == 1
    np.testing.assert_array_equal(wild.diverged, wild.point == 2)


def test_members_that_are_not_finite_are_flagged_and_nobody_else(program, finished):
    hparams = arguments()[2]
    rates = hparams["learning_rate"].copy()
    rates[1] = 1e30
    wild = run(program, hparams={**hparams, "learning_rate": rates})
    np.testing.assert_array_equal(wild.diverged, wild.point == 1)
    identical(wild, finished[0], wild.point != 1)


def test_progress_counts_members():
    counted: list = []
    run(lambda_program(), progress=counted.append)
    assert counted == [3, 3, 2]


def lambda_program():
    """Stands in for a compiled program where its numbers do not matter."""

    def fake(each, order, batch, data):
        zeros = np.zeros(len(batch["lam"]))
        return {
            "metrics": {"error": zeros},
            "diverged": zeros > 0,
            "values": zeros,
            "scores": {},
            "params": None,
            "record": (),
            "block": zeros,
        }

    fake._cache_size = lambda: 1
    return fake


@dataclasses.dataclass(frozen=True)
class Device:
    platform: str


@pytest.mark.parametrize(
    ("members", "count", "platform", "size"),
    [
        (2, 1, "cpu", 2),
        (8, 1, "cpu", 8),
        (9, 1, "cpu", 5),
        (64, 2, "cpu", 8),
        (72, 2, "cpu", 8),
        (66, 2, "cpu", 7),
        (200, 1, "gpu", 200),
        (600, 2, "gpu", 150),
    ],
)
def test_a_sweep_starts_with_even_chunks(members, count, platform, size):
    assert start_size(members, [Device(platform)] * count) == size


def simulated(seconds_per_chunk, members: int, compile_seconds: float, start: int = 8):
    """Sizes of a sweep on one device; a chunk of s members takes ``seconds_per_chunk(s)``."""
    schedule = ChunkSizes([(0, start)], 1, tune=True)
    compiled = set()
    first = 0
    while first < members:
        schedule.decide(first, members)
        size = schedule.size_at(first)
        if first + size <= members:
            new = size not in compiled
            compiled.add(size)
            schedule.record(seconds_per_chunk(size) + new * compile_seconds, new)
        first += size
    return schedule.sizes


def test_a_short_sweep_keeps_its_size():
    assert simulated(lambda size: size / 8, 100, 10.0) == [(0, 8)]
    assert simulated(lambda size: 1.0, 30, 0.0) == [(0, 8)]


def test_sizes_double_as_long_as_they_are_faster():
    assert simulated(lambda size: max(size, 32) / 8, 10_000, 10.0) == [
        (0, 8),
        (16, 16),
        (48, 32),
        (112, 64),
        (240, 32),
    ]


def test_sizes_halve_where_doubling_does_not_help():
    slower = simulated(lambda size: size * max(size, 4), 10_000, 10.0)
    assert slower == [(0, 8), (16, 16), (48, 4), (56, 2), (60, 4)]
    assert simulated(lambda size: float(size), 10_000, 10.0) == [(0, 8), (16, 16), (48, 4), (56, 8)]


def test_a_compilation_that_turns_out_long_is_the_last():
    """The first may come from a cache on disk and seem to cost nothing."""
    schedule = ChunkSizes([(0, 8)], 1, tune=True)
    for seconds, compiled in ((1.5, True), (1.0, False)):
        schedule.record(seconds, compiled)
    assert schedule.decide(16, 400) and schedule.current == 16
    for seconds, compiled in ((100.0, True), (1.0, False)):
        schedule.record(seconds, compiled)
    assert not schedule.decide(48, 400) and schedule.sizes == [(0, 8), (16, 16)]


def test_a_program_that_was_already_compiled_keeps_its_size():
    schedule = ChunkSizes([(0, 8)], 1, tune=True)
    schedule.record(1.0, compiled=False)
    assert not schedule.decide(8, 10_000) and schedule.sizes == [(0, 8)]


# ----------------------------------------------------------------------------- sizes on real chunks

MEMBERS = 40


class Killed(Exception):
    pass


class Wrapped:
    """A program that counts every new size as a compilation; ``fail(call, members)`` may raise."""

    def __init__(self, program, fail=lambda call, members: None):
        self.program, self.fail, self.lower = program, fail, program.lower
        self.calls, self.sizes = 0, set()

    def _cache_size(self):
        return len(self.sizes)

    def __call__(self, each, *rest):
        self.calls += 1
        self.fail(self.calls, len(each))
        self.sizes.add(len(each))
        return self.program(each, *rest)


@pytest.fixture
def eager(monkeypatch):
    """Small sizes, and every size is worth a trial."""
    monkeypatch.setattr(chunks, "CPU_LIMIT", 2)
    monkeypatch.setattr(chunks, "ACCELERATOR_LIMIT", 2)
    monkeypatch.setattr(chunks, "REPAY", -1.0)


@pytest.fixture(scope="module")
def sizes_program():
    """A program of its own: it is compiled at several sizes."""
    recipe, train_config, _, _, _, evaluate = arguments()
    return Program(recipe, train_config, evaluate, KEEP, devices=jax.local_devices()[:1])


@pytest.fixture(scope="module")
def fixed(sizes_program) -> Runs:
    return run(sizes_program, seeds=range(MEMBERS // 4), chunk=CHUNK)


def long_run(program, **how) -> Runs:
    return run(program, seeds=range(MEMBERS // 4), chunk=None, **how)


def close(one: Runs, two: Runs):
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5),
        results(one),
        results(two),
    )


def covered(folder: Path) -> list[tuple[int, int]]:
    """First member and number of members of every chunk file."""
    files = sorted(folder.glob("chunk-*.npz"))
    return [
        (int(file.stem.removeprefix("chunk-")), len(chunk_arrays(file)["diverged"]))
        for file in files
    ]


@pytest.mark.slow
def test_other_sizes_are_tried_on_chunks_that_count(sizes_program, fixed, eager, tmp_path):
    runs = long_run(Wrapped(sizes_program), out=tmp_path)
    close(runs, fixed)
    sizes = json.loads((tmp_path / "manifest.json").read_text())["sizes"]
    assert sizes[0] == [0, 2] and [4, 4] in sizes and runs.chunk == sizes[-1][1]
    ends = [first + count for first, count in covered(tmp_path)]
    assert [first for first, _ in covered(tmp_path)] == [0, *ends[:-1]] and ends[-1] == MEMBERS


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6])
def test_a_sweep_killed_in_a_trial_resumes_to_the_same_bytes(
    sizes_program, fixed, eager, tmp_path, call
):
    def kill(number, members):
        if number == call:
            raise Killed

    with pytest.raises(Killed):
        long_run(Wrapped(sizes_program, kill), out=tmp_path)
    sizes = json.loads((tmp_path / "manifest.json").read_text())["sizes"]
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.npz")}
    assert len(before) == call - 1
    runs = long_run(Wrapped(sizes_program), out=tmp_path)
    close(runs, fixed)
    after = {file.name: file.read_bytes() for file in tmp_path.glob("*.npz")}
    assert before.items() <= after.items()
    assert json.loads((tmp_path / "manifest.json").read_text())["sizes"] == sizes
    for name in random.Random(call).sample(sorted(after), 3):
        (tmp_path / name).unlink()
    identical(long_run(Wrapped(sizes_program), out=tmp_path), runs)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.npz")} == after


def test_a_size_that_does_not_fit_into_memory_is_given_up(sizes_program, fixed, eager, tmp_path):
    def full(number, members):
        if members > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    runs = long_run(Wrapped(sizes_program, full), out=tmp_path)
    close(runs, fixed)
    assert json.loads((tmp_path / "manifest.json").read_text())["sizes"] == [[0, 2]]
    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        run(Wrapped(sizes_program, full))


class Name(NamedTuple):
    """A key of metrics that is no string."""

    split: str
    metric: str

    def __str__(self):
        return f"{self.split}.{self.metric}"


@pytest.mark.slow
def test_keys_of_metrics_come_back_from_disk(tmp_path):
    def evaluate(scores, data):
        return {Name(split, "mean"): jnp.mean(values) for split, values in scores.items()}

    how = {"evaluate": evaluate, "keep": (), "chunk": 8, "out": tmp_path}
    made, read = run(**how), run(**how)
    assert set(made.metrics) == {Name("validation", "mean"), Name("test", "mean")}
    assert set(read.metrics) == set(made.metrics)
    for name, values in made.metrics.items():
        np.testing.assert_array_equal(read.metrics[name], values, err_msg=str(name))
    assert "metrics.test.mean" in chunk_arrays(tmp_path / "chunk-0000000.npz")


def test_results_that_share_a_name_are_refused(tmp_path):
    def evaluate(scores, data):
        return {"a.b": jnp.zeros(()), "a": {"b": jnp.zeros(())}}

    with pytest.raises(ValueError, match=r"share a name, such as 'metrics.a.b': rename one"):
        run(evaluate=evaluate, keep=(), chunk=8, out=tmp_path)


def test_what_a_sweep_kept_of_a_member_comes_back(finished, tmp_path):
    runs, folder = finished
    for place in range(len(runs.point)):
        kept = kept_arrays(folder, place)
        for split, scores in runs.scores.items():
            np.testing.assert_array_equal(kept[f"scores.{split}"], scores[place])
    assert kept_arrays(tmp_path / "nothing", 0) == {}


def test_what_is_kept_on_disk_alone_takes_no_memory(program, finished, tmp_path):
    runs, folder = finished
    for _ in range(2):  # trained, and read
        lean = run(program, out=tmp_path, on_disk=True)
        assert lean.params is None and lean.scores == {}
        identical(lean._replace(params=runs.params, scores=runs.scores), runs)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    part = run(program, out=tmp_path, on_disk=True, part=Part(1, 2))
    assert part.params is None and list(part.seed) == [7, 0, 7]


def edited(file: Path) -> None:
    """The same arrays with one number changed, as another program would write them."""
    arrays = dict(np.load(file))
    arrays[NUMBERS] = arrays[NUMBERS] + 1
    np.savez(file, **arrays)


def without_a_column(file: Path) -> None:
    arrays = read_arrays(file)
    write_arrays(file, {name: arrays[name] for name in list(arrays)[1:]})


STRANGE = {
    "of other members": (
        lambda file: shutil.copy(file.with_name("chunk-0000006.npz"), file),
        "belongs to another sweep, or to other members",
    ),
    "of equally many other members": (
        lambda file: shutil.copy(file.with_name("chunk-0000003.npz"), file),
        "belongs to another sweep, or to other members",
    ),
    "with an edited number": (edited, "were changed after"),
    "without a column": (without_a_column, "holds other results"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-200]), "damaged"),
    "empty": (lambda file: file.write_bytes(b""), "damaged"),
    "no archive": (lambda file: file.write_bytes(b"{}" * 200), "damaged"),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strange_chunk_file_is_named_and_made_again(program, finished, tmp_path, strange):
    runs, folder = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "chunk-0000000.npz"
    damage, message = STRANGE[strange]
    damage(file)
    with pytest.warns(UserWarning, match=f"chunk-0000000.*{message}"):
        identical(run(program, out=tmp_path), runs)
    assert file.read_bytes() == (folder / file.name).read_bytes()


def test_a_chunk_without_an_array_of_numbers_is_read(program, finished, tmp_path):
    runs, folder = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "chunk-0000000.npz"
    write_arrays(file, chunk_arrays(file))  # as fairjax 0.1.0 wrote it
    assert NUMBERS not in read_arrays(file)
    before = file.read_bytes()
    identical(run(program, out=tmp_path), runs)
    assert file.read_bytes() == before


def test_without_its_manifest_a_chunk_still_knows_its_sweep(program, finished, tmp_path):
    runs, folder = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "manifest.json").unlink()
    other = {**arguments()[2], "lam": arguments()[2]["lam"] + 1}
    with pytest.warns(UserWarning, match="belongs to another sweep"):
        found = run(program, out=tmp_path, hparams=other)
    assert not np.array_equal(found.values, runs.values)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.warns(UserWarning, match=r"manifest.json: damaged"):
        identical(run(program, out=tmp_path, hparams=other), found)


def test_a_folder_is_swept_by_one_process(program, tmp_path):
    with locked(tmp_path, "a sweep"):
        with pytest.raises(DataError, match="another process runs a sweep here"):
            run(program, out=tmp_path)
    run(program, out=tmp_path)


# -------------------------------------------------------------------------------------------- parts


def run_part(number: int, of: int, **how) -> Runs:
    return run(part=Part(number, of), **how)


def test_parts_make_the_chunks_of_the_sweep(program, finished, tmp_path):
    runs, folder = finished
    counted = []
    parts = [
        run_part(number, 5, program=program, out=tmp_path, progress=counted.append)
        for number in (2, 0, 4, 1, 3)
    ]
    assert [list(one.point) for one in parts] == [[3, 3], [0, 0, 1], [], [1, 2, 2], []]
    assert [len(one.metrics["error"]) for one in parts] == [2, 3, 0, 3, 0]
    assert counted == [2, 3, 3]
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    identical(run(program, out=tmp_path), runs)


def test_parts_share_a_folder_and_a_whole_sweep_does_not(program, tmp_path):
    with locked(tmp_path, "a sweep", shared=True):
        assert len(run_part(0, 2, program=program, out=tmp_path).seed) == 5
        with pytest.raises(DataError, match="another process runs a sweep here"):
            run(program, out=tmp_path)
    with locked(tmp_path, "a sweep"):
        with pytest.raises(DataError, match="another process runs a sweep here"):
            run_part(1, 2, program=program, out=tmp_path)


# ----------------------------------------------------------------------------------------- resuming


def test_missing_chunks_are_computed_again_and_nothing_else(program, finished, tmp_path):
    runs, folder = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "chunk-0000003.npz").unlink()
    (tmp_path / ".chunk-0000006.npz.1.tmp").write_bytes(b"half a file")
    kept = (tmp_path / "chunk-0000000.npz").stat().st_mtime_ns
    again = run(program, out=tmp_path, chunk=None)  # the chunk size comes from the folder
    identical(again, runs)
    assert again.compilations == 1 and again.chunk == CHUNK
    assert (tmp_path / "chunk-0000000.npz").stat().st_mtime_ns == kept


def test_a_finished_sweep_is_read_and_not_compiled(finished):
    runs, folder = finished
    again = run(out=folder)
    identical(again, runs)
    assert again.compilations == 0


OTHER = {
    "seeds": {"seeds": (0, 8)},
    "points": {"hparams": {k: v[:3] for k, v in arguments()[2].items()}},
    "hparams": {"hparams": {**arguments()[2], "lam": arguments()[2]["lam"] + 1}},
    "epochs": {"train_config": TrainConfig(4, 8)},
    "batch_size": {"train_config": TrainConfig(2, 4)},
    "block": {"train_config": TrainConfig(2, 8, 2)},
    "root": {"root": 1},
    "recipe": {"recipe": arguments()[0]._replace(name="other")},
    "keep": {"keep": ()},
    "data": {"splits": arguments()[4]._replace(test=dataset(tabular_spec(), 11, 99))},
}


@pytest.mark.parametrize("field", OTHER)
def test_another_sweep_in_the_same_folder_is_refused(finished, field):
    with pytest.raises(
        ValueError, match=rf"another sweep: .*{field} is .* now and .* there.*another folder"
    ):
        run(out=finished[1], **OTHER[field])


def test_the_same_settings_with_another_model_are_refused(finished):
    """What no setting names (model, notion, metrics, code) is in the compiled program."""
    recipe = arguments()[0]

    def build(hparams):
        parts = recipe.build(hparams)
        return parts._replace(
            model=parts.model._replace(predict=lambda p, z: 2.0 * parts.model.predict(p, z))
        )

    with pytest.raises(ValueError, match="another sweep: program is"):
        run(out=finished[1], recipe=recipe._replace(build=build))


@pytest.mark.slow
def test_losses_that_grow_tenfold_are_flagged_though_finite():
    recipe, train_config, hparams, _, data, evaluate = arguments()

    def build(hparams):
        parts = recipe.build(hparams)
        return parts._replace(
            transform=optax.chain(parts.transform, optax.scale(hparams["factor"]))
        )

    factor = np.float32([1.0, -50.0])
    made = recipe._replace(build=build)
    out = run(
        recipe=made,
        hparams={**{k: v[:2] for k, v in hparams.items()}, "factor": factor},
        seeds=(0,),
    )
    assert np.isfinite(out.values).all()
    np.testing.assert_array_equal(out.diverged, [False, True])


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_sweep
def report(count):
    print("chunk", flush=True)
    time.sleep(0.15)
test_sweep.run(out=Path(sys.argv[2]), progress=report)
"""


def child(script: str, *arguments: str) -> subprocess.Popen:
    """A python of its own, on the CPU."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent), *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with a child on the CPU")
def test_a_sweep_killed_at_any_moment_ends_with_the_same_numbers(program, finished, tmp_path):
    rng = random.Random(0)
    for _ in range(2):
        process = child(SCRIPT, str(tmp_path))
        process.stdout.readline()  # the first chunk is there, or the child has failed
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0), process.stderr.read()
        process.stdout.close()
        process.stderr.close()
    assert list(tmp_path.glob("chunk-*.npz"))
    identical(run(program, out=tmp_path), finished[0])


TWO = """
import sys
sys.path.insert(0, sys.argv[1])
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
import test_sweep
runs = test_sweep.run(devices=jax.local_devices(), chunk=2)
leaves = jax.tree.leaves(test_sweep.results(runs))
np.savez(sys.argv[2], *leaves, devices=jax.local_device_count(), compilations=runs.compilations)
# a table without categorical columns has parameters without elements
from fairjax.training import mapped
nothing = mapped(lambda key: jax.numpy.zeros((0, 3)), jax.local_devices(), (0,))
spec = nothing(jax.random.split(jax.random.key(0), 4)).sharding.spec
assert spec == jax.sharding.PartitionSpec("members"), spec
"""


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with a child on the CPU")
def test_two_devices_give_the_numbers_of_one(finished, tmp_path):
    process = child(TWO, str(tmp_path / "two.npz"))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    with np.load(tmp_path / "two.npz") as two:
        assert two["devices"] == 2 and two["compilations"] == 1
        for i, value in enumerate(jax.tree.leaves(results(finished[0]))):
            np.testing.assert_allclose(two[f"arr_{i}"], value, rtol=1e-4, atol=1e-5)
