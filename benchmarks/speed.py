"""How fast DRC's sampler is: the recipe as released, the readable reference and the fast path, side by side.

A posterior step is one gradient of the potential with respect to z. As released it runs with anomaly detection on
and with both classifiers inside, whose output nothing uses; the reference is `drc.model` as it stands; the fast path
is `drc.fast`, with its convolutions in float32, which on a GPU PyTorch does in TF32 whichever the way, and in
bfloat16, and `drc.compiled`, in bfloat16, where torch.compile works. The ways take turns, so that whatever else the
machine does meets all of them, and medians are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.provenance import commit, device_text, peak_memory_mb, versions
from drc import compiled, fast
from drc.config import DRCConfig, configure
from drc.dry_run import flops
from drc.model import DRCModel, Regions
from drc.objectives import posterior_potential, prior_potential
from drc.sampler import Sampler
from drc.tensors import frozen
from drc.words import in_units

POSTERIOR = ("released", "reference", "fast", "fast_bfloat16", "compiled_bfloat16")
PRIOR = {"released": "prior_released", "reference": "prior_reference", "fast": "prior"}
"""The ways of a posterior step, and those of a prior one by what they are called."""
ROUNDS = 9  # of matrix products
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Setting:
    """At which size the ways are compared, and over how many rounds: small steps scatter more and take no time."""

    preset: str
    image_size: int
    batch: int
    rounds: int


SETTINGS = {
    "cpu": {"authors_width": Setting("paper", 128, 4, 9), "quick": Setting("quick", 32, 32, 40)},
    "cuda": {"authors_width": Setting("gpu", 128, 48, 9)},
}


def released_render(model: DRCModel, z: Tensor) -> Regions:
    """The forward as released: the classifiers run too, for nothing."""
    regions = model(z)
    assert model.fg.classifier is not None
    assert model.bg.classifier is not None
    model.fg.classifier(regions.content_fg * regions.logit_fg.sigmoid())
    model.bg.classifier(regions.source_bg * regions.source_logit_bg.sigmoid())
    return regions


def gradient(potential: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """What one Langevin step costs: the gradient of the potential at z (B, d)."""
    z = z.detach().requires_grad_(True)
    return torch.autograd.grad(potential(z).sum(), z)[0]


def ways(model: DRCModel, config: DRCConfig, z: Tensor, images: Tensor) -> dict[str, Callable[[], object]]:
    """One posterior step each way that there is here, and one prior step as released, of the reference and ours.

    Ours descend a model whose weights are frozen, which the trainer does once for all steps of a visit.
    """
    ours = deepcopy(model).requires_grad_(False)

    def potential(model: DRCModel, render: Callable[[Tensor], Regions]) -> Callable[[Tensor], Tensor]:
        return partial(posterior_potential, model, render, images=images, config=config)

    def released(target: Callable[[Tensor], Tensor]) -> None:
        with torch.autograd.set_detect_anomaly(True, check_nan=True):
            gradient(target, z)

    def sampler(precision: str, *, fused: bool) -> Sampler:
        return Sampler(ours, replace(config, sampler_precision=precision, compiled=fused))

    best = sampler("bfloat16", fused=True)
    paths = {
        "fast": sampler("float32", fused=False).posterior(images),
        "fast_bfloat16": sampler("bfloat16", fused=False).posterior(images),
    }
    if compiled.usable(z.device.type):
        paths["compiled_bfloat16"] = best.posterior(images)
    return {
        "released": lambda: released(potential(model, partial(released_render, model))),
        "reference": lambda: gradient(potential(ours, ours), z),
        **{way: partial(gradient, path, z) for way, path in paths.items()},
        "prior_released": lambda: released(partial(prior_potential, model)),
        "prior_reference": lambda: gradient(partial(prior_potential, ours), z),
        "prior": partial(gradient, best.prior(z), z),
    }


def seconds(action: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device's queue drained."""
    start = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(
    actions: dict[str, Callable[[], object]], rounds: int, device: str, label: str
) -> dict[str, float]:
    """Median seconds of each action over rounds in which they take turns; a first round is thrown away."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for turn in tqdm(range(rounds + 1), desc=label, unit="round"):
        for name, action in actions.items():
            spent = seconds(action, device)
            if turn:
                taken[name].append(spent)
    return {name: median(values) for name, values in taken.items()}


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Arithmetic rate of a large square matrix product, FLOP/s: what the device can do."""
    size = MATRIX_SIZE[device]
    a = torch.randn(size, size, device=device).to(dtype)
    times = [seconds(lambda: a @ a, device) for _ in range(ROUNDS + 1)][1:]
    return 2 * size**3 / median(times)


