"""Devices that share the rows of a run: the numbers of one device, for half of the data each."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from test_sweep import results, run, tiny_sweep

from fairjax.core.types import DataError
from fairjax.training import on_devices
from fairjax.training.manifest import fingerprint
from fairjax.training.program import device_mesh, padded, unpadded

HERE = Path(__file__).parent

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import jax
jax.config.update("jax_num_cpu_devices", 2)
import test_row_devices
test_row_devices.{name}()
"""


def in_a_child(name: str) -> None:
    """Call a function of this file in a process with two devices."""
    code = CHILD.format(name=name)
    process = subprocess.run(
        [sys.executable, "-c", code, str(HERE)], capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr


on_a_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the child has two CPUs")


def close(one, two) -> None:
    """Equal to 1e-6, of the largest number of a leaf where that is above 1."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        scale = max(1.0, np.nanmax(np.abs(a), initial=0.0))
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6 * scale)


# ------------------------------------------------------------------------------------ the padding


def test_padding_is_cut_off_again():
    splits = tiny_sweep()[2]
    longer = padded(splits, 7)
    for rows, part in zip(longer.rows, longer.splits, strict=True):
        assert {len(leaf) % 7 for leaf in jax.tree.leaves(part)} == {0}
        assert 0 <= len(part.weight) - rows < 7
    for a, b in zip(jax.tree.leaves(unpadded(longer)), jax.tree.leaves(splits), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("row_devices", [0, 2])
def test_devices_that_do_not_divide_are_refused(row_devices):
    with pytest.raises(DataError, match=f"devices, 1, is no multiple of row_devices={row_devices}"):
        device_mesh(jax.local_devices()[:1], row_devices)
    with pytest.raises(DataError, match="Give a divisor of it; 1 keeps"):
        run(devices=jax.local_devices()[:1], row_devices=row_devices)


# -------------------------------------------------------------------------------------- two devices


@pytest.mark.slow
@on_a_cpu
def test_a_sweep_has_the_numbers_of_one_device():
    in_a_child("sweeps")


def sweeps() -> None:
    """A sweep with an odd number of rows, resumed too, against that of one device."""
    import tempfile

    devices = jax.local_devices()
    one, folder = run(devices=devices[:1], chunk=2), Path(tempfile.mkdtemp())
    two = run(devices=devices, row_devices=2, chunk=2, out=folder)
    close(results(one), results(two))
    assert two.compilations == 1
    again = run(devices=devices, row_devices=2, chunk=2, out=folder)
    assert again.compilations == 0
    close(results(two), results(again))
    with pytest.raises(DataError, match="row_devices"):
        run(devices=devices, chunk=2, out=folder)


@pytest.mark.slow
@on_a_cpu
def test_processes_have_the_numbers_of_one_device(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        command = [sys.executable, "-c", RANK, str(HERE), str(port), str(rank), str(tmp_path)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes.append(subprocess.Popen(command, text=True, **pipes))
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)


RANK = """
import sys
here, port, rank, folder = sys.argv[1:]
sys.path.insert(0, here)
import jax
jax.config.update("jax_num_cpu_devices", 1)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
import test_row_devices
test_row_devices.of_two_processes(int(rank), folder)
"""


def of_two_processes(rank: int, folder: str) -> None:
    """A sweep whose rows two processes share, resumed where one has lost a chunk."""
    everyone, out = jax.devices(), Path(folder) / str(rank)
    assert (len(everyone), jax.local_device_count()) == (2, 1)
    splits = tiny_sweep()[2]
    assert fingerprint(on_devices(splits, everyone, 2)) == fingerprint(padded(splits, 2))
    one = run(devices=jax.local_devices(), chunk=2)
    two = run(devices=everyone, row_devices=2, chunk=2, out=out)
    close(results(one), results(two))
    if rank == 1:
        sorted(out.glob("chunk*"))[0].unlink()
    again = run(devices=everyone, row_devices=2, chunk=2, out=out)
    close(results(two), results(again))
    with pytest.raises(DataError, match="2 devices of 2 processes.* share the rows, row_devices=2"):
        run(devices=everyone, chunk=2)


@pytest.mark.slow
@on_a_cpu
def test_methods_have_the_numbers_of_one_device():
    in_a_child("studies")


def studies() -> None:
    """Methods with memory, events, validation rows and networks of their own."""
    import fairjax
    from fairjax.study import from_names, named_study
    from fairjax.training import draw, sweep

    data = fairjax.load("synthetic")
    splits = jax.tree.map(lambda leaf: leaf[:301], data.splits)
    methods = ("mta_f", "differential", "constrained", "yoto", "fairbranch", "pcgrad_split", "famo")
    names = named_study(methods=methods, trunk=(8, 4), epochs=2, batch_size=64, runs=2)
    study = from_names(data.spec, names)
    devices = jax.local_devices()
    shared = on_devices(splits, devices, 2)
    for leaf in jax.tree.leaves(shared):
        assert leaf.addressable_shards[0].data.shape == (151, *leaf.shape[1:])
    for recipe in study.recipes.values():
        points = draw(recipe.space, 2, 0)
        one, two = (
            sweep(
                recipe,
                study.config.train_config,
                points,
                [0],
                splits,
                lambda scores, splits: {},
                keep=("params", "scores"),
                devices=devices[:count],
                row_devices=count,
            )
            for count in (1, 2)
        )
        close((one.params, one.scores, one.values), (two.params, two.scores, two.values))


@pytest.mark.slow
@on_a_cpu
def test_notions_have_the_numbers_of_one_device():
    in_a_child("statistics")


def statistics() -> None:
    """Values and gradients of every notion and distance on rows that two devices share."""
    from jax.sharding import NamedSharding, PartitionSpec
    from test_conformance import EVERY, rows

    from fairjax.training.program import ROWS

    mesh = device_mesh(jax.local_devices(), 2)
    sharding = NamedSharding(mesh, PartitionSpec(ROWS))
    for numbers in (False, True):
        chosen = {name: entry.of for name, entry in EVERY.items() if entry.numbers == numbers}

        def program(*batch, chosen=chosen):
            return {name: jax.value_and_grad(of)(*batch) for name, of in chosen.items()}

        batch = [np.asarray(leaf, np.float32) for leaf in rows(0, numbers)]
        one = jax.jit(program)(*jax.device_put(batch, jax.local_devices()[0]))
        two = jax.jit(program, in_shardings=sharding)(*batch)
        assert one.keys() == two.keys()
        close(one, two)
