"""What is seen and kept while a method trains: a bar, progress.jsonl, a live picture, and a gentle stop."""

from __future__ import annotations

import contextlib
import json
import logging
import operator
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.files import named, write_atomic
from benchmarks.stops import GentleStop

log = logging.getLogger(__name__)

RECORD_SECONDS = 5.0
LIVE_SECONDS = 30.0
LIVE_SHARE = 0.03
"""At most about this share of the time goes into live pictures."""


class FitProgress:
    """The `progress` that fit is given: call it as progress(step, total, **values) after every step.

    The bar shows the value called reconstruction alone if there is one; progress.jsonl keeps all.
    Seconds count over restarts, those of steps that are taken again once, live pictures excluded. KeyboardInterrupt is
    raised here on a stop.
    """

    def __init__(
        self, folder: Path, title: str, stop: GentleStop, live: Callable[[], None], *, afresh: bool = False
    ) -> None:
        """With `afresh` the record of earlier runs is given up if a step is taken."""
        self._file = folder / "progress.jsonl"
        self._afresh, self.called = afresh, False
        self._unrecorded: tuple[int, int, dict[str, float]] | None = None
        self._title, self._stop, self._live = title, stop, live
        self._bar: tqdm[Any] | None = None
        last = next(reversed(read_record(self._file)), {"step": 0, "seconds": 0.0})
        self.steps, self.total, self._before = last["step"], last.get("total", last["step"]), last["seconds"]
        self._began = self._recorded = self._pictured = time.monotonic()
        self._aside = 0.0
        self._live_every = LIVE_SECONDS

    @property
    def seconds(self) -> float:
        """Training seconds so far, earlier runs included."""
        return self._before + time.monotonic() - self._began - self._aside

    def __call__(self, step: int, total: int, **values: float) -> None:
        step, total = _count("step", step), _count("total", total)
        values = {name: _number(name, value) for name, value in values.items()}
        if not self.called:
            self._before = _forget(self._file, 1 if self._afresh else step)
        self.steps, self.total, self.called = step, total, True
        self._unrecorded = step, total, values
        self._show(step, total, values)
        now = time.monotonic()
        if now - self._recorded >= RECORD_SECONDS or step == total or self._stop.requested:
            self._record(step, total, values)
            self._recorded = now
        self._stop.check()
        if now - self._pictured >= self._live_every:
            self._picture()

    def close(self) -> None:
        """Record the last step, if it is not, and finish the bar."""
        if self._unrecorded is not None:
            with contextlib.suppress(OSError):  # a full disk has been told of already
                self._record(*self._unrecorded)
        if self._bar is not None:
            self._bar.close()

    def _show(self, step: int, total: int, values: dict[str, float]) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=total, initial=max(step - 1, 0), desc=self._title, unit="step", mininterval=0.5
            )
        shown = {k: v for k, v in values.items() if k.startswith("reconstruction")} or values
        self._bar.set_postfix({k.replace("_", " "): f"{v:.4g}" for k, v in shown.items()}, refresh=False)
        self._bar.update(step - self._bar.n)

    def _record(self, step: int, total: int, values: dict[str, float]) -> None:
        line: dict[str, float | None] = {"step": step, "total": total, "seconds": round(self.seconds, 2)}
        line |= {name: value if np.isfinite(value) else None for name, value in values.items()}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._unrecorded = None

    def _picture(self) -> None:
        """Draw the live picture; whatever goes wrong there must not cost the training."""
        began = time.monotonic()
        try:
            with untouched_randomness():
                self._live()
        except Exception as error:
            log.warning("no live pictures from here on: %s", named(error))
            log.debug("the live picture failed", exc_info=True)
            self._live_every = float("inf")
        self._pictured = time.monotonic()
        cost = self._pictured - began
        self._aside += cost
        self._live_every = max(self._live_every, cost / LIVE_SHARE)


@contextlib.contextmanager
def segment_progress(title: str) -> Iterator[Callable[..., None]]:
    """A bar for a method's segment: yields progress(step, total, **values), which may start over."""
    with tqdm(desc=title, unit="step", mininterval=0.5, leave=False) as bar:

        def progress(step: int, total: int, **values: float) -> None:
            bar.total = total
            bar.update(step - bar.n)

        yield progress


@contextlib.contextmanager
def untouched_randomness() -> Iterator[None]:
    """Leave the global random generators as they were, so that looking at a training does not change it."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state() if torch else None
    cuda_states = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(torch_state)
            if cuda_states is not None:
                torch.cuda.set_rng_state_all(cuda_states)


def _count(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise TypeError(f"progress was given {name}={value!r}: it must be a whole number") from error


def _number(name: str, value: Any) -> float:
    if name == "seconds":
        raise TypeError(
            "progress was given a value called seconds, which are counted here: call it otherwise"
        )
    try:
        return float("a word" if isinstance(value, str) else value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"progress was given {name}={value!r}: values must be numbers") from error


def _forget(file: Path, step: int) -> float:
    """Forget what was recorded of `step` and later ones, which are taken again -> the seconds of those before it.

    A training that was killed goes on from its last checkpoint, which lies before the last of its lines.
    """
    lines = read_record(file)
    kept = [line for line in lines if line["step"] < step]
    if file.exists():
        write_atomic(file, "".join(f"{json.dumps(line)}\n" for line in kept))
    before = kept[-1] if kept else {"step": 0, "seconds": 0.0}
    after = next((line for line in lines if line["step"] >= step), None)
    if after is None:
        return before["seconds"]
    share = (step - 1 - before["step"]) / (after["step"] - before["step"])  # not every step has a line
    return before["seconds"] + share * (after["seconds"] - before["seconds"])


def read_record(file: Path) -> list[dict[str, Any]]:
    """The lines of a training's progress.jsonl, each with its `step` and `seconds`; none if there is no such file.

    What cannot be read, such as a last line that a crash cut short, is left out.
    """
    if not file.exists():
        return []
    lines = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            lines.append(line | {"step": int(line["step"]), "seconds": float(line["seconds"])})
    return lines
