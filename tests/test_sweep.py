"""Points, the one program of a sweep, members that do not touch each other, and runs killed and resumed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import scipy.stats
from cases import dataset, tabular_spec, tiny_sweep

from fairjax.core.types import Range
from fairjax.training import (
    Runs,
    TrainConfig,
    draw,
    fingerprint,
    grid,
    mapped,
    measure_chunk,
    member,
    sweep,
)
from fairjax.training import keys as member_keys

# ------------------------------------------------------------------------------------------------- points

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


def test_a_grid_over_an_unknown_knob_is_refused():
    with pytest.raises(ValueError, match="no hparam 'lambda'; there are weight, lam, r, rate"):
        grid(SPACE, {"lambda": [1]})


# ---------------------------------------------------------------------------------------------- one sweep

KEEP, SEEDS, CHUNK = ("scores", "params"), (0, 7), 3


def arguments():
    """What every sweep of this file is given: four points and two seeds."""
    recipe, train_config, data, evaluate = tiny_sweep()
    return recipe, train_config, draw(recipe.space, 4, 0), SEEDS, data, evaluate


@pytest.fixture(scope="module")
def program():
    """The compiled sweep on one device, shared by the file."""
    recipe, train_config, _, _, _, evaluate = arguments()
    return mapped(member(recipe, train_config, evaluate, KEEP), jax.local_devices()[:1])


def run(program=None, **how) -> Runs:
    recipe, train_config, hparams, seeds, data, evaluate = arguments()
    named = {
        "recipe": recipe,
        "static": train_config,
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
    assert set(one.results) == set(two.results)
    for name, value in one.results.items():
        np.testing.assert_array_equal(value[members], two.results[name][members], err_msg=name)


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
    results = finished[0].results
    shapes = {
        "error": (8, 2),
        "square": (8,),
        "diverged": (8,),
        "values": (8, 2, 2),
        "scores.validation": (8, 9, 2),
        "scores.test": (8, 11, 2),
        "params['trunk']['kernel']": (8, 4, 4),
        "params['heads']['task1']['output']['bias']": (8, 1),
    }
    assert {name: results[name].shape for name in shapes} == shapes
    assert not results["diverged"].any()
    test = arguments()[4].test
    np.testing.assert_allclose(
        results["error"][3], np.mean((results["scores.test"][3] > 0) != test.labels, axis=0)
    )


def test_a_member_is_the_run_by_itself(finished):
    runs, _ = finished
    recipe, train_config, hparams, _, data, evaluate = arguments()
    alone = jax.jit(member(recipe, train_config, evaluate, KEEP))
    each, order = member_keys(0, runs.seed)
    for m in range(8):
        single = alone(each[m], order, {k: v[runs.point[m]] for k, v in hparams.items()}, data)
        for name, value in single.items():
            np.testing.assert_allclose(
                runs.results[name][m], value, rtol=1e-4, atol=1e-5, err_msg=f"{m} {name}"
            )


def test_points_of_one_seed_start_alike_and_seeds_differ(program):
    still = run(program, hparams={**arguments()[2], "learning_rate": np.zeros(4, np.float32)})
    kernel = still.results["params['trunk']['kernel']"].reshape(4, 2, 4, 4)
    np.testing.assert_array_equal(kernel, np.broadcast_to(kernel[:1], kernel.shape))
    assert np.any(kernel[0, 0] != kernel[0, 1])


def test_a_member_that_diverges_stays_in_its_lane(program, finished):
    hparams = arguments()[2]
    rates = hparams["learning_rate"].copy()
    rates[2] = 1e6
    wild = run(program, hparams={**hparams, "learning_rate": rates})
    identical(wild, finished[0], wild.point != 2)
    assert wild.compilations == 1
    np.testing.assert_array_equal(wild.results["diverged"], wild.point == 2)


def test_members_that_are_not_finite_are_flagged_and_nobody_else(program, finished):
    hparams = arguments()[2]
    rates = hparams["learning_rate"].copy()
    rates[1] = 1e30
    wild = run(program, hparams={**hparams, "learning_rate": rates})
    np.testing.assert_array_equal(wild.results["diverged"], wild.point == 1)
    identical(wild, finished[0], wild.point != 1)


def test_progress_counts_members():
    counted: list = []
    run(lambda_program(), progress=counted.append)
    assert counted == [3, 3, 2]


def lambda_program():
    """Stands in for a compiled program where its numbers do not matter."""

    def fake(each, order, batch, data):
        return {"error": np.zeros(len(batch["lam"]))}

    fake._cache_size = lambda: 1
    return fake


def test_the_chunk_is_measured_within_the_share_of_a_device():
    recipe, train_config, hparams, _, data, _ = arguments()
    assert measure_chunk(recipe, train_config, hparams, data, 2, jax.local_devices()[:1]) in (1, 2)


# ------------------------------------------------------------------------------------------------- resuming


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
    "epochs": {"static": TrainConfig(4, 8)},
    "batch_size": {"static": TrainConfig(2, 4)},
    "block": {"static": TrainConfig(2, 8, 2)},
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
    assert np.isfinite(out.results["values"]).all()
    np.testing.assert_array_equal(out.results["diverged"], [False, True])


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
np.savez(sys.argv[2], devices=jax.local_device_count(), compilations=runs.compilations, **runs.results)
"""


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with a child on the CPU")
def test_two_devices_give_the_numbers_of_one(finished, tmp_path):
    process = child(TWO, str(tmp_path / "two.npz"))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    with np.load(tmp_path / "two.npz") as two:
        assert two["devices"] == 2 and two["compilations"] == 1
        for name, value in finished[0].results.items():
            np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
