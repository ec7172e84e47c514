"""Parameters for Slurm: what submitit refuses is one sentence, and numbers arrive as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.launch import Launch, submit


def submitted(tmp_path: Path, *parameters: str) -> list[Any]:
    pytest.importorskip("submitit")
    return submit([["-c", "pass"]], Launch("slurm", 0, parameters), "cpu", tmp_path, cluster="local")


@pytest.mark.parametrize(
    "parameter", ["timeout_min=4h", "timeout_min=7.5", "mem_gb=much", "gpus_per_node=", "tmeout_min=4"]
)
def test_a_wrong_value_for_slurm_is_one_sentence(parameter: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=parameter.partition("=")[0]) as caught:
        submitted(tmp_path, parameter)
    assert str(caught.value).startswith("Slurm did not take the jobs: ")
    assert "\n" not in str(caught.value)


def test_a_number_with_a_point_is_taken(tmp_path: Path) -> None:
    (job,) = submitted(tmp_path, "mem_gb=7.5", "timeout_min=2")
    assert job.result() == 0
