"""Networks behind the :class:`fairjax.core.types.Model` triple: our own, and any other."""

from fairjax.models.adapters import from_equinox, from_linen, from_nnx
from fairjax.models.branched import (
    branched,
    compact,
    expanded,
    parameter_count,
    shared_labels,
    tie,
    trunk_layers,
)
from fairjax.models.film import (
    Form,
    conditioned_network,
    modulated,
    per_channel,
    scalar,
    with_default_condition,
)
from fairjax.models.registry import REGISTRY, network
from fairjax.models.tabular import scores, shared_bottom
from fairjax.models.text import text_encoder

__all__ = [
    "REGISTRY",
    "Form",
    "branched",
    "compact",
    "conditioned_network",
    "expanded",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "modulated",
    "network",
    "parameter_count",
    "per_channel",
    "scalar",
    "scores",
    "shared_bottom",
    "shared_labels",
    "text_encoder",
    "tie",
    "trunk_layers",
    "with_default_condition",
]
