"""Numbers as people read them."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count} {noun}" + "s" * (count != 1)


def in_units(value: float, unit: str) -> str:
    """A number with three digits and a prefix, such as 1.78 GFLOP."""
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z"]
    while value >= 999.5 and len(prefixes) > 1:
        value /= 1000
        prefixes.pop(0)
    return f"{value:.3g} {prefixes[0]}{unit}"


def in_hours(seconds: float) -> str:
    """Seconds in the largest unit that is not below one."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
