"""What this package raises when its input is at fault: one sentence that names the file and the remedy."""

from __future__ import annotations

from tokenize import TokenError
from zipfile import BadZipFile

NO_ARRAY = (ValueError, TypeError, EOFError, SyntaxError, TokenError, MemoryError, BadZipFile)
"""What np.load raises, beside OSError, for a file that is no plain array."""


class DataPrepError(Exception):
    """Base of every error a user can mend; the commands print its message and exit with code 2."""


class SourceError(DataPrepError):
    """A raw file, archive or annotation is missing, damaged or not what its publisher ships."""


class ItemError(SourceError):
    """One image, mask or record is at fault; the others can be prepared without it (--keep-going).

    Its message has no full stop, as a remedy is added where it is raised further.
    """


def one_line(error: BaseException) -> str:
    """An error's own words on one line, without a trailing stop; its type's name if it has none."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
