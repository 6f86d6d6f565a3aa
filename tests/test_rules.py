"""Rules in task space: published numbers, the laws each paper claims, and another library's
answers."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import double
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairjax import gradients
from fairjax.gradients import Rule, combiners, solve
from fairjax.gradients.gram_matrix import CHUNK, combine, gram
from fairjax.gradients.rules._go4align import group_means
from fairjax.gradients.rules._gradnorm import gradnorm_gradient

INF = float("inf")
J = np.array([[-4.0, 1, 1], [6, 1, 1]])
J3 = np.array([[1.0, 2, 0, -1], [-2, 1, 1, 0], [0, -1, -2, 1]])


class Case(NamedTuple):
    """A rule and the laws it claims."""

    rule: Rule
    safe: bool = False  # no loss rises to first order: J u >= 0
    even: bool = True  # the order of the rows does not matter
    linear: bool = False  # u(diag(a c + b d) J) = a u(diag(c) J) + b u(diag(d) J)
    moves: bool = False  # u is not 0 unless some weights, all positive, make the rows add up to 0
    scales: bool = True  # u(s J) = s u(J)
    share: bool = False  # a row that is not there still counts in 1 / K
    alone: float = 1.0  # u / g for one row of length 2
    jumps: bool = (
        False  # where rows are dependent, the answer is not continuous, or not the only one
    )


CASES = {
    "mean_rows": Case(gradients.mean_rows.rule(), linear=True, moves=True, share=True),
    "sum": Case(gradients.weighted_rows.rule(weights=1.0), linear=True, moves=True),
    "pcgrad": Case(gradients.pcgrad.rule()),
    "pcgrad_ascending": Case(gradients.pcgrad.rule(ascending=True)),
    "gradvac": Case(gradients.gradvac.rule(ascending=True)),
    "mgda": Case(gradients.mgda.rule(), safe=True),
    "head_aware": Case(gradients.head_aware.rule(), safe=True),
    "cr_mogm": Case(gradients.cr_mogm.rule(), safe=True),
    "upgrad_l2": Case(
        gradients.on_normalised_rows(gradients.upgrad.rule(ridge=0.0)),
        safe=True,
        moves=True,
        scales=False,
        share=True,
        alone=0.5,
    ),
    "mgda_l2": Case(gradients.mgda.rule(normalise="l2"), jumps=True),
    "cagrad": Case(gradients.cagrad.rule(), alone=1.2, jumps=True),
    "cagrad_1": Case(gradients.cagrad.rule(c=1.0, rescale=0), safe=True, alone=2.0, jumps=True),
    "imtl_g": Case(gradients.imtl_g.rule()),
    "nash_mtl": Case(gradients.nash_mtl.rule(max_norm=INF), scales=False, alone=0.5),
    "fairgrad": Case(gradients.fairgrad.rule(), scales=False, alone=0.25 ** (2 / 3)),
    "fairgrad_half": Case(
        gradients.fairgrad.rule(alpha=0.5), scales=False, alone=0.25 ** (1 / 3), jumps=True
    ),
    "pivrg": Case(gradients.pivrg.rule(scores=0.0), scales=False, alone=0.25 ** (2 / 3)),
    "pcd": Case(gradients.pcd.rule(), even=False, jumps=True),
    "aligned_mtl": Case(gradients.aligned_mtl.rule(), share=True),
    "aligned_mtl_median": Case(gradients.aligned_mtl.rule(scale="median"), share=True),
    "aligned_mtl_rmse": Case(gradients.aligned_mtl.rule(scale="rmse"), share=True),
    "conflict_free": Case(gradients.conflict_free.rule(), linear=True, jumps=True),
    "upgrad": Case(
        gradients.upgrad.rule(ridge=0.0), safe=True, linear=True, moves=True, share=True
    ),
    "dualproj": Case(gradients.dualproj.rule(ridge=0.0), safe=True, moves=True, share=True),
}
EVEN = [name for name in CASES if name not in ("pcgrad", "pcgrad_ascending", "gradvac", "pcd")]


def where(**law) -> list[str]:
    return [
        name
        for name, case in CASES.items()
        if all(getattr(case, key) == value for key, value in law.items())
    ]


@functools.lru_cache
def solver(name: str):
    """``grams[N, K, K] -> (weights[N, K], residual[N])``."""
    rule = CASES[name].rule

    def one(g):
        w, _, residual = rule.weights(g, None, rule.init(g.shape[0]), jax.random.key(0))
        return w, residual

    return jax.jit(jax.vmap(one))


def weights_of(
    name: str, jacobians: np.ndarray, precise: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[N, K]`` and residuals in float64, or in float32, for ``[N, K, P]``."""
    count = len(jacobians)
    some = jacobians[
        np.arange(max(8, count)) % count
    ]  # so that few numbers of matrices are compiled
    with double():
        grams = jnp.asarray(some @ some.swapaxes(1, 2), jnp.float64 if precise else jnp.float32)
        w, residual = solver(name)(grams)
        assert w.dtype == grams.dtype
    return np.asarray(w, float)[:count], np.asarray(residual, float)[:count]


