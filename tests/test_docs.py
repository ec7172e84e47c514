"""What README.md and docs/ say exists: names, commands and their options, links; and the site needs no network."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.registry import METHODS, PRESETS
from data_prep.__main__ import main as data_prep_main
from drc.__main__ import main as drc_main
from drc.config import configure

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = {"benchmarks": benchmarks_main, "data_prep": data_prep_main, "drc": drc_main}
PACKAGES = "baselines|benchmarks|data_prep|drc"
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
pages = pytest.mark.parametrize("page", TEXTS)


def hooks() -> ModuleType:
    """docs/hooks.py, which lies in no package."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return import_module("hooks")
    finally:
        sys.path.remove(str(ROOT / "docs"))


def sessions() -> dict[str, list[str]]:
    """The sessions of noxfile.py, each with the words that it runs by `run`."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(
            "session" in ast.unparse(d) for d in node.decorator_list
        ):
            calls = [c for c in ast.walk(node) if isinstance(c, ast.Call) and ast.unparse(c.func) == "run"]
            found[node.name] = [ast.literal_eval(word) for call in calls for word in call.args[1:]]
    return found


def commands(text: str) -> list[list[str]]:
    """Every command of this project on a page, in fences and in the text, as words."""
    fences = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [line for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines + [" ".join(span.split()) for span in inline]:
        if re.match(rf"(nox |(\S*python|torchrun) .*-m ({PACKAGES}|drc)\b)", line):
            found.append(shlex.split(line, comments=True))
    return found


def understand(words: list[str]) -> None:
    """AssertionError where a command names a session, a command or an option that does not exist."""
    if words[0] == "nox":
        if "-s" not in words:
            assert set(words[1:]) <= {"-l"}, words
            return
        name = words[words.index("-s") + 1]
        assert name in sessions(), f"nox has no session {name}"
        words = ["-m", *sessions()[name], *(words[words.index("--") + 1 :] if "--" in words else [])]
    program, *rest = words[words.index("-m") + 1 :] or [""]  # a session need not run one of ours
    if program in PROGRAMS and rest[:1] != ["..."]:
        check_options(PROGRAMS[program], rest, program)


def check_options(command: click.Command, words: list[str], name: str) -> None:
    """AssertionError for a command or an option that the program does not have."""
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{name} has no command {words[0]}"
        check_options(command.commands[words[0]], words[1:], f"{name} {words[0]}")
        return
    known = {"--help", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{name} has no option {word}"


@pytest.mark.parametrize(
    "line",
    [
        "nox -s table9",
        "nox -s table1 -- --sedes 0",
        "python -m drc trian --data data",
        "python -m data_prep folder --pictures photos",
        "torchrun --nproc-per-node 4 -m drc train --dta data",
    ],
)
def test_a_wrong_command_is_seen(line: str) -> None:
    (words,) = commands(f"```\n{line}  # a note\n```")
    with pytest.raises(AssertionError, match="has no"):
        understand(words)


def test_the_snippets_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand but for a small budget and the pictures of the reader; the second trains what the first loads."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    names: dict[str, Any] = {"images": images, "new_images": images[:2]}
    for file in ("a.jpg", "b.png"):
        Image.fromarray(images[0]).save(tmp_path / file)
    found = re.findall(r"^```python\n(.*?)^```", TEXTS["README.md"], re.DOTALL | re.MULTILINE)
    load, train = (text.replace('"quick"', '"smoke"').replace("=32", "=16") for text in found)
    exec(train, names)
    assert names["masks"].shape == (2, 2, 16, 16)
    exec(load.replace("runs/sprites", "run"), names)
    assert [mask.shape for mask in names["masks"]] == [(16, 16), (16, 16)]


@pages
def test_every_command_on_a_page_exists(page: str) -> None:
    for words in commands(TEXTS[page]):
        understand(words)


def test_the_pages_are_read_for_commands() -> None:
    assert len(commands(TEXTS["README.md"])) > 20
    assert len(commands(TEXTS["reproduce.md"])) > 15


def test_every_session_is_on_the_page_of_sessions() -> None:
    for name in sessions():
        assert f"`nox -s {name}`" in TEXTS["reproduce.md"], f"docs/reproduce.md lacks the session {name}"


@pytest.mark.parametrize(("page", "count"), [("README.md", 8), ("reproduce.md", 6)])
def test_the_budgets_are_as_the_page_says(page: str, count: int) -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+)×\d+ \| (?:([\d,]+) steps)?", TEXTS[page], re.MULTILINE)
    assert len([steps for _, _, steps in rows if steps]) == count
    assert {preset for preset, _, _ in rows} == PRESETS.keys()
    for preset, size, steps in rows:
        assert int(size) == PRESETS[preset].image_size
        config = configure(variant="full", preset=preset, dataset="", image_size=int(size))
        assert not steps or int(steps.replace(",", "")) == config.train_steps, f"{preset} on {page}"


def test_the_method_page_names_every_variant() -> None:
    for variant in METHODS["DRC"].variants[1:]:
        assert f"`{variant}`" in TEXTS["method.md"]


def named(dotted: str) -> Any:
    """What a dotted name of module and attributes stands for."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AttributeError(dotted)


