"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError

REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside it and rename it; an error leaves the earlier file."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    data = content.encode() if isinstance(content, str) else content
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def as_json(content: Any) -> str:
    """JSON for people to read, keys in the given order."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, as_json(content))


def read_json(path: Path, remedy: str) -> Any:
    """What a JSON file holds. Raises BenchmarkError, naming the file and the remedy, if it is missing or damaged.

    NaN and Infinity, which JSON does not have and Python's reader takes, are damage too.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} cannot be read ({reason(error)}): {remedy}") from error


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Raise BenchmarkError, naming what was to be written and the folder, where the disk refuses it."""
    try:
        yield
    except OSError as error:
        raise BenchmarkError(
            f"cannot write {what} to {folder}: {reason(error)}; choose another folder"
        ) from error


def usable_folder(path: Path, purpose: str) -> Path:
    """Make a folder and try to write in it.

    Raises BenchmarkError naming the folder if that fails (read-only, full, a file in the way).
    """
    with writing(purpose, path):
        path.mkdir(parents=True, exist_ok=True)
        write_atomic(path / ".probe", b"\0" * 4096)
        (path / ".probe").unlink(missing_ok=True)  # another process may be trying the same
    return path


def is_refusal(error: BaseException, folder: Path) -> bool:
    """Whether an error means that the disk of `folder` refuses (full, read-only, forbidden), whoever wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in REFUSALS:
            file = cause.filename
            if not isinstance(file, str) or Path(file).resolve().is_relative_to(folder.resolve()):
                return True
        cause = cause.__cause__
    return shutil.disk_usage(folder).free < 1 << 20


def reason(error: BaseException) -> str:
    """The first line of an error, without the path that OSError repeats."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def named(error: BaseException) -> str:
    """What kind of error it is, and the first line of what it says."""
    kind, said = type(error).__name__, reason(error)
    return kind if said == kind else f"{kind}: {said}"


def last_line(file: Path) -> str:
    """The last line that is not empty, or "unknown"."""
    with contextlib.suppress(OSError):
        lines = [
            line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        if lines:
            return lines[-1]
    return "unknown"


def closed(folder: Path) -> str:
    """Why nobody here can look into a folder, such as another user's; empty where one can, or it is not there."""
    try:
        os.listdir(folder)  # noqa: PTH208, one call where a glob would be silent
    except FileNotFoundError:
        return ""
    except NotADirectoryError:
        return f"{folder} is a file where a folder should be: move it away"
    except OSError as error:
        return f"{folder} cannot be read ({error.strerror}): see to its permissions, or name other --runs"
    return ""
