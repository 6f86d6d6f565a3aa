"""A data set in words: counts and means per task, group and split."""

from __future__ import annotations

from fairjax.core.types import Attribute, Dataset, Spec, Splits
from fairjax.data.encoder import Encoder
from fairjax.data.rules import ColumnRule


def summary(name: str, splits: Splits, encoder: Encoder) -> str:
    """One line on features and tasks, then a table with a column per split."""
    tasks = ", ".join(_task_meaning(rule) for rule in encoder.tasks)
    title = f"{name}: {_features(encoder)}; tasks: {tasks}"
    return "\n".join([title, *_aligned(_rows(splits, encoder.spec))])


def _features(encoder: Encoder) -> str:
    if encoder.vocabularies:
        sizes = []
        for vocabulary in encoder.vocabularies:
            # without languages the only vocabulary has no name
            sizes.append(f"{vocabulary.language} {len(vocabulary.words):,}".strip())
        return f"{encoder.roles.length} tokens, words: {', '.join(sizes)}"
    numeric = f"{len(encoder.numeric)} numeric"
    return f"{numeric} and {len(encoder.categorical)} categorical features"


def _task_meaning(rule: ColumnRule) -> str:
    """A task and the meaning of its label 1."""
    if rule.op:
        return f"{rule.name} (1: {rule.text})"
    if rule.kind == "binary":
        return f"{rule.name} (1: {rule.column} == {rule.levels[1]})"
    return rule.name


def _rows(splits: Splits, spec: Spec) -> list[tuple[str, ...]]:
    """Cells of the table: a name, then one cell per split."""
    rows = [("", *Splits._fields)]
    rows.append(("rows", *(f"{len(data.weight):,}" for data in splits)))
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            block = spec.group_slice(i)
            cells = [_attribute_cell(data, attribute, block) for data in splits]
            rows.append((f"{attribute.name} (number)", *cells))
    for t, task in enumerate(spec.tasks):
        cells = [_task_cell(data, spec, t) for data in splits]
        rows.append((f"{task.name} ({task.kind})", *cells))
        for group, group_name in _level_columns(spec):
            cells = [_task_cell(data, spec, t, group) for data in splits]
            rows.append((f"  {group_name}", *cells))
    return rows


def _level_columns(spec: Spec) -> list[tuple[int, str]]:
    """Column of ``groups`` and name of every level; attributes that are numbers have none."""
    columns = []
    for i, attribute in enumerate(spec.attributes):
        if not attribute.continuous:
            start = spec.group_slice(i).start
            columns += enumerate(attribute.columns, start)
    return columns


def _attribute_cell(data: Dataset, attribute: Attribute, block: slice) -> str:
    """``rows (mean)`` of a sensitive number, in the units of its column."""
    is_known, value = data.groups[:, block].T
    if not is_known.any():
        return "0"
    mean = attribute.mean + attribute.deviation * value[is_known > 0].mean()
    return f"{int(is_known.sum()):,} ({mean:.4f})"


def _task_cell(data: Dataset, spec: Spec, t: int, group: int | None = None) -> str:
    """``rows (mean of the label)`` of one task, in one group or in all rows."""
    is_known = data.label_mask[:, t] > 0
    if group is not None:
        is_known &= data.groups[:, group] > 0
    count = f"{is_known.sum():,}"
    task = spec.tasks[t]
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
