"""Chains kept on disk: an inference that was stopped goes on, and other masks of the same chains take no steps."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drc.config import DRCConfig
from drc.files import DAMAGED, write_atomic
from drc.model import DRCModel

log = logging.getLogger(__name__)

MASKS_ONLY = frozenset({"inference_masks", "inference_chains"})
"""Settings that change only how the ends of chains become masks; a kept chain's name does not depend on them."""


class KeptChains:
    """Where the chains of some images ended, a file for each batch and chain, named by all that they depend on.

    That is the weights, settings and seed, the images and the keys of their noise, the device, and this package's own
    code: a chain that any of these would change is not found, and so inferred.
    """

    def __init__(self, folder: Path, model: DRCModel, config: DRCConfig, seed: int, device: str) -> None:
        self.folder, self._z_dim = folder, model.z_dim
        self.seconds = 0.0  # that what was found had taken
        settings = {name: value for name, value in asdict(config).items() if name not in MASKS_ONLY}
        self._about = hashlib.sha256(repr((settings, seed, arithmetic(device), code())).encode())
        add_weights(self._about, model)

    def ends(
        self,
        images: np.ndarray,
        keys: Sequence[int],
        sample: Callable[[], Tensor],
        found: Callable[[], None],
    ) -> Tensor:
        """z (B, d) of images (B, H, W, 3) uint8 whose chains have these keys: read, or sampled and, if finite, kept.

        `found` is called where they were read. A file that cannot be read, or written, is told of in the log and is no
        more than a chain not kept.
        """
        about = self._about.copy()
        about.update(repr((images.shape, list(keys))).encode() + np.ascontiguousarray(images).tobytes())
        path = self.folder / f"{about.hexdigest()[:24]}.npz"
        if (z := self._read(path, len(images))) is not None:
            found()
            return z
        began = time.monotonic()
        z = sample()
        if z.isfinite().all():
            self._write(path, z, time.monotonic() - began)
        return z

    def _read(self, path: Path, count: int) -> Tensor | None:
        try:
            with np.load(path, allow_pickle=False) as kept:
                z, seconds = torch.from_numpy(kept["z"]), float(kept["seconds"])
            if z.shape != (count, self._z_dim) or z.dtype != torch.float32 or not z.isfinite().all():
                raise ValueError(f"{count} finite rows of {self._z_dim} numbers were expected")
        except FileNotFoundError:
            return None
        except (*DAMAGED, MemoryError) as error:  # for lengths, too, may be what was changed
            log.warning("%s: kept chains that cannot be read (%s); they are inferred anew", path, error)
            return None
        self.seconds += seconds
        return z

    def _write(self, path: Path, z: Tensor, seconds: float) -> None:
        content = io.BytesIO()
        np.savez(content, z=z.cpu().numpy(), seconds=np.float64(seconds))
        try:
            write_atomic(path, content.getvalue())
        except OSError as error:
            log.warning("%s: chains are not kept (%s); a run that is stopped infers them again", path, error)


def add_weights(total: Any, model: DRCModel) -> None:
    """Take a model's weights, by name, into a digest of hashlib."""
    for name, weights in model.state_dict().items():
        total.update(name.encode() + weights.cpu().numpy().tobytes())


def arithmetic(device: str) -> tuple[str, ...]:
    """What the last bits of a result depend on beside the code: PyTorch, and the processor or the GPU."""
    if torch.device(device).type == "cuda":
        return torch.__version__, torch.cuda.get_device_name(device)
    return torch.__version__, torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads())


@cache
def code() -> str:
    """A digest of this package's source files."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