def step_flops(model: DRCModel, config: DRCConfig, z: Tensor, images: Tensor) -> int:
    """Arithmetic of one posterior step of the fast path on a batch, as PyTorch counts it."""
    render = partial(compiled.render, model) if z.is_cuda else fast.sampler_render(model, config)
    z = z.detach().requires_grad_(True)
    with frozen(model):
        return flops(lambda: posterior_potential(model, render, z, images, config).sum().backward())


def measure(name: str, setting: Setting, device: str) -> dict[str, float]:
    """Rates of all ways at one setting, flat, every key beginning with the device and `name`."""
    config = configure(
        variant="full", preset=setting.preset, dataset="tm-dsprites", image_size=setting.image_size
    )
    model = DRCModel(config, 0).to(device)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(setting.batch, model.z_dim, generator=generator).to(device)
    shape = (setting.batch, 3, setting.image_size, setting.image_size)
    images = (torch.rand(shape, generator=generator) * 2 - 1).to(device)
    label = f"{device} {name}, {setting.image_size} px, batch {setting.batch}"
    actions = ways(model, config, z, images)
    taken = compare(actions, setting.rounds, device, label)
    prefix = f"{'gpu' if device == 'cuda' else 'cpu'}_{name}"
    found = {f"{prefix}_{way}_images_steps_per_second": setting.batch / t for way, t in taken.items()}
    best = min(set(POSTERIOR[2:]) & taken.keys(), key=taken.__getitem__)
    arithmetic = step_flops(model, config, z, images)
    found |= {
        f"{prefix}_ratio": taken["released"] / taken[best],
        f"{prefix}_ratio_float32": taken["released"] / taken["fast"],
        f"{prefix}_prior_ratio": taken["prior_released"] / taken["prior"],
        f"{prefix}_flops_per_step_and_image": arithmetic / setting.batch,
        f"{prefix}_flops_per_second": arithmetic / taken[best],
        f"{prefix}_matmul_share": arithmetic / taken[best] / best_matrix_rate(device),
    }
    if device == "cuda":
        # Of all ways together, with what recorded graphs hold: a replayed one allocates nothing.
        found[f"{prefix}_peak_memory_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return found


def best_matrix_rate(device: str) -> float:
    """The faster of the float32 and the bfloat16 matrix product, FLOP/s."""
    return max(matrix_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16))


def run() -> dict[str, Any]:
    """All that `results/speed.json` holds, flat; `device` is the GPU, or the processor where there is none."""
    found: dict[str, Any] = {"commit": commit(), "threads": torch.get_num_threads()}
    found |= {f"version_{package}": version for package, version in versions().items()}
    found["cpu"] = found["device"] = device_text("cpu").removeprefix("cpu (").removesuffix(")")
    if torch.cuda.is_available():
        found["gpu"] = found["device"] = torch.cuda.get_device_name()
        found |= measure("authors_width", SETTINGS["cuda"]["authors_width"], "cuda")
        found["gpu_matmul_share"] = found["gpu_authors_width_matmul_share"]
    else:
        reason = "not measured: this machine has no CUDA device that PyTorch can use"
        found |= {"gpu": reason, "gpu_authors_width_ratio": None, "gpu_matmul_share": None}
    for name, setting in SETTINGS["cpu"].items():
        found |= measure(name, setting, "cpu")
    found["cpu_peak_memory_mb"] = peak_memory_mb()  # of the whole process
    return found


def describe(found: dict[str, Any]) -> str:
    """The ratios as a few lines of text."""
    lines = []
    for key in ("cpu_authors_width", "cpu_quick", "gpu_authors_width"):
        if found.get(f"{key}_ratio") is None:
            continue
        rate = {
            way: found[f"{key}_{way}_images_steps_per_second"]
            for way in (*POSTERIOR, *PRIOR.values())
            if f"{key}_{way}_images_steps_per_second" in found
        }
        posterior = ", ".join(f"{way} {rate[way]:.1f}" for way in POSTERIOR if way in rate)
        prior = ", ".join(f"{said} {rate[way]:.0f}" for said, way in PRIOR.items())
        lines.append(
            f"{key}: images × posterior steps a second: {posterior}; fastest over released "
            f"{found[f'{key}_ratio']:.2f} (float32 alone {found[f'{key}_ratio_float32']:.2f}); "
            f"prior steps a second: {prior}, {found[f'{key}_prior_ratio']:.2f} over released; "
            f"{in_units(found[f'{key}_flops_per_second'], 'FLOP/s')}, "
            f"{found[f'{key}_matmul_share']:.0%} of the matrix-product rate"
        )
    if found.get("gpu_authors_width_peak_memory_gb") is not None:
        lines.append(
            f"gpu_authors_width: peak memory {found['gpu_authors_width_peak_memory_gb']:.1f} GB, all ways"
        )
    lines.append(f"cpu: peak memory of the process {in_units(1e6 * found['cpu_peak_memory_mb'], 'B')}")
    return "\n".join(lines)
