"""What goes wrong through no fault of the program, as one sentence for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchmarkError(Exception):
    """Bad input or an unusable folder: one sentence that says what is wrong and what to do."""


class CellError(BenchmarkError):
    """What is wrong with one cell's own files, which stops no other cell."""


class Busy(BenchmarkError):
    """Another process is at work on the same cell or training."""


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """`name` as it is spelt in `valid`; case does not matter where no spelling is the same.

    Raises BenchmarkError with the nearest and all valid names if there is none.
    """
    names = list(valid)
    if name in names:
        return name
    folded = {n.casefold(): n for n in names}
    if name.casefold() in folded:
        return folded[name.casefold()]
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    hint = f" (did you mean {folded[near[0]]}?)" if near else ""
    raise BenchmarkError(f"unknown {kind} {name!r}{hint}; choose from: {', '.join(names)}")
