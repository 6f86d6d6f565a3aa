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
# # FairBranch: which tasks should share, and which fairness should wait?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/fairjax/fairjax/blob/main/colab/fairbranch.ipynb)
#
# **The question.** Tasks that share a network can harm each other twice: their accuracy gradients
# conflict, and the bias of one task reaches another one through the shared layers. Does it help to let
# the network branch where tasks are not alike, and to hold a fairness loss back where it conflicts?
#
# The paper: Roy, Koutlis, Papadopoulos, Ntoutsi, *FairBranch: mitigating bias transfer in fair
# multi-task learning*, IJCNN 2024 ([arXiv:2310.13746](https://arxiv.org/abs/2310.13746)).
#
# This notebook takes a minute and a half on two CPU cores. It uses an accelerator where there is one.

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
import matplotlib.pyplot as plt
import numpy as np

import fairjax
from fairjax import methods, notions
from fairjax.core.types import Range

plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The data
#
# Four tasks on the census data Adult: income above 50,000, more than 40 hours a week, married, a
# degree. The groups are women and men; sex is no feature, nor is what a task is made of.

# %%
try:
    entry = fairjax.data.REGISTRY["adult"]
    columns = entry.read(entry.obtain())  # downloads the files where they are missing
    roles = fairjax.Roles(
        tasks=(
            "income == >50K",
            "hours: hours-per-week > 40",
            "married: marital-status == Married-civ-spouse",
            "degree: education-num > 12",
        ),
        sensitive=("sex",),
        features=("age", "workclass", "occupation", "race", "native-country"),
        split="split",
    )
    data = fairjax.from_table(columns, roles)
    source = "Adult"
except fairjax.DataError:
    print("The files of Adult are not here and cannot be had. Made-up rows stand in for them.")
    data = fairjax.data.synthetic(tasks=4, relatedness=0.3)
    source = "synthetic"
spec = data.spec
tasks = [task.name for task in spec.tasks]
levels = spec.attributes[0].levels

# %% [markdown]
# **How to read it.** A pair of bars is a task, a bar is a group, its height is the share of the
# group's people whose label is *yes*.

# %%
labels = np.asarray(data.splits.train.labels)
members = np.asarray(data.splits.train.groups)
shares = np.array([labels[members[:, g] > 0].mean(axis=0) for g in range(len(levels))])

fig, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
for g, (level, colour) in enumerate(zip(levels, ("#E69F00", "#0072B2"), strict=True)):
    bars = ax.bar(
        np.arange(len(tasks)) + 0.36 * (g - 0.5), shares[g], 0.34, color=colour, label=level
    )
    ax.bar_label(bars, fmt="{:.0%}", padding=2)
ax.set_xticks(range(len(tasks)), tasks)
ax.yaxis.set_major_formatter("{x:.0%}")
ax.set(ylabel="share of yes", title=f"{source}: labels by group", ylim=(0, 1.2 * shares.max()))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The idea
#
# Every task descends $L_t + \lambda_t F_t$. The fairness loss looks at the worst group $g$ of each label:
#
# $$F_t = \sum_{y} \max_g\ \text{mean}\,\bigl(\text{cross-entropy} \mid y, g\bigr).$$
#
# 1. **Branch.** All tasks begin on one trunk. Every few epochs the parameters above a layer are
#    compared between tasks; those less alike than $\tau$ get copies of the layer, from the top down.
# 2. **Surgery.** Fairness gradients that conflict within a branch are projected off each other.
# 3. **Gate.** Where a task's fairness gradient conflicts with its accuracy gradient on its own head, it
#    is left out of this step.
#
# `fairbranch without gate` has 1 and 2 alone, *baseline* none of the three, *vanilla* no fairness loss.

# %%
notion = notions.get("robust_log")


def even(method):
    """The method with equal weights of the tasks, so that only fairness and tau are drawn."""
    return methods.with_space(method, weight=Range(np.full(len(tasks), 1 / len(tasks))))


compared = {
    "vanilla": even(fairjax.vanilla()),
    "baseline": even(fairjax.baseline(notion)),
    "fairbranch": even(methods.fairbranch(notion, every=2)),
    "fairbranch without gate": even(methods.fairbranch(notion, every=2, gate=False)),
}

