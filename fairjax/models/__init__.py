"""Networks behind the :class:`fairjax.types.Model` triple, built from flax modules."""

from fairjax.models.tabular import scores, shared_bottom

__all__ = ["scores", "shared_bottom"]
