"""A folder is worked on by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.errors import Busy

log = logging.getLogger(__name__)

LOCK = "lock"
BEAT_SECONDS = 60.0
"""The holder touches its lock so often, for other machines to see that it lives."""
SILENT_SECONDS = 900.0
"""A lock of another machine that was not touched for so long counts as abandoned."""
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
"""What a file system without hard links answers, such as exFAT."""


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file, made by an exclusive create; it names the process and machine.

    A lock left by a process that is gone is taken over. Raises Busy if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    pid = os.getpid()
    mine = json.dumps(
        {
            "pid": pid,
            "started": _started(pid),
            "host": socket.gethostname(),
            "system": _system(),
            "id": uuid.uuid4().hex,
        }
    )
    _create(lock, mine)
    released = threading.Event()
    threading.Thread(target=_beat, args=(lock, released), daemon=True).start()
    try:
        yield
    finally:
        released.set()
        with contextlib.suppress(OSError):
            if _text(lock) == mine:
                lock.unlink()


def holder(folder: Path) -> str | None:
    """Who is at work in a folder, in words; None if nobody is."""
    with contextlib.suppress(FileNotFoundError):
        text = _text(folder / LOCK)
        if not _abandoned(folder / LOCK, text):
            return _words(text)
    return None


def _beat(lock: Path, released: threading.Event) -> None:
    while not released.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(lock)


def _create(lock: Path, mine: str) -> None:
    for _ in range(3):
        temporary = lock.with_name(f".{LOCK}.{uuid.uuid4().hex[:8]}")
        temporary.write_text(mine)
        try:
            _link(temporary, lock)
            return
        except FileExistsError:
            _remove_abandoned(lock)
        finally:
            temporary.unlink(missing_ok=True)
    raise Busy(f"another process is at work in {lock.parent}")


def _link(source: Path, lock: Path) -> None:
    """Give a file the lock's name; FileExistsError where there is a lock. A lock is never seen half-written.

    On file systems without hard links it is empty for a moment, as no lock that is taken over is.
    """
    try:
        os.link(source, lock)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with lock.open("x", encoding="utf-8") as file:
            file.write(_text(source))


def _remove_abandoned(lock: Path) -> None:
    """Remove the lock if its holder is gone; raise Busy if it is not."""
    try:
        judged = _text(lock)
        if not _abandoned(lock, judged):
            raise Busy(f"{_words(judged)} is at work in {lock.parent}; {_remedy(judged)}")
        aside = lock.with_name(f".{LOCK}.{uuid.uuid4().hex[:8]}")
        lock.rename(aside)
    except FileNotFoundError:
        return  # released meanwhile
    if _text(aside) != judged:  # somebody took it over between the look and the rename: give it back
        with contextlib.suppress(FileExistsError):
            _link(aside, lock)
        aside.unlink()
        raise Busy(f"another process is at work in {lock.parent}")
    log.info("took over the lock of a process that is gone: %s", _words(judged))
    aside.unlink()


def _remedy(text: str) -> str:
    """What whoever finds a lock can do."""
    if _is_here(_parse(text)):
        return "run the same command again when it has ended"
    return f"if it is gone, its lock is taken over after {SILENT_SECONDS / 60:.0f} minutes of silence"


def _text(lock: Path) -> str:
    return lock.read_text(encoding="utf-8", errors="replace")


def _abandoned(lock: Path, text: str) -> bool:
    who = _parse(text)
    if not _is_here(who):
        return time.time() - lock.stat().st_mtime > SILENT_SECONDS
    try:
        pid = int(who["pid"])
        os.kill(pid, 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError, OverflowError):
        return True
    except PermissionError:
        return False
    return who.get("started") != _started(pid)  # the number was used again


def _is_here(who: dict[str, Any]) -> bool:
    """Whether a process's number means something on this machine."""
    return (who.get("host"), who.get("system", _system())) == (socket.gethostname(), _system())


def _system() -> str:
    """Where the numbers of processes mean the same: this boot of this machine, and, in a container, its namespace."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(
            Path("/proc/self/ns/pid").readlink()
        )
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in clock ticks since boot; None where /proc does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _parse(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _words(text: str) -> str:
    who = _parse(text)
    return f"process {who.get('pid', '?')} on {who.get('host', 'an unknown machine')}"
