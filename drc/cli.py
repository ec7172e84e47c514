"""What the commands share: paths, the device, and settings given by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Range(NamedTuple):
    """The numbers that a setting may be."""

    said: str
    holds: Callable[[float], bool]


COUNT = Range("a whole number from 1 to 1e12", lambda value: 1 <= value <= 1e12)
ANY = Range("a number from -1e12 to 1e12", lambda value: abs(value) <= 1e12)
POSITIVE = Range("a number above 0, up to 1e12", lambda value: 0 < value <= 1e12)
NOT_NEGATIVE = Range("a number from 0 to 1e12", lambda value: 0 <= value <= 1e12)
SHARE = Range("a number from 0 to 1", lambda value: 0 <= value <= 1)
MOMENTUM = Range("a number from 0 to below 1", lambda value: 0 <= value < 1)
RANGES = {field.name: POSITIVE for field in dataclasses.fields(DRCConfig) if "step_" in field.name} | {
    "sigma": POSITIVE,
    "mask_bias": ANY,
    "momentum": MOMENTUM,
    "inference_momentum": MOMENTUM,
    "restart": SHARE,
    "lr_decay": SHARE,
}  # of other settings: NOT_NEGATIVE, and COUNT where they are whole
WORDS: dict[str, dict[str, Any]] = {
    "bool": {"true": True, "false": False},
    "int | None": {"none": None},
    "likelihood": {"l1": "l1", "l2": "l2"},
    "gamma_per": {"channel": "channel", "pixel": "pixel"},
    "sampler_precision": {"float32": "float32", "bfloat16": "bfloat16"},
    "inference_masks": {"mixing": "mixing", "responsibilities": "responsibilities"},
}  # that a setting may be, by its type or its name

device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, or auto: cuda where there is one."
)


def resolve_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; a usage error for a device that is not usable here."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not is_usable(name):
        raise click.UsageError(f"the device {name!r} is not usable here; choose cpu or auto")
    return name


def is_usable(device: str) -> bool:
    """Whether a device is a CPU or a CUDA device, and can hold a number."""
    import torch

    try:
        return torch.device(device).type in ("cpu", "cuda") and torch.zeros(1, device=device).item() == 0
    except (RuntimeError, AssertionError, ImportError):
        return False


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
    fields = {field.name: field for field in dataclasses.fields(DRCConfig) if field.name != "image_size"}
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if name not in fields:
            raise click.UsageError(f"there is no setting {name!r}; there are {', '.join(fields)}")
        if not equals:
            raise click.UsageError(f"--set {name} gives no value; write --set {name}=VALUE")
        values[name] = parse_setting(name, str(fields[name].type), text)
    return dataclasses.replace(config, **values)


def parse_setting(name: str, kind: str, text: str) -> bool | str | int | float | None:
    """`text` as the type that the setting is declared with; a usage error says what the setting may be."""
    words = WORDS.get(name, WORDS.get(kind, {}))
    if text.lower() in words:
        return words[text.lower()]
    allowed = list(words)
    if kind not in ("bool", "str"):
        number, usual = (float, NOT_NEGATIVE) if kind == "float" else (int, COUNT)
        range_ = RANGES.get(name, usual)
        try:
            if range_.holds(value := number(text)):
                return value
        except ValueError:
            pass
        allowed.insert(0, range_.said)
    raise click.UsageError(f"the setting {name} cannot be {text!r}; it is {' or '.join(allowed)}")
