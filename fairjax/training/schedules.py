"""Schedules of the learning rate: factors of its peak, by the steps made so far."""

from __future__ import annotations

import optax

SCHEDULES = ("constant", "cosine", "linear")


def schedule_of(name: str, steps: int, warm_up: float = 0.0) -> optax.Schedule:
    """The factor of the peak before every step, from the number of steps made.

    In the first ``w = round(warm_up * steps)`` steps it rises from 0 by equal amounts to 1. Then it
    stays there, or falls to 0 at the horizon: by a half cosine, or by equal amounts. After the
    horizon it stays as it is.

    Args:
      name: one of :data:`SCHEDULES`.
      steps: the horizon, all steps of a run.
      warm_up: share of the steps, in [0, 1).

    Raises:
      ValueError: there is no such schedule.

    Source: the schedules of optax; the cosine is that of Loshchilov, Hutter, SGDR, ICLR 2017.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is not one of {', '.join(SCHEDULES)}")
    rising = round(warm_up * steps)
    falling = max(steps - rising, 1)
    after = {
        "constant": lambda: optax.constant_schedule(1.0),
        "cosine": lambda: optax.cosine_decay_schedule(1.0, falling),
        "linear": lambda: optax.linear_schedule(1.0, 0.0, falling),
    }[name]()
    if not rising:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, rising), after], [rising])
