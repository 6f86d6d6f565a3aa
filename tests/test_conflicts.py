"""Conflicts between rows: shares against a count by hand, a figure from whatever cosines."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairjax
from fairjax.report import conflict_figure, conflict_shares, write_conflicts

PNG = b"\x89PNG\r\n\x1a\n"


def cosines(*shape: int, seed: int = 0) -> np.ndarray:
    """Cosines of random rows; ``shape`` ends in K."""
    g = np.random.default_rng(seed).normal(size=(*shape, 3))
    g /= np.linalg.norm(g, axis=-1, keepdims=True)
    return g @ g.swapaxes(-1, -2)


def holed() -> np.ndarray:
    """Three rows, two layers: a row absent at some steps, a pair never known, a step lost."""
    c = cosines(12, 2, 3)
    c[2:5, :, 1, :] = c[2:5, :, :, 1] = 0.0
    c[:, 1, 0, 2] = c[:, 1, 2, 0] = 0.0
    c[7] = np.nan
    return c


def test_shares_are_counts():
    c = holed()
    got = conflict_shares(jnp.asarray(c))
    assert got.shape == (2, 3, 3)
    for m, i, j in itertools.product(range(2), range(3), range(3)):
        known = [x for x in c[:, m, i, j] if x == x and x != 0]
        want = sum(x < 0 for x in known) / len(known) if known else np.nan
        np.testing.assert_equal(got[m, i, j], want)
    assert np.isnan(got[1, 0, 2]) and 0 < got[0, 0, 1] < 1
    np.testing.assert_array_equal(conflict_shares(c[:, 0]), got[0])


def test_shares_of_a_link_that_watches_leaf_by_leaf():
    params = {"shared": jnp.ones(2), "left": jnp.ones(1), "right": jnp.ones(1)}
    rows = {
        "shared": jnp.asarray([[1.0, 0.0], [-1.0, 1.0]]),
        "left": jnp.asarray([[1.0], [0.0]]),
        "right": jnp.asarray([[0.0], [2.0]]),
    }
    tx = optax.chain(fairjax.gradients.observe(2), fairjax.pcgrad(rows=2))

    def step(state, sign):
        turned = {**rows, "shared": rows["shared"] * jnp.stack([jnp.ones(()), sign])[:, None]}
        state = tx.update(turned, state, params)[1]
        return state, fairjax.link_states(state)[0].cosines

    watched = jax.lax.scan(step, tx.init(params), jnp.asarray([1.0, -1.0, -1.0, -1.0]))[1]
    names = [path[0].key for path, _ in jax.tree.leaves_with_path(params)]
    shares = dict(zip(names, conflict_shares(watched)[:, 0, 1], strict=True))
    assert shares["shared"] == 0.25 and np.isnan(shares["left"]) and np.isnan(shares["right"])


@pytest.mark.parametrize("shape", [(), (4, 2), (4, 2, 3)])
def test_shares_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=rf"shape \({', '.join(map(str, shape))}\), expected"):
        conflict_shares(np.zeros(shape))


def drawn(*args, **how):
    """Axes of the figure of :func:`write_conflicts`, and the numbers in its heat maps."""
    held = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conflict_figure, "png", lambda figure: held.append(figure) or PNG)
        write_conflicts(*args, **how)
    axes = [ax for ax in held[0].axes if ax.get_title()]
    return axes, [np.ma.filled(ax.images[0].get_array(), np.nan) for ax in axes[1:]]


def test_heat_maps_hold_the_shares(tmp_path):
    c = holed()
    axes, (pairs, layers) = drawn(tmp_path / "a.png", c, "abc", ("one", "two"), epochs=3)
    np.testing.assert_array_equal(layers, conflict_shares(c)[:, [0, 0, 1], [1, 2, 2]])
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_array_equal(pairs[off], conflict_shares(c.reshape(-1, 3, 3))[off])
    assert [t.get_text() for t in axes[2].get_yticklabels()] == ["one", "two"]
    numbers = [t.get_text() for t in axes[2].texts]
    assert numbers[4] == "\N{EN DASH}" and numbers[0] == f"{100 * layers[0, 0]:.0f}"
    assert len(drawn(tmp_path / "b.png", c[:, 0], "abc")[0]) == 2  # no map by layer without layers


@pytest.mark.parametrize("epochs", [None, 2])
def test_angles_are_percentiles_over_pairs_and_steps(tmp_path, epochs):
    c = holed()
    axes, _ = drawn(tmp_path / "a.png", c, "abc", epochs=epochs)
    stairs = [p.get_data() for p in axes[0].patches]
    parts = np.split(c, 2) if epochs else [c[i : i + 1] for i in range(12)]
    assert [len(s.values) for s in stairs] == [len(parts)] * 3
    for k, part in enumerate(parts):
        flat = [
            x
            for i, j in ((0, 1), (0, 2), (1, 2))
            for x in part[:, :, i, j].ravel()
            if x == x and x != 0
        ]
        want = (
            np.percentile(np.degrees(np.arccos(flat)), (5, 25, 50, 75, 95))
            if flat
            else [np.nan] * 5
        )
        got = (
            stairs[0].baseline[k],
            stairs[1].baseline[k],
            stairs[2].values[k],
            stairs[1].values[k],
            stairs[0].values[k],
        )
        np.testing.assert_allclose(got, want)


CASES = {
    "two rows": (cosines(4, 2), dict(rows=("a", "b"), epochs=1)),
    "many": (
        cosines(50, 3, 11),
        dict(rows=["a long name of a task $x$"] * 11, layers=["<b>", "_", "$\\frac{1$"]),
    ),
    "nothing known": (np.zeros((3, 2, 2, 2)), dict(rows=("a", "b"), epochs=3)),
    "all NaN, one step": (np.full((1, 2, 2), np.nan), dict(rows=("a", "b"))),
    "rounding beyond 1": (np.full((2, 2, 2), -1.0000001, np.float32), dict(rows=("a", "b"))),
}


@pytest.mark.parametrize("case", CASES)
def test_a_figure_is_written(tmp_path, case):
    given, how = CASES[case]
    path = write_conflicts(tmp_path / "new" / "conflicts.png", given, **how)
    assert path == tmp_path / "new" / "conflicts.png" and path.read_bytes().startswith(PNG)
    assert [p.name for p in path.parent.iterdir()] == ["conflicts.png"]


def test_same_cosines_same_file(tmp_path):
    one, two = (
        write_conflicts(tmp_path / name, holed(), "abc").read_bytes() for name in ("a.png", "b.png")
    )
    assert one == two


@pytest.mark.parametrize(
    ("shape", "how", "says"),
    [
        ((4, 3, 3), {}, r"shape \(4, 3, 3\), expected \[steps, 2, 2\]"),
        ((2, 2), {}, r"shape \(2, 2\), expected"),
        ((4, 1, 5, 2, 2), {}, r"shape \(4, 1, 5, 2, 2\), expected"),
        ((0, 2, 2), {}, r"shape \(0, 2, 2\), expected"),
        ((4, 3, 2, 2), {"layers": ("a", "b")}, r"shape \(4, 3, 2, 2\): 3 layers, but 2 are named"),
        ((4, 2, 2), {"layers": ("a", "b")}, r"shape \(4, 2, 2\): 1 layers, but 2 are named"),
        ((4, 2, 2), {"epochs": 3}, r"shape \(4, 2, 2\): 4 steps are not a multiple of 3 epochs"),
        ((4, 2, 2), {"epochs": 0}, "not a multiple of 0 epochs"),
        ((4, 1, 1), {"rows": ("a",)}, r"shape \(4, 1, 1\): one row"),
    ],
)
def test_bad_shapes_are_refused_by_name(tmp_path, shape, how, says):
    with pytest.raises(ValueError, match=says):
        write_conflicts(tmp_path / "a.png", np.zeros(shape), **{"rows": ("a", "b"), **how})
    assert not list(tmp_path.iterdir())
