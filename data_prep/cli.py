"""What the commands share: how a user's mistake is told, options, how a command is recorded."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from data_prep.build import Options
from data_prep.catalogue import describe_counts, entry_of
from data_prep.errors import DataPrepError
from data_prep.store import PreparedDataset

Command = TypeVar("Command", bound=Callable[..., Any])


class NamedPath(click.Path):
    """A path that is not empty, as that of an unset variable is, which would mean the current folder; ~ is the home."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click.Path; a usage error for an empty one."""
        if not str(value):
            self.fail("the path is empty", param, ctx)
        home = os.path.expanduser(value)  # noqa: PTH111, Path's refuses ~ with a name that is no user's
        return super().convert(home, param, ctx)


PATH = NamedPath(path_type=Path)

out_option = click.option("--out", type=PATH, required=True, help="Folder to make; new unless --force.")
force_option = click.option("--force", is_flag=True, help="Replace a prepared data set that stands at --out.")
workers_option = click.option(
    "--workers", type=click.IntRange(1), default=None, help="Threads; all usable cores if not given."
)


class UserError(click.ClickException):
    """One sentence on stderr, exit code 2."""

    exit_code = 2


class Group(click.Group):
    """A group whose commands turn every DataPrepError into a UserError and a stop into exit code 130."""

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _stop)
        hang_up = getattr(signal, "SIGHUP", None)  # of a terminal that was closed; Windows has none
        if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:  # as under nohup
            signal.signal(hang_up, _stop)
        try:
            return super().invoke(ctx)
        except DataPrepError as error:
            text = str(error)
            raise UserError(text if text.endswith((".", "?")) else f"{text}.") from error
        except BrokenPipeError:  # which click ends quietly
            raise
        except OSError as error:
            raise UserError(
                f"{error.filename or 'output'} cannot be used: {error.strerror or error}."
            ) from error
        except KeyboardInterrupt as stop:
            kept = str(stop) or "nothing half-made is left"
            click.echo(f"\nStopped; {kept}: run the same command again.", err=True)
            sys.exit(130)


def _stop(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def build_options(command: Command) -> Command:
    """Add the options that every preparation from raw data takes; they arrive as in `make_options`."""
    decorators = (
        out_option,
        click.option(
            "--size",
            default=128,
            show_default=True,
            help="Height and width of the result in pixels, 16 to 1024.",
        ),
        click.option(
            "--keep-going", is_flag=True, help="Leave faulty items out and list them, in place of stopping."
        ),
        workers_option,
        force_option,
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def make_options(size: int, keep_going: bool, workers: int | None, force: bool) -> Options:
    """The options as the library takes them."""
    return Options(size, keep_going, workers, force, command=command_line())


def command_line() -> str:
    """The command as a user would paste it."""
    return shlex.join(["python", "-m", "data_prep", *sys.argv[1:]])


def announce(dataset: PreparedDataset) -> None:
    """Say what was written or opened."""
    counts = describe_counts(dataset.manifest["counts"])
    click.echo(f"{dataset.path}: {dataset.name}, {counts}, SHA-256 {dataset.sha256[:12]}")
    entry = entry_of(dataset)
    if entry is not None and entry.counts:
        click.echo(f"the paper's: {describe_counts(entry.counts)}")
    if skipped := dataset.manifest["skipped"]:
        items = "1 item was" if len(skipped) == 1 else f"{len(skipped)} items were"
        click.echo(f"{items} left out; the first: {skipped[0]['reason']}.")
