"""A study on a Ray cluster: the table of a study here, also where actors are killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time

import pytest
from cases import fairjax

pytestmark = pytest.mark.slow

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'fairjax[ray]'"
)
SMALL = ["--methods", "vanilla,mta_f", "--runs", "24", "--epochs", "2", "--trunk", "4"]


def actors() -> set[int]:
    """Processes of the actors on this machine, by the name that Ray gives them."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    found = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    return {int(pid) for pid, command in found[1:] if command.startswith("ray::_Worker")}


@needs_ray
def test_a_sweep_on_a_cluster_has_the_table_of_one_here_though_actors_are_killed(tmp_path):
    here = fairjax("frontier", *SMALL, "--devices", "1", "--out", "here", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    command = [sys.executable, "-m", "fairjax.cli", "frontier", *SMALL, "--ray", "local"]
    process = subprocess.Popen(
        [*command, "--out", "there"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = set()
    chunks = 0
    while process.poll() is None and len(killed) < 3:
        time.sleep(0.2)
        alive = actors() - killed
        known = len(list((tmp_path / "there").rglob("*.npz")))
        if alive and known > chunks:  # one more chunk is done since the last one was killed
            chunks = known
            victim = min(alive)
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert killed and "Traceback" not in said
    table = (tmp_path / "here" / "table.csv").read_bytes()
    assert (tmp_path / "there" / "table.csv").read_bytes() == table


@needs_ray
def test_a_cluster_without_room_says_so(tmp_path):
    done = fairjax(
        "frontier", *SMALL, "--ray", "local", "--devices", "99", "--out", "x", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "an actor needs 99. Give fewer with --devices" in done.stderr


def test_without_ray_the_message_names_the_extra():
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from fairjax.study.ray_parts import run_on_ray\n"
        "run_on_ray(None, None, out=None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode and "pip install 'fairjax[ray]'" in done.stderr
