"""The text of a CSV file as a :class:`RawTable`: pyarrow reads the cells, and nothing is guessed.

Every record must have the cells of the header. Cells stay text; blanks around them do not count.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from fairjax.core.threads import in_threads
from fairjax.data.arrow_text import trimmed
from fairjax.data.complaints import complain, listing
from fairjax.data.raw_table import NA, RawTable, name_key

DELIMITERS = (",", ";", "\t", "|")
_BLOCK = 1 << 22  # bytes that one thread reads at once
_LARGEST_BLOCK = 2**31 - 1
_LOOK_AT = 1 << 16  # bytes of a file that show its delimiter
_FIRST_ROWS = 10_000  # that show whether the first line is one of them


def parse_csv(
    where: str,
    content: bytes,
    *,
    delimiter: str = "",
    na: tuple[str, ...] = NA,
    header: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    comment: str | None = None,
    decimal: str = "",
) -> RawTable:
    """The table of a CSV text in UTF-8; see :func:`fairjax.data.read.read_csv`."""
    delimiter = delimiter.replace("\\t", "\t") or find_delimiter(content)
    if len(delimiter) != 1:
        problem = f"delimiter {delimiter!r} is not one character"
        raise complain(where, problem, "Give one, such as ';'.")
    if comment or (b'"' in content and re.search(_blank_quote(delimiter), content)):
        content = _normalised(where, content, delimiter, comment)
    names, start = _header(where, content, delimiter)
    if header and names != list(header):
        start = 0
    line_ends = content.count(b"\n", start)
    names = list(header or names)
    chosen = range(len(names))
    if keep is not None:
        chosen = [_position(where, names, name) for name in keep]
    body = pa.py_buffer(content).slice(start)
    table = _read_body(where, content, body, names, chosen, delimiter)
    if not table.num_rows:
        problem = f"0 rows under the header of {len(names)} columns"
        raise complain(where, problem, "Give a file with rows.")
    _refuse_delimiter(where, table.num_rows, names, delimiter)
    notes = []
    if keep is None:
        copies = _copies(names, table)
        chosen = [i for i in chosen if i not in copies]
        refuse_bad_names(where, [names[i] for i in chosen], table.num_rows)
        notes += [f"column {names[i]!r} occurs twice, with equal cells" for i in copies]
    if not header:
        _refuse_rows_as_names(where, names, chosen, table)
    lines = record_lines(content, start, table.num_rows, line_ends)
    notes += _notes(content, delimiter, lines)
    cells = in_threads(trimmed, [table.column(str(i)) for i in chosen])
    columns = dict(zip([names[i] for i in chosen], cells, strict=True))
    return RawTable(where, columns, lines, na, tuple(notes), decimal)


def _copies(names: list[str], table: pa.Table) -> list[int]:
    """Columns that have the name and the cells of an earlier one."""
    first_of: dict[str, int] = {}
    copies = []
    for i, name in enumerate(names):
        first = first_of.setdefault(name_key(name), i)
        if first != i and table.column(str(first)).equals(table.column(str(i))):
            copies.append(i)
    return copies


def _refuse_rows_as_names(
    where: str, names: list[str], chosen: Sequence[int], table: pa.Table
) -> None:
    """Refuse a first line whose cells are among the first cells below them: it is a row."""
    beginning = table.slice(0, _FIRST_ROWS)
    found = [
        names[i]
        for i in chosen
        if names[i] and pc.any(pc.equal(trimmed(beginning.column(str(i))), names[i])).as_py()
    ]
    if len(found) > 1 and len(found) >= len(chosen) / 2:
        problem = f"the first line seems to be a row, for {listing(found)} are also cells below"
        raise complain(where, problem, "Name the columns (header, --header A,B,...).")


def _blank_quote(delimiter: str) -> bytes:
    return rb'[%b\r\n] +"' % re.escape(delimiter.encode())


def find_delimiter(content: bytes) -> str:
    """The usual delimiter that most of the first lines have equally often; a comma if none is."""
    beginning = content[:_LOOK_AT].decode(errors="replace")
    lines = beginning.splitlines()
    if len(content) > _LOOK_AT:
        lines = lines[:-1]
    lines = [re.sub(r'"[^"]*"', "", line) for line in lines[:50] if line.strip()]
    scores = {}
    for delimiter in DELIMITERS:
        counts = Counter(line.count(delimiter) for line in lines)
        for count, agreeing in counts.most_common(1):
            if count:
                scores[delimiter] = (agreeing / len(lines), count)
    return max(scores, key=scores.get, default=",")


def _normalised(where: str, content: bytes, delimiter: str, comment: str | None) -> bytes:
    """The text without comments and without blanks before quotes, which pyarrow does not skip."""
    stream = io.StringIO(content.decode(), newline="")
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    line = 0
    try:
        for record in reader:
            is_comment = comment and record and record[0].startswith(comment)
            writer.writerow([] if is_comment else record)
            # line numbers stay those of the file
            out.write("\n" * (reader.line_num - line - 1 - "".join(record).count("\n")))
            line = reader.line_num
    except csv.Error as error:
        problem = f"line {reader.line_num}: {error}"
        raise complain(where, problem, "Check the quotes around that line.") from error
    return out.getvalue().encode()


def _header(where: str, content: bytes, delimiter: str) -> tuple[list[str], int]:
    """Names of the first record that is not blank, and where the text after it begins."""
    stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    reader = csv.reader(iter(stream.readline, ""), delimiter=delimiter, strict=False)
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                names = [cell.strip() for cell in record]
                return names, _offset_of_line(content, reader.line_num)
    except csv.Error as error:
        problem = f"line {reader.line_num} is no header of a table: {error} (0 rows read)"
        raise complain(where, problem, "Check the quotes around that line.") from error
    raise complain(where, "the file has no rows (0 records)", "Give a file with a header and rows.")


def _offset_of_line(content: bytes, lines: int) -> int:
    """Where the text begins after some lines, however lines end."""
    offset = 0
    ends = re.compile(rb"\r\n|\n|\r")
    for _ in range(lines):
        end = ends.search(content, offset)
        if end is None:
            return len(content)
        offset = end.end()
    return offset


def _read_body(
    where: str,
    content: bytes,
    body: pa.Buffer,
    names: list[str],
    chosen: Sequence[int],
    delimiter: str,
) -> pa.Table:
    """Cells as text, columns by position."""
    ragged = []

    def refuse(row: arrow_csv.InvalidRow) -> str:
        if row.text.strip():
            ragged.append(row)
        return "skip"

    positions = [str(i) for i in range(len(names))]
    if not body.size:
        return pa.table({str(i): pa.array([], pa.string()) for i in chosen})
    has_quotes = b'"' in content

    def read(block: int) -> pa.Table:
        ragged.clear()
        return arrow_csv.read_csv(
            pa.BufferReader(body),
            read_options=arrow_csv.ReadOptions(column_names=positions, block_size=block),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=has_quotes, invalid_row_handler=refuse
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in positions},
                include_columns=[str(i) for i in chosen],
                strings_can_be_null=False,
            ),
        )

    try:
        try:
            table = read(_BLOCK)
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                raise
            # a row is longer than the block
            table = read(min(body.size, _LARGEST_BLOCK))
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return pa.table({str(i): pa.array([], pa.string()) for i in chosen})
        problem = f"the file is no CSV table ({str(error).splitlines()[0]}; 0 rows read)"
        raise complain(where, problem, "Check the quotes and the end of the file.") from error
    if ragged:
        if ragged[-1].text.count('"') % 2:
            raise _open_quote(where, content)
        total = table.num_rows + len(ragged)
        _refuse_ragged(where, content, ragged, total, len(names))
    if positions[-1] in table.column_names and table.num_rows:
        # an open quote swallows the rest of the file, with the line break at its end
        last_cell = table.column(positions[-1])[-1].as_py()
        if "\n" in last_cell and not content.rstrip().endswith(b'"'):
            raise _open_quote(where, content)
    return table


def _refuse_ragged(where: str, content: bytes, ragged: list[Any], total: int, width: int) -> None:
    examples = []
    for row in ragged[:3]:
        text = re.escape(row.text.encode())
        match = re.search(rb"[\r\n]" + text + rb"(?=[\r\n]|\Z)", content)
        line = content.count(b"\n", 0, match.end() if match else 0) + 1
        examples.append((line, f"line {line} has {row.actual_columns}"))
    listed = ", ".join(text for _, text in sorted(examples))
    count = f"{len(ragged):,} of {total:,} rows"
    problem = f"{count} do not have the {width} cells of the header ({listed})"
    cure = "Quote cells that hold the delimiter, or give the delimiter of the file."
    raise complain(where, problem, cure)


def record_lines(content: bytes, start: int, records: int, line_ends: int) -> np.ndarray | None:
    """``[records]`` line on which every record after ``start`` begins, from 1; None if unsure.

    Blank lines are no records, and a line break between quotes ends none.
    """
    first = content.count(b"\n", 0, start) + 1
    is_open = not content.endswith((b"\n", b"\r"))
    has_returns = content.find(b"\r", start) >= 0
    if not has_returns and line_ends + is_open == records:
        return np.arange(first, first + records)
    body = content[start:]
    if has_returns:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head = content[:start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first = head.count(b"\n") + 1
    if body.count(b"\n") + is_open == records:
        return np.arange(first, first + records)
    cells = np.frombuffer(body, np.uint8)
    ends = np.flatnonzero(cells == ord("\n"))
    if is_open:
        ends = np.append(ends, len(cells))
    quotes = np.flatnonzero(cells == ord('"'))
    is_end = np.searchsorted(quotes, ends) % 2 == 0
    record_ends = ends[is_end]
    starts = np.append(0, record_ends[:-1] + 1)
    line_n = first + np.searchsorted(ends, starts)
    is_blank = np.array(
        [not body[a:b].strip() for a, b in zip(starts.tolist(), record_ends.tolist(), strict=True)]
    )
    line_n = line_n[~is_blank]
    return line_n if len(line_n) == records else None


def _notes(content: bytes, delimiter: str, lines: np.ndarray | None) -> list[str]:
    notes = []
    if delimiter != ",":
        notes.append(f"delimiter {delimiter!r}")
    if lines is not None and len(lines):
        blank = int(lines[-1] - lines[0] + 1 - len(lines))
        if blank and b'"' not in content:
            notes.append(f"{blank:,} blank lines are no rows")
    return notes


def _position(where: str, names: list[str], name: str) -> int:
    if name not in names:
        problem = f"no column {name!r} among {len(names)} columns"
        raise complain(where, problem, "Give the original file.")
    return names.index(name)


def _open_quote(where: str, content: bytes) -> Exception:
    line = content.rstrip().count(b"\n") + 1
    problem = f"line {line}: unexpected end of data, a quote is open"
    return complain(where, problem, "Check the quotes around that line.")


def _refuse_delimiter(where: str, rows: int, names: list[str], delimiter: str) -> None:
    """Refuse a file of one column whose header holds another usual delimiter."""
    if len(names) != 1:
        return
    for other in DELIMITERS:
        if other != delimiter and other in names[0]:
            problem = f"1 column in {rows:,} rows with delimiter {delimiter!r}"
            problem = f"{problem}, but the header holds {other!r}"
            raise complain(where, problem, f"Give delimiter {other!r}.")


def refuse_bad_names(where: str, names: Sequence[str], rows: int) -> None:
    """Refuse column names that are empty, or equal but for blanks and the form of accents."""
    keys = [name_key(name) for name in names]
    for name, key in zip(names, keys, strict=True):
        if key and keys.count(key) > 1:
            places = [i + 1 for i, other in enumerate(keys) if other == key]
            count = f"occurs {len(places)} times (columns {listing(places)}; {rows:,} rows)"
            raise complain(where, f"column {name!r} {count}", "Rename or remove all but one.")
    if "" in keys:
        problem = f"column {keys.index('') + 1} of {len(names)} has no name ({rows:,} rows)"
        cure = "Name it; if it is a row index, write the file without the index."
        raise complain(where, problem, cure)
