"""Training runs, the batches they see, and sweeps over them."""

from fairjax.training import samplers
from fairjax.training._sweep import (
    Part,
    Runs,
    chunk_of,
    keys,
    members_of,
    on_devices,
    sweep,
)
from fairjax.training._sweep_scores import scored, sweep_scores
from fairjax.training.chunks import start_size
from fairjax.training.loop import (
    State,
    TrainConfig,
    Trained,
    first_choice,
    gather,
    make_train,
    start,
)
from fairjax.training.manifest import fingerprint, kept_arrays
from fairjax.training.program import Compiler, Measure, Program, mapped, member, unpadded
from fairjax.training.schedules import SCHEDULES, schedule_of
from fairjax.training.spaces import draw, draw_with_key, grid

__all__ = [
    "SCHEDULES",
    "Compiler",
    "Measure",
    "Part",
    "Program",
    "Runs",
    "State",
    "TrainConfig",
    "Trained",
    "chunk_of",
    "draw",
    "draw_with_key",
    "fingerprint",
    "first_choice",
    "gather",
    "grid",
    "kept_arrays",
    "keys",
    "make_train",
    "mapped",
    "member",
    "members_of",
    "on_devices",
    "samplers",
    "schedule_of",
    "scored",
    "start",
    "start_size",
    "sweep",
    "sweep_scores",
    "unpadded",
]
