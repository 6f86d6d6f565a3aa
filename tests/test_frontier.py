"""Frontier geometry against moocore and against brute force."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fairjax.metrics import frontier

# few distinct values: ties, duplicates and points on the reference come up all the time
GRID = st.integers(0, 5).map(float)


def points_of(dimensions, most=12):
    return st.tuples(st.integers(1, most), dimensions).flatmap(
        lambda shape: arrays(float, shape, elements=GRID)
    )


def draw(seed, n, d):
    return np.random.default_rng(seed).random((n, d))


# ---------------------------------------------------------------- who is not dominated


@settings(max_examples=150, deadline=None)
@given(points_of(st.integers(1, 4)))
def test_nondominated_is_the_definition(points):
    below = (points[:, None] <= points[None]).all(-1)
    dominated = (below & ~below.T).any(0)
    assert (frontier.nondominated(points) == ~dominated).all()


@pytest.mark.parametrize("d", [2, 3, 4])
def test_nondominated_of_twenty_thousand_runs_is_moocores(d):
    points = draw(d, 20_000, d)
    points[:2000] = np.round(points[:2000], 2)
    assert (
        frontier.nondominated(points) == moocore.is_nondominated(points, keep_weakly=True)
    ).all()


def test_failed_runs_are_on_no_front():
    points = np.array([[np.nan, 0.0], [1.0, 1.0], [0.0, np.nan], [2.0, 2.0], [1.0, 1.0]])
    assert frontier.nondominated(points).tolist() == [False, True, False, False, True]
    assert not frontier.nondominated(np.full((3, 3), np.nan)).any()
    assert frontier.nondominated(np.zeros((0, 2))).shape == (0,)


def test_infinite_points_are_compared_like_others():
    for d in (2, 3):
        points = np.zeros((4, d))
        points[:, 0], points[:, -1] = [0.0, np.inf, -np.inf, np.inf], [0.0, -np.inf, np.inf, np.inf]
        assert frontier.nondominated(points).tolist() == [True, True, True, False]


def test_points_must_be_a_table():
    with pytest.raises(ValueError, match=r"expected an array \[N, d\], got shape \(3,\)"):
        frontier.nondominated(np.ones(3))


# ---------------------------------------------------------------- how much is dominated


@settings(max_examples=150, deadline=None)
@given(points_of(st.integers(2, 4), most=20))
def test_hypervolume_is_moocores_with_ties_and_points_outside(points):
    reference = np.full(points.shape[1], 4.0)
    assert frontier.hypervolume(points, reference) == pytest.approx(
        moocore.hypervolume(points, reference), abs=1e-9
    )


@pytest.mark.parametrize(("n", "d"), [(20_000, 2), (2_000, 3), (300, 4)])
def test_hypervolume_of_many_points_is_moocores(n, d):
    points = draw(n, n, d)
    front = points / np.linalg.norm(
        points, axis=1, keepdims=True
    )  # most of these are on the front: the hard case
    for cloud in (points, 1.2 - front):
        assert frontier.hypervolume(cloud, np.full(d, 1.1)) == pytest.approx(
            moocore.hypervolume(cloud, np.full(d, 1.1)), rel=1e-9
        )


def test_hypervolume_of_degenerate_sets():
    assert frontier.hypervolume(np.array([[1.0, 2.0]]), np.array([1.25, 1.0])) == 0.0
    assert frontier.hypervolume(np.zeros((0, 3)), np.ones(3)) == 0.0
    assert (
        frontier.hypervolume(np.array([[0.5, np.nan], [0.5, 0.5], [0.5, 0.5]]), np.ones(2)) == 0.25
    )
    assert frontier.hypervolume(np.array([[0.2], [0.7]]), np.ones(1)) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="1 to 4 objectives"):
        frontier.hypervolume(np.zeros((2, 5)), np.ones(5))
    with pytest.raises(ValueError, match="finite reference"):
        frontier.hypervolume(np.zeros((2, 2)), np.ones(3))


def test_hypervolume_interval_covers_the_mean_over_seeds():
    sets = [draw(seed, 30, 2) for seed in range(10)]
    volumes = [moocore.hypervolume(points, [1, 1]) for points in sets]
    interval = frontier.hypervolume_interval(np.random.default_rng(0), sets, np.ones(2))
    assert interval.estimate == pytest.approx(np.mean(volumes))
    assert interval.high - interval.low == pytest.approx(
        2 * 1.96 * np.std(volumes) / np.sqrt(10), rel=0.15
    )


# ---------------------------------------------------------------- attainment


@pytest.mark.parametrize("rounded", [False, True])
def test_attainment_is_moocores_at_every_level(rounded):
    sets = [draw(seed, 5 + seed, 2) for seed in range(10)]
    sets = [np.round(points, 1) if rounded else points for points in sets]
    index = np.repeat(np.arange(10), [len(points) for points in sets])
    for k in range(1, 11):
        theirs = moocore.eaf(np.concatenate(sets), index, percentiles=[10 * k])[:, :2]
        ours = frontier.attainment(sets, k / 10)
        np.testing.assert_array_equal(ours, np.unique(theirs, axis=0))


def test_attainment_of_one_set_is_its_front_and_of_disjoint_reach_is_empty():
    points = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 3.0], [2.0, 0.0], [np.nan, 0.0]])
    np.testing.assert_array_equal(frontier.attainment([points], 1.0), points[[0, 1, 3]])
    failed = np.full((2, 2), np.nan)
    assert frontier.attainment([points, failed], 1.0).shape == (0, 2)
    np.testing.assert_array_equal(frontier.attainment([points, failed], 0.5), points[[0, 1, 3]])
    for bad in (([], 0.5), ([points], 0.0), ([points], 1.5)):
        with pytest.raises(ValueError, match="some sets and a level"):
            frontier.attainment(*bad)


# ---------------------------------------------------------------- one point for the front


def test_knee_is_the_point_furthest_from_the_chord():
    front = np.array([[0.0, 1.0], [0.2, 0.25], [0.6, 0.15], [1.0, 0.0]])
    chord = (front[3] - front[0]) / np.linalg.norm(front[3] - front[0])
    distance = np.abs((front - front[0]) @ np.array([-chord[1], chord[0]]))
    assert frontier.knee(front) == np.argmax(distance) == 1
    crowded = np.concatenate([[[np.nan, 0.0], [0.9, 0.9]], front * [100.0, 0.01] + 3.0])
    crowded[1] = [400.0, 4.0]
    assert frontier.knee(crowded) == 3  # units and dominated points change nothing


def test_knee_of_fronts_without_one():
    assert frontier.knee(np.array([[1.0, 0.0], [0.0, 1.0]])) == 1
    assert (
        frontier.knee(np.array([[1.0, 0.0], [0.9, 0.9], [0.0, 1.0]])) == 2
    )  # bulges away from the ideal
    line = np.linspace(0.0, 1.0, 11)
    assert frontier.knee(np.stack([line, 1 - line], 1)) == 0
    assert frontier.knee(np.array([[2.0, 2.0]])) == 0
    with pytest.raises(ValueError, match="no finite point"):
        frontier.knee(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="two objectives, got 3"):
        frontier.knee(np.ones((2, 3)))


def test_midpoint_of_the_front_is_not_moved_by_collapsed_runs():
    front = np.array([[1.00, 0.9], [1.04, 0.5], [1.07, 0.3], [1.20, 0.0]])
    runs = np.concatenate([front, [[1.9, 1.0], [np.nan, 0.0], [np.inf, 0.5]]])
    assert frontier.midpoint(runs) == 2  # (1.00 + 1.20) / 2 = 1.10
    assert frontier.midpoint_of_all(runs) == 3  # (1.00 + 1.90) / 2 = 1.45
    assert frontier.midpoint(runs[::-1]) == len(runs) - 3
    assert (
        frontier.midpoint(np.array([[0.0, 1.0], [0.25, 0.5], [0.75, 0.25], [1.0, 0.0]])) == 1
    )  # the lower in a tie
