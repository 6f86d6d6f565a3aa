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
# # Transfer: demographics for one task, fairness for the other?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/fairjax/fairjax/blob/main/colab/transfer.ipynb)
#
# **The question.** One task comes with demographics and another one, the task that matters, does not.
# If both are learned on one trunk and the first is penalised for being unfair, does the second become
# fairer too?
#
# The paper: Aguirre, Dredze, *Transferring fairness using multi-task learning with limited demographic
# information*, 2023 ([arXiv:2305.12671](https://arxiv.org/abs/2305.12671)).
#
# This notebook takes about a minute on two CPU cores. It uses an accelerator where there is one.

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

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import fairjax
from fairjax import metrics
from fairjax.data import Part, mask_supervision
from fairjax.methods import differential_penalty, settings, transfer
from fairjax.training import sweep

plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The data
#
# Adult has 48,842 people of a census, and two tasks: is the income above 50,000, and is there a
# capital gain. The target is the income.

# %%
try:
    fairjax.data.REGISTRY["adult"].obtain()  # downloads the files where they are missing
    data = fairjax.load("adult")
except fairjax.DataError:
    print("The files of Adult are not here and cannot be had. Made-up rows stand in for them.")
    data = fairjax.load("synthetic")
spec = data.spec
target, auxiliary = 0, 1
names = [task.name for task in spec.tasks]
attribute = spec.attributes[0].name
print(
    f"{data.name}: target {names[target]}, auxiliary task {names[auxiliary]}, groups by {attribute}"
)

# %% [markdown]
# As in the paper no row has both labels: rows are dealt at random to two halves, each of which knows
# one task. (Sex stays in both halves, for one curve that is allowed to look at it. All other curves
# read it where the auxiliary label is known, and nowhere else.)

# %%
parts = [Part((name,), (attribute,)) for name in names]
splits = mask_supervision(data.splits, spec, parts)
known = np.asarray(splits.train.label_mask).sum(axis=0)
print({name: f"{count:,.0f} labels" for name, count in zip(names, known, strict=True)})

# %% [markdown]
# ## The idea
#
# $\epsilon$ of differential fairness is the largest log-ratio, over groups and labels, of the rates at
# which they are selected: with $\epsilon = 1$ one group is selected $e$ times as often as another one.
# The penalty is $\epsilon$ of the auxiliary task, its rates kept as running averages:
#
# $$\text{everything descends}\quad L_\text{target} + L_\text{auxiliary} + \lambda\,\epsilon_\text{auxiliary}.$$
#
# There is a way out. The head of the auxiliary task can become fair by itself and leave the trunk, and
# so the target, as it is. Therefore a second form, which is not the paper's: the gradient of the
# penalty reaches the trunk alone, and passes the heads by (`head_penalty_scale=0`).
#
# All forms are points of one method, and so one sweep:

# %%
penalties = [differential_penalty(task, attributes=(0,)) for task in range(2)]
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
variants = {
    "target alone": ("stl_base", [0.0], 1.0),
    "both tasks": ("mtl_base", [0.0], 1.0),
    "penalty on the auxiliary task, as published": ("mtl_fair", STRENGTHS, 1.0),
    "the same, out of the heads' reach": ("mtl_fair", STRENGTHS, 0.0),
    "penalty on the target itself": ("stl_fair", STRENGTHS, 1.0),
}
points, owner = [], []
for label, (variant, strengths, scale) in variants.items():
    for strength in strengths:
        point = settings(
            variant, spec, penalties, target, auxiliary, lam=strength, head_penalty_scale=scale
        )
        points.append(point | {"learning_rate": np.float32(0.05)})
        owner.append(label)
hparams = {name: np.stack([point[name] for point in points]) for name in points[0]}
owner = np.array(owner)
print(f"{len(points)} settings")

# %% [markdown]
# ## The sweep
#
# Every setting is trained with three seeds; all runs are one compiled program. Decisions say yes to as
# many people as there are labels *yes* among the training rows.

# %%
model = fairjax.shared_bottom(spec, trunk=(32,), head=(16,), embedding=8)
context = fairjax.Context.paper(spec, model, learning_rate=0.05, batch_size=512, reduction="mean")


def evaluate(scores, splits):
    """Macro F1 and epsilon of every task on test rows, whose sex is known."""
    rates = metrics.base_rates(spec, splits.train)
    return metrics.evaluate_differential(spec, scores["test"], splits.test, rates, [(0,)])


SEEDS = range(3)
runs = sweep(
    transfer(penalties)(context),
    fairjax.TrainConfig(epochs=8, batch_size=512),
    hparams,
    SEEDS,
    splits,
    evaluate,
)
print(f"{len(runs.point)} runs, {runs.compilations} compilation(s) on {jax.devices()[0].platform}")


# %%
def by_setting(metric, task, **of):
    """A metric of a task, ``[settings, seeds]``."""
    values = runs.metrics[metrics.Metric(metric, names[task], **of)]
    return values.reshape(len(points), len(SEEDS))


epsilon = [by_setting("differential_equalized_odds", t, attribute=attribute) for t in range(2)]
f1 = by_setting("macro_f1", target)