@pages
def test_every_name_on_a_page_exists(page: str) -> None:
    for dotted in re.findall(rf"`((?:{PACKAGES})\.\w+(?:\.\w+)*)`", TEXTS[page]):
        if not dotted.endswith(".py"):
            assert named(dotted) is not None, dotted


def test_the_method_page_covers_every_equation_and_leads_to_the_lines() -> None:
    text = TEXTS["method.md"]
    assert [int(n) for n in re.findall(r"&emsp;\((\d+)\)$", text, re.MULTILINE)] == list(range(1, 14))
    links = re.findall(r"\[`(drc\.[\w.]+)`\]\(\.\./([^)]+)\)", text)
    assert len(links) > 25
    for name, path in links:
        assert name.startswith(path.removesuffix(".py").replace("/", ".") + ".")
        assert re.search(r"#L-0-\d+$", hooks().target(f"`{name}`", path)), f"{name} is not defined in {path}"


def test_a_link_leads_to_the_line_of_the_definition() -> None:
    line = int(hooks().target("`drc.model.Regions.image`", "drc/model.py").rpartition("-")[2])
    assert "def image(self)" in "\n".join(
        (ROOT / "drc/model.py").read_text().splitlines()[line - 1 : line + 1]
    )


@pages
def test_every_link_on_a_page_leads_to_a_file(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for address in re.findall(r"\]\((?!https?:)([^)#]+)", TEXTS[page]):
        assert (folder / address).exists(), f"{page} links to {address}"


@pytest.mark.parametrize(
    ("html", "loads"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', True),
        ('<img src="http://cdn.example/x.png">', True),
        ("<style>@import 'https://fonts.example/x.css';</style>", True),
        ('<p style="background: url(https://cdn.example/x.png)">', True),
        ('<a href="https://nox.thea.codes">nox</a><img src="assets/x.png">', False),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_seen(html: str, loads: bool) -> None:
    assert bool(hooks().foreign(html)) is loads


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed; nox -s docs builds the site")
    from click.testing import CliRunner
    from mkdocs.__main__ import cli

    site = tmp_path / "site"
    done = CliRunner().invoke(
        cli, ["build", "--strict", "-q", "-f", str(ROOT / "mkdocs.yml"), "-d", str(site)]
    )
    assert done.exit_code == 0, done.output
    built = list(site.rglob("*.html"))
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {page.stem for page in built}
    for page in built:
        assert hooks().foreign(page.read_text(encoding="utf-8")) == [], page
    results = (site / "results.html").read_text(encoding="utf-8")
    assert results.count("<table>") >= sum(
        table.read_text(encoding="utf-8").count("| ---") > 0 for table in (ROOT / "results").glob("table?.md")
    )
