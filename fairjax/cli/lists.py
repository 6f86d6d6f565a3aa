"""Types of options that take several values between commas."""

from __future__ import annotations

from typing import Any

import click

from fairjax import methods
from fairjax.study import ESTIMATORS, REFERENCE
from fairjax.training import Part

# a gradient link is a method of two forms
LINKS = tuple(name for name in methods.REGISTRY if f"{name}_split" in methods.REGISTRY)


class Words(click.ParamType):
    """Words between commas, as a tuple."""

    name = "words"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The words without the blanks around them; a tuple stays as it is."""
        if isinstance(value, tuple):
            return value
        entries = [entry.strip() for entry in value.split(",")]
        return tuple(entry for entry in entries if entry)


class Numbers(Words):
    """Numbers between commas, as a tuple."""

    name = "numbers"

    def __init__(self, kind: type[Any], example: str) -> None:
        self._kind = kind
        self._example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The numbers."""
        entries = super().convert(value, param, ctx)
        try:
            return tuple(self._kind(entry) for entry in entries)
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as {self._example}.", param, ctx)


class Methods(Words):
    """Names of methods between commas, each once; ``links`` stands for all gradient links."""

    name = "methods"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names, without that of the single-task runs, which every study makes."""
        names = []
        for name in super().convert(value, param, ctx):
            names += LINKS if name == "links" else [name]
        for name in names:
            if name != REFERENCE and name not in methods.REGISTRY:
                allowed = ", ".join(["links", *methods.REGISTRY])
                self.fail(f"{name!r} is not one of {allowed}.", param, ctx)
        return tuple(name for name in dict.fromkeys(names) if name != REFERENCE)


class Estimators(Words):
    """Names of estimators between commas, each once."""

    name = "estimators"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names."""
        names = super().convert(value, param, ctx)
        for name in names:
            if name not in ESTIMATORS:
                self.fail(f"{name!r} is not one of {', '.join(ESTIMATORS)}.", param, ctx)
        return tuple(dict.fromkeys(names))


class Draw(click.ParamType):
    """A hyper-parameter with the bounds of its draw: ``NAME=LOW:HIGH`` or ``NAME=LOW:HIGH:log``."""

    name = "draw"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[Any, ...]]:
        """The name, and the bounds as :class:`fairjax.study.StudyConfig` takes them."""
        if isinstance(value, tuple):
            return value
        name, _, text = value.partition("=")
        low, _, rest = text.partition(":")
        high, *scale = rest.split(":")
        try:
            bounds = (float(low), float(high), *scale)
        except ValueError:
            bounds = ()
        if not bounds or not name:
            self.fail(f"{value!r} is not such as learning_rate=1e-3:1e-1:log.", param, ctx)
        return name.strip().replace("-", "_"), bounds


class PartOf(click.ParamType):
    """One part of several: ``I/N``, from ``1/N`` to ``N/N``."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Part:
        """The part; it counts from 0."""
        if isinstance(value, Part):
            return value
        number, _, of = value.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            self.fail(f"{value!r} is not such as 1/8 or 8/8: part I of N.", param, ctx)
        return Part(int(number) - 1, int(of))


WORDS = Words()
WIDTHS = Numbers(int, "64,32")
NUMBERS = Numbers(float, "0.5,1")
SHARES = Numbers(float, "0.6,0.2,0.2")
METHODS = Methods()
DRAW = Draw()
ESTIMATOR_NAMES = Estimators()
PART = PartOf()