# %% [markdown]
# ## Does the penalty reach the target?
#
# **How to read it.** To the right the penalty on the auxiliary task is stronger. Left picture: its own
# $\epsilon$. Right picture: $\epsilon$ of the target, whose demographics nobody looked at. Lower is
# fairer; bands are from the lowest to the highest seed, the dashed line is the target learned alone.

# %%
COLOURS = dict(zip(variants, ("0.3", "#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
for t, ax in zip((auxiliary, target), axes, strict=True):
    for label in list(variants)[2:4]:
        values = np.concatenate([epsilon[t][owner == "both tasks"], epsilon[t][owner == label]])
        ax.plot(values.mean(axis=1), "o-", color=COLOURS[label], label=label)
        ax.fill_between(
            range(5), values.min(axis=1), values.max(axis=1), color=COLOURS[label], alpha=0.15, lw=0
        )
    ax.set_xticks(range(5), ["0", *(f"{strength:g}" for strength in STRENGTHS)])
    ax.set(
        xlabel=r"strength $\lambda$ of the penalty on the auxiliary task",
        ylabel=r"$\epsilon$ on test rows",
        title=f"{'auxiliary' if t == auxiliary else 'target'}: {names[t]}",
    )
    ax.set_ylim(0)
axes[1].axhline(epsilon[target][owner == "target alone"].mean(), color="0.4", ls="--", lw=1)
handles, labels = axes[0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
plt.show()

# %% [markdown]
# ## The frontier of the target
#
# **How to read it.** To the right the target is predicted worse, further up it is less fair: lower left
# is better. A large mark is a setting, the mean of its seeds (small marks); a line joins rising
# strengths. The pink line needs demographics of the target itself: it is what transfer would have to
# reach.

# %%
fig, ax = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
for (label, colour), marker in zip(COLOURS.items(), "XPsD^", strict=True):
    error, gap = 1 - f1[owner == label], epsilon[target][owner == label]
    ax.plot(error.ravel(), gap.ravel(), marker, ms=3, color=colour, alpha=0.35, mew=0)
    is_reference = len(error) == 1
    ax.plot(
        error.mean(axis=1),
        gap.mean(axis=1),
        marker + "-",
        ms=11 if is_reference else 8,
        color=colour,
        mec="white",
        label=label,
        zorder=4 if is_reference else 3,
    )
ax.set(
    xlabel="1 - macro F1 of the target on test rows",
    ylabel=r"$\epsilon$ of the target on test rows",
    title=f"{data.name}: {names[target]} by {attribute}",
)
ax.set_ylim(0)
fig.legend(loc="outside lower center", ncols=2, frameon=False)
plt.show()

# %% [markdown]
# ## What the paper says, and what we see here
#
# The paper's numbers: $\epsilon$ of the target learned alone, and with a penalty on the auxiliary
# task, on three tasks of clinical notes and of tweets (other data and other encoders than here).

# %%
print("paper: epsilon alone -> with the penalty on the auxiliary task")
for task, before, after in (
    ("mortality", 0.25, 0.19),
    ("phenotyping", 0.28, 0.21),
    ("tweets", 0.33, 0.28),
):
    print(f"  {task:45} {before:.2f} -> {after:.2f}")
alone = epsilon[target][owner == "target alone"]
print(f"here, {names[target]} on {data.name}, at the strongest penalty, and how each seed moves:")
for label in list(variants)[1:]:
    after = epsilon[target][owner == label][-1]
    moves = ", ".join(f"{move:+.2f}" for move in after - alone[0])
    lost = (f1[owner == "target alone"][0] - f1[owner == label][-1]).mean()
    print(
        f"  {label:45} {alone.mean():.2f} -> {after.mean():.2f}   ({moves}), macro F1 {-lost:+.3f}"
    )
share = data.splits.test.labels[:, target].mean()
print(
    f"a constant predictor: epsilon 0, macro F1 {(1 - share) / (2 - share):.3f}; alone {f1[0].mean():.3f}"
)

# %% [markdown]
# What Adult shows:
#
# - **As published, nothing transfers.** The auxiliary task does what it is asked for, and the
#   target becomes no fairer: the auxiliary head took the fairness upon itself.
# - **Out of the heads' reach** the trunk has to change, and at a strong penalty the target becomes
#   somewhat fairer, for some of its accuracy.
# - A penalty on the target itself does far more. A few demographics of the target are worth more than
#   many of another task.

# %% [markdown]
# ## What it does not show
#
# - Strengths are shown on test rows, all of them; none is chosen here. To choose one without
#   demographics of the target is harder than this picture looks.
# - It is no law: on five tasks of a survey and on tweets
#   [neither form helps](https://github.com/fairjax/fairjax/blob/main/docs/papers/transfer.md).
# - Three seeds and one pair of tasks. Small rates make a large $\epsilon$: it is a ratio.

# %% [markdown]
# ## Next
#
# - Two tables with other people in each:
#   [the tutorial](https://github.com/fairjax/fairjax/blob/main/docs/tutorials/one_task_demographics.md)
#   joins them.
# - No demographics at all: `fairjax.methods.blind`.
# - Swap `target` and `auxiliary` above and run again.
