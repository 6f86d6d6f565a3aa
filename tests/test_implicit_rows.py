"""Rows that are never formed, against the rows themselves: networks of many kinds, links, rows that
are missing or not finite, transformations, half precision, memory, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fairjax import gradients
from fairjax.gradients import value_and_rows
from fairjax.gradients.gram_matrix import combine_leaves, gram, squared_norms

K = 3
X = np.random.default_rng(0).normal(size=(6, 4))


def squared_errors(scores) -> tuple:
    return tuple(jnp.mean((scores[:, k] - k) ** 2) for k in range(K))


def mlp(params):
    z = jnp.tanh(X @ params["kernel"] + params["bias"])
    return squared_errors(z @ params["heads"])


def tied(params):
    """Each matrix is used several times."""
    z = jnp.tanh(X @ params["kernel"] + params["bias"])
    z = jnp.tanh(z @ params["kernel"].T @ params["kernel"])
    return squared_errors(z @ params["heads"] @ params["heads"].T @ params["heads"])


def recurrent(params):
    def step(z, x):
        return jnp.tanh(x @ params["kernel"] + z * params["bias"]), None

    z, _ = jax.lax.scan(step, jnp.zeros((2, 5), X.dtype), X.reshape(3, 2, 4))
    return squared_errors(z @ params["heads"])


@jax.custom_vjp
def reversed_gradient(z):
    return z


reversed_gradient.defvjp(lambda z: (z, None), lambda _, cotangent: (-cotangent,))


def adversarial(params):
    """An operation with a backward pass alone."""
    z = reversed_gradient(jnp.tanh(X @ params["kernel"] + params["bias"]))
    return squared_errors(z @ params["heads"])


def unshared(params):
    """Each loss has a parameter of its own, and one has no other."""
    return (
        jnp.sum(params["kernel"] ** 2) * params["bias"][0],
        jnp.sum(jnp.sin(params["heads"])),
        jnp.exp(params["bias"][1]),
    )


NETWORKS = (mlp, tied, recurrent, adversarial, unshared)
of_networks = pytest.mark.parametrize("losses", NETWORKS, ids=lambda network: network.__name__)


def parameters(dtype=jnp.float64):
    rng = np.random.default_rng(1)
    shapes = {"kernel": (4, 5), "bias": (5,), "heads": (5, K)}
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def first_missing(params):
    """The first loss is 0 on this batch."""
    _, *others = mlp(params)
    return (0.0 * jnp.sum(params["bias"]), *others)


def first_broken(params):
    """The first loss is NaN."""
    first, *others = mlp(params)
    return (first * jnp.nan, *others)


def first_steep(params):
    """The first row has squares beyond float32."""
    first, *others = mlp(params)
    return (first * 1e30, *others)


def step(losses, tx, mode, params, **how):
    """One update and the state."""
    values, rows = value_and_rows(losses, mode=mode, **how)(params)
    return tx.update(rows, tx.init(params), params, values=values)


def assert_same(got, want, rtol=1e-10):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        one, other = np.asarray(one, float), np.asarray(other, float)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max(initial=1))


@of_networks
@pytest.mark.parametrize("chunk", [1, 2])
def test_products_and_sums_are_those_of_the_rows(losses, chunk):
    with jax.enable_x64(True):
        params = parameters()
        weights = jnp.asarray([0.5, -2.0, 0.0])
        scales = [2.0, 0.0, 0.5]

        def all_products(mode):
            _, rows = value_and_rows(losses, mode=mode, chunk=chunk, scale=3.0)(params)
            leaves = jax.tree.leaves(rows)
            finite = jnp.ones(K, bool)
            return (
                gram(leaves),
                gram(leaves[1:]),
                gram(leaves, scales),
                squared_norms(leaves, scales),
                combine_leaves(weights, leaves, finite),
                combine_leaves(weights, leaves, finite, scales),
            )

        got = jax.jit(lambda: all_products("gram"))()
        assert_same(got, jax.jit(lambda: all_products("unroll"))())


LINKS = {
    "sum_rows": gradients.sum_rows(),
    "mean_rows": gradients.mean_rows(K, diagnostics=False),
    "upgrad": gradients.upgrad(K),
    "pcgrad by leaf": gradients.pcgrad(K, per="leaf"),
    "mgda on the trunk": gradients.mgda(
        K, normalise="loss+", measure=lambda path: "k" in str(path)
    ),
    "head_aware": gradients.head_aware(K, metric=lambda path: 0.5 if "heads" in str(path) else 1.0),
    "route": gradients.route({"kernel": gradients.imtl_g(K), "bias": 1, "heads": None}),
    "chain": optax.chain(gradients.imtl_g(K), optax.clip_by_global_norm(0.1), optax.adam(0.1)),
}
of_links = pytest.mark.parametrize("tx", LINKS.values(), ids=LINKS)


@of_links
@pytest.mark.parametrize("losses", [mlp, first_missing])
def test_links_do_the_same_as_on_rows(losses, tx):
    """An absent row included."""
    with jax.enable_x64(True):
        params = parameters()
        got = jax.jit(lambda: step(losses, tx, "gram", params))()
        assert_same(got, jax.jit(lambda: step(losses, tx, "unroll", params))())


@pytest.mark.parametrize("losses", [first_steep, first_broken])
def test_rows_that_are_not_finite_are_left_out(losses):
    """One infinite row; and one of NaN, which a backward pass for all rows spreads."""
    tx = gradients.upgrad(K)
    params = parameters(jnp.float32)
    update, state = jax.jit(lambda: step(losses, tx, "gram", params))()
    want, want_state = jax.jit(lambda: step(losses, tx, "map", params))()
    assert state.quarantined == want_state.quarantined == (1 if losses is first_steep else K)
    assert_same(update, want, rtol=1e-5)
    assert jnp.any(update["kernel"] != 0) == (losses is first_steep)


def test_a_sweep_has_each_member_as_it_is_alone():
    """Under vmap, with a broken row in one member."""
    tx = gradients.upgrad(K)

    def member(factor):
        def losses(params):
            first, *others = mlp(params)
            return (first * factor, *others)

        return step(losses, tx, "gram", parameters(jnp.float32))[0]

    factors = jnp.asarray([1.0, jnp.nan, 4.0])
    together = jax.jit(jax.vmap(member))(factors)
    alone = [jax.jit(member)(factor) for factor in factors]
    assert_same(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone), rtol=1e-5)


def test_training_under_scan():
    with jax.enable_x64(True):
        tx = optax.chain(gradients.mgda(K), optax.adam(0.05))

        def train(mode):
            def one(carry, _):
                params, state = carry
                values, rows = value_and_rows(mlp, mode=mode)(params)
                update, state = tx.update(rows, state, params)
                return (optax.apply_updates(params, update), state), values

            params = parameters()
            return jax.lax.scan(one, (params, tx.init(params)), None, 20)[1]

        assert_same(jax.jit(lambda: train("gram"))(), jax.jit(lambda: train("map"))(), 1e-7)


def test_aux_and_several_arguments():
    with jax.enable_x64(True):
        params = parameters()

        def losses(kernel, rest):
            return mlp({"kernel": kernel, **rest}), {"size": kernel.size}

        kernel = params.pop("kernel")
        products = {}
        for mode in ("gram", "map"):
            made = value_and_rows(losses, argnums=(0, 1), has_aux=True, mode=mode)
            (_, aux), rows = made(kernel, params)
            assert aux["size"] == 20
            products[mode] = gram(jax.tree.leaves(rows))
        assert_same(products["gram"], products["map"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_lengths_and_signs(dtype):
    """A loss scale whose squares half precision does not hold: lengths are summed in float32."""

    def losses(params):
        z = jnp.tanh(X.astype(dtype) @ params["kernel"] + params["bias"])
        return squared_errors(z @ params["heads"])

    def products(mode):
        _, rows = value_and_rows(losses, mode=mode, scale=2.0**9)(parameters(dtype))
        matrix = np.asarray(gram(jax.tree.leaves(rows)))
        length = np.sqrt(np.diagonal(matrix))
        return length, matrix / length / length[:, None]

    (length, cosines), (given_length, given_cosines) = products("gram"), products("unroll")
    assert length.max() ** 2 > jnp.finfo(jnp.float16).max
    np.testing.assert_allclose(length, given_length, rtol=1e-2)
    np.testing.assert_allclose(cosines, given_cosines, atol=2e-2)


def wide(params):
    z = jnp.ones((64, 300))
    for kernel in params["layers"]:
        z = jnp.tanh(z @ kernel)
    return tuple(jnp.mean((z @ params["heads"])[:, k] ** 2) for k in range(8))


@pytest.mark.parametrize("layers", [2, 8])
def test_memory_is_that_of_one_backward_pass(layers):
    """What XLA says: arguments, results and what lies between, of a step of PCGrad on 8 rows."""
    shape = jax.ShapeDtypeStruct((300, 300), jnp.float32)
    params = {"layers": [shape] * layers, "heads": jax.ShapeDtypeStruct((300, 8), jnp.float32)}
    tx = gradients.pcgrad(8)

    def one_gradient(params):
        return jax.grad(lambda p: sum(wide(p)))(params)

    def update(mode):
        return lambda params: step(wide, tx, mode, params)[0]

    def peak(function) -> int:
        memory = jax.jit(function).lower(params).compile().memory_analysis()
        return (
            memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        )

    least = peak(one_gradient)
    assert peak(update("gram")) < 1.3 * least
    assert peak(update("map")) > 3 * least


READERS = {
    "graddrop": gradients.graddrop(K),
    "db_mtl": gradients.db_mtl(K),
    "moco": gradients.moco(K),
    "excess_mtl": gradients.excess_mtl(K),
    "dynamic_scale": gradients.dynamic_scale(gradients.upgrad(K)),
    "decay before the link": optax.chain(optax.add_decayed_weights(0.1), gradients.upgrad(K)),
    "scale before the link": optax.chain(optax.scale(0.1), gradients.upgrad(K)),
}


@pytest.mark.parametrize("tx", READERS.values(), ids=READERS)
def test_what_reads_entries_is_refused(tx):
    with pytest.raises(TypeError, match="mode='gram'.*no entries.*another mode, such as 'map'"):
        step(mlp, tx, "gram", parameters(jnp.float32))


def test_entries_that_are_read_by_hand_are_refused():
    _, rows = value_and_rows(mlp, mode="gram")(parameters(jnp.float32))
    assert rows["kernel"].shape == (K, 4, 5) and rows["kernel"].ndim == 3
    for read in (np.asarray, jnp.sum, lambda leaf: leaf[0], lambda leaf: jnp.ones(K) * leaf):
        with pytest.raises(TypeError, match=r"no entries|not a valid JAX type"):
            read(rows["kernel"])
    with pytest.raises(TypeError, match="ImplicitRows"):
        jax.jit(value_and_rows(mlp, mode="gram"))(parameters(jnp.float32))
