"""How networks branched: the summary against sums by hand, the figure and the page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairjax.methods import BranchRecord
from fairjax.report.branches_figure import branches_view, write_branches
from fairjax.study.branching import branching_of


class Record(NamedTuple):
    """What is read of the runs of a method."""

    record: BranchRecord | tuple
    diverged: np.ndarray


def made_up(runs=3, blocks=4, depth=2, tasks=3, seed=0):
    """Records of steps, the angles of every step, and the labels; training begins anew once."""
    rng = np.random.default_rng(seed)
    shape = (runs, blocks, 5, 2, depth, tasks, tasks)  # five steps in a block
    angle = np.radians(rng.uniform(1, 179, shape))
    is_known = rng.random(shape) < 0.8
    in_block = [(is_known * value).sum(axis=2) for value in (1, angle > np.pi / 2, angle)]
    sums = [np.cumsum(part, axis=1) for part in in_block]
    for part in sums:
        part[:, 2:] -= part[:, [1]]  # anew after the second block
    labels = np.zeros((runs, blocks, depth, tasks), int)
    labels[:, 2:, 1] = [0, 1, 1]
    labels[0, 3, 1] = [0, 1, 2]
    chance = np.broadcast_to(np.float32([0.67, 0.8]), (runs, blocks, depth))
    return BranchRecord(labels, *sums, chance), angle, is_known


def test_the_summary_of_a_sweep():
    record, angle, is_known = made_up()
    diverged = np.array([False, False, True])
    found = branching_of({"fairbranch": Record(record, diverged), "baseline": Record((), diverged)})
    assert list(found) == ["fairbranch"]
    found = found["fairbranch"]
    assert found["runs"] == 2
    np.testing.assert_allclose(found["together"][0], np.ones((3, 3)))
    np.testing.assert_allclose(found["together"][1], [[1, 0, 0], [0, 1, 0.5], [0, 0.5, 1]])
    np.testing.assert_allclose(found["branches"], [[1, 1], [1, 1], [1, 2], [1, 2.5]])
    first, second = np.triu_indices(3, 1)
    for block in range(4):
        for kind in range(2):
            known = is_known[:2, block, :, kind][..., first, second]
            mean = np.degrees(angle[:2, block, :, kind][..., first, second][known].mean())
            np.testing.assert_allclose(found["angles"][block][kind], mean, atol=1e-4)
    for s, t in ((0, 1), (2, 0)):
        shares = []
        for run in range(2):
            known = is_known[run, 2:, :, 1, :, s, t]
            shares.append((angle[run, 2:, :, 1, :, s, t][known] > np.pi / 2).mean())
        np.testing.assert_allclose(found["conflicts"][1][s][t], np.mean(shares), atol=1e-4)

    np.testing.assert_allclose(found["chance"], [0.67, 0.8])


def test_gradients_without_angles_have_none():
    record, _, _ = made_up()
    record = record._replace(known=0 * record.known, angles=0 * record.angles)
    found = branching_of({"recon": Record(record, np.zeros(3, bool))})["recon"]
    assert found["angles"] == [[None, None]] * 4


def test_a_figure_per_method_and_on_the_page(tmp_path):
    record, _, _ = made_up()
    runs = {name: Record(record, np.zeros(3, bool)) for name in ("fairbranch", "recon")}
    unknown = np.full_like(record.chance, np.nan)
    runs["recon"] = runs["recon"]._replace(record=record._replace(chance=unknown))
    info = {"tasks": ["a", "$b$", "c" * 60], "branching": branching_of(runs)}
    assert info["branching"]["recon"]["chance"] == [None, None]
    written = write_branches(tmp_path, info)
    assert [path.name for path in written] == ["branches_fairbranch.png", "branches_recon.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    views = branches_view(info)
    assert views[0]["heading"] == "How the networks of fairbranch branch"
    assert "Means over 3 runs" in views[0]["caption"]
    assert ["by chance" in view["caption"] for view in views] == [True, False]
    assert write_branches(tmp_path, {"tasks": []}) == [] == branches_view({"tasks": []})
