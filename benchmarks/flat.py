"""Flat rows of what is measured outside of the tables, as CSV and JSON."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.files import as_json, write_atomic


def as_csv(rows: list[dict[str, Any]]) -> str:
    """One line a row; the versions in one field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        versions = " ".join(f"{name} {version}" for name, version in row["versions"].items())
        writer.writerow(row | {"versions": versions})
    return out.getvalue()


def write_rows(
    rows: list[dict[str, Any]], results: Path, name: str, more: dict[str, str | bytes] | None = None
) -> list[Path]:
    """NAME.csv and NAME.json in the results folder, and `more`, ending -> content.

    Returns the files; BenchmarkError where one cannot be written.
    """
    contents = {".csv": as_csv(rows), ".json": as_json(rows), **(more or {})}
    try:
        for ending, content in contents.items():
            write_atomic(results / f"{name}{ending}", content)
    except OSError as error:
        raise BenchmarkError(f"cannot write {results}: {error.strerror}; choose another folder") from error
    return [results / f"{name}{ending}" for ending in contents]
