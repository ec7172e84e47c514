"""What the commands share: paths, the device, and settings given by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from drc.config import DRCConfig

FOLDER = click.Path(path_type=Path)
SIGNED = {"mask_bias"}  # settings that may be negative
SHARES = {"momentum", "inference_momentum", "restart", "lr_decay"}  # ... that may not exceed 1
POSITIVE = {"sigma", *(field.name for field in dataclasses.fields(DRCConfig) if "step_" in field.name)}
CHOICES = {"likelihood": ("l1", "l2"), "sampler_precision": ("float32", "bfloat16")}

device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, or auto: cuda where there is one."
)


def resolve_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; a usage error for a device that is not usable here."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise click.UsageError(f"the device {name!r} is not usable here; choose cpu or auto") from error
    return name


def device_text(device: str) -> str:
    """A device in words."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"


def change_settings(config: DRCConfig, changes: Iterable[str]) -> DRCConfig:
    """`config` with settings replaced by `name=value` pairs; a usage error names what is wrong."""
    fields = {field.name: field for field in dataclasses.fields(DRCConfig) if field.name != "image_size"}
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in fields:
            raise click.UsageError(f"there is no setting {name!r}; there are {', '.join(fields)}")
        values[name] = parse_setting(name, str(fields[name].type), text)
    return dataclasses.replace(config, **values)


def parse_setting(name: str, kind: str, text: str) -> bool | str | int | float | None:
    """`text` as the type that the setting is declared with; a usage error if it is out of range or of another type."""
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "str":
            return CHOICES[name][CHOICES[name].index(text)]
        if kind == "int | None" and text.lower() == "none":
            return None
        value = float(text) if kind == "float" else int(text)
        low = 1 if isinstance(value, int) else -1e12 if name in SIGNED else 1e-12 if name in POSITIVE else 0
        if low <= value <= (1 if name in SHARES else 1e12):
            return value
    except (KeyError, ValueError):
        pass
    raise click.UsageError(f"{text!r} is out of range for the setting {name} ({kind}), see drc/config.py")
