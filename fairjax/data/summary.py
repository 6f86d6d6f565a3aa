"""A data set in words: counts and means per task, group and split; its columns; findings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fairjax.core.types import Attribute, Dataset, Spec, Splits
from fairjax.data.column_summary import ColumnSummary, cut
from fairjax.data.encoder import Encoder
from fairjax.data.frozen import encoder_name
from fairjax.data.rules import ColumnRule

_WIDTH = 100  # of a terminal
_MOST_LISTED = 60  # columns of a role
_NAME = 22  # characters of a column's name
_LEAST_NOTED = 12  # characters of room for what is noted
_HEAD = ("column", "role", "type", "values", "missing", "alone", "noted")
_VALUES = _HEAD.index("values")
_NOTED = _HEAD.index("noted")
ALONE = (
    "alone: the AUC (or r, the rank correlation) of one feature with the task that it predicts best"
)


def summary(name: str, splits: Splits, encoder: Encoder) -> str:
    """One line on features and tasks, then a table with a column per split."""
    # outputs of one regression have one meaning
    tasks = ", ".join(dict.fromkeys(_task_meaning(rule) for rule in encoder.tasks))
    title = f"{name}: {_features(encoder)}; tasks: {tasks}"
    return "\n".join([title, *_aligned(_rows(splits, encoder))])


def _features(encoder: Encoder) -> str:
    if encoder.vocabularies:
        sizes = []
        for vocabulary in encoder.vocabularies:
            # without languages the only vocabulary has no name
            sizes.append(f"{vocabulary.language} {len(vocabulary.words):,}".strip())
        return f"{encoder.roles.length} tokens, words: {', '.join(sizes)}"
    if encoder.image_shape:
        height, width = encoder.image_shape
        return f"images of {height} x {width} pixels"
    numeric = f"{len(encoder.numeric)} numeric"
    columns = f"{numeric} and {len(encoder.categorical)} categorical features"
    if not encoder.frozen:
        return columns
    (frozen,) = encoder.frozen
    own = f"{len(frozen.mean):,} features of {encoder_name(encoder.roles.encoder)}"
    return f"{own}, {columns}" if encoder.numeric or encoder.categorical else own


def _task_meaning(rule: ColumnRule) -> str:
    """A task and the meaning of its label 1."""
    if rule.op:
        return f"{rule.name} (1: {rule.text})"
    if rule.kind in ("binary", "multilabel"):
        return f"{rule.name} (1: {rule.column} == {rule.levels[1]})"
    return rule.name


def _rows(splits: Splits, encoder: Encoder) -> list[tuple[str, ...]]:
    """Cells of the table: a name, then one cell per split."""
    spec = encoder.spec
    rows = [("", *Splits._fields)]
    rows.append(("rows", *(f"{len(data.weight):,}" for data in splits)))
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            block = spec.group_slice(i)
            cells = [_attribute_cell(data, attribute, block) for data in splits]
            rows.append((f"{attribute.name} (number)", *cells))
    for t, task in enumerate(spec.label_tasks):
        cells = [_task_cell(data, spec, t) for data in splits]
        rows.append((f"{task.name} ({task.kind})", *cells))
        for group, group_name in _level_columns(encoder):
            cells = [_task_cell(data, spec, t, group) for data in splits]
            rows.append((f"  {group_name}", *cells))
    return rows


def _level_columns(encoder: Encoder) -> list[tuple[int, str]]:
    """Column of ``groups`` and name of every level, a rule as it was given; numbers have none."""
    spec = encoder.spec
    columns = []
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            continue
        rule = encoder.attributes[i]
        names = attribute.columns
        if rule.op:
            of_level = {"yes": rule.text, "no": f"not ({rule.text})"}
            names = [of_level[level] for level in attribute.levels]
        columns += enumerate(names, spec.group_slice(i).start)
    return columns


def _attribute_cell(data: Dataset, attribute: Attribute, block: slice) -> str:
    """``rows (mean)`` of a sensitive number, in the units of its column."""
    is_known, value = data.groups[:, block].T
    if not is_known.any():
        return "0"
    mean = attribute.mean + attribute.deviation * value[is_known > 0].mean()
    return f"{int(is_known.sum()):,} ({mean:.4f})"


def _task_cell(data: Dataset, spec: Spec, t: int, group: int | None = None) -> str:
    """``rows (mean of the label)`` of one label column, in one group or in all rows."""
    is_known = data.label_mask[:, t] > 0
    if group is not None:
        is_known &= data.groups[:, group] > 0
    count = f"{is_known.sum():,}"
    task = spec.label_tasks[t]
    if task.kind == "multiclass" or not is_known.any():
        return count
    mean = task.in_units(data.labels[is_known, t].mean())
    return f"{count} ({mean:.4f})"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with the names to the left and the other cells to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = []
    for name, *cells in rows:
        padded = [name.ljust(widths[0])]
        for cell, width in zip(cells, widths[1:], strict=True):
            padded.append(cell.rjust(width))
        lines.append("  ".join(padded).rstrip())
    return lines


# ---------------------------------------------------------------------------------------- columns


def listed_columns(columns: Sequence[ColumnSummary]) -> tuple[list[ColumnSummary], str]:
    """At most 60 columns of every role, and a line that counts the others."""
    listed: list[ColumnSummary] = []
    left = []
    for role in dict.fromkeys(column.role for column in columns):
        of_role = [column for column in columns if column.role == role]
        listed += of_role[:_MOST_LISTED]
        if len(of_role) > _MOST_LISTED:
            left.append(f"{len(of_role) - _MOST_LISTED:,} more {role} columns")
    return listed, f"... and {', '.join(left)}" if left else ""


def column_table(columns: Sequence[ColumnSummary]) -> str:
    """A line per column; empty if there are none."""
    if not columns:
        return ""
    listed, left = listed_columns(columns)
    rows = [_HEAD, *map(_column_cells, listed)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    between = 2 * (len(widths) - 1)
    # values and what is noted share the room that the others leave
    room = _WIDTH - between - sum(widths) + widths[_VALUES] + widths[_NOTED]
    widths[_VALUES] = min(widths[_VALUES], room - min(widths[_NOTED], _LEAST_NOTED))
    widths[_NOTED] = min(widths[_NOTED], room - widths[_VALUES])
    lines = [_column_line(row, widths) for row in rows]
    if left:
        lines.append(left)
    if any(column.alone for column in listed):
        lines.append(ALONE)
    return "\n".join(lines)


def _column_cells(column: ColumnSummary) -> tuple[str, ...]:
    missing = f"{column.missing:,}" if column.missing else ""
    name = cut(column.name, _NAME)
    return name, column.role, column.type, column.values, missing, column.alone, column.noted


def _column_line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = []
    for head, cell, width in zip(_HEAD, row, widths, strict=True):
        text = cut(cell, width)
        cells.append(text.rjust(width) if head in ("missing", "alone") else text.ljust(width))
    return "  ".join(cells).rstrip()


def findings(warnings: Sequence[str], notes: Sequence[str]) -> str:
    """Warnings and notes as lines of at most 100 characters."""
    wrapper = textwrap.TextWrapper(
        _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    texts = [f"Warning: {text}" for text in warnings]
    texts += [f"Note: {text}" for text in notes]
    return "\n".join(map(wrapper.fill, texts))
