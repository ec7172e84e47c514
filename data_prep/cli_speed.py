"""Commands that measure: python -m data_prep speed birds | clevr6 | store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from data_prep import speed
from data_prep.cli import PATH, Group, workers_option
from data_prep.parallel import usable_cores

rounds_option = click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns that are counted."
)
work_option = click.option(
    "--work", type=PATH, help="Folder for what is written and then deleted; the system's own if not given."
)


@click.group("speed", cls=Group)
def speed_command() -> None:
    """Measure how fast data is prepared and read, with its yardstick beside it in the same run.

    \b
    Example:
      taskset -c 0,1 python -m data_prep speed birds --root CUB_200_2011 --segmentations segmentations
    """


@speed_command.command("birds")
@click.option("--root", type=PATH, required=True, help="CUB_200_2011, unpacked.")
@click.option("--segmentations", type=PATH, required=True, help="The masks, unpacked.")
@click.option("--size", default=128, show_default=True, help="Height and width of the result in pixels.")
@workers_option
@rounds_option
@work_option
def birds_command(
    root: Path, segmentations: Path, size: int, workers: int | None, rounds: int, work: Path | None
) -> None:
    """Prepare birds, by turns with a plain Pillow loop in one process that gives the same pixels.

    \b
    Example:
      taskset -c 0,1 python -m data_prep speed birds --root CUB_200_2011 --segmentations segmentations
    """
    _describe_machine(workers or usable_cores())
    with _scratch(work) as folder:
        turns = []
        for count, turn in speed.birds_turns(
            root, segmentations, folder, size=size, workers=workers, rounds=rounds
        ):
            turns.append(turn)
            click.echo(
                f"round {len(turns)}: {count / turn.ours.seconds:.1f} birds/s on {turn.ours.cores:.2f} cores, "
                f"plain loop {count / turn.yardstick.seconds:.1f} birds/s on {turn.yardstick.cores:.2f}, "
                f"ratio {turn.ratio:.2f}"
            )
    click.echo(f"median ratio {speed.median_ratio(turns):.2f}; the same pixels in every round")


@speed_command.command("clevr6")
@click.option(
    "--tfrecords", type=PATH, required=True, help="clevr_with_masks_train.tfrecords, or part of it."
)
@click.option(
    "--records", type=click.IntRange(1), default=40, show_default=True, help="Records decoded a turn."
)
@rounds_option
def clevr6_command(tfrecords: Path, records: int, rounds: int) -> None:
    """Decode CLEVR's records, by turns with the tfrecord package (pip install tfrecord).

    \b
    Example:
      python -m data_prep speed clevr6 --tfrecords clevr_with_masks_train.tfrecords
    """
    _describe_machine(1)
    turns = []
    for turn in speed.clevr_turns(tfrecords, records=records, rounds=rounds):
        turns.append(turn)
        click.echo(
            f"round {len(turns)}: {1e3 * turn.ours.seconds / records:.1f} ms a record on "
            f"{turn.ours.cores:.2f} cores, tfrecord {1e3 * turn.yardstick.seconds / records:.1f} ms on "
            f"{turn.yardstick.cores:.2f}, ratio {turn.ratio:.1f}"
        )
    click.echo(f"median ratio {speed.median_ratio(turns):.1f}; the first record was read alike")


@speed_command.command("store")
@click.option("--count", type=click.IntRange(1), default=70_000, show_default=True, help="Images written.")
@click.option(
    "--size", type=click.IntRange(1, 1024), default=128, show_default=True, help="Height and width in pixels."
)
@work_option
def store_command(count: int, size: int, work: Path | None) -> None:
    """Write a store of noise, then open it and read random batches of 48; at 128 pixels it takes 4.6 GB.

    \b
    Example:
      python -m data_prep speed store --count 70000 --work /scratch
    """
    _describe_machine(1)
    with _scratch(work) as folder:
        found = speed.measure_store(folder / "noise", count, size)
    click.echo(f"written  {found.written:,.0f} images/s; at most {found.memory / 1e6:,.0f} MB of memory")
    click.echo(f"opened   in {1e3 * found.opening:.2f} ms")
    click.echo(f"read     {found.batches:,.0f} images/s in random batches of 48 from the file cache")


@contextmanager
def _scratch(work: Path | None) -> Iterator[Path]:
    if work is not None:
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(
                f"--work {work} cannot be made ({error.strerror}); name another."
            ) from error
    with tempfile.TemporaryDirectory(prefix="data_prep-speed-", dir=work) as folder:
        yield Path(folder)


def _describe_machine(workers: int) -> None:
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    threads = "1 thread" if workers == 1 else f"{workers} threads"
    click.echo(f"{threads} on {usable_cores()} of {os.cpu_count()} cores{load}")
    click.echo("(Where a side has far fewer cores than threads, other programs disturbed it: repeat.)")
