"""Two repairs, one after the other."""

from __future__ import annotations

from fairjax.core.types import Array, Post, PyTree


def compose(joint: Post, exact: Post) -> Post:
    """A joint repair, then another of each task alone, fitted to the jointly repaired pool.

    A joint map makes the tasks' own laws only nearly equal, and an exact map of each task alone
    mends that on the pool. Being increasing per task, it keeps most of what the joint map did to
    how tasks vary together. It is fitted to the same pool: with a few hundred rows per group the
    tasks' laws on other rows come no closer by it than :func:`gaussian` brings them.

    Args:
      joint: any Post.
      exact: any Post; its ``apply`` is called with the key and without an amount. Where it or
        ``joint`` is labelled, so is the result.

    Returns:
      Post whose state is ``(state of joint, state of exact)``; ``amount`` goes along the line from
      a score to its final place.
    """

    def fit(scores: Array, groups: Array, weight: Array, *labels: Array) -> PyTree:
        joint_labels = labels if joint.labelled else ()
        joint_state = joint.fit(scores, groups, weight, *joint_labels)
        jointly_repaired = joint.apply(joint_state, scores, groups)
        exact_labels = labels if exact.labelled else ()
        return joint_state, exact.fit(jointly_repaired, groups, weight, *exact_labels)

    def apply(
        state: PyTree,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        joint_state, exact_state = state
        jointly_repaired = joint.apply(joint_state, scores, groups)
        moved = exact.apply(exact_state, jointly_repaired, groups, key)
        return scores + amount * (moved - scores)

    return Post(fit, apply, labelled=joint.labelled or exact.labelled)
