"""What the commands share: refusals, options, and words into names."""

from __future__ import annotations

import functools
import logging
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from benchmarks.cells import LARGEST
from benchmarks.errors import BenchmarkError, choose
from benchmarks.faults import check_registries
from benchmarks.files import named, reason
from benchmarks.registry import PRESETS
from benchmarks.stops import stops
from data_prep.errors import DataPrepError
from drc.cli import FOLDER

if TYPE_CHECKING:
    from benchmarks.session import Session

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Refusal(click.ClickException):
    """Bad input: one sentence, exit code 2."""

    exit_code = 2


def plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Bad input becomes one sentence and exit code 2, a stop by the user exit code 130."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        for number in set(stops()) - {signal.SIGINT}:  # Python raises KeyboardInterrupt at that one itself
            signal.signal(number, _stop)
        try:
            check_registries()
            return command(*arguments, **options)
        except (BenchmarkError, DataPrepError) as error:
            raise Refusal(str(error)) from error
        except BrokenPipeError:  # which click ends quietly
            raise
        except OSError as error:
            raise Refusal(f"{error.filename or 'output'} cannot be used: {reason(error)}") from error
        except KeyboardInterrupt:
            how = "the same command, without --force," if options.get("force") else "the same command"
            click.echo(
                f"\nStopped. Finished cells and the last checkpoint are kept: {how} goes on.", err=True
            )
            sys.exit(130)

    return wrapped


def _device(context: click.Context, option: click.Parameter, name: str) -> str:
    if name.casefold() == "gpu":
        raise Refusal("unknown device 'gpu': a GPU is called cuda")
    try:
        return choose("device", name, ("cpu", "cuda", "auto"))
    except BenchmarkError as error:
        raise Refusal(str(error)) from error


SEEDS = 10_000
"""In one range; more is a slip."""
DEVICE = click.option(
    "--device", default="auto", show_default=True, callback=_device, help="cpu, cuda or auto."
)


def folder_option(name: str, about: str) -> Callable[..., Any]:
    """--NAME, a folder that is called so unless another is given."""
    return click.option(f"--{name}", type=FOLDER, default=Path(name), show_default=True, help=about)


DATA = folder_option("data", "Prepared data sets.")
RUNS = folder_option("runs", "Cells, checkpoints.")
FOLDERS = [DATA, RUNS, folder_option("results", "Rendered tables, rows.")]
RUNNING = [
    click.option(
        "--seeds",
        default="",
        help="Comma-separated numbers or a range: 0,1,2 or 0-4. Default: 0; with --collect-only, all there are.",
    ),
    DEVICE,
    click.option("--dry-run", is_flag=True, help="Only say what would run, with every setting."),
    click.option("--collect-only", is_flag=True, help="Only render what was measured before; never trains."),
    click.option(
        "--force", is_flag=True, help="Compute again; earlier cells and trainings are moved to RUNS/replaced."
    ),
    click.option(
        "--retry/--no-retry",
        default=None,
        help="Whether to try again what failed before. Default: only where one process does it all.",
    ),
    click.option(
        "--launcher",
        default="local",
        show_default=True,
        help="local, slurm (needs submitit), or print: only print the commands.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(0),
        default=0,
        help="Trainings at once. Default: one a GPU with --device cuda, else one; all that Slurm takes with slurm.",
    ),
    click.option(
        "--slurm",
        multiple=True,
        help="A parameter for submitit with --launcher slurm, such as timeout_min=240; repeatable.",
    ),
]
LOOKS = [
    click.option(
        "--layout", default="paper", show_default=True, help="paper, or long: one line for each cell."
    ),
    click.option(
        "--published", default="beside", show_default=True, help="The paper's figures: beside or hidden."
    ),
]


