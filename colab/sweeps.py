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
# # Sweeps: many configurations in one compilation, on any device
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/fairjax/fairjax/blob/main/colab/sweeps.ipynb)
#
# **The question.** Nobody knows beforehand which point of the trade-off between fairness and accuracy to
# choose. So train them all: how many networks can one program train, what if it is killed on the way,
# and how do you get the one model that you want?
#
# Here you find the device, sweep as much as it can carry, kill the sweep and resume it, look at the
# frontier, choose a run in two ways, and save its model. This takes about a minute on two CPU cores. On
# Colab choose *Runtime, Change runtime type* and a GPU or TPU: the code stays the same.

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
# %matplotlib inline
import tempfile
from pathlib import Path

import jax
import numpy as np

import fairjax
from fairjax.study import from_names, load_model, model_of_run, named_study

# %% [markdown]
# ## The device
#
# One line of jax says what there is. An accelerator trains many small networks as fast as one, so it
# gets more of them.

# %%
devices = jax.local_devices()
kind = devices[0].platform
RUNS = {"cpu": 32}.get(kind, 512)
print(f"{len(devices)} device(s) of kind {kind}: {RUNS} runs")

# %% [markdown]
# ## The data
#
# The census data Adult, as a table of your own would be read. Two tasks: is the income above 50,000, and
# are there more than 40 hours of work a week. The groups are women and men; sex itself is no feature.

# %%
FEATURES = ("age", "education", "occupation", "workclass", "race", "native-country")
try:
    entry = fairjax.data.REGISTRY["adult"]
    columns = entry.read(entry.obtain())  # downloads the files where they are missing
    roles = fairjax.Roles(
        tasks=("income == >50K", "hours: hours-per-week > 40"),
        sensitive=("sex",),
        features=FEATURES,
        split="split",
    )
    data = fairjax.from_table(columns, roles)
    new_rows = {name: ["", ""] for name in FEATURES}  # not known
    new_rows |= {"age": [51, 23], "education": ["Masters", "HS-grad"], "occupation": ["Sales", ""]}
except fairjax.DataError:
    print("The files of Adult are not here and cannot be had. Made-up rows stand in for them.")
    data = fairjax.load("synthetic")
    new_rows = {column.name: ["", ""] for column in data.columns if column.role == "feature"}
print([task.name for task in data.spec.tasks], "by", data.spec.attributes[0].name)

# %% [markdown]
# ## What is swept
#
# A study in names: everything in it is text and numbers. It is written beside the results, so that any
# run can be made again without this notebook. *Baseline* trains a loss and a fairness loss for each task;
# here the scores of both groups are to be distributed alike (`mmd`, `parity`). The weights of tasks and of
# fairness are drawn; `draw` lets the learning rate vary too.

# %%
names = named_study(
    methods=("baseline",),
    notion="mmd",
    trunk=(32,),
    head=(16,),
    embedding=8,
    runs=RUNS,
    reference_seeds=4,
    epochs=5,
    batch_size=1024,
    draw={"learning_rate": (0.01, 0.1, "log")},
    condition="parity",
    sequence="sobol",
)
study = from_names(data, names)
for method, recipe in study.recipes.items():
    print(f"{method:12} {', '.join(recipe.space)}")

# %% [markdown]
# A configuration is a row of arrays. These arrays are *arguments* of the compiled program, and a
# `vmap` runs over their rows. Therefore another value of a weight costs no compilation.

# %%
hparams, seeds = study.points("baseline")
print({name: values.shape for name, values in hparams.items()})

# %% [markdown]
# ## A kill, and a resume
#
# With `out=` every finished chunk of runs is on disk, and jax keeps compiled programs in a folder too, if
# it is told so. To see what a kill does, this watcher stops the sweep in the middle, as an interrupted
# kernel would.

# %%
out = Path(tempfile.mkdtemp())
jax.config.update("jax_compilation_cache_dir", str(out / "programs"))


def kill_in_the_middle(method, finished, total):
    if method == "baseline" and finished >= total / 2:
        raise KeyboardInterrupt


try:
    fairjax.run_study(data, study=study, out=out, progress=kill_in_the_middle)
except KeyboardInterrupt:
    print("killed")


def chunks():
    """When every chunk of the sweep was written."""
    return {
        path.name: path.stat().st_mtime_ns for path in (out / "sweeps" / "baseline").glob("*.npz")
    }


before = chunks()
print(f"on disk: {', '.join(sorted(before))}")

# %% [markdown]
# The same call goes on where the sweep stopped. Chunks that are on disk are read and not trained again.

# %%
results = fairjax.run_study(data, study=study, out=out, progress=False)
after = chunks()
kept = [name for name in before if after[name] == before[name]]
print(
    f"{len(kept)} chunks were kept, {len(after) - len(kept)} are new; {results.table.rows} runs in the table"
)

