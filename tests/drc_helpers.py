"""What the tests of DRC share: its smoke settings, its command line, a small prepared data set and a run on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from data_prep.__main__ import main as data_prep
from drc.__main__ import main as drc
from drc.config import DRCConfig, configure


def smoke(variant: str = "full") -> DRCConfig:
    """The settings of a variant under the smoke budget."""
    return configure(variant=variant, preset="smoke", dataset="tm-dsprites", image_size=16)


SMOKE = smoke()


def block_pictures(count: int = 16, size: int = 16) -> np.ndarray:
    """Dark pictures, each with one bright block."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (count, size, size, 3), dtype=np.uint8)
    for image in images:
        row, column = generator.integers(0, size - 5, 2)
        image[row : row + 5, column : column + 5] = generator.integers(180, 256, 3)
    return images


def call(*arguments: object) -> Result:
    """python -m drc in this process; what is no exit is raised."""
    result = CliRunner().invoke(drc, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def make_data(folder: Path) -> Path:
    """24 training and 8 held-out images of 16 pixels."""
    arguments = ["tm-dsprites", "--out", str(folder), "--size", "16", "--count", "24", "--heldout", "8"]
    assert CliRunner().invoke(data_prep, arguments).exit_code == 0
    return folder


def make_run(data: Path, folder: Path) -> Path:
    """A run under the smoke budget."""
    result = call("train", "--data", data, "--out", folder, "--preset", "smoke", "--device", "cpu")
    assert result.exit_code == 0, result.output
    return folder
