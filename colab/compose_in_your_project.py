# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: all
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # fairjax in your own JAX project
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/fairjax/fairjax/blob/main/colab/compose_in_your_project.ipynb)
#
# You have a model with several losses, an optax optimizer and a training loop, and you want the
# losses to get along. Nothing of that has to move: a multi-task gradient method is **one more link,
# the first in your `optax.chain`**.
#
# 1. PCGrad in front of `adamw`, on a Flax NNX model
# 2. the same on an Equinox model
# 3. parameters with names of your own, in five lines
# 4. a sweep over the method's constants in one compilation
# 5. seeing conflicts: when, between whom, in which layer
# 6. what goes wrong, and how you are told
#
# All of it runs on a CPU in under a minute.

# %% [markdown]
# Install what is missing. Where fairjax is there already, this cell does nothing. It leaves the jax
# of the image alone.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("fairjax") is None:
    wanted = "fairjax[plot] @ git+https://github.com/fairjax/fairjax"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted], check=True)

# %% [markdown]
# Equinox is needed for part 2 alone.

# %%
if importlib.util.find_spec("equinox") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "equinox"], check=True)

# %%
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import fairjax
from fairjax.report import conflict_shares, draw_conflicts

# %% [markdown]
# ## Two tasks that pull apart
#
# Made-up flats: the closer to the centre, the higher the price and the less quiet. Both tasks need
# that feature, with opposite signs, through a shared layer of three units, so their gradients
# conflict. Prices come in a larger unit and drown the other loss.


# %%
def flats(key, rows=512):
    noise = jax.random.split(key, 3)
    x = jax.random.normal(noise[0], (rows, 6))
    size, centre, green = x[:, 0], jnp.tanh(2 * x[:, 1]), x[:, 2]
    price = 2 * (jnp.tanh(size) + 1.5 * centre + 0.1 * jax.random.normal(noise[1], (rows,)))
    quiet = green - 1.5 * centre + 0.1 * jax.random.normal(noise[2], (rows,))
    return x, jnp.stack([price, quiet], axis=1)


def errors(predictions, y):
    """One mean squared error per task: K losses, here K = 2."""
    return tuple(jnp.mean((predictions[k] - y[:, k]) ** 2) for k in range(2))


x, y = flats(jax.random.key(0))
held_out = flats(jax.random.key(1))
STEPS, BATCH = 320, 64
EPOCHS = STEPS * BATCH // len(x)


def batch(i):
    """The rows of step i; every epoch is shuffled anew."""
    per_epoch = len(x) // BATCH
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(2), i // per_epoch), len(x))
    rows = jax.lax.dynamic_slice(order, [i % per_epoch * BATCH], [BATCH])
    return x[rows], y[rows]


# %% [markdown]
# ## 1. Flax NNX
#
# A model as you may have it, with layers called whatever you like.


# %%
class Flat(nnx.Module):
    def __init__(self, rngs):
        self.encoder = nnx.Linear(6, 3, rngs=rngs)
        self.price = nnx.Linear(3, 1, rngs=rngs)
        self.quiet = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x):
        z = jnp.tanh(self.encoder(x))
        return self.price(z)[:, 0], self.quiet(z)[:, 0]


# %% [markdown]
# Two lines differ from ordinary training. `fairjax.value_and_rows` stands where
# `nnx.value_and_grad` stood and gives *rows*: the parameters' tree with one gradient per loss along
# a leading axis. `pcgrad(rows=2)` makes one update of them; `adamw` and `nnx.Optimizer` never
# notice. (`validated` asks once, at the start, whether the chain is in the right order.)


# %%
@nnx.jit
def nnx_step(model, optimizer, i):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    inputs, targets = batch(i)
    values, rows = fairjax.value_and_rows(
        lambda p: errors(nnx.merge(graphdef, p, rest)(inputs), targets)
    )(params)
    optimizer.update(model, rows, values=values)
    return values


