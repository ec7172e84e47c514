"""A method or a table of one's own that has a mistake is named, and harms no other."""

from __future__ import annotations

import errno
import sys
from dataclasses import make_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cell_helpers import cell, runner
from click.testing import CliRunner, Result
from fake_methods import RandomWalk, WalkConfig

from benchmarks import registry
from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.faults import check_registries
from benchmarks.registry import DATASETS, METHODS, PRESETS, TABLES, Subset
from benchmarks.tables import Column, Table, load_table

GREY = load_table("grey")
FIRST = GREY.entries[0]


def call(folder: Path, data: Path, *words: str) -> Result:
    places = ("--data", str(data), "--runs", str(folder / "runs"), "--results", str(folder / "results"))
    return CliRunner().invoke(main, [*words, *places])


def raising(error: BaseException) -> Any:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("member", "given", "said"),
    [
        ("configure", classmethod(raising(KeyError("smoke"))), "DRC cannot be set up: KeyError: 'smoke'"),
        (
            "configure",
            classmethod(lambda cls, **options: {}),
            "TypeError: configure gave {} where a dataclass",
        ),
        (
            "names_foreground",
            False,
            "protocol='unmatched': name the strategy there that chooses its foreground",
        ),
        ("skip", classmethod(raising(AttributeError("no attribute"))), "cannot be set up: AttributeError"),
        (
            "fit",
            raising(PermissionError(errno.EACCES, "Permission denied", "/opt/weights.pt")),
            "PermissionError: Permission denied: /opt/weights.pt",
        ),
        ("skip", classmethod(lambda cls: True), "skip() gave True where None or a sentence is expected"),
        ("restarts", 1.5, "restarts"),
        ("fit", raising(SystemExit(0)), "SystemExit: 0"),
        ("segment", raising(SystemExit("wrong options")), "SystemExit: wrong options"),
        (
            "fit",
            lambda self, images, **options: images.fill(0),
            "ValueError: assignment destination is read-only",
        ),
        ("fit", lambda self, images, **options: None, "DRC trained without calling progress"),
        (
            "fit",
            lambda self, images, *, progress, **options: progress(2, 5),
            "TypeError: fit came back after progress(2, 5): it is to take all steps, counted from 1",
        ),
        ("name", "ReDO", "says name='ReDO' and stands in METHODS as 'DRC': call it that"),
        (
            "configure",
            classmethod(lambda cls, **options: WalkConfig),
            "TypeError: configure gave <class 'fake_methods.WalkConfig'> where a dataclass",
        ),
        (
            "configure",
            classmethod(lambda cls, **options: WalkConfig(pause=float("nan"))),
            "TypeError: configure gave pause=nan, which is no plain value",
        ),
        (
            "configure",
            classmethod(lambda cls, **options: WalkConfig(pause=np.float32(1))),
            "TypeError: configure gave pause=np.float32(1.0), which is no plain value",
        ),
        (
            "configure",
            classmethod(lambda cls, **options: make_dataclass("Few", ["train_images"])(0)),
            "TypeError: configure gave train_images=0 where a number above 0, or None, is expected",
        ),
        ("panels", lambda self, images: None, "panels gave None where a dictionary of pictures is expected"),
        (
            "panels",
            lambda self, images: {"reconstruction": np.zeros((2, 3, 3, 3))},
            "panels gave reconstruction as float64 (2, 3, 3, 3) where uint8 (8, 16, 16, 3) is expected",
        ),
        (
            "panels",
            lambda self, images: {"recon": images},
            "panels gave 'recon', which is none of reconstruction",
        ),
        ("segment", lambda self, images, progress=None: [[1]], "DRC gave masks of type list"),
    ],
)
def test_a_method_with_a_mistake_is_named_and_the_others_go_on(
    member: str,
    given: Any,
    said: str,
    random_walk: type[RandomWalk],
    smoke_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random_walk, member, given, raising=False)
    words = ("sweep", "--methods", "DRC,all-foreground", "--test", "tm-dsprites", "--preset", "smoke")
    options = ("--device", "cpu", "--compute-only", "--name", "mine")
    done = call(tmp_path, smoke_data, *words, *options)
    assert done.exit_code == 1, done.output
    assert said in done.output
    assert "Cells: 1 computed, 1 failed" in done.output
    assert "Traceback" not in done.output
    planned = call(tmp_path, smoke_data, *words, "--dry-run")
    assert planned.exit_code == 0, planned.output