# %% [markdown]
# ## The sweep
#
# Each method is trained with four drawn strengths $\lambda_t$ (and $\tau$) and two seeds. All runs of a method are one
# compiled program, although each network branches in its own way. The gap is that of *equalized odds*:
# the differences of true and of false positive rates between groups.

# %%
results = fairjax.run_study(
    data,
    compared,
    model=fairjax.shared_bottom(spec, trunk=(32, 16), head=(), embedding=8),
    config=fairjax.StudyConfig(
        runs=4,
        seeds=2,
        reference_seeds=4,
        epochs=8,
        batch_size=1024,
        learning_rate=0.05,
        reduction="mean",
        condition="odds",
        sequence="sobol",
    ),
    progress=False,
)
table, info = results.table, results.info
print(f"{table.rows} rows")

# %% [markdown]
# ## The frontier
#
# **How to read it.** A small mark is a network. To the right it makes more errors, further up it is
# less fair; both are averages over the tasks, divided by what single-task networks have, so that 1 is
# *as they are* (dashed). Lower left is better. A line joins what no other run of the method beats;
# validation rows choose it, test rows place it (hollow: a choice that did not hold).

# %%
layout = fairjax.report.lay_out(table, info)
fairjax.report.draw_overall(layout)

# %%
for warning in info["warnings"]:
    print("-", warning)
print(
    "a constant predictor has error",
    round(info["constant_are"]["test"], 3),
    "and gap 0 on these axes",
)

# %% [markdown]
# Some tasks have a small gap to begin with, and to divide by it makes this axis noisy. The gains further
# down do not divide.

# %% [markdown]
# ## How the networks branch
#
# **How to read it.** Top left: branches of every layer over training; layer 1 reads the features. Top
# right: the angle between the gradients of two tasks; above 90 degrees they conflict. Bottom left: how
# often two tasks still share the last layer at the end. The other two: how often the gradients of
# accuracy, and of fairness, of two tasks were in conflict.

# %%
fairjax.report.draw_branches(info["branching"]["fairbranch"], tasks)

# %% [markdown]
# ## What the paper says, and what we see here
#
# The paper reports *gains* over single-task networks: of accuracy (larger is better), and of the
# violation of equalized odds (below 0 is fairer). Its single-task networks are trained for fairness
# too; ours below are not. Means and deviations over runs, on test rows.

# %%
print(f"{'':40} {'accuracy':>17}  {'violation':>17}")
print(f"{'paper, FairBranch, survey of 2018-19':40} {0.036:+8.3f} {'':8}  {0.000:+8.3f}")
for method in compared:
    rows = (table["method"] == method) & ~table["diverged"]
    gains = [table[f"test.{name}"][rows] for name in ("knowledge_gain", "discrimination_gain_eo")]
    texts = [f"{np.mean(gain):+8.3f} ± {np.std(gain):.3f} " for gain in gains]
    print(f"{'here, ' + method:40} {texts[0]}  {texts[1]}")
print(f"{'single tasks':40} {0:+8.3f} {'':8}  {0:+8.3f}")

# %% [markdown]
# What Adult shows:
#
# - `baseline` and `fairbranch without gate` stand together, far to the right: this fairness loss asks
#   both groups of both labels to be served alike well, and accuracy pays.
# - **What pays is the gate.** With it the network keeps most of its accuracy and is fairer than the
#   single tasks.
# - Branching by itself: compare `fairbranch without gate` with `baseline`. In the experiments
#   [no gain of branching can be seen](https://github.com/fairjax/fairjax/blob/main/docs/papers/fairbranch.md),
#   although the trees grow.

# %% [markdown]
# ## What it does not show
#
# - Four points and two seeds per method: look at the order of the methods, and not at single points.
# - Four tasks of one table. The paper has five tasks of the American Community Survey, and faces; the
#   page of the paper has them.
# - Tasks that pull in opposite directions are where branching should pay. These tasks hardly do.

# %% [markdown]
# ## Next
#
# - Take the paper's data: `fairjax.load("acs")`, with a file of persons of the survey.
# - Rivals under the same roof: `methods.recon`, `methods.fafs`, `methods.tag`, `fairjax.pcgrad`.
# - [All systems beside the published table](https://github.com/fairjax/fairjax/blob/main/docs/papers/fairbranch.md).
