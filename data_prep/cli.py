"""What the commands have in common: how a user's mistake is told, and how a command is recorded."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from data_prep.errors import DataPrepError
from data_prep.store import SPLITS, PreparedDataset


class UserError(click.ClickException):
    """One sentence on stderr, exit code 2."""

    exit_code = 2


class Group(click.Group):
    """A group whose commands turn every DataPrepError into a UserError."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DataPrepError as error:
            raise UserError(str(error)) from error


def command_line() -> str:
    """The command as a user would paste it."""
    return shlex.join(["python", "-m", "data_prep", *sys.argv[1:]])


def announce(dataset: PreparedDataset) -> None:
    """Say what was written."""
    found = dataset.manifest["counts"]
    counts = ", ".join(f"{found[split]} {split}" for split in SPLITS if split in found)
    click.echo(f"{dataset.path}: {dataset.name}, {counts}, SHA-256 {dataset.sha256[:12]}")
