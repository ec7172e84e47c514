"""The commands: python -m benchmarks table 1 ..."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from benchmarks.errors import BenchmarkError, choose
from benchmarks.registry import DATASETS, METHODS, PRESETS

FOLDER = click.Path(path_type=Path)


class Refusal(click.ClickException):
    """Bad input: one sentence, exit code 2."""

    exit_code = 2


def plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Bad input becomes one sentence and exit code 2, a stop by the user exit code 130."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        from data_prep.errors import DataPrepError

        signal.signal(signal.SIGTERM, _stop)
        try:
            return command(*arguments, **options)
        except (BenchmarkError, DataPrepError) as error:
            raise Refusal(str(error)) from error
        except KeyboardInterrupt:
            click.echo(
                "\nStopped. Finished cells and the last checkpoint are kept: the same command goes on.",
                err=True,
            )
            sys.exit(130)

    return wrapped


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
@click.option("--preset", default="quick", show_default=True, help=f"Budget: {', '.join(PRESETS)}.")
@click.option("--data", type=FOLDER, default=Path("data"), show_default=True, help="Prepared data sets.")
@click.option("--runs", type=FOLDER, default=Path("runs"), show_default=True, help="Cells and checkpoints.")
@click.option("--results", type=FOLDER, default=Path("results"), show_default=True, help="Rendered tables.")
@click.option(
    "--datasets", default="", help=f"Comma-separated, of: {', '.join(DATASETS)}. Default: all there are."
)
@click.option("--methods", default="", help=f"Comma-separated, of: {', '.join(METHODS)}. Default: all.")
@click.option(
    "--seeds", default="0", show_default=True, help="Comma-separated numbers or a range: 0,1,2 or 0-4."
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--dry-run", is_flag=True, help="Only say what would run, with every setting.")
@click.option("--collect-only", is_flag=True, help="Only render what was measured before; never trains.")
@click.option("--force", is_flag=True, help="Compute again; earlier cells are moved to RUNS/replaced.")
@plain_errors
def table(
    number: str,
    preset: str,
    data: Path,
    runs: Path,
    results: Path,
    datasets: str,
    methods: str,
    seeds: str,
    device: str,
    dry_run: bool,
    collect_only: bool,
    force: bool,
) -> None:
    """Run what table NUMBER lacks, print it and write it as CSV, LaTeX, Markdown and PNG.

    \b
    Examples:
      python -m benchmarks table 1
      python -m benchmarks table 1 --methods GrabCut --datasets tm-dsprites
      python -m benchmarks table 1 --preset gpu --seeds 0,1,2 --device cuda

    What was computed before is never computed again. A run that was stopped goes on from its last
    checkpoint. A data set that is not prepared is named with the command that prepares it; TM-dSprites
    is generated on the spot.
    """
    from benchmarks.session import Session

    session = Session(
        number=choose("table", number, _tables()),
        preset=choose("preset", preset, PRESETS),
        data=data,
        runs=runs,
        results=results,
        datasets=[choose("data set", n, DATASETS) for n in _split(datasets)],
        methods=[choose("method", n, METHODS) for n in _split(methods)] or list(METHODS),
        seeds=parse_seeds(seeds),
        device=choose("device", device, ("cpu", "cuda", "auto")),
        force=force,
    )
    if dry_run:
        for line in session.dry_run():
            click.echo(line)
        return
    began = time.monotonic()
    session.check(compute=not collect_only)
    outcomes = [] if collect_only else session.compute()
    report = session.report(outcomes)
    click.echo(f"\n{report.text}")
    click.echo(f"Written: {', '.join(str(f) for f in report.files)}")
    counts = {s: sum(o.status == s for o in outcomes) for s in dict.fromkeys(o.status for o in outcomes)}
    done = ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing computed"
    click.echo(f"Cells: {done}; {time.monotonic() - began:.1f} s.")
    failed = [o for o in outcomes if o.status == "failed"]
    for outcome in failed:
        click.echo(f"Failed: {outcome.cell}: {outcome.reason}; the same command tries it again.", err=True)
    if failed:
        sys.exit(1)


def parse_seeds(text: str) -> list[int]:
    """``0,1,2`` or ``0-4`` -> numbers, each once, in order. Raises BenchmarkError for anything else."""
    found: dict[int, None] = {}
    try:
        for part in _split(text):
            first, dash, last = part.partition("-")
            found |= dict.fromkeys(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        found = {}
    if not found:
        raise BenchmarkError(
            f"--seeds {text!r} is not a list of seeds: give numbers like 0,1,2 or a range like 0-4"
        )
    return list(found)


def _tables() -> list[str]:
    from benchmarks.registry import TABLES

    return list(TABLES)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _stop(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
