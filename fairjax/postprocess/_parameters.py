"""Parameters of an estimator in scikit-learn's manner, without scikit-learn."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    from sklearn.utils import Tags

    from fairjax.postprocess.quantile_table import QuantileTable


class Parameters:
    """The arguments of the constructor as parameters."""

    sensitive: int | str | Sequence[int | str] | None
    cells_: list[tuple[Any, ...]]
    rows_: np.ndarray
    table_: QuantileTable

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor."""
        del deep
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor: amount and outside at once, the others for the next
        ``fit``."""
        names = list(self.get_params())
        for name, value in params.items():
            if name not in names:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(names)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """The call that makes it, without arguments at their defaults."""
        changed = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name)
            if value is not parameter.default and repr(value) != repr(parameter.default):
                changed.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str:
        """The call, and the groups that it was fitted on, for a notebook."""
        call = f"<pre>{escape(repr(self))}</pre>"
        if not self.__sklearn_is_fitted__():
            return call
        rows = []
        for levels, count in zip(self.cells_, self.rows_, strict=True):
            name = " & ".join(map(str, levels))
            rows.append(f"<tr><th>{escape(name)}</th><td>{count:,.0f}</td></tr>")
        return f"{call}<table><tr><th>group</th><th>rows</th></tr>{''.join(rows)}</table>"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "table_")

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(one_d_array=self.sensitive is None),
        )
