"""What every method is given: the tasks, the network and the optimizer, free of any method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from fairjax.core.types import Array, Components, DataError, Model, PyTree, Range, Recipe, Spec
from fairjax.gradients import summed_adagrad
from fairjax.losses import AS_LABELLED, Supervision
from fairjax.models import modulated
from fairjax.notions import Notion
from fairjax.objectives import Notions

Schedule = optax.Schedule  # steps made so far -> factor of the learning rate


class Context(NamedTuple):
    """The slots of a run that do not depend on the method."""

    spec: Spec
    model: Model
    optimizer: Callable[[PyTree], optax.GradientTransformation]  # from the hyper-parameters
    hparams: dict[str, Range]  # those that the optimizer reads
    reduction: str = "batch"  # see fairjax.objectives.terms
    batch_size: int = 512  # at whose scale running counts start
    inputs: PyTree | None = None  # shapes of a batch of features, for methods that ask for widths
    conditioned: Callable[[int], Model] | None = None  # the network that is told W numbers
    supervision: Supervision = AS_LABELLED  # of the losses that are trained

    @staticmethod
    def paper(
        spec: Spec,
        model: Model,
        learning_rate: float,
        batch_size: int,
        *,
        schedule: Schedule | None = None,
        **fields: Any,
    ) -> Context:
        """The context of the MTA-F code: Adagrad on losses summed over the batch.

        The learning rate is the only hyper-parameter of the optimizer. ``schedule`` gives the
        factor by which it is multiplied before every step, see
        :func:`fairjax.training.schedule_of`.
        """

        def optimizer(hparams: PyTree) -> optax.GradientTransformation:
            rate = _scheduled(hparams["learning_rate"], schedule)
            return summed_adagrad(rate, batch_size)

        space = {"learning_rate": Range(learning_rate)}
        return Context(spec, model, optimizer, space, batch_size=batch_size, **fields)

    @staticmethod
    def adamw(
        spec: Spec,
        model: Model,
        learning_rate: float,
        batch_size: int,
        weight_decay: float = 0.0,
        *,
        schedule: Schedule | None = None,
        **fields: Any,
    ) -> Context:
        """AdamW, whose learning rate and weight decay are hyper-parameters.

        A ``schedule``, see :meth:`paper`, multiplies the decay too, which is in units of the
        learning rate.

        Source: Loshchilov, Hutter, Decoupled weight decay regularization, ICLR 2019.
        """

        def optimizer(hparams: PyTree) -> optax.GradientTransformation:
            rate = _scheduled(hparams["learning_rate"], schedule)
            return optax.adamw(rate, weight_decay=hparams["weight_decay"])

        space = {"learning_rate": Range(learning_rate), "weight_decay": Range(weight_decay)}
        return Context(spec, model, optimizer, space, batch_size=batch_size, **fields)

    def with_trunk_rate(self, rate: float) -> Context:
        """The context whose trunk is trained at ``rate`` times the learning rate.

        The hyper-parameter ``trunk_rate`` multiplies the updates of the trunk, weight decay and
        schedule included; the heads keep theirs. At 0 the trunk stays as it is. For a pretrained
        trunk, which a fresh head's rate would undo.

        Source: Howard, Ruder, Universal language model fine-tuning, ACL 2018 (discriminative
        rates).
        """

        def optimizer(hparams: PyTree) -> optax.GradientTransformation:
            return optax.chain(self.optimizer(hparams), _scaled_trunk(hparams["trunk_rate"]))

        hparams = {**self.hparams, "trunk_rate": Range(rate)}
        return self._replace(optimizer=optimizer, hparams=hparams)

    def representation_width(self) -> int:
        """Columns of the network's representation ``[B, D]``.

        Raises:
          ValueError: the context has no ``inputs``.
          DataError: the network has several representations of a row.
        """
        if self.inputs is None:
            raise ValueError(
                "the width of the representation follows from the features: give the context "
                "inputs=, the shapes of a batch of features"
            )

        def represent(key: jax.Array, x: PyTree) -> PyTree:
            return self.model.represent(self.model.init(key)["trunk"], x)

        z = jax.eval_shape(represent, jax.random.key(0), self.inputs)
        if not hasattr(z, "shape") or z.ndim != 2:
            raise DataError(
                "the method reads one representation that all tasks share, but the network has one "
                "per task, or one per network of an ensemble. Take another network (--model "
                "shared_bottom), or leave the method out (--methods)."
            )
        return z.shape[-1]

    def conditioned_model(self, width: int) -> Model:
        """The network that is told W numbers; by default its representation is modulated."""
        if self.conditioned is not None:
            return self.conditioned(width)
        return modulated(self.model, self.representation_width(), condition=width)


Method = Callable[[Context], Recipe]
# notions, or a function of the hyper-parameters that gives them, so that a bandwidth can be swept
SweptNotions = Notions | Callable[[PyTree], Notions]


def notion_at(notion: SweptNotions, hparams: PyTree) -> Notions:
    """The notions at some hyper-parameters."""
    if callable(notion) and not isinstance(notion, Notion):
        return notion(hparams)
    return notion


def with_space(method: Method, **ranges: Range) -> Method:
    """The method with other ranges for some of its hyper-parameters.

    Args:
      method: any method.
      ranges: by the name of the hyper-parameter. A name that the method reads only through its
        notion may be new.
    """

    def build(context: Context) -> Recipe:
        recipe = method(context)
        return recipe._replace(space=recipe.space | ranges)

    return build


def at_hparams(method: Method, at: Callable[[Context, PyTree], Context]) -> Method:
    """The method whose slots depend on its hyper-parameters, so that a sweep may draw them.

    Args:
      method: any. The names of its hyper-parameters must not depend on the slots that change.
      at: from the context and the hyper-parameters to the context of a run, inside the trace, such
        as ``lambda context, hparams: context._replace(model=shared_bottom(context.spec,
        dropout=hparams["dropout"]))``. :func:`with_space` gives the new ones their ranges.
    """

    def build_recipe(context: Context) -> Recipe:
        def build(hparams: PyTree) -> Components:
            return method(at(context, hparams)).build(hparams)

        return method(context)._replace(build=build)

    return build_recipe


def _scheduled(rate: Array, schedule: Schedule | None) -> Array | Schedule:
    """A learning rate, or the function from steps to it."""
    if schedule is None:
        return rate
    return lambda count: rate * schedule(count)


def _scaled_trunk(rate: Array) -> optax.GradientTransformation:
    """Updates of the trunk times ``rate``."""

    def scaled(path: tuple[Any, ...], update: Array) -> Array:
        return update * rate if path[0].key == "trunk" else update

    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(scaled, updates)
    )


def weight_range(spec: Spec) -> Range:
    """Task weights: a point of the simplex, equal weights by default."""
    tasks = len(spec.tasks)
    return Range(np.full(tasks, 1.0 / tasks), 0.0, 1.0, simplex=True)


def lam_range(spec: Spec) -> Range:
    """Fairness weights per task: [0, 5] as in the MTA-F paper, 1 by default."""
    return Range(np.ones(len(spec.tasks)), 0.0, 5.0)