def first_weights(rule: Rule, jacobians: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[N, K]`` of a rule's first update in float64, and residuals ``[N]``."""
    with double():
        memory = rule.init(jacobians.shape[1])
        weigh = jax.jit(jax.vmap(lambda g: rule.weights(g, None, memory, None)[::2]))
        w, residual = weigh(jnp.asarray(jacobians @ jacobians.swapaxes(1, 2)))
    return np.asarray(w), np.asarray(residual)


def steady(name: str, jacobians: np.ndarray) -> np.ndarray:
    """Those of the Jacobians for which a rule has one answer that rounding does not change: rows
    independent, if need be."""
    independent = [np.linalg.matrix_rank(x, 1e-3 * np.linalg.norm(x)) == len(x) for x in jacobians]
    return jacobians[independent] if CASES[name].jumps else jacobians


def sums(weights: np.ndarray, jacobians: np.ndarray) -> np.ndarray:
    return np.einsum("nk,nkp->np", weights, jacobians)


def longest(jacobians: np.ndarray) -> np.ndarray:
    """Length of the longest row, ``[N]``."""
    return np.linalg.norm(jacobians, axis=2).max(axis=1)


# ---- published numbers ----

PUBLISHED = {
    "mean_rows": (1, 1, 1),
    "sum": (2, 2, 2),
    "pcgrad": (0.5848, 3.8012, 3.8012),
    "mgda": (0, 1, 1),
    "imtl_g": (0.0767, 1, 1),
    "aligned_mtl": (0.2133, 0.9673, 0.9673),
    "conflict_free": (0.1588, 2.0706, 2.0706),
    "cagrad_1": (0, 2, 2),
    "cagrad": (0.146803, 0.963299, 0.963299),
    "nash_mtl": (0.076584, 0.998533, 0.998533),
}
MORE = {
    "upgrad": (gradients.upgrad.rule(), J, (0.2929, 1.9004, 1.9004)),
    "dualproj": (gradients.dualproj.rule(), J, (0.5563, 1.1109, 1.1109)),
    "cagrad without rescaling": (gradients.cagrad.rule(rescale=0), J, (0.1835, 1.2041, 1.2041)),
    "nash_mtl cut": (gradients.nash_mtl.rule(), J, (0.0542, 0.7061, 0.7061)),
    "pcgrad, three": (gradients.pcgrad.rule(ascending=True), J3, (-1.5, 2.5, -2.5, 0.5)),
    "mgda, three": (gradients.mgda.rule(), J3, (-0.3, 0.5, -0.5, 0.1)),
    "imtl_g, three": (gradients.imtl_g.rule(), J3, (-0.3, 0.5, -0.5, 0.1)),
    "nash_mtl, three": (
        gradients.nash_mtl.rule(max_norm=INF),
        J3,
        tuple(np.array([0.680781, 0.680781, 0.871928]) @ J3),
    ),
    "pcd": (gradients.pcd.rule(), J, (-0.820033, 2.943429, 2.943429)),
    "pcd, half": (gradients.pcd.rule(tau=0.5), J, (2.088900, 2.611178, 2.611178)),
    "cagrad, three": (
        gradients.cagrad.rule(rescale=0),
        J3,
        (-0.422474, 0.704124, -0.704124, 0.140825),
    ),
}
PUBLISHED = {name: (CASES[name].rule, J, u) for name, u in PUBLISHED.items()} | MORE
WEIGHTS = {
    "pcgrad": (2.2222, 1.5789),
    "mgda": (0.6, 0.4),
    "imtl_g": (0.5923, 0.4077),
    "nash_mtl": (0.591461, 0.407071),
    "cagrad without rescaling": (0.7041, 0.5),
    "mgda, three": (0.3, 0.3, 0.4),
}


@pytest.mark.parametrize("precise", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name, precise):
    rule, rows, expected = PUBLISHED[name]
    with double():
        g = jnp.asarray(rows @ rows.T, jnp.float64 if precise else jnp.float32)
        memory = rule.init(len(rows))
        weigh = jax.jit(lambda g: rule.weights(g, None, memory, jax.random.key(0))[0])
        w = np.asarray(weigh(g), float)
    # as many digits as are published: four, or six for what was computed in float64
    six = name in ("cagrad", "nash_mtl", "pcd", "pcd, half") or "three" in name
    atol = 1e-6 if six and precise else 1e-4
    np.testing.assert_allclose(w @ rows, expected, atol=atol)
    if name in WEIGHTS:
        np.testing.assert_allclose(w, WEIGHTS[name], atol=max(atol, 1e-4))


@pytest.mark.parametrize(
    "rule, rows, expected",
    [
        (gradients.fairgrad.rule(alpha=0.5), J, (0.742828, 0.525393)),
        (gradients.fairgrad.rule(alpha=1.0), J, (0.591461, 0.407071)),
        (gradients.fairgrad.rule(alpha=2.0), J, (0.471363, 0.319454)),
        (gradients.fairgrad.rule(alpha=5.0), J, (0.375942, 0.252310)),
        (gradients.fairgrad.rule(alpha=0.5), J3, (0.761169, 0.761169, 0.947010)),
        (gradients.fairgrad.rule(alpha=2.0), J3, (0.612416, 0.612416, 0.798885)),
        (gradients.pivrg.rule(scores=np.array([0.2, 0.8])), J, (0.457965, 0.318154)),
    ],
)
def test_weights_that_solve_the_equation_of_a_power(rule, rows, expected):
    """Computed in float64 by a solver of least squares."""
    for kind, atol in ((jnp.float64, 1e-6), (jnp.float32, 1e-5)):
        with double():
            weigh = jax.jit(lambda g: rule.weights(g, None, (), None)[0])
            w = weigh(jnp.asarray(rows @ rows.T, kind))
        np.testing.assert_allclose(w, expected, atol=atol)


def closed_forms() -> dict[str, np.ndarray]:
    """Weights for the two rows of J, from their squared lengths and product."""
    a, b, c = 18.0, -22.0, 38.0
    equal = np.linalg.solve([[a, b], [b, c]], np.sqrt([a, c]))
    return {
        "pcgrad": np.array([1 - b / a, 1 - b / c]),
        "mgda": np.array([c - b, a - b]) / (a + c - 2 * b),
        "imtl_g": equal / equal.sum(),
        "nash_mtl": 1 / np.sqrt([a, c]) / np.sqrt(1 + b / np.sqrt(a * c)),
    }


@pytest.mark.parametrize("name", closed_forms())
def test_closed_forms_for_two_rows(name):
    np.testing.assert_allclose(weights_of(name, J[None])[0][0], closed_forms()[name], rtol=1e-6)


def test_gradvac_first_is_pcgrad_and_then_follows_its_running_mean():
    rule = gradients.gradvac.rule(beta=0.5, ascending=True)
    with double():
        g = jnp.asarray(J3 @ J3.T)
        one, phi, _ = rule.weights(g, None, jnp.zeros((3, 3)), None)
        two, _, _ = rule.weights(g, None, phi, None)
        one, phi, two = (np.asarray(a) for a in (one, phi, two))
    np.testing.assert_allclose(one @ J3, [-1.5, 2.5, -2.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(
        phi, [[0, 0, -0.25], [0, 0, -0.25], [-0.25, -0.288675, 0]], atol=1e-6
    )
    np.testing.assert_allclose(two @ J3, [-1.276393, 2.276393, -1.82918, 0.276393], atol=1e-6)


def test_pcgrad_descending_differs():
    """The order of projections matters: rows in reverse are the descending order."""
    np.testing.assert_allclose(
        sums(weights_of("pcgrad_ascending", J3[None, ::-1])[0], J3[None, ::-1])[0],
        [-1.75, 3.25, -2.25, 0.25],
        atol=1e-6,
    )


# ---- laws ----

SHAPES = ((2, 3), (4, 11), (9, 6))
KINDS = ("free", "strong", "weak", "none")


def jacobians(
    kind: str, shape: tuple[int, int], rank: int, seed: int, count: int = 8
) -> np.ndarray:
    """``[N, K, P]`` of a rank (for ``free``), or by the kind of stationarity.

    ``strong``: positive weights make the rows add up to 0. ``weak``: only weights with zeros among
    them do. ``none``: none do, some direction has a product of at least 0.3 with every row.
    """
    (k, p), rng = shape, np.random.default_rng(seed)
    a = rng.normal(size=(count, k, p))
    if kind == "free":
        return rng.normal(size=(count, k, rank)) @ rng.normal(size=(count, rank, p)) / np.sqrt(rank)
    up = rng.normal(size=(count, p))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    flat = a - (a @ up[:, :, None]) * up[:, None]
    if kind == "none":
        return flat + rng.uniform(0.3, 1.0, (count, k, 1)) * up[:, None]
    w = rng.uniform(0.3, 1.0, (count, k))
    if kind == "weak":
        w[:, 0] = 0.0
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    off = flat - w[:, :, None] * (w[:, None] @ flat)
    if kind == "weak":  # row 0, in no such sum, goes up
        off[:, 0] += rng.uniform(0.5, 1.0, (count, 1)) * up
    return off


@st.composite
def drawn(draw, kinds=KINDS):
    kind = draw(st.sampled_from(kinds))
    shape = draw(
        st.sampled_from(SHAPES[1:] if kind == "weak" else SHAPES)
    )  # of two rows, one would be zero
    return kind, shape, draw(st.integers(1, min(shape))), draw(st.integers(0, 10**6))


law = settings(
    max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def test_the_matrices_are_what_they_are_called():
    for shape, seed in itertools.product(SHAPES[1:], range(3)):
        for kind in KINDS[1:]:
            for j in jacobians(kind, shape, 1, seed):
                w = weights_of("mgda", j[None])[0][0]
                assert (np.linalg.norm(w @ j) < 1e-3) == (kind != "none")
        assert np.linalg.matrix_rank(jacobians("free", shape, min(2, *shape), seed)).max() == min(
            2, *shape
        )
        for j in jacobians("weak", shape, 1, seed):  # row 0 can rise while no other row falls
            up = j[0] - j[0] @ np.linalg.pinv(j[1:]) @ j[1:]
            assert j[0] @ up > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@law
@given(of=drawn(), exponent=st.sampled_from([-10, -5, 0, 3, 5, 10, 15]))
def test_finite_at_every_scale_and_homogeneous(name, of, exponent):
    j = jacobians(*of)
    w, _ = weights_of(name, j * 10.0**exponent, precise=False)
    assert w.shape == j.shape[:2] and np.isfinite(w).all()
    j = steady(name, j)
    if exponent and CASES[name].scales and len(j):
        precise = weights_of(name, j * 10.0**exponent)[0]
        np.testing.assert_allclose(
            sums(precise, j), sums(weights_of(name, j)[0], j), atol=1e-4 * longest(j).max()
        )


@pytest.mark.parametrize("name", CASES)
def test_zeros_give_zero(name):
    for k, cases in ((1, (False,)), (4, (True, False))):
        for precise in cases:
            w, residual = weights_of(name, np.zeros((1, k, 3)), precise)
            assert np.isfinite(w).all() and residual[0] == 0


@pytest.mark.parametrize("name", where(safe=True))
@law
@given(of=drawn())
def test_no_loss_rises(name, of):
    j = jacobians(*of)
    for precise, tolerance in ((True, 1e-5), (False, 4e-4)):
        u = sums(weights_of(name, j, precise)[0], j)
        rise = np.einsum("nkp,np->nk", j, u) / longest(j)[:, None]
        assert rise.min() > -tolerance * max(longest(j))


@pytest.mark.parametrize("name", EVEN)
@law
@given(of=drawn(("free", "none")), order=st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(name, of, order):
    j = steady(name, jacobians(*of))
    p = np.random.default_rng(order).permutation(j.shape[1])
    if len(j):
        one, two = sums(weights_of(name, j)[0], j), sums(weights_of(name, j[:, p])[0], j[:, p])
        np.testing.assert_allclose(one, two, atol=1e-4 * longest(j).max())


@pytest.mark.parametrize("name", where(linear=True))
@law
@given(of=drawn(("free", "none")), seed=st.integers(0, 10**6))
def test_linear_under_positive_scaling_of_rows(name, of, seed):
    j = steady(name, jacobians(*of))
    if not len(j):
        return
    rng = np.random.default_rng(seed)
    c, d = rng.uniform(0.1, 3.0, (2, len(j), j.shape[1], 1))
    a, b = rng.uniform(0.1, 3.0, 2)
    both, one, two = (sums(weights_of(name, s * j)[0], s * j) for s in (a * c + b * d, c, d))
    np.testing.assert_allclose(both, a * one + b * two, atol=1e-4 * longest(j).max() * (a + b))


@pytest.mark.parametrize("name", where(moves=True))
@law
@given(of=drawn(("weak", "none")))
def test_moves_unless_strongly_stationary(name, of):
    j = jacobians(*of)
    assert np.linalg.norm(sums(weights_of(name, j)[0], j), axis=1).min() > 5e-3


@pytest.mark.parametrize("name", where(safe=True))
@law
@given(of=drawn(("strong",)))
def test_stays_where_strongly_stationary(name, of):
    """No direction but 0 hurts nobody."""
    j = jacobians(*of)
    assert np.linalg.norm(sums(weights_of(name, j)[0], j), axis=1).max() < 1e-3 * longest(j).max()


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "aligned_mtl"])
def test_preferences(name):
    """All the preference on one row: UPGrad and DualProj project that row. UPGrad and Aligned-MTL
    are linear in it."""
    j, p = jacobians("none", (4, 6), 4, 7)[0], np.array([0.1, 0.2, 0.3, 0.4])
    with double():
        g = jnp.asarray(j @ j.T)
        options = {} if name == "aligned_mtl" else {"ridge": 0.0}
        made = np.asarray(
            jax.jit(
                jax.vmap(
                    lambda e: (
                        getattr(gradients, name)
                        .rule(preference=e, **options)
                        .weights(g, None, (), None)[0]
                    )
                )
            )(jnp.asarray([*np.eye(4), p]))
        )
        projected = np.asarray(projections(g[None])[0])
    if name != "aligned_mtl":
        np.testing.assert_allclose(made[:4], projected, atol=1e-9)
    assert (np.abs(made[4] - p @ made[:4]).max() < 1e-6) == (name != "dualproj")


@law
@given(of=drawn())
def test_mgda_meets_the_conditions_of_a_minimum(of):
    j = jacobians(*of)
    for precise, tolerance in ((True, 1e-6), (False, 1e-4)):
        w, residual = weights_of("mgda", j, precise)
        g = j @ j.swapaxes(1, 2)
        scale = longest(j) ** 2
        slope = np.einsum("nij,nj->ni", g, w) / scale[:, None]
        least = np.einsum("ni,ni->n", slope, w)[:, None]
        np.testing.assert_allclose(w.sum(axis=1), 1.0, atol=1e-5)
        assert (
            w.min() >= 0
            and (slope - least).min() > -tolerance
            and np.abs(w * (slope - least)).max() < tolerance
        )
        assert residual.max() < tolerance


@jax.jit
@jax.vmap
def projections(g):
    """DualProj's weights for each row by itself, ``[K, K]``."""
    return jax.vmap(
        lambda e: gradients.dualproj.rule(preference=e, ridge=0.0).weights(g, None, (), None)[0]
    )(jnp.eye(g.shape[0], dtype=g.dtype))


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
@law
@given(of=drawn())
def test_projections_meet_their_conditions(name, of):
    """``v >= p``, ``G v >= 0``, ``(v - p)' G v = 0``, for each row of UPGrad and for DualProj's
    mean."""
    j = jacobians(*of)
    (n, k), g = j.shape[:2], j @ j.swapaxes(1, 2)
    if name == "upgrad":
        with double():
            each = np.asarray(projections(jnp.asarray(j @ j.swapaxes(1, 2)))).swapaxes(0, 1)
        total = sums(each.mean(axis=0), j)
        np.testing.assert_allclose(
            sums(weights_of("upgrad", j)[0], j), total, atol=1e-4 * longest(j).max()
        )
        pairs = [(each[i], np.broadcast_to(np.eye(k)[i], (n, k))) for i in range(k)]
    else:
        pairs = [(weights_of(name, j)[0], np.full((n, k), 1 / k))]
    length = np.linalg.norm(j, axis=2)
    for v, p in pairs:
        product = np.einsum("nij,nj->ni", g, v) / length / length.max(axis=1, keepdims=True)
        assert (v - p).min() > -1e-9 and product.min() > -1e-5
        assert np.abs((v - p) * length * product).max() < 1e-4 * length.max()


@pytest.mark.parametrize("name", ["upgrad", "mgda"])
@pytest.mark.parametrize("shape", [(2, 5), (5, 3), (20, 30)])
def test_float32_has_steps_enough(name, shape, monkeypatch):
    """The update ``J' w`` of as many steps as float64 has."""
    j = np.concatenate([jacobians(kind, shape, 2, 1) for kind in ("free", "strong", "none")])
    j = j.astype(np.float32)
    grams = jnp.asarray(j @ j.swapaxes(1, 2))
    rule = getattr(gradients, name).rule()

    def weights(g):
        return rule.weights(g, None, (), None)[0]

    updates = []
    for steps in (solve.STEPS_32, solve.STEPS):
        monkeypatch.setattr(solve, "STEPS_32", steps)
        updates.append(sums(np.asarray(jax.vmap(weights)(grams)), j))
    np.testing.assert_allclose(*updates, rtol=0, atol=1e-5 * np.abs(j).max())


@pytest.mark.slow
@pytest.mark.parametrize("c", [0.2, 0.5, 1.0])
@law
@given(of=drawn())
def test_cagrad_goes_where_the_least_product_is_largest(c, of):
    """Within ``c ||g_0||`` of the mean row, and by duality the gain is the least
    ``<g_w, g_0> + c ||g_0|| ||g_w||``."""
    j = jacobians(*of)
    g0 = j.mean(axis=1)
    reach = c * np.linalg.norm(g0, axis=1)
    with double():
        w = cagrad_solver(c)(jnp.asarray(j @ j.swapaxes(1, 2)))
    u = sums(np.asarray(w), j)
    assert (np.linalg.norm(u - g0, axis=1) <= reach * (1 + 1e-6)).all()
    gain = np.einsum("nkp,np->nk", j, u).min(axis=1)

    def dual(x):
        at = sums(x, j)
        return np.einsum("np,np->n", at, g0) + reach * np.linalg.norm(at, axis=1)

    rng = np.random.default_rng(0)
    least = np.full(len(j), INF)
    for spread in (0.1, 1.0, 10.0):
        for _ in range(20):
            least = np.minimum(least, dual(rng.dirichlet(np.full(j.shape[1], spread), len(j))))
    own = np.asarray(w) - 1 / j.shape[1]  # a multiple of w, where there is a direction
    some = own.sum(axis=1) > 1e-6
    at_own = np.where(some, dual(own / np.where(some, own.sum(axis=1), 1.0)[:, None]), INF)
    scale = longest(j) ** 2
    assert (gain <= least + 1e-6 * scale).all()
    regular = (
        some & (np.linalg.norm(sums(own, j), axis=1) > 0.9 * reach) & (own.min(axis=1) > -1e-9)
    )
    np.testing.assert_allclose(gain[regular], at_own[regular], atol=1e-4 * scale.max())


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (5, 3)])
def test_cagrad_stays_within_reach_where_a_sum_of_rows_is_zero(shape):
    """The dual of such a problem has digits in the span of the rows alone."""
    j = jacobians("weak", shape, 1, 0, count=2000)
    with double():
        w = cagrad_solver(1.0)(jnp.asarray(j @ j.swapaxes(1, 2)))
    g0 = j.mean(axis=1)
    distance = np.linalg.norm(sums(np.asarray(w), j) - g0, axis=1)
    np.testing.assert_array_less(distance / np.linalg.norm(g0, axis=1), 1 + 1e-6)


@functools.lru_cache
def cagrad_solver(c: float):
    rule = gradients.cagrad.rule(c=c, rescale=0)
    return jax.jit(jax.vmap(lambda g: rule.weights(g, None, (), None)[0]))


POWERS = {"nash_mtl": 1.0, "fairgrad": 0.5, "fairgrad_half": 2.0, "pivrg": 0.5}


@pytest.mark.parametrize("name", POWERS)
@law
@given(of=drawn(("none", "free")))
def test_fair_weights_solve_their_equation(name, of):
    """``G w = w^-power``."""
    j = jacobians(*of)
    w, residual = weights_of(name, j)
    g = j @ j.swapaxes(1, 2)
    error = np.abs(np.einsum("nij,nj->ni", g, w) * w ** POWERS[name] - 1.0).max(axis=1)
    np.testing.assert_allclose(error, residual, rtol=1e-3, atol=1e-6)
    assert w.min() > 0
    solvable = np.array(
        [np.linalg.cond(u @ u.T) < 1e4 for u in j / np.linalg.norm(j, axis=2, keepdims=True)]
    )
    assert (residual[solvable] < 1e-3).all() and not (residual[~solvable] > 1e8).any()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("kind", ["of any length", "nearly opposite"])
def test_fairgrad_solves_thousands_of_equations(alpha, kind):
    """Rows of lengths from 0.01 to 100, one in eight of them absent; or angles down to 1e-4."""
    rng = np.random.default_rng(3)
    for k, p in ((1, 2), (2, 3), (4, 11), (8, 12)):
        j = rng.normal(size=(1000, k, p))
        if kind == "of any length":
            j *= 10 ** rng.uniform(-2, 2, (1000, k, 1)) * (rng.uniform(size=(1000, k, 1)) > 0.125)
        else:
            axis = rng.normal(size=(1000, 1, p)) * rng.choice([-1, 1], (1000, k, 1))
            j = axis + 10 ** rng.uniform(-4, 0, (1000, 1, 1)) * j
        w, _ = first_weights(gradients.fairgrad.rule(alpha=alpha, ridge=0.0), j)
        gain = np.einsum("nij,nj->ni", j @ j.swapaxes(1, 2), w)
        is_present = np.any(j != 0, axis=2)
        assert np.all(w[~is_present] == 0)
        error = np.abs(gain * np.where(is_present, w, 1.0) ** (1 / alpha) - 1.0)[is_present]
        assert error.max() < 1e-4


# ---- a primary row ----


def pcd_of(j: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    """Weights and residuals of PCD's first update."""
    return first_weights(gradients.pcd.rule(**options), j)


@pytest.mark.parametrize("tau", [0.02, 0.5])
@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (4, 11), (6, 7)], ids=str)
def test_pcd_guarantees_every_secondary_row_its_share(shape, tau):
    """On 2,500 Gram matrices a shape: the conditions of a minimum, and the length of the primary.

    With rows ``u_k`` of length 1, ``d = u_0 + sum_k x_k u_k`` with x and ``u_k . d - tau`` from 0
    on, one of the two 0.
    """
    rng = np.random.default_rng(1)
    j = rng.normal(size=(2500, *shape)) * 10 ** rng.uniform(-1.5, 1.5, (2500, shape[0], 1))
    w, residual = pcd_of(j, tau=tau)
    length = np.linalg.norm(j, axis=2)
    unit = j / length[:, :, None]
    x = w * length / (w * length)[:, :1]
    d = sums(x, unit)
    slack = np.einsum("nkp,np->nk", unit, d)[:, 1:] - tau
    assert x.min() >= 0 and slack.min() > -1e-10
    assert np.abs(np.minimum(x[:, 1:], slack)).max() < 1e-10 and residual.max() < 1e-10
    np.testing.assert_allclose(np.linalg.norm(sums(w, j), axis=1), length[:, 0], rtol=1e-9)


