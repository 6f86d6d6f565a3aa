"""Repair of scores after training: named pairs of pure functions, ``fit`` on a pool of rows and ``apply`` to any row."""

from fairjax.post.barycenter import Table, barycenter, one_by_one, price, proportional, uniform
from fairjax.post.joint import entropic, free_support, gaussian, kernel, then_exact
from fairjax.post.published import published_barycenter
from fairjax.post.scales import Scale, identity, log, logit
from fairjax.post.tasks import cross_fitted, model_barycenter, on_scores

__all__ = ["Scale", "Table", "barycenter", "cross_fitted", "entropic", "free_support", "gaussian", "identity", "kernel", "log",
           "logit", "model_barycenter", "on_scores", "one_by_one", "price", "proportional", "published_barycenter",
           "then_exact", "uniform"]