# %% [markdown]
# Does a resumed sweep have other numbers than one that was never stopped? Throw the last chunk away, let
# it be trained once more, and compare every number of both tables.

# %%
*_, last = sorted((out / "sweeps" / "baseline").glob("*.npz"))
last.unlink()
again = fairjax.run_study(data, study=study, out=out, progress=False)
same = [
    np.array_equal(values, again.table[key], equal_nan=values.dtype.kind == "f")
    for key, values in results.table.items()
]
print(f"{sum(same)} of {len(same)} columns are the same to the last bit")

# %% [markdown]
# ## The frontier
#
# **How to read it.** A small mark is a network. To the right it makes more errors, further up the
# shares of yes differ more between groups; both are averages over the tasks, divided by what
# single-task networks have, so that 1 is *as they are* (dashed). Lower left is better. A line joins
# what no other run beats; validation rows choose it, test rows place it (hollow: a choice
# that did not hold). The cross is a predictor that looks at nobody.

# %%
table, info = results.table, results.info
fairjax.report.draw_overall(fairjax.report.lay_out(table, info))

# %%
for warning in info["warnings"]:
    print("-", warning)

# %% [markdown]
# The two tasks against each other. **How to read it.** Left their errors, right their gaps, a mark is a
# network; what is best in both errors (large marks) is not what is best in both gaps.

# %%
fairjax.report.draw_tradeoff(fairjax.report.lay_out(table, info))

# %% [markdown]
# ## One run out of all: the knee
#
# The *knee* is where the frontier bends: to go further in either direction costs much of the other.
# Validation rows choose it, test rows report it. (`fairjax.study.candidates` has intervals.)

# %%
attribute = data.spec.attributes[0].name
knee = fairjax.report.knee_run(table, info)


def show(run):
    """A run's errors and gaps on test rows beside those of single-task networks and a constant."""
    print(f"run {run} ({table['method'][run]}), on test rows:")
    for task in info["tasks"]:
        alone = info["single_task"]["test"][task]
        constant = min(found["error"] for found in info["constants"]["test"][task].values())
        error = table[f"test.error[{task}]"][run]
        gap = table[f"test.{info['gap']}[{task}|{attribute}]"][run]
        print(
            f"  {task:13} error {error:.3f} (single task {alone['error']:.3f}, constant {constant:.3f})"
            f"   gap {gap:.3f} (single task {alone['gap']:.3f}, constant 0)"
        )


show(knee)

# %% [markdown]
# ## One run out of all: a bound
#
# Or you know how large a gap may be. Of all runs whose largest gap on validation rows is within the
# bound, take the one of least error there. (A bound that is just met on validation rows may be missed
# on test rows: look.)

# %%
BOUND = 0.05
keys = [f"validation.{info['gap']}[{task}|{attribute}]" for task in info["tasks"]]
largest_gap = np.max([table[key] for key in keys], axis=0)
is_method = ~np.isin(table["method"], info["reference_methods"])
within = is_method & ~table["diverged"] & (largest_gap <= BOUND)
print(
    f"{within.sum()} of {is_method.sum()} runs are within the bound of {BOUND} on validation rows"
)
bounded = (
    int(np.argmin(np.where(within, table["validation.are"], np.inf))) if within.any() else knee
)
show(bounded)

# %% [markdown]
# ## Save the model
#
# A run's model is the very one that was evaluated: its parameters are in the chunk files. Saved, it
# carries all that it needs to read new rows: levels of columns, means, thresholds.

# %%
model, scores = model_of_run(data, results, bounded)
model.save(out / "model")
print(model.describe())
print({path.name: f"{path.stat().st_size:,} bytes" for path in sorted((out / "model").iterdir())})

# %% [markdown]
# Loaded again, perhaps elsewhere, it scores rows as they come: a file, a data frame, a dict of columns.
# Cells that are missing or were never seen are allowed.

# %%
loaded = load_model(out / "model")
for name, values in loaded.predict(new_rows).items():
    print(f"{name:24} {np.round(values, 3)}")

# %% [markdown]
# ## What it does not show
#
# - How fast a device is: this notebook has no timing. [Measured](https://github.com/fairjax/fairjax/blob/main/docs/speed.md),
#   beside PyTorch. Accelerators pay where runs are many; a sweep of this size is as well on a CPU.
# - A run that was chosen on validation rows among many is a little lucky there. The test rows tell, and
#   are to be looked at once.
#
# ## Next
#
# - The same from a shell, with a page to hover over: `fairjax frontier --data adult --notion mmd --runs 48`,
#   and after a kill `--resume`.
# - Many machines: `--chunks 3/16`, a SLURM array or Ray
#   ([resume and scale](https://github.com/fairjax/fairjax/blob/main/docs/tutorials/scale.md)).
# - A bound that training itself keeps: `fairjax.constrain(data, "equal_opportunity <= 0.05")`.