def options(*groups: list[Callable[..., Any]]) -> Callable[..., Any]:
    """Decorate a command with groups of options, in the order in which --help shows them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def preset_option(default: str | None, note: str = "") -> Callable[..., Any]:
    """--preset with the budgets that there are."""
    text = f"Budget: {', '.join(PRESETS)}.{note}"
    return click.option("--preset", default=default, show_default=default is not None, help=text)


def run_session(session: Session, *, dry_run: bool, collect_only: bool, compute_only: bool = False) -> None:
    """Do what was asked for and say what became of it; exit code 1 where a cell failed or a sweep lacked a data set."""
    session.check_names()
    if dry_run or (session.launch.launcher == "print" and not collect_only):
        for line in session.dry_run() if dry_run else session.commands():
            click.echo(line)
        return
    began = time.monotonic()
    session.check(compute=not collect_only)
    if session.launch.launcher == "slurm" and not collect_only:
        _submit(session)
        return
    outcomes = [] if collect_only else session.compute()
    if not compute_only:
        report = session.report(None if collect_only else outcomes)
        click.echo(f"\n{report.text}")
        click.echo(f"Written: {', '.join(str(f) for f in report.files)}")
    counts = {s: sum(o.status == s for o in outcomes) for s in dict.fromkeys(o.status for o in outcomes)}
    done = ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing computed"
    click.echo(f"Cells: {done}; {time.monotonic() - began:.1f} s.")
    failed = [o for o in outcomes if o.status == "failed"]
    for outcome in failed:
        click.echo(f"Failed: {outcome.cell}: {outcome.reason}", err=True)
    lacking = [] if collect_only or (session.cells and not session.is_sweep) else list(session.unprepared())
    if lacking:
        what = "Not all" if session.cells else "Nothing"
        shown = ", and any figure above of what is named here is a kept one of an earlier run"
        click.echo(f"{what} could be computed{'' if compute_only else shown}:", err=True)
        for line in lacking:
            click.echo(line, err=True)
    if failed or (lacking and session.is_sweep):
        sys.exit(1)


def _submit(session: Session) -> None:
    """Submit to Slurm and say what was, and what was left out and why; exit code 1 where something should have been."""
    given_up, lacking = session.given_up(), [*session.unprepared(), *session.faulty.values()]
    numbers, left_out = session.submit(), list(session.left_out())
    nothing = "nothing" if given_up or lacking or left_out else "nothing: all is done"
    click.echo(f"Submitted: {', '.join(numbers) or nothing}.")
    for line in [*lacking, *left_out]:
        click.echo(line, err=True)
    words = [] if session.is_sweep else [session.table.number, "--preset", session.preset]
    if not session.is_sweep and session.seeds:
        words += ["--seeds", ",".join(map(str, session.seeds))]
    words += ["--data", str(session.data), "--runs", str(session.runs)]
    click.echo(f"python -m benchmarks status {shlex.join(words)} shows how far they are.")
    click.echo("The same command with --collect-only renders what is done.")
    if session.device == "auto":
        click.echo("No GPU was asked for: --device cuda asks for one a job.", err=True)
    if given_up or session.faulty or (lacking and session.is_sweep):
        sys.exit(1)


def try_each(work: Iterable[tuple[str, Callable[[], Result]]]) -> tuple[list[Result], dict[str, str]]:
    """What each piece of work gives, one after the other; and why those failed that did, by their names."""
    found, failures = [], {}
    for name, do in work:
        try:
            found.append(do())
        except (BenchmarkError, DataPrepError) as error:
            failures[name] = str(error)
        except (Exception, SystemExit) as error:  # of a method, as it segments
            log.debug("%s failed", name, exc_info=True)
            failures[name] = named(error)
    return found, failures


def end_with(failures: dict[str, str], *, well: bool = True) -> None:
    """Name on standard error what failed; exit code 1 where anything did, or where all is not `well`."""
    for name, why in failures.items():
        click.echo(f"Failed: {name}: {why}", err=True)
    if failures or not well:
        sys.exit(1)


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` or `0-4` -> numbers, each once, in order. Raises BenchmarkError for anything else."""
    found: dict[int, None] = {}
    try:
        for part in split(text):
            first, dash, last = part.partition("-")
            seeds = range(int(first), int(last if dash else first) + 1)
            if not 0 < len(seeds) <= SEEDS or seeds[-1] > LARGEST:
                raise ValueError(part)
            found |= dict.fromkeys(seeds)
    except (ValueError, OverflowError):  # the latter of a range that has no length
        found = {}
    if not found:
        raise BenchmarkError(
            f"--seeds {text!r} is not a list of seeds: give numbers like 0,1,2 or a range like 0-4, of at most "
            f"{SEEDS:,} seeds and none above {LARGEST:.0e}"
        )
    return list(found)


def split(text: str) -> list[str]:
    """Comma-separated words."""
    return [part.strip() for part in text.split(",") if part.strip()]


def chosen_of(kind: str, text: str, valid: Iterable[str]) -> list[str]:
    """Comma-separated names, none of an empty text; BenchmarkError for one that is not `valid`, or commas alone."""
    names = [choose(kind, name, valid) for name in split(text)]
    if text and not names:
        raise BenchmarkError(f"{text!r} names no {kind}: give names, or leave the option out")
    return names


def _stop(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
