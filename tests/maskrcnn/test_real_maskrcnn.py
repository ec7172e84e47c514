"""The real Mask R-CNN networks, with random weights, through the whole path; minutes on a CPU.

Runs where detectron2 is installed (nox -s maskrcnn) and is skipped elsewhere; the everyday tests use a stand-in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import pseudo
from data_prep.annotators import AnnotatorError, Detectron2, Torchvision
from data_prep.build import Options
from data_prep.selection import SelectionRules
from data_prep.store import open_dataset

pytest.importorskip("detectron2", reason="detectron2 is not installed; nox -s maskrcnn installs it")
SIZES = ((120, 160), (150, 100), (128, 128))


@pytest.fixture
def items(tmp_path: Path) -> list[pseudo.Item]:
    """Three pictures of noise with a bright square each."""
    rng = np.random.default_rng(0)
    made = []
    for number, (height, width) in enumerate(SIZES):
        pixels = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
        pixels[30:90, 30:80] = 230
        file = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(file)
        made.append(
            pseudo.Item(file.name, file, "train" if number < 2 else "test", "thing", (30, 30, 50, 60))
        )
    return made


@pytest.mark.parametrize("network", [Detectron2, Torchvision])
def test_down_to_a_prepared_data_set(
    network: Any, items: list[pseudo.Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.annotators.MIN_SCORE", 0.0)
    annotator = network(device="cpu", random_weights=True)
    calm(annotator)
    seen: list[int] = []

    class Watched:
        """The network, noting how many images it was given."""

        def settings(self) -> dict[str, Any]:
            return annotator.settings()

        def __call__(self, images: Any) -> Any:
            found = annotator(images)
            seen.append(len(images))
            for image, instances in zip(images, found, strict=True):
                assert instances, "with a threshold of 0 something is always found"
                for instance in instances:
                    assert instance.mask.shape == image.shape[:2]
                    assert instance.mask.dtype == bool
                    assert 0 <= instance.score <= 1
            return found

    anything = SelectionRules(_all_categories(annotator), 0.0, 1000, 0.0, 0.0, 0.0, 1.0, 1.0)
    source = pseudo.Source("trial", items, [], {"train": 0, "test": 0}, "none", {})
    options = Options(size=32, progress=False, workers=1)
    annotations = tmp_path / "annotations.jsonl"
    dataset = pseudo.prepare(
        source, Watched(), anything, tmp_path / "out", options, annotations=annotations, batch=2
    )
    assert seen == [2, 1]
    assert open_dataset(dataset.path, verify=True).manifest["counts"] == {"train": 2, "test": 1}
    assert dataset.manifest["notes"]["annotator"]["weights"] == "random"


def test_weights_are_loaded_whole_or_refused(tmp_path: Path) -> None:
    import torch

    first = Detectron2(device="cpu", random_weights=True)
    state = first._model.state_dict()
    torch.save({"model": state}, tmp_path / "whole.pth")
    second = Detectron2(tmp_path / "whole.pth", device="cpu")
    for name, value in second._model.state_dict().items():
        torch.testing.assert_close(value, state[name])
    assert second.settings()["weights"] == "whole.pth"
    assert len(second.settings()["sha256"]) == 64
    del state["roi_heads.mask_head.predictor.weight"]
    torch.save({"model": state}, tmp_path / "partial.pth")
    with pytest.raises(AnnotatorError, match=r"roi_heads\.mask_head\.predictor\.weight first"):
        Detectron2(tmp_path / "partial.pth", device="cpu")
    (tmp_path / "garbage.pkl").write_bytes(b"no pickle")
    for network in (Detectron2, Torchvision):
        with pytest.raises(AnnotatorError, match="cannot be loaded"):
            network(tmp_path / "garbage.pkl", device="cpu")


def calm(annotator: Any) -> None:
    """Make anchors the boxes and all categories equally likely: untrained features are as large as 1e7 and
    otherwise leave an image without any object."""
    for name, layer in annotator._model.named_modules():
        if name.endswith(("cls_score", "bbox_pred", "anchor_deltas")):
            for values in layer.parameters():
                values.data.zero_()


def _all_categories(annotator: Any) -> tuple[str, ...]:
    return tuple(annotator._categories)
