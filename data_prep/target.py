"""Whether something may be written to a place: nobody else's files are in danger, and one process writes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from data_prep.errors import DataPrepError, one_line
from data_prep.reader import FORMAT, MANIFEST, MEMBERS, StoreError


def check_target(path: Path, *, force: bool) -> None:
    """Raise StoreError unless a data set may be written to `path`.

    It may if nothing or an empty folder is there or, with `force`, a prepared data set (whole or damaged) and
    nothing besides.
    """
    if not path.name:
        raise StoreError(f"{path} has no name of its own; name the folder to make, like data/sprites.")
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file; choose a folder that does not exist yet.")
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({one_line(error)}); choose another --out.") from error
    if not names:
        return
    name, members = _standing(path)
    if name is None:
        raise StoreError(f"{path} is not empty and is no prepared data set; choose another --out.")
    if not force:
        raise StoreError(
            f"{path} already holds a prepared data set ({name}); choose another --out, "
            "or add --force to replace it."
        )
    if strangers := sorted(names - members):
        raise StoreError(
            f"{path} holds {strangers[0]} beside a prepared data set; move it away before replacing the set."
        )


def check_name(name: str) -> str:
    """A data set's own name. Raises DataPrepError for one that is empty, or holds a slash or what is not printed."""
    if not name.strip() or "/" in name or not name.isprintable():
        raise DataPrepError(
            f"The name {name!r} is empty, holds a slash or cannot be printed; choose a plain one."
        )
    return name


class BusyError(StoreError):
    """Another process is writing the place."""


class SoleWriter:
    """Holds a path that is to be written, file or folder, against other processes until it is released.

    The lock is a hidden file beside the path, and ends with the process that holds it, however that ends.
    Raises BusyError if another process holds the path, and OSError if the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.with_name(f".{path.name}.lock")
        self._lock = FileLock(self._file)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            self._file.stat()  # an OSError where no file can be made, which filelock takes for one that is held
            raise BusyError(
                f"{path} is being written by another process; wait until that is done, or choose another place."
            ) from error

    def release(self) -> None:
        """Let others write, and leave no trace."""
        with suppress(OSError):  # Windows removes it itself on release
            self._file.unlink()
        self._lock.release()


def _standing(path: Path) -> tuple[str | None, set[str]]:
    """Name of the data set that stands in a folder, None if there is none, and the files that belong to it."""
    members = {MANIFEST, *MEMBERS}
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, set()
    except (OSError, ValueError):  # damaged: it is one of ours if the arrays are there
        return ("a damaged one" if all((path / member).is_file() for member in MEMBERS) else None), members
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None, set()
    files = manifest.get("files")
    return str(manifest.get("name")), members | set(files if isinstance(files, dict) else ())
