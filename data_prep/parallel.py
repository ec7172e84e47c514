"""Work on many items with threads: results in order, few items in memory at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 4  # groups of items under way for each worker


def usable_cores() -> int:
    """Number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Groups of `size` items, the last one shorter."""
    stream = iter(items)
    while group := list(islice(stream, size)):
        yield group


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    group: int = 1,
) -> Generator[Result, None, None]:
    """Yield function(item) for each item, in the items' order, computed by `workers` threads.

    A thread takes `group` items at a time: more than one where an item takes a few milliseconds, as handing
    over costs time too. At most AHEAD groups a worker are under way, so memory does not grow with the number
    of items. An exception is raised at its item's turn; what was not started is then dropped, as it is when the
    generator is closed, which who leaves it early must do.
    """

    def run(part: list[Item]) -> tuple[list[Result], Exception | None]:
        results = []
        try:
            for item in part:
                results.append(function(item))
        except Exception as error:
            return results, error
        return results, None

    workers = workers or usable_cores()
    pool = ThreadPoolExecutor(max_workers=workers)
    waiting: deque[Future[tuple[list[Result], Exception | None]]] = deque()

    def finish() -> Iterator[Result]:
        results, error = waiting.popleft().result()
        yield from results
        if error is not None:
            raise error

    try:
        for part in batched(items, group):
            waiting.append(pool.submit(run, part))
            if len(waiting) >= workers * AHEAD:
                yield from finish()
        while waiting:
            yield from finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
