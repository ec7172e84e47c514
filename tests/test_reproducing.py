"""REPRODUCING.md: what stands there is enough to measure a figure again."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import trials, validate
from benchmarks.cells import parse_row
from benchmarks.registry import DATASETS
from benchmarks.reproducing import other_results, to_markdown

GOLDEN = Path(__file__).parent / "golden" / "table1" / "rows.jsonl"
ROW = replace(
    parse_row(GOLDEN.read_text().splitlines()[0], "golden"),
    command="python -m benchmarks sweep --seeds 0",
    peak_memory_mb=500.0,
)
KINDS = {str: "", int: 0, int | float: 0, dict: {}}
TRIAL = {name: KINDS[kind] for name, kind in trials.FIELDS.items()} | {
    "preset": "quick",
    "iou": 0.634,
    "train_seconds": 372.0,
    "segment_seconds": 150.0,
    "command": "python -m benchmarks trials",
    "device": "cpu (AMD EPYC, AVX2, 1 threads)",
    "commit": "a" * 40,
}
SPEED = {"cpu": "AMD EPYC, 2 threads", "threads": 2, "commit": "b" * 40, "gpu_authors_width_ratio": None}
SPEED |= {"cpu_peak_memory_mb": 2048.3, "cpu_quick_ratio": 4.01, "cpu_authors_width_ratio": 5.3}


def test_a_command_has_the_threads_and_the_device_of_its_row() -> None:
    text = to_markdown([replace(ROW, device="cpu (AMD EPYC, AVX2, 1 threads)")])
    assert "| `OMP_NUM_THREADS=1 python -m benchmarks sweep --seeds 0 --device cpu` |" in text
    text = to_markdown([replace(ROW, device="cuda (NVIDIA H100)", peak_gpu_memory_mb=5706.2)])
    assert "| `python -m benchmarks sweep --seeds 0 --device cuda` |" in text
    assert "| 500, 5706 on the GPU |" in text


def test_what_a_row_took_is_in_minutes() -> None:
    row = replace(ROW, iou=0.5, dice=0.25, train_seconds=600.0, segment_seconds=120.0)
    assert "| 50.0 | 25.0 | 10.0 | 2.0 | 500 |" in to_markdown([replace(row, peak_gpu_memory_mb=None)])


def test_data_sets_that_must_be_prepared_have_their_command_and_others_none() -> None:
    needed = [name for name, spec in DATASETS.items() if not spec.generated]
    for name in needed:
        text = to_markdown([replace(ROW, test_dataset=name, train_dataset="")])
        assert f"--out data/{DATASETS[name].folder}" in text
    assert "--out data/" not in to_markdown([replace(ROW, test_dataset="tm-dsprites", train_dataset="")])


def test_trials_validations_and_speed_are_there_but_those_of_smoke(tmp_path: Path) -> None:
    validation = {name: KINDS[kind] for name, kind in validate.FIELDS.items()}
    validation |= {"figure": "fg-ARI", "reached": 0.812, "peak_memory_mb": 401.2}
    for name, content in (("trials", [TRIAL]), ("validate", [validation]), ("speed", SPEED)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "trials-smoke.json").write_text(json.dumps([TRIAL | {"preset": "smoke", "iou": 0.01}]))
    text = to_markdown([], other_results(tmp_path))
    assert (
        "| `OMP_NUM_THREADS=1 python -m benchmarks trials --device cpu` | IoU 63.4 | 6.2 | 2.5 |  "
        "| cpu (AMD EPYC, AVX2, 1 threads) | `aaaaaaaaaa` |" in text
    )
    assert "| fg-ARI 0.81 | 0.0 |  | 401 |" in text
    assert "authors' width, CPU: 5.3, quick, CPU: 4.0 |  |  | 2048 |" in text
    assert "IoU 1.0" not in text
    assert not other_results(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[{}]", '[{"preset": "quick", "iou": "x"}]'])
def test_a_damaged_file_is_named_and_hides_no_table(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "trials.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert f"{ROW.command} --device cpu` |" in to_markdown([ROW], other_results(tmp_path))
    assert str(tmp_path) in caplog.text


def test_a_damaged_file_hides_no_other_result(tmp_path: Path) -> None:
    (tmp_path / "trials.json").write_text("[{}]")
    (tmp_path / "speed.json").write_text(json.dumps(SPEED))
    ((command, figure, *_),) = other_results(tmp_path)
    assert command.endswith("benchmarks speed`")
    assert "quick, CPU: 4.0" in figure
