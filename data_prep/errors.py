"""What this room raises when its input is at fault: one sentence that names the file and the remedy."""

from __future__ import annotations


class DataPrepError(Exception):
    """Base of every error a user can mend; the commands print its message and exit with code 2."""


class SourceError(DataPrepError):
    """A raw file, archive or annotation is missing, damaged or not what its publisher ships."""
