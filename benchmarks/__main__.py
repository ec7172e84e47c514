"""The commands: python -m benchmarks table 1 ..."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.cells import Cell
from benchmarks.cli import (
    DATA,
    DEVICE,
    FOLDERS,
    LOOKS,
    RUNNING,
    RUNS,
    chosen_of,
    end_with,
    folder_option,
    options,
    parse_seeds,
    plain_errors,
    preset_option,
    run_session,
    split,
    try_each,
)
from benchmarks.errors import BenchmarkError, choose
from benchmarks.registry import DATASETS, METHODS, PRESETS, REPORTED, dataset_path, prepare_command

FAULTS_LISTED = 12
"""Of rows that cannot be imported; more are counted."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def main(verbose: bool) -> None:
    """Run the paper's tables and show them beside the published figures."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("PIL", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@main.command()
@click.argument("number")
@preset_option(None, " Default: the table's own, quick or quick-ablation.")
@click.option(
    "--datasets", default="", help=f"Comma-separated, of: {', '.join(DATASETS)}. Default: all there are."
)
@click.option("--methods", default="", help=f"Comma-separated, of: {', '.join(METHODS)}. Default: all.")
@options(FOLDERS, RUNNING, LOOKS)
@plain_errors
def table(
    number: str,
    preset: str | None,
    datasets: str,
    methods: str,
    dry_run: bool,
    collect_only: bool,
    **common: Any,
) -> None:
    """Run what table NUMBER lacks, print it and write it as CSV, LaTeX, Markdown, JSON lines and PNG.

    NUMBER is that of the paper, 1 to 4, or the name of another table, such as grey or photos.

    \b
    Examples:
      python -m benchmarks table 1
      python -m benchmarks table 1 --methods GrabCut --datasets tm-dsprites
      python -m benchmarks table 1 --preset gpu --seeds 0,1,2 --device cuda
      python -m benchmarks table 4 --launcher local --jobs 2

    What lies below RUNS is never computed again; rows kept in RESULTS/rows are shown, and do not count as
    computed. --methods and --datasets choose what is computed: the table shows all that was measured. A
    run that was stopped goes on from its last checkpoint. A data set that is not prepared is named with the
    command that prepares it; TM-dSprites is generated on the spot.
    """
    from benchmarks.tables import load_table

    chosen = load_table(number)
    session = _session(
        chosen,
        preset=choose("preset", preset or chosen.preset, PRESETS),
        datasets=chosen_of("data set", datasets, DATASETS),
        methods=chosen_of("method", methods, METHODS),
        **common,
    )
    run_session(session, dry_run=dry_run, collect_only=collect_only)


@main.command()
@click.option("--methods", required=True, help=f"Comma-separated, of: {', '.join(METHODS)}.")
@click.option("--variants", default="", help="Comma-separated, or all. Default: each method's first.")
@click.option("--train", default="", help="Data sets to train on. Default: each test set itself.")
@click.option("--test", required=True, help="Data sets to score, each as NAME, FOLDER or NAME:SPLIT.")
@click.option("--name", default="sweep", show_default=True, help="What the files in RESULTS are called.")
@preset_option("quick")
@options(FOLDERS, RUNNING, LOOKS)
@click.option("--compute-only", is_flag=True, help="Render nothing; for launchers.")
@plain_errors
def sweep(
    methods: str,
    variants: str,
    train: str,
    test: str,
    name: str,
    preset: str,
    dry_run: bool,
    collect_only: bool,
    compute_only: bool,
    **common: Any,
) -> None:
    """Train each method on each training set, and score each training on every test set.

    \b
    Examples:
      python -m benchmarks sweep --methods DRC --variants all --test tm-dsprites --seeds 0-4
      python -m benchmarks sweep --methods DRC,ReDO --train birds-split,dogs-split --test birds-split,dogs-split
      python -m benchmarks sweep --methods GrabCut,DRC --train tm-dsprites --test data/mine:val --name mine

    A data set is a name, or a folder that was made by python -m data_prep. A training is never repeated
    for another test set. The held-out images are scored where a data set has some; NAME:SPLIT names others.
    Exit code 1 if a cell fails or a data set is not there; what can be computed is.
    """
    from benchmarks.own import resolve_dataset, resolve_test
    from benchmarks.tables.sweep import check_name, sweep_table

    data = common["data"]
    check_name(name)
    chosen = sweep_table(
        name,
        [choose("method", n, METHODS) for n in split(methods)],
        split(variants),
        [resolve_dataset(n, data) for n in split(train)],
        [resolve_test(n, data) for n in split(test)],
    )
    session = _session(chosen, preset=choose("preset", preset, PRESETS), datasets=[], methods=[], **common)
    run_session(session, dry_run=dry_run, collect_only=collect_only, compute_only=compute_only)


@main.command()
@DATA
@RUNS
@folder_option("results", "For report.html.")
@plain_errors
def report(data: Path, runs: Path, results: Path) -> None:
    """Write RESULTS/report.html, REPRODUCING.md and figures from what was measured; every table does so at its end.

    One file with all tables, charts and pictures, and where each figure comes from. Nothing is computed, and what was
    measured on other images than those below DATA is left out.
    """
    from benchmarks.collect import read_runs
    from benchmarks.data import hashes_below
    from benchmarks.files import usable_folder
    from benchmarks.page import write_page

    usable_folder(results, "the report")
    stored = read_runs(runs, results / "rows", images=hashes_below(data))
    for path in write_page(stored, runs, results, list(REPORTED), data):
        click.echo(f"Written: {path}")


@main.command()
@click.argument("tables", nargs=-1)
@preset_option(None, " Default: each table's own.")
@click.option("--seeds", default="0", show_default=True, help="Seeds that are planned.")
@DATA
@RUNS
@click.option("--all", "everything", is_flag=True, help="List every cell.")
@plain_errors
def status(
    tables: tuple[str, ...], preset: str | None, seeds: str, data: Path, runs: Path, everything: bool
) -> None:
    """Show what is done, running, failed, stopped and missing, with times. TABLES are those planned; default: all.

    \b
    Examples:
      python -m benchmarks status
      python -m benchmarks status 1 3 --preset gpu --seeds 0-2 --all
    """
    from benchmarks.status import describe, survey
    from benchmarks.tables import load_table, plan, sound_tables

    numbers = parse_seeds(seeds)
    planned: list[Cell] = []
    waiting: set[Cell] = set()
    commands: dict[str, None] = {}
    for chosen in map(load_table, tables) if tables else sound_tables():
        budget = choose("preset", preset or chosen.preset, PRESETS)
        absent = {
            n for n in DATASETS if not DATASETS[n].generated and not dataset_path(data, n, budget).exists()
        }
        for cell in plan(chosen, budget, list(METHODS), list(DATASETS), numbers):
            if lacking := sorted({cell.train_dataset, cell.test_dataset} & absent):
                waiting.add(cell)
                commands |= dict.fromkeys(prepare_command(data, name, budget) for name in lacking)
            else:
                planned.append(cell)
    for line in describe(survey(runs, planned), everything=everything):
        click.echo(line)
    if not (runs / "cells").is_dir():
        click.echo(
            f"\n{runs} holds no cells yet. --collect-only of a table shows the rows that came with the code."
        )
    if waiting:
        click.echo("\n".join([f"\n{len(waiting)} cells wait for data sets. These prepare them:", *commands]))


@main.command()
@folder_option("results", "For speed.json.")
@plain_errors
def speed(results: Path) -> None:
    """Time DRC's sampler: as released, our reference, our fast path, side by side (2 to 4 minutes).

    Prints the ratios and writes RESULTS/speed.json. Run nothing else meanwhile.
    """
    from benchmarks.files import usable_folder, write_json
    from benchmarks.speed import describe, run

    usable_folder(results, "results")
    found = run()
    write_json(results / "speed.json", found)
    click.echo(f"{describe(found)}\nWritten: {results / 'speed.json'}")


@main.command()
@click.option("--methods", default="", help="Comma-separated. Default: every trained baseline.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@DEVICE
@folder_option("runs", "Checkpoints.")
@folder_option("results", "For validate.csv.")
@plain_errors
def validate(methods: str, seed: int, device: str, runs: Path, results: Path) -> None:
    """Train each baseline on a toy of the kind that it is made for, and print what it reaches.

    \b
    Examples:
      python -m benchmarks validate
      python -m benchmarks validate --methods Slot-Attention

    Writes RESULTS/validate.csv and validate.json, where rows of other baselines and seeds stay. About half an hour
    each on two CPU cores, ReDO ten minutes. A stopped training goes on where it was; what is done is kept. One that
    fails stops no other. Exit code 1 if one fails or a target is missed.
    """
    from benchmarks import validate as validation
    from benchmarks.files import usable_folder
    from benchmarks.flat import write_rows

    names = chosen_of("baseline", methods, validation.TASKS) or list(validation.TASKS)
    usable_folder(results, "results")
    usable_folder(runs, "checkpoints")
    validation.earlier_rows(results)  # a damaged file is found now and not after hours
    rows, failures = try_each(
        (name, partial(validation.validate, name, seed, runs, device)) for name in names
    )
    if rows:
        files = write_rows(validation.joined(validation.earlier_rows(results), rows), results, "validate")
        click.echo(validation.as_text(rows))
        click.echo(f"Written: {', '.join(str(file) for file in files)}")
    end_with(failures, well=all(row["reached"] >= row["target"] for row in rows))


@main.command()
@click.option(
    "--only", default="", help="Comma-separated trials. Default: all; what was found before is shown too."
)
@preset_option("quick")
@click.option("--seeds", default="0", show_default=True, help="Such as 0,1,2 or 0-4.")
@DEVICE
@DATA
@folder_option("runs", "Checkpoints.")
@folder_option("results", "For trials.md.")
@plain_errors
def trials(only: str, preset: str, seeds: str, device: str, data: Path, runs: Path, results: Path) -> None:
    """Change one setting of DRC at a time and see what that does to its IoU, on images that no table scores.

    \b
    Examples:
      python -m benchmarks trials
      python -m benchmarks trials --only "as it is,no momentum" --seeds 0-2

    Writes RESULTS/trials.csv, .json, .md and .png, with the curves of IoU against training time and against
    steps of inference; another preset than quick has its name in theirs. About ten minutes each on one
    CPU core. What is done is kept, and earlier rows of these files with the same settings stay. A trial that
    fails stops no other; exit code 1 if one does.
    """
    from benchmarks import trials as found
    from benchmarks.files import usable_folder

    preset = choose("preset", preset, PRESETS)
    every = found.trials_of(preset)
    asked = chosen_of("trial", only, found.TRIALS)
    if idle := [name for name in asked if name not in every]:
        raise BenchmarkError(f"the trial {idle[0]!r} changes nothing under {preset}: leave it out")
    chosen, numbers = asked or every, parse_seeds(seeds)
    for folder, what in ((results, "results"), (runs, "checkpoints"), (data, "data sets")):
        usable_folder(folder, what)
    found.earlier_rows(results, preset, data)  # a damaged file is found now and not after hours
    run = partial(found.run_trial, preset=preset, data=data, runs=runs, device=device)
    rows, failures = try_each(
        (f"{name}, seed {seed}", partial(run, name, seed=seed, compute=name in chosen))
        for seed in numbers
        for name in every
    )
    earlier = found.earlier_rows(results, preset, data)  # others may have added to them meanwhile
    there = found.joined(earlier, [row for row in rows if row is not None])
    if there:
        files = found.write(there, preset, results)
        click.echo(found.as_markdown(there))
        click.echo(f"Written: {', '.join(str(file) for file in files)}")
    end_with(failures)


@main.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--source", required=True, help="Whose rows they are, as tables will say.")
@folder_option("results", "Where rows are kept.")
@plain_errors
def import_rows(files: tuple[Path, ...], source: str, results: Path) -> None:
    """Take rows that others measured, JSON or JSON lines, into RESULTS/rows, marked with their source.

    \b
    Example:
      python -m benchmarks import from-lab/rows/*.json --source "the lab's cluster"

    A row that cannot be used is named and left out. --collect-only then shows the others in the tables.
    """
    from benchmarks import rows

    if not source.strip():
        raise BenchmarkError("--source is empty: say whose rows they are")
    if not source.isprintable():
        raise BenchmarkError(f"--source {source!a} has characters that no row can hold: write it otherwise")
    new, known, faults = rows.import_rows(files, results / "rows", source.strip())
    for fault in faults[:FAULTS_LISTED]:
        click.echo(f"Left out: {fault}", err=True)
    if len(faults) > FAULTS_LISTED:
        click.echo(f"... and {len(faults) - FAULTS_LISTED} more", err=True)
    click.echo(f"Rows: {new} new, {known} known before, {len(faults)} left out.")
    if faults and not new + known:
        raise BenchmarkError("no row could be used")


def _session(table: Any, *, preset: str, datasets: list[str], methods: list[str], **common: Any) -> Any:
    """The session that a command's options ask for; BenchmarkError for a wrong word among them."""
    from benchmarks.grid import LAYOUTS, PUBLISHED, Style
    from benchmarks.launch import LAUNCHERS, Launch
    from benchmarks.session import Session

    return Session(
        table=table,
        preset=preset,
        data=common["data"],
        runs=common["runs"],
        results=common["results"],
        datasets=datasets,
        methods=methods,
        seeds=parse_seeds(common["seeds"]) if common["seeds"] else None,
        device=common["device"],
        force=common["force"],
        retry=common["retry"],
        style=Style(
            choose("layout", common["layout"], LAYOUTS),
            choose("word for --published", common["published"], PUBLISHED),
        ),
        launch=Launch(choose("launcher", common["launcher"], LAUNCHERS), common["jobs"], common["slurm"]),
    )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
