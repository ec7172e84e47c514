"""Flat rows of what is measured outside of the tables, as CSV and JSON."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.files import write_atomic, write_json


def as_csv(rows: list[dict[str, Any]]) -> str:
    """One line a row; the versions in one field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        versions = " ".join(f"{name} {version}" for name, version in row["versions"].items())
        writer.writerow(row | {"versions": versions})
    return out.getvalue()


def write_rows(rows: list[dict[str, Any]], results: Path, name: str) -> list[Path]:
    """NAME.csv and NAME.json in the results folder; BenchmarkError where it cannot be written."""
    files = [results / f"{name}.csv", results / f"{name}.json"]
    try:
        write_atomic(files[0], as_csv(rows))
        write_json(files[1], rows)
    except OSError as error:
        raise BenchmarkError(f"cannot write {results}: {error.strerror}; choose another folder") from error
    return files
