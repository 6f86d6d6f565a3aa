"""Networks that somebody else trained: their weights, their inputs and their features."""

from fairjax.pretrained.network import Pretrained

__all__ = ["Pretrained"]
