"""What the commands share: paths, the device, and settings given by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drc.config import DRCConfig

if TYPE_CHECKING:
    from tqdm import tqdm


class NamedPath(click.Path):
    """A path that is not empty, as that of an unset variable is, which would mean the current folder; ~ is the home."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click.Path; a usage error for an empty one."""
        if not str(value):
            self.fail("the path is empty", param, ctx)
        home = os.path.expanduser(value)  # noqa: PTH111, Path's refuses ~ with a name that is no user's
        return super().convert(home, param, ctx)


FOLDER = NamedPath(path_type=Path)
SEED = click.IntRange(0, 2**63 - 1)
NAMED = {("bool", "true"): True, ("bool", "false"): False, ("int | None", "none"): None}
"""Values that are written as words, by the type of the setting and the word."""

device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, or auto: cuda where there is one."
)


def resolve_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; a usage error for a device that is not usable here."""
    from drc import tensors

    try:
        return tensors.resolve_device(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def device_text(device: str) -> str:
    """A device in words."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"


def mover(bar: tqdm) -> Callable[[int, int], None]:
    """What moves a bar when it is told how many are done, and of how many."""

    def move(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return move


def change_settings(config: DRCConfig, changes: Iterable[str]) -> DRCConfig:
    """`config` with settings replaced by `name=value` pairs; a usage error names what is wrong."""
    kinds = {f.name: str(f.type) for f in dataclasses.fields(DRCConfig) if f.name != "image_size"}
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if name not in kinds:
            near = [kind for kind in kinds if name and name in kind] or get_close_matches(name, kinds, n=1)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            raise click.UsageError(f"there is no setting {name!r}{hint}; there are {', '.join(kinds)}")
        if not equals:
            raise click.UsageError(f"--set {name} gives no value; write --set {name}=VALUE")
        values[name] = parse_setting(kinds[name], text)
    return replaced(config, **values)


def replaced(config: DRCConfig, **values: Any) -> DRCConfig:
    """`config` with other values; a usage error says of one that cannot be what it may be."""
    try:
        return dataclasses.replace(config, **values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def parse_setting(kind: str, text: str) -> bool | str | int | float | None:
    """`text` as the type that a setting is declared with; where it is none of that type, as it stands."""
    if kind == "str":
        return text.lower()
    if (kind, text.lower()) in NAMED:
        return NAMED[kind, text.lower()]
    try:
        return float(text) if kind == "float" else int(text)
    except ValueError:
        return text
