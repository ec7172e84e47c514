"""What the tests of DRC's command line share: a small prepared data set and a run trained on it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from data_prep.__main__ import main as data_prep
from drc.__main__ import main as drc


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
