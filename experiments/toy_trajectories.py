"""Paths of every gradient method on the two-task toy problem of Liu et al. (CAGrad), also with task
1 scaled (Nash-MTL).

    python experiments/toy_trajectories.py                      # a minute on one core
    python experiments/toy_trajectories.py --steps 100000       # as long as in the CAGrad paper

Two losses of a point x in the plane. Above x2 = 0 each is a narrow, curved valley, log of a
distance, where its gradient drowns the other's; below it each is a bowl, and the Pareto set is a
nearly straight line between the two minima. Every method stands as a link in front of Adam with
learning rate 1e-3, as published. Starts are those of both papers. Writes ``trajectories.png`` and
``ends.csv``: per scale of task 1, method and start where the path ended, its losses, its distance
to the Pareto set, and from which step on it stayed there. The Pareto set is computed, not assumed.

Sources: Liu, Liu, Jin, Stone, Liu: Conflict-averse gradient descent, NeurIPS 2021; Navon et al.:
Multi-task learning as a bargaining game, ICML 2022.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fairjax
from fairjax.core.disk import write
from fairjax.report.drawing import COLOURS, STYLE

RESULTS = Path(__file__).parent / "results" / "toy"
STARTS = ((-8.5, 7.5), (-8.5, -5.0), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
SCALES = (1.0, 0.1)  # of task 1: CAGrad's problem, Nash-MTL's
METHODS = (
    "mean_rows",
    "random_weighting",
    "dwa",
    "uncertainty",
    "graddrop",
    "pcgrad",
    "gradvac",
    "cagrad",
    "mgda",
    "imtl_g",
    "nash_mtl",
    "aligned_mtl",
    "conflict_free",
    "upgrad",
    "dualproj",
    "famo",
)
LEAST = (
    -21.0
)  # below both losses, as in the FAMO code; rules that look at values are given losses above 0
LIMIT = 11.0  # of the plane that is looked at
NEAR = (
    0.1  # a path this close to the Pareto set is there: Adam's jitter is 1e-3, valleys end 8 away
)
START = {"mfc": "white", "mec": "0.2", "mew": 0.9}
THERE = {"mfc": "black", "mec": "white", "mew": 0.6}
ELSEWHERE = {"mfc": COLOURS[4], "mec": "black", "mew": 0.6}


def losses(x: jax.Array, scale: jax.Array | float = 1.0) -> jax.Array:
    """The two losses ``[2]`` at a point ``[2]``; task 1 is multiplied by ``scale``."""
    x1, x2 = x
    bend = jnp.tanh(x2)
    off_valley = jnp.stack([-(x1 + 7.0) / 2.0 + bend, (7.0 - x1) / 2.0 - bend])
    valley = jnp.log(jnp.maximum(jnp.abs(off_valley), 5e-6)) + 6.0
    bowl = (jnp.square(x1 - jnp.array([7.0, -7.0])) + 0.1 * jnp.square(x2 + 8.0)) / 10.0 - 20.0
    gate = jnp.tanh(x2 / 2.0)
    return (jnp.maximum(gate, 0.0) * valley + jnp.maximum(-gate, 0.0) * bowl) * jnp.array(
        [scale, 1.0]
    )


def chain(method: str, learning_rate: float) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a method: its link, then Adam. FAMO owns Adam, DWA's period is one step."""
    adam = optax.adam(learning_rate)
    link = fairjax.gradients.REGISTRY[method].factory
    if method == "famo":
        return link(2, adam)
    settings = {"every": 1} if method == "dwa" else {}
    return optax.chain(link(2, **settings), adam)