@pytest.mark.parametrize("target", ["drc.methodd:DRC", "drcc.method:DRC"])
def test_a_target_that_is_misspelt_is_a_fault_and_no_absent_package(
    target: str, smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "DRC", replace(METHODS["DRC"], target=target))
    words = ("sweep", "--methods", "DRC,all-foreground", "--test", "tm-dsprites", "--preset", "smoke")
    done = call(tmp_path, smoke_data, *words, "--device", "cpu", "--compute-only")
    assert done.exit_code == 1, done.output
    assert f"there is no module {'drc.methodd' if 'methodd' in target else 'drcc'}" in done.output
    assert "Cells: 1 computed, 1 failed" in done.output


def test_a_class_that_lacks_a_member_is_named_before_it_trains(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(random_walk, "panels")
    outcome = runner(smoke_data, tmp_path).run(cell())
    assert (outcome.status, random_walk.steps_taken) == ("failed", 0)
    assert "RandomWalk lacks panels, which docs/add_a_method.md asks for" in outcome.reason


@pytest.mark.parametrize("line", ["import baselines.trainin", "from baselines.training import Trainerx"])
def test_a_method_that_imports_what_the_project_lacks_is_a_fault_and_no_absent_package(
    line: str, smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistyped.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mistyped", raising=False)
    monkeypatch.setitem(METHODS, "DRC", replace(METHODS["DRC"], target="mistyped:DRC"))
    outcome = runner(smoke_data, tmp_path).run(cell())
    assert outcome.status == "failed"
    assert "mistyped imports what is not there" in outcome.reason


FLOOR, BIRDS = METHODS["all-foreground"], DATASETS["birds"]


@pytest.mark.parametrize(
    ("spec", "changes", "said"),
    [
        (
            FLOOR,
            {"target": "drc.method.DRC"},
            "has the target 'drc.method.DRC' where module:class is expected",
        ),
        (FLOOR, {"variants": "fixed"}, "has variants='fixed' where a tuple of names is expected"),
        (FLOOR, {"variants": ()}, "has variants=() where a tuple of names is expected"),
        (FLOOR, {"variants": (1,)}, "has variants=(1,) where a tuple of names is expected"),
        (FLOOR, {"variants": ("a/b",)}, "holds the name 'a/b', which must be printable, without a comma"),
        (FLOOR, {"protocol": "best"}, "has the protocol 'best', which is none of unmatched"),
        (FLOOR, {"protocol": ["unmatched"]}, "has the protocol ['unmatched'], which is none of unmatched"),
        (FLOOR, {"annotation": {"boxes": "a box"}}, "says in annotation something of the variant 'boxes'"),
        (FLOOR, {"taken_over": None}, "has taken_over=None where a dictionary by variants is expected"),
        (BIRDS, {"folder": "a{b}"}, "has folder='a{b}', whose braces may hold size alone"),
        (BIRDS, {"folder": "{size.x}"}, "has folder='{size.x}', whose braces may hold size alone"),
        (BIRDS, {}, "has the label 'Birds, all', which is also that of 'birds'"),
        (BIRDS, {"label": 5}, "has label=5 where a text is expected"),
        (BIRDS, {"splits": {}}, "has splits={} where a dictionary of Subset is expected"),
        (BIRDS, {"splits": {"a:b": Subset(None, "all")}}, "holds the name 'a:b'"),
        (BIRDS, {"splits": dict.fromkeys("ab", Subset(None, "of mine"))}, "has two splits of one label"),
        (BIRDS, {"splits": {"all": None}}, "has None as its split 'all' where a Subset is expected"),
        (BIRDS, {"splits": {"all": Subset(None, "all", limit=0)}}, "has limit=0 in its split 'all'"),
    ],
)
def test_what_is_entered_wrongly_is_named_before_anything_is_run(
    spec: Any, changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry: Any = METHODS if spec is FLOOR else DATASETS
    monkeypatch.setitem(registry, "mine", replace(spec, **changes))
    done = call(tmp_path, tmp_path / "data", "sweep", "--methods", "all-foreground", "--test", "tm-dsprites")
    assert done.exit_code == 2, done.output
    assert f"S['mine'] in benchmarks/registry.py {said}" in done.output
    assert not (tmp_path / "runs").exists()
    assert CliRunner().invoke(main, ["status", "--help"]).exit_code == 0


@pytest.mark.parametrize("name", ["a,b", "a:b", "a/b", "", "a\n"])
def test_a_name_that_parts_commands_or_files_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, name, FLOOR)
    with pytest.raises(BenchmarkError, match="must be printable, without a comma, a colon or a slash"):
        check_registries()


@pytest.mark.parametrize(
    "text",
    ['NAMES = {\n "a": 1,\n "b": 2,\n "a": 3,\n}', 'NAMES: dict = {"b": Spec(splits={\n"a": 1,\n\n"a": 2})}'],
)
def test_a_name_that_is_there_already_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registry.py").write_text(text)
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    with pytest.raises(BenchmarkError, match=r"has 'a' in one dictionary twice, in lines 2 and 4"):
        check_registries()


def test_a_training_that_came_back_early_stays_refused(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = random_walk.fit, runner(smoke_data, tmp_path, retry=True)

    def early(
        self: RandomWalk, images: np.ndarray, *, checkpoint_dir: Path, progress: Any, **rest: Any
    ) -> None:
        if not (checkpoint_dir / "state.json").exists():
            progress(5, 12)
        whole(self, images, checkpoint_dir=checkpoint_dir, progress=lambda *step, **values: None, **rest)

    monkeypatch.setattr(random_walk, "fit", early)
    for _ in range(2):
        outcome = run.run(cell())
        assert outcome.status == "failed"
        assert "fit came back after progress(5, 12)" in outcome.reason


@pytest.mark.parametrize("name", [5, "../x", "a/b"])
@pytest.mark.parametrize("kind", [TABLES, PRESETS])
def test_names_of_tables_and_budgets_are_those_of_files(
    kind: dict[Any, Any], name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kind, name, next(iter(kind.values())))
    with pytest.raises(BenchmarkError, match=rf"holds the name {name!r}, which must be printable"):
        check_registries()


@pytest.mark.parametrize("changes", [{"eval_images": 0}, {"eval_images": -3}, {"image_size": None}])
def test_a_budget_of_no_images_is_refused(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "mine", replace(PRESETS["smoke"], **changes))
    ((part, value),) = changes.items()
    with pytest.raises(
        BenchmarkError, match=rf"PRESETS\['mine'\] .* has {part}={value} where a number above 0"
    ):
        check_registries()


def test_a_disk_that_refuses_the_suite_itself_still_ends_it(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "fits" / "state.json"))
    monkeypatch.setattr(random_walk, "fit", raising(refused))
    with pytest.raises(BenchmarkError, match="cannot go on writing below"):
        runner(smoke_data, tmp_path).run(cell())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"number": "grey"}, "says number='grey', so that its files would be another's"),
        ({"line": "borderx"}, "in the line 'borderx', which is none of its lines"),
        ({"column": "Spritess"}, "in the column 'Spritess', which is none of its columns"),
        ({"dataset": "tm-dsprite"}, "names the data set 'tm-dsprite', which is not registered"),
        ({"train_dataset": "tm-dsprite"}, "names the data set 'tm-dsprite', which is not registered"),
        ({"split": "tset"}, "names the split 'tset', which tm-dsprites-grey has not"),
        ({"method": "DRC", "train_dataset": ""}, "does not say what DRC is trained on"),
        ({"method": "Grabcut"}, "names the method 'Grabcut', which is not registered"),
        ({"variant": "centre60"}, "names the variant 'centre60', which"),
        ({"published": ("DRC", "", "birds", "all")}, "which only the paper's own tables have"),
    ],
)
def test_a_table_with_a_mistake_is_named(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"number": changes.get("number", "mine")}
    entry = replace(FIRST, **{name: text for name, text in changes.items() if name != "number"})
    with pytest.raises(BenchmarkError) as caught:
        register(replace(GREY, **own, entries=(entry, *GREY.entries[1:])), monkeypatch)
    assert "the table mine" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"columns": GREY.columns[0]}, "is not built as a Table of tuples ('Column' object is not iterable)"),
        ({"entries": (5,)}, "is not built as a Table of tuples"),
        (
            {"lines": (replace(GREY.lines[0], marks="*"), *GREY.lines[1:])},
            "has the mark '*', which none of its",
        ),
        ({"preset": "fast"}, "says preset='fast', which is none of smoke, quick"),
        ({"rivals": "rows"}, "says rivals='rows', which is none of lines, columns"),
        ({"keys": ("seed",)}, "says keys=('seed',), which is no tuple of variant, train_dataset"),
        ({"keys": "variant"}, "says keys='variant', which is no tuple"),
        ({"entries": (FIRST, replace(FIRST, split="eval"))}, "has 2 entries in the line"),
        ({"entries": ()}, "has no entries, and nothing to print"),
        ({"title": None}, "has None where a text is expected"),
        ({"columns": (Column(32), *GREY.columns)}, "has 32 where a text is expected"),  # type: ignore[arg-type]
        ({"columns": (replace(GREY.columns[0], about=5), *GREY.columns[1:])}, "has 5 where a text"),
        ({"columns": (*GREY.columns, GREY.columns[0])}, "has 2 columns called"),
        ({"lines": (*GREY.lines, GREY.lines[0])}, "has 2 lines called"),
    ],
)
def test_a_table_that_is_not_built_as_one_is_named(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BenchmarkError, match="the table mine") as caught:
        register(replace(GREY, **{"number": "mine", **changes}), monkeypatch)
    assert said in str(caught.value)


