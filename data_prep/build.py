"""From a list of raw items to a prepared data set: in parallel, in order, with faults told or counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from data_prep.errors import DataPrepError, ItemError, SourceError
from data_prep.parallel import ordered_map
from data_prep.store import DatasetWriter

log = logging.getLogger(__name__)
Item = TypeVar("Item")
NAMED = 3  # of several faults


@dataclass(frozen=True)
class Options:
    """What every preparation from raw data has in common."""

    size: int = 128
    """Height and width of the result in pixels."""
    keep_going: bool = False
    """Leave faulty items out, counted and listed in the manifest, in place of stopping at the first."""
    workers: int | None = None
    """Threads; all usable cores if None."""
    force: bool = False
    """Replace a prepared data set that stands at the target."""
    progress: bool = True
    command: str = ""
    """Recorded in the manifest."""

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 1024:
            raise DataPrepError(f"Image size {self.size} is out of range; choose 16 to 1024 pixels.")


@dataclass(frozen=True)
class Sample:
    """One finished image with its mask, ready to be written."""

    image: np.ndarray
    """(size, size, 3) uint8 RGB."""
    mask: np.ndarray
    """(size, size) uint8: 0 background, k the k-th object."""
    id: str
    split: str
    source: str
    extra: dict[str, Any] = field(default_factory=dict)
    """Further columns of the index; the same for every sample of a data set."""


@dataclass(frozen=True)
class Fault:
    """An item that cannot be used, and why."""

    item: str
    reason: str


def check_faults(faults: Sequence[Fault], *, keep_going: bool) -> None:
    """Raise SourceError with the first of the faults, unless such items are to be left out."""
    if faults and not keep_going:
        said = "; ".join(fault.reason for fault in faults[:NAMED])
        more = f" (and {len(faults) - NAMED} more)" if len(faults) > NAMED else ""
        them = "them" if len(faults) > 1 else "it"
        raise SourceError(f"{said}{more}; mend {them}, or leave such items out with --keep-going.")


def write_samples(
    writer: DatasetWriter,
    items: Iterable[Item],
    make: Callable[[Item], Sample],
    *,
    name: Callable[[Item], str],
    options: Options,
    faults: Sequence[Fault] = (),
    remedy: Callable[[], str] = lambda: "check that they are the masks which the command expects",
    group: int = 4,
) -> None:
    """Run `make` on every item with threads and write the samples in the items' order.

    `faults` are items that were left out before; the manifest lists them first. An ItemError from `make` stops
    the work, or, with `options.keep_going`, leaves its item out and in that list. A bar is shown where the writer knows
    how many to expect. A thread takes `group` items at a time.

    SourceError, with what `remedy` says, if no mask has foreground; a warning if some have none, or no background.
    """
    for fault in faults:
        writer.skip(fault.item, fault.reason)

    def attempt(item: Item) -> tuple[Item, Sample | None, ItemError | None]:
        try:
            return item, make(item), None
        except ItemError as error:
            return item, None, error

    empty: list[str] = []
    full: list[str] = []
    expected = writer.expected
    shown = options.progress and expected is not None
    with closing(ordered_map(attempt, items, workers=options.workers, group=group)) as made:
        for item, sample, error in tqdm(
            made, total=expected, desc=writer.path.name, unit="image", disable=not shown
        ):
            if error is not None:
                check_faults([Fault(name(item), str(error))], keep_going=options.keep_going)
                writer.skip(name(item), str(error))
                log.warning("left out %s: %s", name(item), writer.skipped[-1]["reason"])
            elif sample is not None:
                if not sample.mask.any():
                    empty.append(sample.id)
                elif sample.mask.all():
                    full.append(sample.id)
                writer.add(
                    sample.image,
                    sample.mask,
                    id=sample.id,
                    split=sample.split,
                    source=sample.source,
                    **sample.extra,
                )
    for part, lacking in (("foreground", empty), ("background", full)):
        if lacking:
            found = f"{writer.path}: {len(lacking)} of {len(writer)} masks hold no {part}"
            if lacking is empty and len(empty) == len(writer):
                raise SourceError(f"{found}, and no score would mean anything; {remedy()}.")
            log.warning("%s, the first that of %s", found, lacking[0])
