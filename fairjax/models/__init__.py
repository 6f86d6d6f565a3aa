"""Networks behind the :class:`fairjax.types.Model` triple: ours from flax modules, and anybody's."""

from fairjax.models.adapters import from_equinox, from_linen, from_nnx
from fairjax.models.tabular import scores, shared_bottom

__all__ = ["from_equinox", "from_linen", "from_nnx", "scores", "shared_bottom"]
