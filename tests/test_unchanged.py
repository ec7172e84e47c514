"""A row is measured again by its command only as long as the code gives with a seed what it gave then.

Where a figure here changes, rows of that method in `results/rows` are no longer what their command gives: measure them
anew, and say so in the changelog, before the new figures are written down here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_helpers import train_method

from benchmarks.registry import METHODS

# The mean mixing weight of the foreground, or of the first slot, in each of four images that were not trained on.
GIVEN = {
    "ReDO": (0.4574, 0.4773, 0.4955, 0.4584),
    "IODINE": (0.3967, 0.3893, 0.3841, 0.3834),
    "Slot-Attention": (0.5364, 0.5398, 0.5396, 0.5382),
    "DRC": (0.5370, 0.5288, 0.5753, 0.5076),
}
# Small Langevin steps: at random weights large ones amplify the order in which sums are taken to the second digit.
CHANGES = {
    "DRC": {"posterior_step_size": 0.01, "inference_step_size": 0.01, "inference_last_step_size": 0.01}
}


def test_every_trained_method_is_here() -> None:
    assert set(GIVEN) == {name for name, spec in METHODS.items() if spec.trained}


@pytest.mark.parametrize("name", GIVEN)
def test_a_seed_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 3), dtype=np.uint8)
    images = blocks.repeat(4, axis=1).repeat(4, axis=2)
    method = METHODS[name].load()()
    config = method.configure(variant="full", preset="smoke", dataset="tm-dsprites", image_size=16)
    train_method(method, images[:12], replace(config, **CHANGES.get(name, {})), tmp_path)
    found = method.segment(images[12:])[:, 0].mean(axis=(1, 2))
    assert found == pytest.approx(GIVEN[name], abs=1e-3)
