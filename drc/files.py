"""Files that are either whole or not there."""

from __future__ import annotations

import csv
import io
import json
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

DAMAGED = (
    OSError, RuntimeError, ValueError, LookupError, EOFError, TypeError, OverflowError, SyntaxError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading an array or an archive raises whose bytes were changed."""


@contextmanager
def alone_in(folder: Path, busy: Exception) -> Iterator[None]:
    """Hold a folder, made where it is missing, against every other process; where one holds it, `busy` is raised."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise busy from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it itself on release
            (folder / ".lock").unlink()
        lock.release()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file, and the folders above it, under a temporary name and rename it; an error leaves the earlier one."""
    temporary = path.with_name(
        f".{uuid.uuid4().hex[:8]}.tmp"
    )  # another machine's process may have our number
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(printable(content).encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # as where the disk is full
            error.filename = str(path)
        raise


def printable(text: str) -> str:
    """A text as `write_atomic` writes it: what is not Unicode, as some files' names are, as \\udcff."""
    return text.encode(errors="backslashreplace").decode()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, keys in the given order."""
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG atomically."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table as CSV atomically."""
    lines = [list(line) for line in (header, *rows)]
    returns = any("\r" in str(field) for line in lines for field in line)  # which Python 3.11 does not quote
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerows(lines)
    write_atomic(path, text.getvalue())