def train_nnx(link):
    model = Flat(nnx.Rngs(0))
    tx = fairjax.validated(optax.chain(link, optax.adamw(1e-2)), rows=2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for i in range(STEPS):
        nnx_step(model, optimizer, jnp.asarray(i))
    return model, optimizer


for name, link in {
    "sum of the losses": fairjax.sum_rows(),
    "PCGrad": fairjax.pcgrad(rows=2),
}.items():
    model, optimizer = train_nnx(link)
    price, quiet = errors(model(held_out[0]), held_out[1])
    print(f"{name:18} error of price {price:.3f}, of quiet {quiet:.3f}")

# %% [markdown]
# Every link leaves notes in the optimizer's state: the weights it gave the rows in the last step,
# their cosines, how many pairs were in conflict, how many rows it had to leave out because they
# were not finite.

# %%
notes = fairjax.link_states(optimizer.opt_state)[
    0
]  # nnx keeps arrays in variables: [...] takes them out
print("weights", notes.weights[...], " cosine", notes.cosines[0, 1])
print("pairs in conflict", notes.conflicts[...], " rows left out so far", notes.quarantined[...])

# %% [markdown]
# ## 2. Equinox
#
# The same link, the same two lines. `eqx.partition` takes the arrays out, and rows are taken with
# respect to those.


# %%
class House(eqx.Module):
    encoder: eqx.nn.Linear
    price: eqx.nn.Linear
    quiet: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.encoder = eqx.nn.Linear(6, 3, key=keys[0])
        self.price = eqx.nn.Linear(3, "scalar", key=keys[1])
        self.quiet = eqx.nn.Linear(3, "scalar", key=keys[2])

    def __call__(self, x):
        z = jnp.tanh(self.encoder(x))
        return self.price(z), self.quiet(z)


house = House(jax.random.key(0))
params, train_config = eqx.partition(house, eqx.is_inexact_array)
tx = fairjax.validated(optax.chain(fairjax.pcgrad(rows=2), optax.adamw(1e-2)), rows=2)
state = tx.init(params)


@eqx.filter_jit
def eqx_step(params, state, i):
    inputs, targets = batch(i)
    values, rows = fairjax.value_and_rows(
        lambda p: errors(jax.vmap(eqx.combine(p, train_config))(inputs), targets)
    )(params)
    updates, state = tx.update(rows, state, params, values=values)
    return eqx.apply_updates(params, updates), state, values


for i in range(STEPS):
    params, state, values = eqx_step(params, state, jnp.asarray(i))
house = eqx.combine(params, train_config)
price, quiet = errors(jax.vmap(house)(held_out[0]), held_out[1])
print(f"error of price {price:.3f}, of quiet {quiet:.3f}")

# %% [markdown]
# ## 3. Names of your own
#
# Here is a model without any framework, its parameters named after nothing in particular.


# %%
def forward(p, x):
    z = jnp.tanh(x @ p["lobby"]["w"] + p["lobby"]["b"])
    return z @ p["left_door"], z @ p["right_door"]


def fresh(key):
    keys = jax.random.split(key, 3)
    return {
        "lobby": {"w": 0.4 * jax.random.normal(keys[0], (6, 3)), "b": jnp.zeros(3)},
        "left_door": 0.5 * jax.random.normal(keys[1], (3,)),
        "right_door": 0.5 * jax.random.normal(keys[2], (3,)),
    }


start = fresh(jax.random.key(0))

# %% [markdown]
# Only shared parameters can be fought over; a head belongs to its task. `route` sends each part of
# the tree to a link of its own, and a label function says which part a parameter is in, by its
# path. Apart from that function, a step is five lines, whatever made the model.


# %%
def label(
    path,
):  # "['lobby']['w']" in a dict, ".encoder.weight" in an Equinox module, "['encoder']['kernel']" in NNX
    return "shared" if "lobby" in jax.tree_util.keystr(path) else "own"


tx = optax.chain(
    fairjax.route({"shared": fairjax.pcgrad(rows=2), "own": fairjax.sum_rows()}, label),
    optax.adamw(1e-2),
)
state = fairjax.validated(tx, rows=2).init(start)
values, rows = fairjax.value_and_rows(lambda p: errors(forward(p, x), y))(start)
updates, state = tx.update(rows, state, start, values=values)
params = optax.apply_updates(start, updates)
print({name: leaf.shape for name, leaf in rows["lobby"].items()}, "<- two rows for every parameter")

# %% [markdown]
# The whole training as one `lax.scan`, for what follows. `notes` picks what to keep of the
# optimizer's state after every step.


# %%
def train(tx, params, notes=lambda state: ()):
    def step(carry, i):
        params, state = carry
        inputs, targets = batch(i)
        values, rows = fairjax.value_and_rows(lambda p: errors(forward(p, inputs), targets))(params)
        updates, state = tx.update(rows, state, params, values=values)
        return (optax.apply_updates(params, updates), state), notes(state)

    (params, _), kept = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(STEPS))
    return jnp.stack(errors(forward(params, held_out[0]), held_out[1])), kept


def chain_of(link, rate):
    return optax.chain(
        fairjax.route({"shared": link, "own": fairjax.sum_rows()}, label), optax.adamw(rate)
    )


# %% [markdown]
# ## 4. A sweep in one compilation
#
# Constants of a link are ordinary arguments and may be traced. So CAGrad's `c` (how far it may go
# from the mean gradient) and the learning rate are swept by two `vmap`s under one `jit`: 32
# trainings, compiled once.

# %%
traced = []


@jax.jit
def sweep(cs, rates):
    def run(c, rate):
        traced.append("once")
        return train(chain_of(fairjax.gradients.cagrad(rows=2, c=c), rate), start)[0]

    return jax.vmap(lambda c: jax.vmap(lambda rate: run(c, rate))(rates))(cs)


cs, rates = jnp.linspace(0.0, 0.9, 8), jnp.asarray([3e-3, 1e-2, 3e-2, 1e-1])
losses = np.asarray(sweep(cs, rates))
print(f"{losses[..., 0].size} trainings, traced {len(traced)} time")

# %% [markdown]
# Every point is a training; what no other beats in both errors is joined by the line. (Points are
# shown on rows that did not train them. To choose one, keep a third set for the final number.)

