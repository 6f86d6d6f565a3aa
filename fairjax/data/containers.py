"""What a file is, by its first bytes: compressed text, a zip, Excel, parquet, feather.

Text comes out in UTF-8.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairjax.data.complaints import complain, listing
from fairjax.data.csv_text import refuse_bad_names

_MARKS = ((b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"))
_MARKS += ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_OPEN = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))
_OPEN += ((b"\x28\xb5\x2f\xfd", partial(pa.input_stream, compression="zstd")),)
_UNPACKED = 2**30  # bytes to which any packed file may unpack
_MOST_TIMES = 50  # its packed size to which a larger one may unpack
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
UNREADABLE += (RuntimeError,)  # of an encrypted zip
_COPY = "Check its permissions, or copy it again."


def read_bytes(where: str, unpacked: float = 0) -> tuple[bytes, bytes]:
    """The content of a file as it is, and unpacked from gzip, bzip2, xz, zstd or a zip of one file.

    Args:
        where: its path.
        unpacked: gigabytes to which it may unpack; 0: one, or 50 times its packed size.

    Raises:
        DataError: there is no such file, it is empty, it cannot be unpacked, or it unpacks to more.
    """
    path = Path(where)
    if not path.is_file():
        problem = "is a directory" if path.is_dir() else "no such file"
        cure = "Check the path; a table is expected: CSV, parquet, Excel or feather."
        raise complain(where, f"{problem} (0 rows read)", cure)
    try:
        packed = content = path.read_bytes()
        limit = unpacked_limit(len(content), unpacked)
        for mark, opened in _OPEN:
            if content.startswith(mark):
                with opened(io.BytesIO(content)) as stream:
                    content = _limited(where, stream, limit)
        if content.startswith(b"PK\x03\x04") and not is_excel(content):
            content = _only_member(where, content, limit)
    except UNREADABLE as error:
        raise complain(where, f"cannot be read: {error}", _COPY) from error
    if not content or content.isspace():
        problem = f"the file is empty ({len(content)} bytes, 0 rows)"
        raise complain(where, problem, "Give a file with a header and rows.")
    return packed, content


def unpacked_limit(packed: int, unpacked: float = 0) -> int:
    """Bytes to which so many packed bytes may unpack: some gigabytes, or, of 0, the default."""
    return int(unpacked * 2**30) or max(_UNPACKED, _MOST_TIMES * packed)


def _limited(where: str, stream, limit: int) -> bytes:
    """The content of a stream that unpacks to no more than the limit."""
    content = stream.read(limit + 1)
    if len(content) > limit:
        problem = f"it unpacks to more than {limit / 2**30:.3g} GB (0 rows read)"
        raise complain(where, problem, "If that is meant, say how many it may be (--unpacked GB).")
    return content


def is_excel(content: bytes) -> bool:
    """Whether a content is a spreadsheet."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except zipfile.BadZipFile:
        return False
    return any(name.startswith("xl/") for name in names)


def _only_member(where: str, content: bytes, limit: int) -> bytes:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = [name for name in archive.namelist() if not name.endswith("/")]
    names = [name for name in names if not name.startswith("__MACOSX")]
    if len(names) != 1:
        problem = f"a zip of {len(names)} files ({listing(names)}; 0 rows read)"
        raise complain(where, problem, "Unpack it, and give one of them.")
    with archive.open(names[0]) as stream:
        return _limited(where, stream, limit)


def arrow_table(where: str, content: bytes) -> pa.Table | None:
    """The table of a parquet, feather or Arrow file; None of another file.

    Raises:
        DataError: the file is damaged, or an old Excel file.
    """
    try:
        if content.startswith(b"PAR1"):
            from pyarrow import parquet

            return parquet.read_table(pa.BufferReader(content))
        if content.startswith((b"ARROW1", b"FEA1")):
            from pyarrow import feather

            return feather.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise complain(where, f"cannot be read: {error}", _COPY) from error
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        cure = "Save it as .xlsx or as CSV."
        raise complain(where, "an old Excel file (.xls; 0 rows read)", cure)
    return None


def excel_columns(where: str, content: bytes) -> dict[str, list[Any]]:
    """The columns of the only sheet with rows.

    Raises:
        DataError: openpyxl is missing, the file is damaged, or several sheets have rows.
    """
    try:
        import openpyxl
    except ImportError as error:
        cure = "pip install 'fairjax[excel]', or save it as CSV."
        raise complain(where, "an Excel file, which openpyxl reads (0 rows read)", cure) from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}
    except Exception as error:  # what its parsers of zip and XML raise
        raise complain(where, f"cannot be read as Excel: {error!r} (0 rows read)", _COPY) from error
    filled = [title for title, rows in sheets.items() if any(map(any, rows))]
    if len(filled) != 1:
        problem = f"{len(filled)} sheets with rows ({listing(filled)})"
        raise complain(where, problem, "Save the sheet that is meant as a file of its own.")
    rows = [row for row in sheets[filled[0]] if any(cell is not None for cell in row)]
    columns = [
        column for column in itertools.zip_longest(*rows) if any(c is not None for c in column)
    ]
    names = ["" if name is None else str(name).strip() for name, *_ in columns]
    refuse_bad_names(where, names, len(rows) - 1)
    return {name: list(cells) for name, (_, *cells) in zip(names, columns, strict=True)}


def decoded(where: str, content: bytes, encoding: str) -> bytes:
    """A text in UTF-8, without byte order mark.

    Args:
        where: for messages.
        content: the bytes.
        encoding: of the text; a byte order mark wins over UTF-8.

    Raises:
        DataError: the text has another encoding, nobody knows the encoding, or it holds zero bytes.
    """
    try:
        if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
            encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
        if encoding != "utf-8" or not content.isascii():
            content = content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = f"line {line} is not {encoding} (byte {content[error.start]:#04x})"
        cure = "Save it as UTF-8, or name its encoding (cp1252, latin-1, utf-16, ...)."
        raise complain(where, problem, cure) from error
    except UnicodeError as error:
        raise complain(where, f"not {encoding}: {error}", "Name its encoding.") from error
    except LookupError as error:
        cure = "Name one that Python knows, such as latin-1."
        raise complain(where, f"unknown encoding {encoding!r}", cure) from error
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        cure = "Name its encoding (utf-16), or write the file again without it."
        raise complain(where, f"line {line} holds a zero byte (0 rows read)", cure)
    return content
