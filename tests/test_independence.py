"""Each of `data_prep`, `drc` and `baselines` can be taken alone: it imports neither another nor `benchmarks`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALONE = ("data_prep", "drc", "baselines")


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", ALONE)
def test_a_package_imports_no_other(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    others = {*ALONE, "benchmarks"} - {package}
    assert files
    assert {file.name: found for file in files if (found := imported(file) & others)} == {}
