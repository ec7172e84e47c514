"""The method computes what the authors' code computes, gradients included."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from drc_by_rule import CONFIG, inputs_by_rule, model_by_rule, outputs, summary
from torch import Tensor

from drc import compiled, fast
from drc.config import DRCConfig
from drc.model import DRCModel, Regions
from drc.objectives import posterior_potential

GOLDEN = Path(__file__).parent / "golden" / "drc" / "by_rule.json"


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return outputs(model_by_rule(), *inputs_by_rule())


def as_compiled(model: DRCModel, config: DRCConfig) -> Callable[[Tensor], Regions]:
    """What is compiled on a GPU, here run as it stands."""
    kernels = compiled.kernels(model, fast.PRECISIONS[config.sampler_precision])
    return partial(compiled.render, model, arranged=kernels)


def as_compiled_on_a_cpu(model: DRCModel, config: DRCConfig) -> Callable[[Tensor], Regions]:
    kernels = compiled.cpu_kernels(model, fast.PRECISIONS[config.sampler_precision])
    return partial(compiled.render, model, arranged=kernels, enlarge=compiled.Interleave)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_outputs_equal_the_authors(reference: dict[str, Tensor], shared: Path) -> None:
    authors = np.load(shared / "data" / "parity" / "official_parity.npz", allow_pickle=False)
    assert set(authors.files) == set(reference)
    for name in authors.files:
        assert reference[name].shape == authors[name].shape, name
        assert relative_error(reference[name].numpy(), authors[name]) < 1e-6, name


def test_outputs_equal_the_golden_summary(reference: dict[str, Tensor]) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(reference)
    for name, expected in golden.items():
        np.testing.assert_allclose(summary(reference[name]), expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_the_fast_path_agrees_in_double_precision(reference: dict[str, Tensor]) -> None:
    found = outputs(model_by_rule(), *inputs_by_rule(), use_fast=True)
    for name, expected in reference.items():
        assert relative_error(found[name].numpy(), expected.numpy()) < 1e-6, name


FORMS = {"fast": fast.sampler_render, "compiled": as_compiled, "compiled_cpu": as_compiled_on_a_cpu}


@pytest.mark.parametrize(
    ("form", "precision", "tolerance"),
    [
        ("fast", "float32", 1e-4),
        ("fast", "bfloat16", 0.05),
        ("compiled", "bfloat16", 0.05),
        ("compiled_cpu", "float32", 1e-4),
        ("compiled_cpu", "bfloat16", 0.05),
    ],
)
def test_each_form_of_the_sampler_has_the_authors_potential(
    form: str, precision: str, tolerance: float, reference: dict[str, Tensor]
) -> None:
    """Weights filled by rule say nothing of bfloat16's gradient: with them float32's own is off by some 30 %."""
    model = model_by_rule().float()
    z, images = (numbers.float() for numbers in inputs_by_rule())
    with torch.no_grad():
        render = FORMS[form](model, replace(CONFIG, sampler_precision=precision))
        found = posterior_potential(model, render, z, images, CONFIG).sum()
    assert found.item() == pytest.approx(reference["U_posterior"].item(), rel=tolerance)


@pytest.mark.parametrize(("size", "width"), [(32, 8), (64, 32)])
@pytest.mark.parametrize(("form", "alike"), [("fast", 0.95), ("compiled", 0.9), ("compiled_cpu", 0.9)])
def test_the_bfloat16_sampler_agrees_in_two_digits(size: int, width: int, form: str, alike: float) -> None:
    """At the first width and, as at the authors', at one that is wide enough for `enlarged_conv`."""
    config = DRCConfig(image_size=size, start=16, width=width, z_fg=16, z_bg=8, z_reassign=16)
    model = DRCModel(config).requires_grad_(False)
    assert any(kernel.ndim == 3 for kernel in fast.kernels(model, torch.float32).fg) == (width == 32)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, model.z_dim, generator=generator, requires_grad=True)
    images = torch.rand(4, 3, size, size, generator=generator) * 2 - 1

    def potential_and_gradient(precision: str) -> tuple[Tensor, Tensor]:
        render = FORMS[form](model, replace(config, sampler_precision=precision))
        potential = posterior_potential(model, render, z, images, config)
        return potential.detach(), torch.autograd.grad(potential.sum(), z)[0]

    full, half = (potential_and_gradient(name) for name in ("float32", "bfloat16"))
    assert half[1].dtype == torch.float32
    assert not torch.equal(full[0], half[0]), "bfloat16 was not used"
    torch.testing.assert_close(half[0], full[0], rtol=0.01, atol=0)
    assert torch.cosine_similarity(half[1], full[1]).min() > alike


def count(module: torch.nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_at_the_authors_sizes() -> None:
    model = DRCModel(DRCConfig(), seed=None)  # z of 256, 256 and 512
    millions = {
        "decoder fg": count(model.fg) - count(model.fg.classifier),
        "decoder bg": count(model.bg) - count(model.bg.classifier),
        "re-assignment": count(model.reassign),
        "classifier": count(model.fg.classifier),
        "LEBM": count(model.lebm),
    }
    rounded = {name: round(value / 1e6, 2) for name, value in millions.items()}
    assert rounded == {
        "decoder fg": 7.98,
        "decoder bg": 7.98,
        "re-assignment": 9.68,
        "classifier": 18.52,
        "LEBM": 0.79,
    }


def test_two_models_made_in_a_row_have_as_many_parameters() -> None:
    """In the released code each re-assignment network after the first is larger: its layers go to one shared list."""
    config = DRCConfig(image_size=16, start=8, width=4)
    assert len({count(DRCModel(config, seed=0)) for _ in range(3)}) == 1
