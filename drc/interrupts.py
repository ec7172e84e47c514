"""A training that is asked to stop does so between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Let the step in hand finish before SIGINT or SIGTERM takes effect; a second SIGINT does not wait.

    Yields a function that tells whether one has come. It changes nothing outside the main thread, nor where SIGINT has
    a handler of whoever drives the training, who then ends it from `progress`.
    """
    handler = signal.getsignal(signal.SIGINT)
    taken = callable(handler) and handler is not signal.default_int_handler
    if taken or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