def test_pcd_keeps_the_primary_row_where_it_serves_all():
    j = jacobians("free", (4, 11), 4, 2, count=200)
    cosine = np.einsum("nkp,np->nk", j, j[:, 0]) / np.linalg.norm(j, axis=2)
    cosine /= cosine[:, :1]
    serves = np.all(cosine >= 0.02, axis=1)
    assert 0 < serves.sum() < len(j)
    u = sums(pcd_of(j)[0], j)
    np.testing.assert_allclose(u[serves], j[serves, 0], rtol=1e-9)
    assert np.linalg.norm(u - j[:, 0], axis=1)[~serves].min() > 1e-6


def test_pcd_without_a_direction_for_all_is_the_primary_row():
    opposite = np.array([[[1.0, 1.0], [0.0, 1.0], [0.0, -1.0]]])
    w, residual = pcd_of(opposite)
    np.testing.assert_array_equal(w, [[1.0, 0.0, 0.0]])
    assert residual[0] > 0.01
    without_primary = np.array([[[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    np.testing.assert_array_equal(pcd_of(without_primary)[0], 0.0)
    against = np.array([[[1.0, 0.0], [-1.0, 0.0]]])
    np.testing.assert_array_equal(pcd_of(against, tau=0.0)[0], 0.0)


def test_several_primary_rows_are_one_row_that_is_their_sum():
    j = jacobians("free", (4, 6), 4, 0)
    together = np.concatenate([j[:, 2:].sum(axis=1, keepdims=True), j[:, :2]], axis=1)
    several, _ = pcd_of(j, primary=(2, 3), tau=0.4)
    one, _ = pcd_of(together, tau=0.4)
    np.testing.assert_allclose(several, one[:, [1, 2, 0, 0]], atol=1e-9)
    each, _ = pcd_of(j, primary=(2, 3), tau=np.array([0.4, 0.4, 9.0, 9.0]))
    np.testing.assert_array_equal(each, several)
    with pytest.raises(ValueError, match="primary is 4, expected rows from 0 to 3"):
        gradients.pcd(4, primary=4).init(jnp.zeros(3))


def test_pcd_measures_rows_by_their_running_means():
    """``s_k`` is one over the root of the mean, and a step without the row does not count."""
    rule, beta = gradients.pcd.rule(tau=0.5, beta=0.5), 0.5
    with double():
        memory = rule.init(2)
        weigh = jax.jit(lambda g, memory: rule.weights(g, None, memory, None))
        for scale in (1.0, 0.0, 3.0):
            rows = J * np.array([[1.0], [scale]])
            w, memory, _ = weigh(jnp.asarray(rows @ rows.T), memory)
    squared = 38.0 * np.array([1.0, 9.0])
    mean = squared @ [beta, 1.0] / (1 + beta)
    np.testing.assert_allclose(memory.mean, [18.0, 18.0, mean], rtol=1e-12)
    one, two = rows[0] / np.sqrt(18.0), rows[1] / np.sqrt(mean)
    multiplier = 0.5 - one @ two / (two @ two)
    d = one + multiplier * two
    expected = d * np.sqrt(18.0) / np.linalg.norm(d)
    np.testing.assert_allclose(np.asarray(w) @ rows, expected, atol=1e-9)


def test_pivrg_favours_rows_that_fall_slowly():
    """The score of a row is its loss over its first value."""
    rule = gradients.pivrg.rule(temperature=0.5)
    with double():
        g, memory = jnp.asarray(J @ J.T), rule.init(2)
        weigh = jax.jit(lambda losses, memory: rule.weights(g, losses, memory, None))
        equal, memory, _ = weigh(jnp.asarray([4.0, 1.0]), memory)
        slow, memory, _ = weigh(jnp.asarray([0.8, 0.8]), memory)
        scored = gradients.pivrg.rule(scores=jnp.asarray([0.4, 1.6]))
        told = jax.jit(lambda g: scored.weights(g, None, (), None)[0])(g)
    np.testing.assert_allclose(equal, weights_of("fairgrad", J[None])[0][0], rtol=1e-9)
    np.testing.assert_allclose(slow, told, rtol=1e-9)


@law
@given(of=drawn(("free",)))
def test_equal_projections_and_equal_cosines(of):
    """IMTL-G and ConFIG: the products of u with all unit rows are one number, where the rows are
    independent."""
    j = jacobians(*of)
    j = j[[np.linalg.cond(x @ x.T) < 1e6 for x in j]]
    if len(j):
        unit = j / np.linalg.norm(j, axis=2, keepdims=True)
        for name in ("imtl_g", "conflict_free"):
            u = sums(weights_of(name, j)[0], j)
            along = np.einsum("nkp,np->nk", unit, u)
            np.testing.assert_allclose(
                along, along[:, :1] * np.ones_like(along), atol=1e-5 * np.abs(u).max()
            )
        length = np.einsum("nkp,np->n", j, u / np.linalg.norm(u, axis=1, keepdims=True))
        np.testing.assert_allclose(np.linalg.norm(u, axis=1), length, rtol=1e-4)


@law
@given(of=drawn(("free",)))
def test_aligned_rows_are_orthogonal_and_of_one_length(of):
    """``w(p)`` is linear in p; the rows ``w(e_k) J`` are what Aligned-MTL turns the gradients
    into."""
    j = jacobians(*of)
    j = j[[np.linalg.cond(x @ x.T) < 1e6 for x in j]]
    for x in j[:2]:
        with double():
            rows = (
                np.stack(
                    [
                        gradients.aligned_mtl.rule(preference=e).weights(
                            jnp.asarray(x @ x.T), None, (), None
                        )[0]
                        for e in np.eye(len(x))
                    ]
                )
                @ x
            )
        least = np.linalg.eigvalsh(x @ x.T)[0]
        np.testing.assert_allclose(
            rows @ rows.T, least * np.eye(len(x)), atol=1e-6 * np.abs(x).max() ** 2
        )


@law
@given(seed=st.integers(0, 10**6))
def test_for_two_rows_pcgrad_is_upgrad_of_the_sum(seed):
    j = jacobians("free", (2, 5), 2, seed)
    np.testing.assert_allclose(
        weights_of("pcgrad", j)[0], 2 * weights_of("upgrad", j)[0], atol=1e-5
    )


def vector_pcgrad(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The sum of projected rows, vector by vector in float64."""
    out = []
    for i, row in enumerate(rows):
        row = row.copy()
        for k in order[i]:
            inner = row @ rows[k]
            if k != i and inner < 0:
                row -= inner / (rows[k] @ rows[k]) * rows[k]
        out.append(row)
    return np.sum(out, axis=0)


@law
@given(of=drawn(("free", "none", "strong")))
def test_gram_form_of_pcgrad_is_its_vector_form(of):
    j = jacobians(*of)
    k = j.shape[1]
    expected = np.stack([vector_pcgrad(x, np.tile(np.arange(k), (k, 1))) for x in j])
    got = sums(weights_of("pcgrad_ascending", j)[0], j)
    np.testing.assert_allclose(got, expected, atol=1e-6 * longest(j).max())


def test_pcgrad_draws_an_order_for_each_row():
    """With three rows there are two orders per row: all eight sums turn up, each one that a vector
    form gives."""
    j = np.random.default_rng(5).normal(size=(3, 2))
    j[1], j[2] = -j[0] + 0.5 * j[1], -j[0] - 0.5 * j[1]
    rule = gradients.pcgrad.rule()
    with double():
        g = jnp.asarray(j @ j.T)
        w = jax.vmap(lambda key: rule.weights(g, None, (), key)[0])(
            jax.random.split(jax.random.key(0), 200)
        )
    got = {tuple(np.round(u, 6)) for u in np.asarray(w) @ j}
    orders = itertools.product(*([(a, b), (b, a)] for a, b in ((1, 2), (0, 2), (0, 1))))
    assert got == {tuple(np.round(vector_pcgrad(j, order), 6)) for order in orders}


# ---- absent rows, one row ----


@pytest.mark.parametrize("name", [n for n in CASES if n != "pcgrad"])  # its order is drawn
def test_a_row_of_zeros_has_no_say(name):
    j = jacobians("none", (3, 6), 3, 1)
    gone = np.concatenate([j[:, :1], np.zeros_like(j[:, :1]), j[:, 1:]], axis=1)
    share = 3 / 4 if CASES[name].share else 1.0
    for precise, atol in ((True, 1e-6), (False, 2e-3)):
        np.testing.assert_allclose(
            sums(weights_of(name, gone, precise)[0], gone),
            share * sums(weights_of(name, j, precise)[0], j),
            atol=atol,
        )


@pytest.mark.parametrize("name", CASES)
def test_one_row(name):
    w, _ = weights_of(name, np.array([[[0.0, 2.0, 0.0]]]))
    np.testing.assert_allclose(w, [[CASES[name].alone]], rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["mgda", "cagrad_1", "upgrad", "dualproj", "imtl_g", "conflict_free", "aligned_mtl", "sum"],
)
def test_a_row_twice(name):
    """Duplicate tasks: finite, and still a descent direction for both."""
    j = jacobians("none", (2, 5), 2, 3)
    twice = np.concatenate([j, j[:, :1]], axis=1)
    u = sums(weights_of(name, twice)[0], twice)
    assert np.isfinite(u).all() and np.linalg.norm(u, axis=1).min() > 1e-2


# ---- weights from losses ----


def test_dwa_follows_the_ratio_of_periods():
    rule = gradients.dwa.rule(every=2, temperature=2.0)
    memory, eye, told = rule.init(2), jnp.eye(2), []
    for pair in (
        [4.0, 1.0],
        [4.0, 1.0],
        [2.0, 1.0],
        [2.0, 1.0],
        [9.0, 9.0],
        [9.0, 9.0],
        [1.0, 1.0],
    ):
        w, memory, _ = rule.weights(eye, jnp.asarray(pair), memory, None)
        told.append(np.asarray(w))
    np.testing.assert_array_equal(told[:4], 1.0)
    expected = (
        2 * np.exp([0.25, 0.5]) / np.exp([0.25, 0.5]).sum()
    )  # means 2 / 4 and 1 / 1, over temperature 2
    np.testing.assert_allclose(told[4], expected, rtol=1e-6)
    np.testing.assert_array_equal(told[4], told[5])
    np.testing.assert_allclose(
        told[6], 2 * np.exp([2.25, 4.5]) / np.exp([2.25, 4.5]).sum(), rtol=1e-6
    )


def test_dwa_does_not_count_steps_without_labels():
    rule = gradients.dwa.rule(every=2)
    memory = rule.init(2)
    for diagonal, pair in (([1.0, 1.0], [4.0, 1.0]), ([0.0, 1.0], [0.0, 1.0])):
        _, memory, _ = rule.weights(
            jnp.diag(jnp.asarray(diagonal)), jnp.asarray(pair), memory, None
        )
    np.testing.assert_array_equal(memory.last, [4.0, 1.0])


@pytest.mark.parametrize(
    "name, loss",
    [
        ("uncertainty", lambda s, values: jnp.sum(values / (2 * jnp.exp(s)) + s / 2)),
        ("imtl_l", lambda s, values: jnp.sum(jnp.exp(s) * values - s)),
    ],
)
def test_learned_weights_descend_their_loss(name, loss):
    """Adam's first moment is a tenth of the gradient; run long, ``w = 1 / (2 L)`` and
    ``w = 1 / L``."""
    rule, values = getattr(gradients, name).rule(learning_rate=0.05), jnp.asarray([2.0, 0.5])
    start = rule.init(2)
    w, memory, _ = rule.weights(jnp.eye(2), values, start, None)
    np.testing.assert_allclose(
        w, {"uncertainty": 0.5 * np.exp(0.5), "imtl_l": 1.0}[name], rtol=1e-6
    )
    moment = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(memory.optimizer)
        if ".mu" in jax.tree_util.keystr(path)
    ][0]
    np.testing.assert_allclose(10 * moment, jax.grad(loss)(start.number, values), rtol=1e-5)
    step = jax.jit(lambda m: rule.weights(jnp.eye(2), values, m, None)[:2])
    for _ in range(400):
        w, memory = step(memory)
    np.testing.assert_allclose(w, 1 / values / {"uncertainty": 2, "imtl_l": 1}[name], rtol=0.02)


L3, R3 = jnp.asarray([1.0, 2.0, 0.5]), jnp.asarray([0.5, 0.3, 0.2])
COMBINERS = {
    "stch": (functools.partial(combiners.smooth_tchebycheff, mu=0.5), {"mu": 0.5}, 0.982647),
    "geometric_loss": (combiners.geometric_mean, {}, 1.0),
    "cosmos": (
        functools.partial(combiners.cosmos_loss, preference=R3, lam=1.0),
        {"preference": R3},
        0.350409,
    ),
    "pbi": (
        functools.partial(combiners.boundary_intersection, preference=R3, theta=5.0),
        {"preference": R3},
        7.989269,
    ),
}


@pytest.mark.parametrize("name", COMBINERS)
def test_combiners_and_their_slopes(name):
    """The value of the losses (1, 2, 0.5); weights are finite differences; a row that is absent or
    a loss that is not counted leaves the combination of the others."""
    combine, options, expected = COMBINERS[name]
    rule = getattr(gradients, name).rule(**options)
    with double():
        values = jnp.asarray(L3, float)
        np.testing.assert_allclose(combine(values), expected, atol=1e-6)
        np.testing.assert_allclose(combine(values.astype(jnp.float32)), expected, atol=1e-5)
        step = 1e-5 * np.eye(3)
        slopes = [(combine(values + h) - combine(values - h)) / 2e-5 for h in step]
        w = rule.weights(jnp.eye(3), values, (), None)[0]
        np.testing.assert_allclose(w, slopes, atol=1e-8)

        gone = jnp.asarray([values[0], 7.0, values[1], values[2]])
        where = np.array([True, False, True, True])
        wide = {k: jnp.insert(v, 1, 3.0) for k, v in options.items() if jnp.ndim(v)}
        if name in ("cosmos", "pbi"):
            combine = functools.partial(combine, **wide)
        np.testing.assert_allclose(combine(gone, where=where), expected, atol=1e-6)
        rule = getattr(gradients, name).rule(**{**options, **wide})
        got = rule.weights(jnp.diag(where.astype(float)), gone, (), None)[0]
        np.testing.assert_allclose(got, np.insert(w, 1, 0.0), atol=1e-12)


def test_combiners_where_a_length_is_zero():
    """Losses along the preference have no distance from it, and losses of 0 no angle."""
    for scale in (1.0, 3.7, 1e-3):
        for kind in (jnp.float32, jnp.float64):
            with double():
                values = scale * jnp.asarray(R3, kind)
                told = gradients.pbi.rule(preference=R3).weights(jnp.eye(3), values, (), None)[0]
            np.testing.assert_allclose(told, R3 / jnp.linalg.norm(R3), rtol=1e-5)
    told = gradients.cosmos.rule(preference=R3).weights(jnp.eye(3), jnp.zeros(3), (), None)[0]
    np.testing.assert_allclose(told, R3)
    told = gradients.geometric_loss.rule().weights(jnp.eye(2), jnp.asarray([0.0, 1.0]), (), None)[0]
    np.testing.assert_allclose(told, [0.0, 0.5e-4], rtol=1e-5)


def test_smooth_tchebycheff_nears_the_largest_loss():
    large = combiners.smooth_tchebycheff(L3, R3, mu=1e-3, ideal=jnp.asarray([0.0, 1.9, 0.0]))
    np.testing.assert_allclose(large, 0.5, atol=1e-5)


def test_gradnorm_gradient_and_bounds():
    np.testing.assert_allclose(
        gradnorm_gradient(
            jnp.diag(jnp.asarray([4.0, 1, 16])),
            jnp.asarray([0.8, 0.5, 0.9]),
            jnp.ones(3),
            jnp.ones(3),
            1.5,
        ),
        [-2.0, -1.0, 4.0],
    )
    for alpha, sign in (
        (0.5, -1.0),
        (1.5, 1.0),
    ):  # the target 1.25 * 0.8^alpha is above and below the norm, 1
        slope = gradnorm_gradient(
            jnp.diag(jnp.asarray([1.0, 2.25])),
            jnp.asarray([0.8, 1.2]),
            jnp.ones(2),
            jnp.ones(2),
            alpha,
        )
        assert slope[0] == sign
    rule = gradients.gradnorm.rule(alpha=0.0, learning_rate=0.02)
    step = jax.jit(
        lambda m: rule.weights(jnp.diag(jnp.asarray([1.0, 9.0])), jnp.ones(2), m, None)[:2]
    )
    memory = rule.init(2)
    for _ in range(300):
        w, memory = step(memory)
    np.testing.assert_allclose(jnp.sum(memory.weights.number), 2.0, rtol=1e-5)
    np.testing.assert_allclose(w[0] / w[1], 3.0, rtol=0.1)  # weighted norms are equal


def test_random_weights_are_on_the_simplex_and_even_on_average():
    rule = gradients.random_weighting.rule()
    w = jax.vmap(lambda key: rule.weights(jnp.eye(4), None, (), key)[0])(
        jax.random.split(jax.random.key(1), 2000)
    )
    np.testing.assert_allclose(jnp.sum(w, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(w, axis=0), 0.25, atol=0.02)
    assert float(jnp.std(w)) > 0.1


def test_mgda_normalisations():
    """Divided by its length or loss, each row; the weights are then given to the rows as they
    came."""
    j = np.array([[3.0, 0.0], [0.0, 1.0]])
    g, values = jnp.asarray(j @ j.T, jnp.float32), jnp.asarray([2.0, 5.0])
    for name, by in (("none", [1, 1]), ("l2", [3, 1]), ("loss", [2, 5]), ("loss+", [6, 5])):
        w, _, _ = gradients.mgda.rule(normalise=name).weights(g, values, (), None)
        a, b = np.array([9.0, 1.0]) / np.square(by)
        np.testing.assert_allclose(w, [b / (a + b), a / (a + b)], rtol=1e-4)


@pytest.mark.parametrize(
    "make, says",
    [
        (
            lambda: gradients.mgda(2, normalise="l1"),
            "normalise must be one of none, l2, loss, loss\\+, got 'l1'",
        ),
        (lambda: gradients.cagrad(2, rescale=3), "rescale must be 0, 1 or 2, got 3"),
        (
            lambda: gradients.aligned_mtl(2, scale="max"),
            "scale must be 'min', 'median' or 'rmse', got 'max'",
        ),
        (lambda: gradients.pcgrad(0), "rows must be at least 1, got 0"),
        (
            lambda: gradients.pcgrad(2, per="layer"),
            "per must be 'tree', 'leaf' or a function of the key path, got 'layer'",
        ),
    ],
)
def test_impossible_constants_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("rescale", [0, 1, 2])
def test_rescale_may_be_traced(rescale):
    gram_matrix = jnp.asarray(J @ J.T, jnp.float32)

    def weights(rescale):
        return gradients.cagrad.rule(rescale=rescale).weights(gram_matrix, None, (), None)[0]

    np.testing.assert_allclose(jax.jit(weights)(rescale), weights(rescale), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [(1, -3), (2, -0.7), (1, -2, 3, -0.5)], ids=str)
def test_rows_that_cancel_have_no_direction_of_equal_cosines(lengths, dtype):
    """Rounding decides what is left, so many rows are tried."""
    rows = np.random.default_rng(0).normal(size=(12, 7))
    with jax.enable_x64(dtype == np.float64):
        for row in rows:
            j = np.outer(lengths, row).astype(dtype)
            weights = gradients.conflict_free.rule().weights(jnp.asarray(j @ j.T), None, (), None)
            np.testing.assert_array_equal(weights[0], 0.0)


@pytest.mark.parametrize("normalise", ["none", "l2", "loss", "loss+"])
def test_a_rule_on_normalised_rows_is_the_rule_on_divided_rows(normalise):
    rule = gradients.upgrad.rule(ridge=0.0)
    values = np.array([2.0, 5.0, 0.5])
    divisor = np.ones(3)
    if normalise in ("l2", "loss+"):
        divisor = divisor * np.linalg.norm(J3, axis=1)
    if normalise in ("loss", "loss+"):
        divisor = divisor * values
    rows = J3 / divisor[:, None]
    with double():
        on_rows = gradients.on_normalised_rows(rule, normalise)
        weigh = jax.jit(lambda g: on_rows.weights(g, jnp.asarray(values), (), None)[0])
        got = weigh(jnp.asarray(J3 @ J3.T))
        expected = jax.jit(lambda g: rule.weights(g, None, (), None)[0])(jnp.asarray(rows @ rows.T))
    np.testing.assert_allclose(np.asarray(got) @ J3, np.asarray(expected) @ rows, atol=1e-9)
    assert on_rows.needs_values == normalise.startswith("loss")


RULES = {
    name: entry.factory.rule
    for name, entry in gradients.REGISTRY.items()
    if hasattr(entry.factory, "rule")
}
OPTIONS = {"weighted_rows": {"weights": 0.5}, "dwa": {"every": 2}}


@pytest.mark.parametrize("name", RULES)
def test_rules_that_read_lengths_alone_say_so(name):
    """Over two steps, the products of different rows change nothing; in all other rules they do."""
    rule = RULES[name](**OPTIONS.get(name, {}))
    g = jnp.asarray(J3 @ J3.T, jnp.float32)

    @jax.jit
    def two_steps(g):
        memory = rule.init(3)
        for losses in ((2.0, 1.0, 0.5), (1.0, 0.9, 0.6)):
            w, memory, _ = rule.weights(g, jnp.asarray(losses), memory, jax.random.key(0))
        return w

    apart = np.abs(two_steps(g) - two_steps(jnp.diag(jnp.diagonal(g)))).max()
    assert (apart == 0) == (not rule.needs_products)


# ---- weights and rows that follow slowly ----


def steps_of(tx, jacobians, values) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and updates of a link over steps in float64."""
    with double():
        params = jnp.zeros(jacobians.shape[2])
        state, seen = tx.init(params), []
        step = jax.jit(lambda rows, state, losses: tx.update(rows, state, params, values=losses))
        for rows, losses in zip(jacobians, values, strict=True):
            update, state = step(jnp.asarray(rows), state, jnp.asarray(losses))
            (told,) = gradients.link_states(state)
            seen.append((np.asarray(told.weights), np.asarray(update)))
    return seen


def some_steps() -> tuple[np.ndarray, np.ndarray]:
    """Five Jacobians ``[5, 3, 4]``, in one of which a row is absent, and losses ``[5, 3]``."""
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(5, 3, 4))
    rows[2, 1] = 0.0
    return rows, rng.uniform(0.5, 2.0, (5, 3))


def test_cr_mogm_is_the_average_of_the_weights_of_its_rule():
    rows, values = some_steps()
    own = [w for w, _ in steps_of(gradients.mgda(3, normalise="loss"), rows, values)]
    rule = gradients.mgda.rule(normalise="loss")
    smooth = steps_of(gradients.cr_mogm(3, rule=rule, decay=0.7), rows, values)
    expected = own[0]
    for k, (w, update) in enumerate(smooth):
        is_present = np.any(rows[k] != 0, axis=1)
        if k:
            expected = np.where(is_present, 0.7 * expected + 0.3 * own[k], expected)
        np.testing.assert_allclose(w, np.where(is_present, expected, 0.0), atol=1e-9)
        np.testing.assert_allclose(update, w @ rows[k], atol=1e-9)


def test_db_mtl_is_its_definition():
    """Rows of log losses follow the gradients and get the length of the longest."""
    ones = np.ones((1, 2))
    ((_, update),) = steps_of(gradients.db_mtl(2, beta=0.0), J[None], ones)
    np.testing.assert_allclose(update, (0.188135, 2.452966, 2.452966), atol=1e-6)
    rows, values = some_steps()
    y = np.zeros((3, 4))
    seen = steps_of(gradients.db_mtl(3, beta=0.8, sigma=0.3), rows, values)
    for k, (_, update) in enumerate(seen):
        moved = y + (1 - 0.8 / (k + 1) ** 0.3) * (rows[k] / (values[k][:, None] + 1e-8) - y)
        y = np.where(np.any(rows[k] != 0, axis=1, keepdims=True), moved, y)
        length = np.linalg.norm(y, axis=1)
        np.testing.assert_allclose(update, (length.max() / length) @ y, atol=1e-9)


def test_moco_is_its_definition_and_ends_where_mgda_is():
    rows, values = some_steps()
    y, w = np.zeros((3, 4)), np.full(3, 1 / 3)
    seen = steps_of(gradients.moco(3, beta=0.6, gamma=0.2, rho=0.1), rows, values)
    for k, (told, update) in enumerate(seen):
        rate = 1 / np.sqrt(k + 1)
        moved = y + 0.6 * rate * (rows[k] - y)
        y = np.where(np.any(rows[k] != 0, axis=1, keepdims=True), moved, y)
        w = nearest_on_simplex(w - 0.2 * rate * (y @ y.T @ w + 0.1 * w))
        np.testing.assert_allclose(told, w, atol=1e-9)
        np.testing.assert_allclose(update, w @ y, atol=1e-9)
    many = np.repeat(J3[None], 400, axis=0)
    told, update = steps_of(gradients.moco(3, sigma=0.0), many, np.ones((400, 3)))[-1]
    np.testing.assert_allclose(told, WEIGHTS["mgda, three"], atol=1e-6)


def test_modo_and_sdmgrad_on_the_products_of_one_batch():
    with double():
        g = jnp.asarray(J @ J.T)
        rule = gradients.modo.rule(gamma=0.01, rho=0.1)
        one, memory, _ = rule.weights(g, None, rule.init(2), None)
        two, _, _ = rule.weights(g, None, memory, None)
        rule = gradients.sdmgrad.rule()
        corner = rule.weights(g, None, rule.init(2), None)[0]
        slow = gradients.sdmgrad.rule(pull=0.0, learning_rate=0.1)
        step = jax.jit(lambda memory: slow.weights(g, None, memory, None)[1])
        least = slow.init(2)
        for _ in range(20):
            least = step(least)
    np.testing.assert_allclose(one, (0.55, 0.45), atol=1e-6)
    np.testing.assert_allclose(two, (0.57495, 0.42505), atol=1e-6)
    np.testing.assert_allclose(corner, (0.115385, 0.884615), atol=1e-6)
    np.testing.assert_allclose(least, WEIGHTS["mgda"], atol=1e-6)


def test_two_batches_give_a_rule_their_products():
    """Halved rows of both batches in, weights for the mean rows out; an odd number is refused."""
    first, second = np.random.default_rng(4).normal(size=(2, 3, 5))
    halved = np.concatenate([first, second]) / 2
    with double():
        whole = gradients.modo.rule(two_batches=True)
        w, memory, _ = whole.weights(jnp.asarray(halved @ halved.T), None, whole.init(6), None)
        rule = gradients.modo.rule()
        expected, _, _ = rule.weights(jnp.asarray(first @ second.T), None, rule.init(3), None)
    np.testing.assert_allclose(w, np.tile(expected, 2), atol=1e-12)
    np.testing.assert_allclose(memory, expected, atol=1e-12)
    mean = (first + second) / 2
    np.testing.assert_allclose(np.asarray(w) @ halved, np.asarray(expected) @ mean, atol=1e-12)
    with pytest.raises(ValueError, match="two batches have an even number of rows, got 3"):
        gradients.modo(3, two_batches=True).init(jnp.zeros(2))


def nearest_on_simplex(point: np.ndarray) -> np.ndarray:
    """By bisection of the number that is taken from each entry."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(point - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(point - low, 0)


def test_excess_mtl_is_its_definition():
    ((w, _),) = steps_of(gradients.excess_mtl(2), J[None], np.ones((1, 2)))
    np.testing.assert_allclose(w, (0.119203, 0.880797), atol=1e-6)
    rows, values = some_steps()
    squares, logits, first = np.zeros((3, 4)), np.zeros(3), np.zeros(3)
    seen = steps_of(gradients.excess_mtl(3, step_size=0.3), rows, values)
    for k, (w, update) in enumerate(seen):
        is_present = np.any(rows[k] != 0, axis=1)
        squares = squares + rows[k] ** 2
        excess = np.sum(rows[k] ** 2 / np.sqrt(squares + 1e-7), axis=1)
        relative = np.where(first > 0, excess / np.where(first > 0, first, 1), excess)
        first = np.where((first == 0) & is_present, excess, first)
        logits = logits + 0.3 * relative * is_present
        expected = np.exp(logits) * is_present
        np.testing.assert_allclose(w, expected / expected.sum(), atol=1e-9)
        np.testing.assert_allclose(update, w @ rows[k], atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_means_are_those_of_the_best_of_all_partitions(groups):
    rng = np.random.default_rng(groups)
    for count in (1, 2, 5):
        numbers = rng.normal(size=count)
        counts = rng.random(count) > 0.2
        least = np.inf
        for label in itertools.product(range(groups), repeat=count):
            label = np.asarray(label)
            means = np.zeros(count)
            for k in np.flatnonzero(counts):
                means[k] = numbers[counts & (label == label[k])].mean()
            error = np.sum((numbers - means)[counts] ** 2)
            if error < least - 1e-12:
                least, best = error, means
        with double():
            got = group_means(jnp.asarray(numbers), jnp.asarray(counts), groups)
        np.testing.assert_allclose(got, best, atol=1e-12)


def test_go4align_is_its_definition():
    """The released code's weights for as many groups as rows, and one weight for one group."""
    rows, values = some_steps()
    for groups in (1, 3):
        seen = steps_of(gradients.go4align(3, groups=groups, step_size=0.3), rows, values)
        logits = np.zeros(3)
        for k, (w, update) in enumerate(seen):
            is_present = np.any(rows[k] != 0, axis=1)
            logits = logits - 0.3 * values[k] * is_present
            share = np.exp(logits) * is_present
            risk = share / share.sum() * values[k][is_present].sum() / values[k]
            expected = risk if groups == 3 else is_present * risk[is_present].mean()
            np.testing.assert_allclose(w, expected, rtol=1e-9)
            np.testing.assert_allclose(update, w @ rows[k], atol=1e-9)


def ldc_loss(logits: np.ndarray, values: np.ndarray, lam: float, total: float) -> float:
    """What the released code minimises; ``total`` is the sum of weights, held constant."""
    weighted = values / (1 + np.exp(-logits))
    return weighted.sum() / total + lam * np.abs(np.diff(weighted)).sum()


def test_ldc_mtl_weighs_by_the_slopes_of_its_loss():
    """By central differences; and theta, which Adam moves, follows its own."""
    values = np.array([2.0, 0.5, 1.5, 0.4])
    rows = np.random.default_rng(0).normal(size=(1, 4, 6))
    seen = steps_of(
        gradients.ldc_mtl(4, lam=0.3, learning_rate=0.01),
        np.repeat(rows, 2, axis=0),
        np.repeat(values[None], 2, axis=0),
    )
    logits = np.ones(4)
    for w, update in seen:
        total = (1 / (1 + np.exp(-logits))).sum()
        slopes = np.zeros((2, 4))
        for k, step in enumerate(1e-6 * np.eye(4)):
            for i, (dl, dv) in enumerate(((0 * step, step), (step, 0 * step))):
                above = ldc_loss(logits + dl, values + dv, 0.3, total)
                below = ldc_loss(logits - dl, values - dv, 0.3, total)
                slopes[i, k] = (above - below) / 2e-6
        np.testing.assert_allclose(w, slopes[0], atol=1e-6)
        np.testing.assert_allclose(update, w @ rows[0], atol=1e-6)
        logits = logits - 0.01 * np.sign(slopes[1])  # the first step of Adam


def test_ldc_mtl_has_no_price_for_a_pair_with_an_absent_row():
    rows = np.random.default_rng(0).normal(size=(1, 3, 5))
    rows[0, 1] = 0.0
    ((w, _),) = steps_of(gradients.ldc_mtl(3, lam=0.5), rows, np.array([[3.0, 1.0, 2.0]]))
    np.testing.assert_allclose(w, [0.5, 0.0, 0.5], atol=1e-9)


# ---- Gram matrix and sums ----


@pytest.mark.parametrize("columns", [8 * CHUNK, 8 * CHUNK + 5])
def test_gram_of_long_rows_is_taken_piece_by_piece(columns):
    rows = np.random.default_rng(4).normal(size=(2, 3, columns)).astype(np.float32)
    rows[1, 2, -1] = np.nan
    got = jax.jit(jax.vmap(lambda g: gram([g])))(rows)
    exact = rows.astype(float)
    np.testing.assert_allclose(got[0], exact[0] @ exact[0].T, rtol=1e-4, atol=0.05)
    np.testing.assert_array_equal(
        np.isnan(got[1]), [[False, False, True], [False, False, True], [True, True, True]]
    )


@pytest.mark.parametrize("kind", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_gram_and_sum_are_accumulated_in_float32(kind):
    rng = np.random.default_rng(2)
    leaves = [jnp.asarray(rng.normal(size=(3, *shape)), kind) for shape in ((40, 50), (), (7,))]
    flat = np.concatenate([np.asarray(x, float).reshape(3, -1) for x in leaves], axis=1)
    g = gram(leaves)
    assert g.dtype == jnp.float32
    np.testing.assert_allclose(g, flat @ flat.T, rtol=1e-5, atol=1e-3)
    w = jnp.asarray([0.5, -2.0, 0.25])
    for leaf in leaves:
        out = combine(w, leaf)
        assert out.dtype == kind
        np.testing.assert_allclose(
            np.asarray(out, float),
            np.tensordot(np.asarray(w, float), np.asarray(leaf, float), 1),
            rtol=2 * float(jnp.finfo(kind).eps),
            atol=1e-2 if kind != jnp.float32 else 1e-5,
        )


def test_a_row_of_weight_zero_may_hold_anything():
    leaf = jnp.asarray([[1.0, 2.0], [np.nan, np.inf]])
    np.testing.assert_array_equal(combine(jnp.asarray([3.0, 0.0]), leaf), [3.0, 6.0])


# ---- TorchJD ----

FIXTURE = Path(__file__).with_name("fixtures") / "torchjd.npz"
PEER = {
    "Mean": "mean_rows",
    "UPGrad": "upgrad",
    "DualProj": "dualproj",
    "MGDA": "mgda",
    "IMTLG": "imtl_g",
    "AlignedMTL": "aligned_mtl",
    "ConFIG": "conflict_free",
    "CAGrad": "cagrad",
    "NashMTL": "nash_mtl",
    "PCGrad": "pcgrad",
    "FairGrad": "fairgrad",
    "PCD": "pcd",
}
PEER_RULES = {
    "UPGrad": gradients.upgrad.rule(),
    "DualProj": gradients.dualproj.rule(),
    "CAGrad": gradients.cagrad.rule(rescale=0),
    "NashMTL": gradients.nash_mtl.rule(),
    "PCD": gradients.pcd.rule(tau=0.2),
}


@functools.lru_cache
def peer_solver(name: str):
    rule = PEER_RULES.get(name, CASES[PEER[name]].rule)

    def weigh(g):
        return rule.weights(g, None, rule.init(len(g)), jax.random.key(0))

    return jax.jit(jax.vmap(weigh))


def compare(name: str, rows: np.ndarray, theirs: np.ndarray, rank: int) -> None:
    """Ours in float64 against TorchJD's updates, ``[N, P]``, and where the two may differ."""
    with double():
        w, _, residual = peer_solver(name)(jnp.asarray(rows @ rows.swapaxes(1, 2)))
        w, residual = np.asarray(w), np.asarray(residual)
    k, scale = rows.shape[1], longest(rows)[:, None]
    ours = sums(w, rows)
    away = np.abs(ours - theirs) / scale
    if name == "MGDA" and k > 2:  # Frank-Wolfe steps there end early: ours is shorter or the same
        assert (
            np.linalg.norm(ours, axis=1) <= np.linalg.norm(theirs, axis=1) + 1e-6 * scale[:, 0]
        ).all()
        assert away.max() < 0.05
    elif (
        name == "IMTLG" and rank < k
    ):  # equal projections do not exist: least squares, ours in unit rows
        assert np.isfinite(ours).all()
    elif name == "ConFIG" and rank == 1:  # opposite rows have no direction with equal cosines
        assert np.median(away) < 1e-6
    elif name == "FairGrad" and rank < k:  # least squares there where there is no solution
        assert np.median(away) < 1e-5
    elif name == "FairGrad":  # to the tolerance of that solver
        assert away.max() < 1e-5
    elif name == "CAGrad":  # a cone program there, to its tolerance
        assert np.median(away) < 1e-5 and away.max() < 2e-3
    elif (
        name == "NashMTL"
    ):  # linearised steps there do not always end at a solution; ours does where there is one
        if rank == k:
            assert residual.max() < 1e-4
            assert np.median(away) < 1e-6 and np.mean(away.max(axis=1) < 1e-4) > 0.7
    else:
        assert away.max() < 1e-6


def test_torchjd_fixture_is_whole():
    kept = np.load(FIXTURE)
    groups = {key.split("/")[0] for key in kept if "/" in key}
    assert sum(len(kept[f"{g}/rows"]) for g in groups) >= 300
    assert all(f"{g}/{name}" in kept for g in groups for name in PEER if name != "PCGrad")


@pytest.mark.slow
@pytest.mark.parametrize("name", PEER)
def test_torchjd_agrees(name):
    kept = np.load(FIXTURE)
    compared = 0
    for group in sorted({key.split("/")[0] for key in kept if "/" in key}):
        if f"{group}/{name}" in kept:
            compare(
                name,
                kept[f"{group}/rows"] / 1000.0,
                kept[f"{group}/{name}"].astype(float),
                int(group.split("rank")[1]),
            )
            compared += 1
    assert compared >= 3


STEPS = {
    "ExcessMTL": lambda rows: gradients.excess_mtl(rows, step_size=0.5),
    "CRMOGM": lambda rows: gradients.cr_mogm(rows, rule=gradients.upgrad.rule(), decay=0.7),
    "PCD": lambda rows: gradients.pcd(rows, tau=0.3, beta=0.9),
    "MoDo": lambda rows: gradients.modo(2 * rows, gamma=0.05, rho=0.1, two_batches=True),
    "SDMGrad": lambda rows: gradients.sdmgrad(2 * rows, learning_rate=0.5, two_batches=True),
}


@pytest.mark.parametrize("name", STEPS)
def test_torchjd_agrees_over_steps(name):
    """Weights of six steps with what is remembered between them; of two batches, where it takes
    two."""
    kept = np.load(FIXTURE)
    rows = kept["steps_rows"] / 1000.0
    steps, _, count, columns = rows.shape
    given = rows[:, 0]
    if name in ("MoDo", "SDMGrad"):
        given = rows.reshape(steps, 2 * count, columns) / 2
    ours = [w[:count] for w, _ in steps_of(STEPS[name](count), given, np.ones((steps, 1)))]
    np.testing.assert_allclose(ours, kept[f"steps_{name}"], atol=1e-7)


@pytest.mark.slow
def test_torchjd_agrees_live():
    pytest.importorskip("torchjd", reason="a live comparison wants pip install 'torchjd[full]'")
    import sys

    sys.path.insert(0, str(FIXTURE.parent))
    try:
        from make_torchjd import jacobians as random_rows
        from make_torchjd import outputs
    finally:
        sys.path.pop(0)
    for k, p, rank in ((2, 6, 2), (4, 9, 4), (3, 5, 2)):
        rows = random_rows(k, p, rank, 99, 10)
        for name, theirs in outputs(rows).items():
            compare(name, rows / 1000.0, theirs, rank)