def paths(
    method: str, starts, scales, steps: int, keep: int = 50, learning_rate: float = 1e-3
) -> np.ndarray:
    """Every ``keep``-th point of the paths from all starts at all scales of task 1.

    Returns:
      ``[scales, starts, 1 + steps // keep, 2]``, the start first.
    """
    tx = chain(method, learning_rate)

    def path(start, scale):
        def above(x):
            return losses(x, scale) - LEAST * jnp.array([scale, 1.0])

        def step(_, held):
            x, state = held
            values, rows = fairjax.value_and_rows(above)(x)
            updates, state = tx.update(rows, state, x, values=values, value_fn=above)
            return optax.apply_updates(x, updates), state

        def stretch(held, _):
            held = jax.lax.fori_loop(0, keep, step, held)
            return held, held[0]

        _, points = jax.lax.scan(stretch, (start, tx.init(start)), length=steps // keep)
        return jnp.concatenate([start[None], points])

    over_starts = jax.vmap(path, in_axes=(0, None))
    run = jax.jit(jax.vmap(over_starts, in_axes=(None, 0)))
    return np.asarray(run(jnp.array(starts), jnp.array(scales)))


def plane(points: int) -> tuple[np.ndarray, np.ndarray]:
    """A grid over the plane: coordinates ``[points]`` of both axes and losses ``[points, points,
    2]``, x2 first.
    """
    axis = np.linspace(-LIMIT, LIMIT, points)
    x1, x2 = np.meshgrid(axis, axis)
    at = jnp.asarray(np.stack([x1, x2], axis=-1).reshape(-1, 2))
    return axis, np.asarray(jax.jit(jax.vmap(losses))(at)).reshape(points, points, 2)


def pareto_set(weights: int = 281) -> np.ndarray:
    """Minimisers of ``w L_1 + (1 - w) L_2``, ``[weights, 2]``: the best of a grid, then Newton's
    method.

    They are the whole Pareto set where its front is convex; where it is not, they jump. Scaling a
    loss does not move the set, only which weight belongs to which point.

    Raises:
      RuntimeError: when neighbours are further apart than twice their mean distance.
    """
    axis, values = plane(441)
    flat = values.reshape(-1, 2)
    w = np.linspace(0.0, 1.0, weights)
    best = np.array([np.argmin(flat @ [a, 1.0 - a]) for a in w])
    start = np.stack([axis[best % len(axis)], axis[best // len(axis)]], axis=1)

    def polish(x, a):
        def total(y):
            return jnp.array([a, 1.0 - a]) @ losses(y)

        return jax.lax.fori_loop(
            0, 20, lambda _, y: y - jnp.linalg.solve(jax.hessian(total)(y), jax.grad(total)(y)), x
        )

    found = np.asarray(jax.jit(jax.vmap(polish))(jnp.asarray(start), jnp.asarray(w)))
    apart = np.linalg.norm(np.diff(found, axis=0), axis=1)
    if apart.max() > 2 * apart.mean():
        raise RuntimeError(
            "the minimisers of the weighted sums jump: they are not the whole Pareto set"
        )
    return found


def distance(points: np.ndarray, pareto: np.ndarray) -> np.ndarray:
    """Distance of points ``[..., 2]`` to the polygon through the Pareto set."""
    a, b = pareto[:-1], pareto[1:]
    along = np.clip(
        np.sum((points[..., None, :] - a) * (b - a), -1) / np.sum((b - a) ** 2, -1), 0.0, 1.0
    )
    nearest = a + along[..., None] * (b - a)
    return np.min(np.linalg.norm(points[..., None, :] - nearest, axis=-1), axis=-1)


def ends(found: dict[str, np.ndarray], pareto: np.ndarray, keep: int) -> list[dict]:
    """A row per scale, method and start."""
    table = []
    for s, scale in enumerate(SCALES):
        for method, points in found.items():
            for start, path in zip(STARTS, points[s], strict=True):
                away = distance(path, pareto)
                far = np.flatnonzero(~(away <= NEAR))
                since = 0 if not len(far) else keep * (int(far[-1]) + 1)
                reached = bool(away[-1] <= NEAR)
                one, two = np.asarray(losses(jnp.asarray(path[-1]), scale))
                numbers = {
                    "end_x1": path[-1, 0],
                    "end_x2": path[-1, 1],
                    "loss_1": one,
                    "loss_2": two,
                    "mean_loss": (one + two) / 2,
                    "distance": away[-1],
                }
                table.append(
                    {"scale_1": scale, "method": method, "start_x1": start[0], "start_x2": start[1]}
                    | {name: f"{value:.4f}" for name, value in numbers.items()}
                    | {"reached": "yes" if reached else "no", "from_step": since if reached else ""}
                )
    return table


def draw(found: dict[str, np.ndarray], pareto: np.ndarray):
    """A panel per method and scale of task 1."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    columns = 6
    across = -(-len(found) // columns)
    ramp = LinearSegmentedColormap.from_list("steps", ["#A8D4F2", COLOURS[0], "#00213A"])
    axis, values = plane(221)
    figure = Figure(
        figsize=(2.05 * columns, 2.25 * across * len(SCALES) + 1.0), dpi=110, layout="constrained"
    )
    blocks = figure.subfigures(len(SCALES), 1)
    for s, (block, scale) in enumerate(zip(blocks, SCALES, strict=True)):
        block.suptitle(
            "Both tasks as they are" if scale == 1 else f"Loss of task 1 times {scale:g}",
            fontsize=11,
        )
        axes = block.subplots(across, columns, sharex=True, sharey=True).ravel()
        for ax, (method, points) in zip(axes, found.items(), strict=False):
            ax.contour(
                axis,
                axis,
                values @ [scale / 2, 0.5],
                levels=14,
                colors="0.8",
                linewidths=0.6,
                zorder=1,
                linestyles="solid",
            )
            ax.plot(*pareto.T, color=COLOURS[1], lw=3.5, solid_capstyle="round", zorder=2)
            there = distance(points[s, :, -1], pareto) <= NEAR
            for path, arrived in zip(points[s], there, strict=True):
                pieces = LineCollection(
                    np.stack([path[:-1], path[1:]], axis=1), cmap=ramp, lw=1.6, zorder=3
                )
                pieces.set_array(np.linspace(0.0, 1.0, len(path) - 1))
                ax.add_collection(pieces)
                ax.plot(*path[0], "o", ms=4, zorder=4, **START)
                ax.plot(
                    *path[-1],
                    "o" if arrived else "X",
                    ms=6.5,
                    zorder=5,
                    **(THERE if arrived else ELSEWHERE),
                )
            ax.set_title(f"{method}: {int(there.sum())} of {len(there)}")
            ax.set(
                xlim=(-LIMIT, LIMIT),
                ylim=(-LIMIT, LIMIT),
                aspect="equal",
                xticks=(-10, 0, 10),
                yticks=(-10, 0, 10),
            )
        for spare in axes[len(found) :]:
            spare.set_axis_off()
        if s == 0:
            explain(axes[len(found)].inset_axes((0.0, 0.0, 1.6, 1.0)), ramp)
    return figure


def explain(ax, ramp) -> None:
    """The legend, in a panel of its own."""
    entries = [
        ((2.0, 5.0), "start"),
        ((2.0, 4.0), "end, on the Pareto set"),
        ((2.0, 3.0), "end, elsewhere"),
        ((2.0, 2.0), "path, first to last step"),
        ((2.0, 1.0), "Pareto set"),
        ((2.0, 0.0), "mean loss"),
    ]
    ax.set_in_layout(False)  # wider than its panel
    ax.set_axis_off()
    for (x, y), text in entries:
        ax.text(x + 0.8, y, text, va="center", fontsize=9)
    ax.plot(1, 5, "o", ms=5, **START)
    ax.plot(1, 4, "o", ms=7, **THERE)
    ax.plot(1, 3, "X", ms=7, **ELSEWHERE)
    ax.imshow([range(256)], extent=(0, 2, 1.85, 2.15), cmap=ramp, aspect="auto")
    ax.plot([0, 2], [1, 1], color=COLOURS[1], lw=3.5, solid_capstyle="butt")
    ax.plot([0, 2], [0, 0], color="0.7", lw=0.8)
    ax.set(xlim=(0, 15), ylim=(-1.5, 6.5))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=35_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)

    keep = max(1, args.steps // 700)
    pareto = pareto_set()
    found = {}
    for method in METHODS:
        began = time.perf_counter()
        found[method] = paths(method, STARTS, SCALES, args.steps, keep)
        there = distance(found[method][:, :, -1], pareto) <= NEAR
        told = ", ".join(
            f"{n} of {len(STARTS)} at scale {s:g}"
            for s, n in zip(SCALES, there.sum(axis=1), strict=True)
        )
        print(
            f"{method:17s} {time.perf_counter() - began:6.1f} s   on the Pareto set: {told}",
            flush=True,
        )

    rows, text = ends(found, pareto, keep), io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(args.out / "ends.csv", text.getvalue().encode())

    import matplotlib

    picture = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        draw(found, pareto).savefig(picture, format="png", metadata={"Software": "fairjax"})
    write(args.out / "trajectories.png", picture.getvalue())


if __name__ == "__main__":
    main()
