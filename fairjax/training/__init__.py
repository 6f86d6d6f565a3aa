"""Training runs, the batches they see, and sweeps over them."""

from fairjax.training import samplers
from fairjax.training._sweep import (
    Runs,
    draw,
    fingerprint,
    grid,
    keys,
    mapped,
    measure_chunk,
    member,
    sweep,
)
from fairjax.training.loop import State, TrainConfig, Trained, make_train, start

__all__ = [
    "Runs",
    "State",
    "TrainConfig",
    "Trained",
    "draw",
    "fingerprint",
    "grid",
    "keys",
    "make_train",
    "mapped",
    "measure_chunk",
    "member",
    "samplers",
    "start",
    "sweep",
]
