"""The command line: python -m benchmarks table 1 ... in miniature, and every kind of bad input."""

from __future__ import annotations

import csv
import errno
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_methods import RandomWalk

from benchmarks import registry
from benchmarks.__main__ import main
from benchmarks.cli import parse_seeds
from benchmarks.errors import BenchmarkError, choose
from benchmarks.tables import load_table, plan

ROOT = Path(__file__).parents[1]
ENDINGS = ("csv", "jsonl", "md", "png", "tex")


@pytest.fixture(autouse=True)
def quick_png(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no real table, which takes longest, except in the test of the whole."""
    if request.function is not test_from_nothing_to_the_table:
        monkeypatch.setattr("benchmarks.table_files.to_png", lambda layout: b"\x89PNG" + b"0" * 8000)


def runner() -> CliRunner:
    """A runner that keeps standard error apart, which before click 8.2 had to be asked for."""
    try:
        return CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:
        return CliRunner()


def table(tmp_path: Path, *options: str, data: Path | None = None) -> Result:
    folders = {
        "--data": data or tmp_path / "data",
        "--runs": tmp_path / "runs",
        "--results": tmp_path / "results",
    }
    places = [word for name, path in folders.items() if name not in options for word in (name, str(path))]
    return runner().invoke(main, ["table", "1", "--preset", "smoke", "--device", "cpu", *places, *options])


def planned() -> int:
    """How many cells Table 1 has on TM-dSprites."""
    return len(plan(load_table("1"), "smoke", list(registry.METHODS), ["tm-dsprites"], [0]))


def refused(result: Result, *words: str) -> None:
    """One sentence that holds the words, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


def lines(tmp_path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    with (tmp_path / "results" / "table1-smoke.csv").open(newline="") as file:
        return {(x["method"], x["variant"], x["dataset"], x["split"]): x for x in csv.DictReader(file)}


# the main job


def test_from_nothing_to_the_table(random_walk: type[RandomWalk], tmp_path: Path) -> None:
    result = table(tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "data" / "tm-dsprites-16" / "manifest.json").exists()
    assert {p.name for p in (tmp_path / "results").iterdir() if p.is_file()} == {
        *(f"table1-smoke.{s}" for s in ENDINGS),
        "table1-smoke-paired.csv",
        "table1-smoke-strategies.csv",
        "figure3-smoke.png",
        "report-smoke.html",
        "REPRODUCING-smoke.md",
    }
    found = lines(tmp_path)
    for split in ("eval", "test"):
        for method, variant in (
            ("DRC", "full"),
            ("GrabCut", "border"),
            ("GrabCut", "center60"),
            ("GrabCut", "bbox"),
            ("all-foreground", "fixed"),
            ("centred-ellipse", "fixed"),
        ):
            line = found[method, variant, "tm-dsprites", split]
            assert (line["status"], line["preset"], line["n_images"]) == ("measured", "smoke", "16")
    birds = found["DRC", "full", "birds", "all"]
    assert birds["status"] == "published-only"
    assert "python -m data_prep birds" in birds["reason"]
    assert "Table 1." in result.stdout
    assert "Budget smoke" in result.stdout
    assert f"{planned()} computed" in result.stdout


def test_again_nothing_is_computed(random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path) -> None:
    table(tmp_path, data=smoke_data)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    steps = random_walk.steps_taken
    result = table(tmp_path, data=smoke_data)
    assert result.exit_code == 0
    assert f"{planned()} kept" in result.stdout
    assert random_walk.steps_taken == steps
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}


def test_a_choice_of_methods_keeps_what_was_measured_before(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    table(tmp_path, "--methods", "all-foreground", data=smoke_data)
    table(tmp_path, "--methods", "grabcut,centred-ellipse", data=smoke_data)
    found = lines(tmp_path)
    assert found["all-foreground", "fixed", "tm-dsprites", "test"]["status"] == "measured"
    assert found["GrabCut", "border", "tm-dsprites", "test"]["status"] == "measured"
    assert (
        "not run yet: python -m benchmarks table 1" in found["DRC", "full", "tm-dsprites", "test"]["reason"]
    )
    assert random_walk.steps_taken == 0


def test_seeds_make_a_mean_with_its_spread(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    table(tmp_path, "--methods", "DRC,GrabCut", "--seeds", "0-2", data=smoke_data)
    line = lines(tmp_path)["DRC", "full", "tm-dsprites", "test"]
    assert line["seeds"] == "0 1 2"
    assert line["iou_std"] != ""
    assert lines(tmp_path)["GrabCut", "border", "tm-dsprites", "test"]["seeds"] == "0"


def test_collect_only_shows_every_seed_that_there_is(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    table(tmp_path, "--methods", "DRC", "--seeds", "3,5", data=smoke_data)
    which = ("DRC", "full", "tm-dsprites", "test")
    for options, seeds in (([], "3 5"), (["--seeds", "5"], "5")):
        table(tmp_path, "--collect-only", *options, data=smoke_data)
        assert lines(tmp_path)[which]["seeds"] == seeds


def test_collect_only_never_computes(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, "--methods", "GrabCut", data=smoke_data)
    monkeypatch.setattr(registry.MethodSpec, "load", lambda self: pytest.fail("a method was loaded"))
    for data in (smoke_data, tmp_path / "elsewhere"):
        result = table(tmp_path, "--collect-only", data=data)
        assert result.exit_code == 0, result.output
        assert lines(tmp_path)["GrabCut", "border", "tm-dsprites", "test"]["status"] == "measured"
        assert lines(tmp_path)["DRC", "full", "tm-dsprites", "test"]["status"] == "missing"


def test_dry_run_writes_nothing_and_shows_the_settings(random_walk: type[RandomWalk], tmp_path: Path) -> None:
    result = table(tmp_path, "--dry-run")
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []
    for word in ("steps=12", "rectangle='bbox'", "python -m data_prep birds", "would be generated"):
        assert word in result.stdout


def test_dry_run_says_what_is_done(random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path) -> None:
    table(tmp_path, "--methods", "GrabCut", data=smoke_data)
    text = table(tmp_path, "--dry-run", data=smoke_data).stdout
    assert "GrabCut border on tm-dsprites test, smoke: done" in text
    assert "DRC full on tm-dsprites test seed 0, smoke: to do" in text
    text = table(tmp_path, "--dry-run", "--force", data=smoke_data).stdout
    assert "GrabCut border on tm-dsprites test, smoke: to do again" in text


def test_force_computes_again(random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path) -> None:
    table(tmp_path, "--methods", "DRC", data=smoke_data)
    result = table(tmp_path, "--methods", "DRC", "--force", data=smoke_data)
    assert "2 computed" in result.stdout
    assert random_walk.steps_taken == 24


# what goes wrong


def test_a_crashed_method_is_shown_and_the_others_are_measured(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    random_walk.crash_at = 3
    result = table(tmp_path, data=smoke_data)
    assert result.exit_code == 1
    assert "the walk left the page" in result.stderr
    assert "Traceback" not in result.output
    found = lines(tmp_path)
    assert "the walk left the page" in found["DRC", "full", "tm-dsprites", "test"]["reason"]
    assert found["GrabCut", "border", "tm-dsprites", "test"]["status"] == "measured"
    assert "the walk left the page" in table(tmp_path, "--collect-only", data=smoke_data).stdout
    random_walk.crash_at = None
    assert table(tmp_path, data=smoke_data).exit_code == 0


def test_a_stop_leaves_with_130_and_the_same_command_goes_on(
    random_walk: type[RandomWalk], smoke_data: Path, tmp_path: Path
) -> None:
    random_walk.interrupt_at = 5
    result = table(tmp_path, "--methods", "DRC", data=smoke_data)
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    random_walk.interrupt_at = None
    assert table(tmp_path, "--methods", "DRC", data=smoke_data).exit_code == 0
    assert random_walk.steps_taken == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--preset", "qiuck"),
            ("'qiuck'", "did you mean quick?", "smoke, quick, cpu-hour, cpu-evening, gpu, paper"),
        ),
        (("--methods", "GrabCut,GrabCat"), ("'GrabCat'", "did you mean GrabCut?", "all-foreground")),
        (("--datasets", "brids"), ("'brids'", "did you mean birds?", "clevr6")),
        (("--methods", ","), ("',' names no method",)),
        (("--device", "tpu"), ("'tpu'", "cpu, cuda, auto")),
        (("--device", "gpu"), ("a GPU is called cuda",)),
        (("--seeds", "0,x"), ("'0,x'", "0-4")),
        (("--seeds", ","), ("0-4",)),
        (("--seeds", "0,4-2"), ("'0,4-2'", "0-4")),
        (("--seeds", "0-9999999999"), ("'0-9999999999'", "at most 10,000 seeds")),
        (("--seeds", f"0-{10**30}"), ("at most 10,000 seeds",)),
        (("--seeds", "20261129150300123"), ("none above 1e+15",)),
    ],
)
def test_an_unknown_name_lists_the_valid_ones_and_the_nearest(
    options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    refused(table(tmp_path, *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_refused_before_anything_runs(
    random_walk: type[RandomWalk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(table(tmp_path, "--device", "cuda"), "no CUDA device", "--device cpu")
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


def test_an_unknown_table_is_refused() -> None:
    refused(runner().invoke(main, ["table", "9"]), "'9'", "choose from: 1")


def test_a_truncated_data_set_is_refused_and_earlier_results_stay(smoke_data: Path, tmp_path: Path) -> None:
    table(tmp_path, "--methods", "GrabCut", data=smoke_data)
    before = {p: p.read_bytes() for p in (tmp_path / "results").iterdir() if p.is_file()}
    images = smoke_data / "tm-dsprites-16" / "images.npy"
    images.write_bytes(images.read_bytes()[:-50])
    refused(table(tmp_path, "--methods", "all-foreground", data=smoke_data), "images.npy", "truncated")
    assert before == {p: p.read_bytes() for p in (tmp_path / "results").iterdir() if p.is_file()}


def test_a_missing_member_is_refused(smoke_data: Path, tmp_path: Path) -> None:
    (smoke_data / "tm-dsprites-16" / "masks.npy").unlink()
    refused(table(tmp_path, "--methods", "GrabCut", data=smoke_data), "masks.npy")


@pytest.mark.parametrize("folder", ["--runs", "--results", "--data"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(
    folder: str, random_walk: type[RandomWalk], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(table(tmp_path, folder, str(tmp_path / "file" / "below")), "file", "choose another folder")
    assert random_walk.steps_taken == 0


def test_a_full_results_folder_leaves_the_earlier_table(
    smoke_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, "--methods", "GrabCut", data=smoke_data)
    before = {p: p.read_bytes() for p in (tmp_path / "results").iterdir() if p.is_file()}
    real = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.parent.name == "results" and len(content) > 4096:
            real(self, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(table(tmp_path, "--collect-only", data=smoke_data), "No space left", "results")
    assert before == {p: p.read_bytes() for p in (tmp_path / "results").iterdir() if p.is_file()}


def test_a_data_set_that_is_asked_for_and_not_prepared_is_said_in_the_table(
    smoke_data: Path, tmp_path: Path
) -> None:
    result = table(tmp_path, "--datasets", "cars", "--methods", "GrabCut", data=smoke_data)
    assert result.exit_code == 0
    assert "python -m data_prep cars" in lines(tmp_path)["GrabCut", "border", "cars", "all"]["reason"]
    assert lines(tmp_path)["GrabCut", "border", "tm-dsprites", "test"]["status"] == "missing"


# small things


HELP = """
import sys
from benchmarks.__main__ import main
main(["table", "--help"], standalone_mode=False)
heavy = {"torch", "cv2", "matplotlib", "pandas"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def test_where_no_data_set_is_there_it_says_that_nothing_is_new(tmp_path: Path) -> None:
    """Kept rows may be printed, but not as if they had been measured now."""
    words = ("--methods", "GrabCut", "--datasets", "birds")
    done = table(tmp_path, *words)
    assert done.exit_code == 0
    assert (
        "Nothing could be computed, and any figure above of what is named here is a kept one" in done.stderr
    )
    assert "birds is not prepared: python -m data_prep birds" in done.stderr
    assert "Nothing could" not in table(tmp_path, *words, "--collect-only").stderr


@pytest.mark.parametrize(
    ("tests", "said"), [("birds", "Nothing could be computed"), ("tm-dsprites,birds", "Not all could be")]
)
def test_a_sweep_that_lacks_a_data_set_fails(tests: str, said: str, smoke_data: Path, tmp_path: Path) -> None:
    """They were named, so a script that makes a row again must learn that it did not; the others are scored."""
    folders = {"data": smoke_data, "runs": tmp_path / "runs", "results": tmp_path / "results"}
    places = [f"--{name}={folder}" for name, folder in folders.items()]
    words = ("sweep", "--methods", "GrabCut", "--test", tests, "--preset", "smoke", *places)
    for options in ((), ("--compute-only",)):
        done = runner().invoke(main, [*words, *options])
        assert done.exit_code == 1, done.output
        assert said in done.stderr
        assert "birds is not prepared: python -m data_prep birds" in done.stderr
        assert len(list((tmp_path / "runs").glob("cells/*/done"))) == ("tm-dsprites" in tests)
    assert runner().invoke(main, [*words, "--collect-only"]).exit_code == 0


@pytest.mark.parametrize("how", [[], ["--dry-run"], ["--launcher", "print"], ["--collect-only"]])
def test_what_the_table_has_not_is_refused_whatever_is_done_with_it(how: list[str], tmp_path: Path) -> None:
    refused(table(tmp_path, "--datasets", "pets", *how), "nothing is scored on 'pets'", "tm-dsprites")
    words = ["table", "3", "--preset", "smoke", "--methods", "DRC,IODINE", *how]
    words += [word for name in ("data", "runs", "results") for word in (f"--{name}", str(tmp_path / name))]
    refused(runner().invoke(main, words), "Table 3", "'IODINE'", "GrabCut, ReDO, DRC, all-foreground")
    assert list(tmp_path.iterdir()) == []


def test_help_teaches_with_an_example_and_starts_fast() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m benchmarks table 1 --preset gpu" in done.stdout


def test_seeds() -> None:
    assert parse_seeds("0,1,2") == parse_seeds("0-2") == [0, 1, 2]
    assert parse_seeds("3,1-2,2") == [3, 1, 2]
    with pytest.raises(BenchmarkError):
        parse_seeds("2-1")


def test_names_are_found_whatever_their_case() -> None:
    assert choose("method", "drc", registry.METHODS) == "DRC"


def test_another_budget_leaves_the_table_of_the_first(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for preset in ("quick", "gpu"):
        where = [
            "--data",
            str(tmp_path / "data"),
            "--runs",
            str(tmp_path / "runs"),
            "--results",
            str(results),
        ]
        done = runner().invoke(main, ["table", "1", *where, "--preset", preset, "--collect-only"])
        assert done.exit_code == 0, done.output
    assert "Budget quick" in (results / "table1.md").read_text()
    assert "Budget gpu" in (results / "table1-gpu.md").read_text()


def test_an_empty_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # which it would mean
    done = runner().invoke(main, ["report", "--results", ""])
    assert done.exit_code == 2
    assert "the path is empty" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_path_that_the_system_refuses_is_one_sentence(tmp_path: Path) -> None:
    refused(table(tmp_path, "--data", str(tmp_path / ("x" * 300))), "cannot be used: File name too long")
