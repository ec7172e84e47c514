"""The example of docs/tables.md, taken from the page itself, becomes a table; its commands are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import benchmarks.tables
from benchmarks.__main__ import main
from benchmarks.registry import TABLES

PAGE = (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")


def test_the_example_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, entry = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    target = re.search(r"Save this as `benchmarks/tables/(\w+\.py)`", PAGE)
    assert target
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / target[1]).write_text(file, encoding="utf-8")
    monkeypatch.setattr(
        benchmarks.tables, "__path__", [*benchmarks.tables.__path__, str(tmp_path / "tables")]
    )
    for name, module in eval(f"{{{entry}}}").items():
        monkeypatch.setitem(TABLES, name, module)
    places = [word for n in ("data", "runs", "results") for word in (f"--{n}", str(tmp_path / n))]
    done = CliRunner().invoke(main, ["table", "rectangles", "--preset", "smoke", *places])
    assert done.exit_code == 0, done.output
    assert "3 computed" in done.output
    assert "* It is given the annotated box." in done.output
    assert (tmp_path / "results" / "rectangles-smoke.csv").read_text().count(",measured,") == 3


@pytest.mark.parametrize("line", re.findall(r"^python -m benchmarks (sweep .*)$", PAGE, re.MULTILINE))
def test_its_sweeps_are_understood(line: str, tmp_path: Path) -> None:
    words = [word.replace("data/mine:val", "tm-dsprites:test") for word in shlex.split(line)]
    places = [word for n in ("data", "runs", "results") for word in (f"--{n}", str(tmp_path / n))]
    done = CliRunner().invoke(main, [*words, *places, "--launcher", "print"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(("# birds-split is not prepared: ", "python -m "))
    assert list(tmp_path.iterdir()) == []