def test_what_is_no_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchmarkError, match="the table mine"):
        register(5, monkeypatch)  # type: ignore[arg-type]


def register(table: Table | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load it as the table `mine`; None is a file without one."""
    module = SimpleNamespace() if table is None else SimpleNamespace(TABLE=table)
    monkeypatch.setitem(sys.modules, "tables_of_mine", module)  # type: ignore[arg-type]
    monkeypatch.setitem(TABLES, "mine", "tables_of_mine")
    load_table("mine")


def test_a_number_makes_no_table_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = replace(GREY, number="5", entries=(replace(FIRST, method="Grabcut"), *GREY.entries[1:]))
    monkeypatch.setitem(sys.modules, "tables_of_mine", SimpleNamespace(TABLE=table))
    monkeypatch.setitem(TABLES, "5", "tables_of_mine")
    with pytest.raises(BenchmarkError, match="names the method 'Grabcut', which is not registered"):
        load_table("5")


def test_a_table_never_takes_the_name_of_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tables_of_mine", SimpleNamespace(TABLE=replace(GREY, number="trials")))
    monkeypatch.setitem(TABLES, "trials", "tables_of_mine")
    with pytest.raises(BenchmarkError, match="has the number 'trials', so that its files might be another"):
        load_table("trials")


def test_a_table_that_cannot_be_loaded_harms_no_other(
    smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BenchmarkError, match=r"the table mine cannot be loaded from tables_of_mine: Attrib"):
        register(None, monkeypatch)
    done = CliRunner().invoke(main, ["status", "--data", str(smoke_data), "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    assert "left out: the table mine cannot be loaded" in caplog.text
    assert call(tmp_path, smoke_data, "table", "mine").exit_code == 2
    caplog.clear()
    monkeypatch.setattr("benchmarks.table_files.to_png", lambda layout: b"\x89PNG")
    done = call(tmp_path, smoke_data, "table", "grey", "--methods", "all-foreground", "--preset", "smoke")
    assert done.exit_code == 0, done.output
    assert "left out: the table mine cannot be loaded" in caplog.text
    assert (tmp_path / "results" / "report-smoke.html").exists()
