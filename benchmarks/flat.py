"""Flat rows of what is measured outside of the tables, as CSV and JSON."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.files import as_json, read_json, write_atomic, writing


def as_csv(rows: list[dict[str, Any]]) -> str:
    """One line a row, with the fields of all; the versions in one field."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        versions = " ".join(f"{name} {version}" for name, version in row["versions"].items())
        writer.writerow(row | {"versions": versions})
    return out.getvalue()


def read_rows(results: Path, name: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of NAME.json in the results folder, none where there is no such file.

    Each must have the `fields`, name -> kind. BenchmarkError names a file that does not hold such rows.
    """
    file, remedy = results / f"{name}.json", "restore it or delete it"
    if not file.exists():
        return []
    rows = read_json(file, remedy)
    if not isinstance(rows, list):
        raise BenchmarkError(f"{file} cannot be read (it is no list of rows): {remedy}")
    return [_checked(row, fields, file, remedy) for row in rows]


def read_flat_row(file: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """A row that is kept in a file of its own; BenchmarkError names a file that does not hold one with the `fields`."""
    remedy = "delete it to score again"
    return _checked(read_json(file, remedy), fields, file, remedy)


def _checked(row: Any, fields: dict[str, Any], file: Path, remedy: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BenchmarkError(f"{file} cannot be read ({row!r} is no row): {remedy}")
    if wrong := [name for name, kind in fields.items() if not isinstance(row.get(name), kind)]:
        raise BenchmarkError(f"{file} has a row with no usable {', '.join(wrong)}: {remedy}")
    return row


def write_rows(
    rows: list[dict[str, Any]], results: Path, name: str, more: dict[str, str | bytes] | None = None
) -> list[Path]:
    """NAME.csv and NAME.json in the results folder, and `more`, ending -> content.

    Returns the files; BenchmarkError where one cannot be written.
    """
    contents = {".csv": as_csv(rows), ".json": as_json(rows), **(more or {})}
    with writing(name, results):
        for ending, content in contents.items():
            write_atomic(results / f"{name}{ending}", content)
    return [results / f"{name}{ending}" for ending in contents]
