"""Signals that ask for a stop, and a step that is ended before one takes effect."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from types import FrameType
from typing import Any

from tqdm import tqdm


def stops() -> list[int]:
    """The signals that ask for a stop: SIGINT, SIGTERM and, where it is not ignored as under nohup, SIGHUP."""
    hang_up = getattr(signal, "SIGHUP", None)  # of a terminal that was closed; Windows has none
    asked: list[int] = [signal.SIGINT, signal.SIGTERM]
    return asked if hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN else [*asked, hang_up]


class GentleStop:
    """While active, the first of the `stops` waits for the next safe point; a second one does not wait."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> GentleStop:
        if threading.current_thread() is threading.main_thread():
            for number in stops():
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was asked for."""
        if self.requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with contextlib.suppress(OSError):  # the terminal may be gone
            tqdm.write("Stopping after this step (once more to stop at once) ...", file=sys.stderr)
