"""A method that is quick to train, for tests of what trains, stores and resumes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmarks.registry import MethodSpec

SPEC = MethodSpec("fake_methods:RandomWalk", trained=True, variants=("full",))


@dataclass(frozen=True)
class WalkConfig:
    """Settings of the walk."""

    steps: int = 12
    pause: float = 0.0
    inference_shift: float = 0.0


class RandomWalk:
    """Its one weight walks at random with the brightness of random images; what is brighter is foreground."""

    name = "DRC"
    names_foreground = True
    variants = ("full",)
    crash_at: ClassVar[int | None] = None
    interrupt_at: ClassVar[int | None] = None
    steps_taken: ClassVar[int] = 0
    pause: ClassVar[float] = 0.0

    @classmethod
    def skip(cls) -> str | None:
        return None

    @classmethod
    def configure(cls, *, variant: str, preset: str, dataset: str, image_size: int) -> WalkConfig:
        return WalkConfig()

    def fit(
        self,
        images: np.ndarray,
        *,
        config: WalkConfig,
        seed: int,
        device: str,
        checkpoint_dir: Path,
        progress: Any,
    ) -> None:
        self.config = config
        checkpoint_dir.mkdir(parents=True, exist_ok=True)
        file = checkpoint_dir / "state.json"
        rng, self.weight, step = np.random.default_rng(seed), 0.0, 0
        if file.exists():
            state = json.loads(file.read_text())
            self.weight, step, rng.bit_generator.state = state["weight"], state["step"], state["rng"]
        while step < config.steps:
            step += 1
            type(self).steps_taken += 1
            time.sleep(self.pause)
            if step == self.crash_at:
                raise RuntimeError("the walk left the page")
            self.weight += rng.normal() * images[rng.integers(len(images))].mean()
            state = {"weight": self.weight, "step": step, "rng": rng.bit_generator.state}
            temporary = file.with_suffix(".part")
            temporary.write_text(json.dumps(state))
            temporary.replace(file)
            progress(step, config.steps, reconstruction_error=abs(self.weight))
            if step == self.interrupt_at:
                raise KeyboardInterrupt

    def segment(self, images: np.ndarray, *, progress: Any = None) -> np.ndarray:
        foreground = (images.mean(axis=3) > abs(self.weight) % 255 + self.config.inference_shift).astype(
            np.float32
        )
        return np.stack([foreground, 1 - foreground], axis=1)

    def panels(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"reconstruction": images, "background": np.zeros_like(images)}


def note_images(cls: type, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[bytes]]:
    """What `fit` and `segment` of a method are shown from now on, by their names, filled as they are called."""
    seen: dict[str, set[bytes]] = {"fit": set(), "segment": set()}
    for name, images_seen in seen.items():
        whole = getattr(cls, name)

        def noting(
            self: Any, images: np.ndarray, *, _seen: Any = images_seen, _whole: Any = whole, **rest: Any
        ) -> Any:
            _seen.update(image.tobytes() for image in images)
            return _whole(self, images, **rest)

        monkeypatch.setattr(cls, name, noting)
    return seen