# %%
flat = losses.reshape(-1, 2)
front = flat[fairjax.metrics.frontier.nondominated(flat)]
front = front[np.argsort(front[:, 0])]
fig, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
for k, marker in enumerate("os^D"):
    points = ax.scatter(
        *losses[:, k].T, c=cs, marker=marker, vmin=0, vmax=0.9, label=f"rate {rates[k]:g}", zorder=3
    )
ax.step(*front.T, where="post", color="0.4", lw=1)
ax.set(
    xscale="log",
    yscale="log",
    xlabel="error of price",
    ylabel="error of quiet",
    title="CAGrad: c and learning rate",
)
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_formatter("{x:g}")
ax.tick_params(which="minor", labelleft=False, labelbottom=False)
fig.colorbar(points, label="c")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 5. Seeing conflicts
#
# `observe` hands the rows on untouched and keeps their cosines leaf by leaf; the link behind it
# keeps its weights. Here both are kept at every step. (With `fairjax.make_train` the same is
# `make_train(static, recipe, watch=lambda state: ...)`.)


# %%
def watched(state):
    seen, link = fairjax.link_states(state)
    return {"cosines": seen.cosines, "weights": link.weights}


tx = optax.chain(fairjax.gradients.observe(2, per="leaf"), chain_of(fairjax.pcgrad(rows=2), 1e-2))
_, kept = jax.jit(lambda p: train(fairjax.validated(tx, rows=2), p, watched))(start)
layers = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(start)]
for layer, share in zip(layers, conflict_shares(kept["cosines"])[:, 0, 1], strict=True):
    share_text = (
        "only one task has a gradient here"
        if np.isnan(share)
        else f"in conflict in {share:.0%} of the steps"
    )
    print(f"{layer:16} {share_text}")

# %% [markdown]
# One picture of it all: angles over training, then pairs of tasks, then layers. Above 90 degrees a
# step for one task undoes part of the other's. A dash marks where the two never met.

# %%
draw_conflicts(kept["cosines"], ("price", "quiet"), layers, epochs=EPOCHS)

# %% [markdown]
# The weights PCGrad gave the two gradients of the shared layer: 1 where they agree, more where they
# conflict, and most for the shorter of the two.

# %%
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
for k, (name, style) in enumerate({"price": "-", "quiet": "--"}.items()):
    ax.plot(kept["weights"][:, k], style, lw=1, label=name)
ax.set(xlabel="step", ylabel="weight")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 6. What goes wrong, and how you are told
#
# Mistakes that would train quietly and badly are errors here, and they say what to do.


# %%
def told(attempt):
    try:
        attempt()
    except ValueError as error:
        print(textwrap.fill(f"ValueError: {error}", 110), "\n")
    else:
        raise AssertionError("this should have been an error")


# %% [markdown]
# **`adam` before the link.** optax would let it pass, with moments of a shape nobody wanted.
# `validated` traces the chain when the optimizer is initialised, which costs one tracing and
# nothing afterwards.

# %%
told(
    lambda: fairjax.validated(optax.chain(optax.adam(1e-2), fairjax.pcgrad(rows=2)), rows=2).init(
        start
    )
)

# %% [markdown]
# **A plain gradient instead of rows**, from `jax.grad` of the summed losses, say.

# %%
tx = optax.chain(fairjax.pcgrad(rows=2), optax.adamw(1e-2))
plain = jax.grad(lambda p: sum(errors(forward(p, x), y)))(start)
told(lambda: tx.update(plain, tx.init(start), start))

# %% [markdown]
# **Another number of rows**, and **a method that weighs losses, called without them**.

# %%
values, rows = fairjax.value_and_rows(lambda p: errors(forward(p, x), y))(start)
three, dwa = fairjax.pcgrad(rows=3), fairjax.gradients.dwa(rows=2, every=10)
told(lambda: three.update(rows, three.init(start), start))
told(lambda: dwa.update(rows, dwa.init(start), start))

# %% [markdown]
# **A loss that is not finite** is not an error but a note: its row is left out and counted, and the
# other task goes on learning.

# %%
broken = jax.tree.map(lambda g: g.at[1].set(jnp.nan), rows)
updates, state = tx.update(broken, tx.init(start), start)
print(
    "update finite:",
    all(bool(jnp.isfinite(u).all()) for u in jax.tree.leaves(updates)),
    " rows left out:",
    fairjax.link_states(state)[0].quarantined,
)

# %% [markdown]
# ## From here
#
# Put any other link where `pcgrad` stood: `gradvac`, `mgda`, `cagrad`, `imtl_g`, `nash_mtl`,
# `aligned_mtl`, `upgrad`, `dualproj`, `conflict_free`, `graddrop`, `dwa`, `uncertainty`,
# `gradnorm`, `imtl_l`. A rule of your own becomes a link by `fairjax.gradients.link`, and
# `fairjax.gradients.wrap_chain` puts `optax.MultiSteps` or `apply_if_finite` around a whole chain.
# Fairness losses make rows like any other: `pcgrad(rows=2 * T,
# against=fairjax.gradients.accuracy_first(T))` lets them give way to accuracy.
