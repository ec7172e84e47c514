"""Commands for data sets whose masks a segmenter makes: dogs and cars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from data_prep import cars, dogs, pseudo
from data_prep.annotators import ANNOTATORS, make_annotator
from data_prep.archives import Scratch
from data_prep.cli import PATH, Command, announce, build_options, make_options
from data_prep.selection import SelectionRules, override
from data_prep.store import PreparedDataset, check_target


def pseudo_options(command: Command) -> Command:
    """Add the options of annotation and selection."""
    decorators = (
        click.option(
            "--root", type=PATH, required=True, help="Folder with the publisher's archives, or unpacked."
        ),
        click.option(
            "--annotator", default="detectron2", show_default=True, help=", ".join(ANNOTATORS) + "."
        ),
        click.option(
            "--annotator-weights", type=PATH, help="Local file; without it the package downloads its own."
        ),
        click.option(
            "--device", default="cuda", show_default=True, help="Where the annotator runs: cuda or cpu."
        ),
        click.option(
            "--batch", type=click.IntRange(1), default=8, show_default=True, help="Images at a time."
        ),
        click.option(
            "--annotations", type=PATH, help="File to resume from; OUT.annotations.jsonl if not given."
        ),
        click.option(
            "--rule",
            multiple=True,
            help="Change a selection rule, like min_score=0.8 or categories=car+truck; repeatable.",
        ),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return build_options(command)


@click.command("dogs")
@pseudo_options
def dogs_command(**given: Any) -> None:
    """Prepare Stanford Dogs with pseudo ground truth by Mask R-CNN, selected by recorded rules.

    An interrupted run goes on where it was. The result is named dogs-remade: it is not the paper's selection.

    \b
    Example:
      python -m data_prep dogs --root stanford_dogs --annotator detectron2 --out data/dogs
    """
    run(dogs.read, dogs.RULES, **given)


@click.command("cars")
@pseudo_options
def cars_command(**given: Any) -> None:
    """Prepare Stanford Cars with pseudo ground truth by Mask R-CNN, selected by recorded rules.

    An interrupted run goes on where it was. The result is named cars-remade: it is not the paper's selection.

    \b
    Example:
      python -m data_prep cars --root stanford_cars --annotator detectron2 --out data/cars
    """
    run(cars.read, cars.RULES, **given)


def run(
    read: Callable[[Path, Scratch], pseudo.Source],
    rules: SelectionRules,
    *,
    root: Path,
    out: Path,
    annotator: str,
    annotator_weights: Path | None,
    device: str,
    batch: int,
    annotations: Path | None,
    rule: tuple[str, ...],
    **common: Any,
) -> None:
    """Prepare one data set and print what the rules dropped."""
    options = make_options(**common)
    rules = override(rules, rule)
    check_target(out, force=options.force)
    segmenter = make_annotator(annotator, annotator_weights, device=device)
    file = annotations or out.with_name(f"{out.name}.annotations.jsonl")
    try:
        with Scratch(out) as scratch:
            source = read(root, scratch)
            dataset = pseudo.prepare(
                source,
                segmenter,
                rules,
                out,
                options,
                annotations=file,
                batch=batch,
                told=scratch.named,
            )
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{file} keeps what was annotated" if file.exists() else "") from stop
    announce(dataset)
    report(dataset)


def report(dataset: PreparedDataset) -> None:
    """Print how many images each rule dropped and how far the counts are from the paper's."""
    notes = dataset.manifest["notes"]
    for reason, counts in notes["removed"].items():
        click.echo(f"  dropped {sum(counts.values()):>6}  {reason}")
    for split, count in notes["kept"].items():
        difference = notes["kept_minus_paper"][split]
        click.echo(f"  kept    {count:>6}  {split}; the paper's {notes['paper'][split]:,} ({difference:+,})")
