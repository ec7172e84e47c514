"""The small text and .mat files that come with a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import scipy.io

from data_prep.errors import SourceError, one_line


def numbered_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a UTF-8 text file that are not blank, each with its number from 1. Raises SourceError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SourceError(
            f"{file} is missing; check its name, or take it from the publisher's archive."
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{file} is not UTF-8 text (byte {error.start}); convert it or download it again."
        ) from error
    except OSError as error:
        raise SourceError(f"{file} cannot be read ({one_line(error)}).") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 text file that are not blank. Raises SourceError."""
    return [line for _, line in numbered_lines(file)]


def read_table(file: Path, fields: int) -> dict[str, list[str]]:
    """Lines "id value ..." as id -> values; the last of `fields` values may hold spaces.

    Raises SourceError naming the first line that has too few values or an id seen before.
    """
    table: dict[str, list[str]] = {}
    for number, line in numbered_lines(file):
        values = line.split(maxsplit=fields - 1)
        if len(values) != fields:
            raise SourceError(
                f"{file} line {number} has {len(values)} values where {fields} are expected; take the publisher's file."
            )
        if values[0] in table:
            raise SourceError(f"{file} line {number} names {values[0]} a second time; remove one of them.")
        table[values[0]] = values[1:]
    return table


def read_mat(file: Path, variable: str) -> Any:
    """A variable of a MATLAB file (up to version 7.2), one-element arrays squeezed. Raises SourceError."""
    try:
        with file.open("rb") as stream:
            content = scipy.io.loadmat(stream, squeeze_me=True)
    except FileNotFoundError as error:
        raise SourceError(f"{file} is missing; take it from the publisher's archive.") from error
    except PermissionError as error:
        raise SourceError(f"{file} cannot be read ({one_line(error)}); mend its permissions.") from error
    except NotImplementedError as error:
        raise SourceError(
            f"{file} is a MATLAB 7.3 (HDF5) file; save it with -v7 or download it again."
        ) from error
    except Exception as error:  # a damaged .mat makes scipy raise nearly anything
        raise SourceError(f"{file} is not a MATLAB file ({one_line(error)}); download it again.") from error
    if variable not in content:
        raise SourceError(f"{file} has no variable {variable}; is it the publisher's file?")
    return content[variable]
