"""Settings of training as hyper-parameters, and the bounds between which a sweep draws any of them.

A setting that is neutral and not drawn is no hyper-parameter: a run without it is the same program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from fairjax.core.types import Array, DataError, Dataset, Model, PyTree, Range, Recipe, Spec
from fairjax.losses import balanced_class_weights
from fairjax.methods import Context, Method, at_hparams, with_space

if TYPE_CHECKING:
    from fairjax.study.config import StudyConfig

Bounds = tuple[float, float] | tuple[float, float, str]  # (low, high) or (low, high, "log")
EXAMPLES = "(1e-3, 1e-1, 'log') or (0, 0.3); on the command line 1e-3:1e-1:log or 0:0.3"
# which values a setting may have, in words and as a function
VALUES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("above 0", lambda value: value > 0),
    "weight_decay": ("0 or more", lambda value: value >= 0),
    "trunk_rate": ("0 or more", lambda value: value >= 0),
    "label_smoothing": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "class_balance": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "dropout": ("from 0 on and below 1", lambda value: 0 <= value < 1),
    "warm_up": ("from 0 on and below 1", lambda value: 0 <= value < 1),
}
OF_CLASSES = ("label_smoothing", "class_balance")


def check_value(name: str, value: float, option: str = "") -> None:
    """Refuse a value that a setting of training cannot have.

    Args:
      name: of the setting.
      value: of it.
      option: as the message calls it; by default the setting's own.

    Raises:
      DataError: it is so.
    """
    words, is_allowed = VALUES.get(name, ("finite", math.isfinite))
    if not (math.isfinite(value) and is_allowed(value)):
        option = option or f"--{name.replace('_', '-')}"
        raise DataError(f"{option} {value:g}: it has to be {words}. Take another number.")


def checked_bounds(name: str, bounds: Sequence[Any]) -> Bounds:
    """``(low, high)``, or ``(low, high, "log")`` of a log-uniform draw.

    Raises:
      DataError: they are something else, ``low`` is not below ``high``, a logarithm has no lower
        bound above 0, or the hyper-parameter cannot have such values.
    """
    try:
        low, high, *scale = bounds
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        low, high, scale = math.nan, math.nan, []
    if not low < high or scale not in ([], ["log"]):
        raise DataError(
            f"--draw {name}: bounds {bounds!r} are not two rising numbers. Give such as {EXAMPLES}."
        )
    for value in (low, high):
        check_value(name, value, f"--draw {name}: bound")
    if scale and low <= 0:
        raise DataError(
            f"--draw {name}: a log-uniform draw needs a lower bound above 0, not {low:g}. Raise "
            "it, or leave log out."
        )
    return (low, high, *scale)


def draws(recipe: Recipe, name: str) -> bool:
    """Whether a sweep of the recipe can draw a hyper-parameter.

    A network that is told its weights is trained once for all points: nothing else differs between
    them.
    """
    return name in recipe.space and (not recipe.told or name in recipe.told)


def drawn(recipe: Recipe, draw: Mapping[str, Bounds]) -> Recipe:
    """The recipe with these bounds, where it has such hyper-parameters.

    Raises:
      DataError: one of them is a point of the simplex.
    """
    space = dict(recipe.space)
    for name, (low, high, *scale) in draw.items():
        if not draws(recipe, name):
            continue
        if space[name].simplex:
            raise DataError(
                f"--draw {name}: it is drawn from the simplex, numbers that add up to 1, and has "
                "no bounds. Leave it out."
            )
        space[name] = space[name]._replace(low=low, high=high, log=bool(scale))
    return recipe._replace(space=space)


def check_drawn(recipes: Sequence[Recipe], draw: Mapping[str, Bounds]) -> None:
    """Refuse the draw of a hyper-parameter that no recipe can draw.

    Raises:
      DataError: it is so.
    """
    for name in draw:
        if any(draws(recipe, name) for recipe in recipes):
            continue
        existing = dict.fromkeys(
            other
            for recipe in recipes
            for other, interval in recipe.space.items()
            if draws(recipe, other) and not interval.simplex
        )
        if not all(recipe.told for recipe in recipes):
            existing |= dict.fromkeys(("trunk_rate", "dropout", *OF_CLASSES))
        raise DataError(
            f"--draw {name}: none of {len(recipes)} methods can draw such a hyper-parameter. Draw "
            f"one of {', '.join(existing)}, or leave it out."
        )


def check_classes(spec: Spec, config: StudyConfig) -> None:
    """Refuse settings about classes where no task has any. Beside other tasks regressions ignore
    them.

    Raises:
      DataError: it is so.
    """
    chosen = [name for name in OF_CLASSES if is_chosen(config, name)]
    if chosen and all(task.kind == "regression" for task in spec.tasks):
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise DataError(
            f"{flags}: all {len(spec.tasks)} tasks are regressions, which have no classes. Leave "
            "it out."
        )


def is_chosen(config: StudyConfig, name: str) -> bool:
    """Whether a setting of classes is drawn or not neutral."""
    return name in config.draw or getattr(config, name) != 0


def balanced_weights(
    config: StudyConfig, spec: Spec, rows: Dataset | None
) -> tuple[Array | None, ...]:
    """Factors of classes per task, of the training rows; none where they are not asked for."""
    if not is_chosen(config, "class_balance"):
        return ()
    return jax.jit(lambda rows: balanced_class_weights(spec, rows))(rows)


def with_settings(
    method: Method,
    config: StudyConfig,
    class_weights: Sequence[Array | None],
    network_at: Callable[[Array], Model],
    dropout: float,
) -> Method:
    """The method with the settings of training that are chosen as hyper-parameters.

    Args:
      method: any, together with what chooses its epoch.
      config: has the settings.
      class_weights: balanced ones, of :func:`balanced_weights`.
      network_at: from a traced dropout to the network.
      dropout: of the network as it is, the default of a drawn one.
    """
    ranges = {name: Range(getattr(config, name)) for name in OF_CLASSES if is_chosen(config, name)}
    if "dropout" in config.draw:
        ranges["dropout"] = Range(dropout)
    if not ranges:
        return method

    def at(context: Context, hparams: PyTree) -> Context:
        supervision = context.supervision
        if "label_smoothing" in ranges:
            supervision = supervision._replace(smoothing=hparams["label_smoothing"])
        if "class_balance" in ranges:
            power = hparams["class_balance"]
            powers = jax.tree.map(lambda weight: weight**power, tuple(class_weights))
            supervision = supervision._replace(class_weights=powers)
        if "dropout" in ranges:
            context = context._replace(model=network_at(hparams["dropout"]))
        return context._replace(supervision=supervision)

    return with_space(at_hparams(method, at), **ranges)
