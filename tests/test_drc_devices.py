"""DRC on each device that PyTorch can use here: the CPU always, and a CUDA device where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, block_pictures
from torch._inductor.exc import InvalidCxxCompiler
from training_helpers import quiet

from drc import compiled, fast
from drc.config import VARIANTS
from drc.method import DRC
from drc.model import DRCModel
from drc.objectives import posterior_potential, prior_potential
from drc.sampler import Sampler, warn_where_bfloat16_is_slow
from drc.tensors import frozen, to_signed
from drc.trainer import Trainer, train

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions of float32 in float32 and not in TF32, so that devices can be compared."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def gradient(model: DRCModel, render, z: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    z = z.clone().requires_grad_(True)
    potential = posterior_potential(model, render, z, images, SMOKE)
    return torch.autograd.grad(potential.sum(), z)[0].cpu()


@pytest.mark.parametrize("device", DEVICES)
def test_the_fast_path_pulls_chains_as_the_reference_on_a_cpu_does(device: str) -> None:
    model, images = DRCModel(SMOKE, seed=0), to_signed(block_pictures(6), "cpu")
    z = torch.randn(6, model.z_dim, generator=torch.Generator().manual_seed(0))
    expected = gradient(model, model, z, images)
    model.to(device)
    found = gradient(model, fast.sampler_render(model, SMOKE), z.to(device), images.to(device))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@NO_CUDA
def test_the_first_steps_of_training_are_those_of_a_cpu() -> None:
    config = replace(SMOKE, posterior_step_size=0.01, prior_step_size=0.01)
    runs = [Trainer(block_pictures(), config, 0, where) for where in ("cpu", "cuda")]
    expected, found = ([run.train_step() for _ in range(2)] for run in runs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-2)
    torch.testing.assert_close(runs[1].posterior_chains, runs[0].posterior_chains, rtol=1e-2, atol=1e-2)


@NO_CUDA
def test_a_run_on_cuda_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def stop(step: int, total: int, **values: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    config = replace(SMOKE, posterior_step_size=0.01, prior_step_size=0.01)
    whole = Trainer(block_pictures(), config, 0, "cuda")
    train(whole, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        train(Trainer(block_pictures(), config, 0, "cuda"), tmp_path / "cut", stop)
    resumed = Trainer(block_pictures(), config, 0, "cuda")
    train(resumed, tmp_path / "cut", quiet)
    assert resumed.step == config.train_steps
    torch.testing.assert_close(resumed.posterior_chains, whole.posterior_chains, rtol=1e-2, atol=1e-2)


@NO_CUDA
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.3)])
def test_what_is_compiled_and_recorded_on_cuda_follows_the_weights_and_the_images(
    precision: str, tolerance: float
) -> None:
    config = replace(SMOKE, compiled=True, sampler_precision=precision)
    model, chains = DRCModel(config, seed=0).cuda(), torch.randn(6, 20, device="cuda")
    assert model.z_dim == chains.shape[1]
    sampler = Sampler(model, config)

    def pull(potential) -> torch.Tensor:
        z = chains.clone().requires_grad_(True)
        return torch.autograd.grad(potential(z).sum(), z)[0]

    for seed in (0, 1):  # the second time what was recorded is played again
        model.load_state_dict(DRCModel(config, seed).state_dict())
        images = to_signed(block_pictures(7)[seed : seed + 6], "cuda")
        with frozen(model):
            reference = partial(posterior_potential, model, model, images=images, config=config)
            expected, found = pull(reference), pull(sampler.posterior(images))
            assert (found - expected).norm() < tolerance * expected.norm()
            torch.testing.assert_close(
                pull(sampler.prior(chains)), pull(partial(prior_potential, model)), rtol=1e-4, atol=1e-5
            )


def test_what_is_recorded_reads_the_weights_and_the_images_of_its_last_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a GPU, the graphs being played by what they are recorded of."""
    config = replace(SMOKE, compiled=True)
    for name in ("compiles", "records"):
        monkeypatch.setattr(f"drc.sampler.{name}", lambda config, device: True)
    monkeypatch.setattr("drc.compiled.fused", lambda function: function)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda function, sample: function)
    model = DRCModel(config, seed=0).requires_grad_(False)
    sampler, z = Sampler(model, config), torch.ones(4, model.z_dim)
    for seed in (0, 1):
        model.load_state_dict(DRCModel(config, seed).state_dict())
        images = to_signed(block_pictures(5)[seed : seed + 4], "cpu")
        expected = posterior_potential(model, model, z, images, config)
        torch.testing.assert_close(sampler.posterior(images)(z), expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(sampler.prior(z)(z), prior_potential(model, z))


@pytest.fixture
def tried_anew() -> Iterator[None]:
    """Whether torch.compile works is found out again, and forgotten."""
    compiled.usable.cache_clear()
    yield
    compiled.usable.cache_clear()


def test_a_processor_without_a_compiler_is_named_once_and_compiled_changes_nothing(
    tried_anew: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(function: object) -> None:
        raise InvalidCxxCompiler

    monkeypatch.setattr(compiled, "fused", no_compiler)
    runs = [Trainer(block_pictures(), replace(SMOKE, compiled=fused), 0) for fused in (False, True)]
    assert runs[0].train_step() == runs[1].train_step()
    assert torch.equal(runs[0].posterior_chains, runs[1].posterior_chains)
    (said,) = [record.message for record in caplog.records if "torch.compile" in record.message]
    assert said.startswith("torch.compile does not work here, and the sampler will be slower: No working C++")


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 1e-4),
        ({"sampler_precision": "bfloat16", "start": 128}, 0.2),  # one block enlarges after its products
    ],
)
def test_what_is_compiled_on_a_processor_follows_the_weights_and_the_images(
    changes: dict[str, Any], tolerance: float
) -> None:
    if not compiled.usable("cpu"):
        pytest.skip("torch.compile finds no C++ compiler here")
    config = replace(SMOKE, compiled=True, **changes)
    model = DRCModel(config, seed=0).requires_grad_(False)
    sampler, chains = Sampler(model, config), torch.randn(4, model.z_dim)
    for seed in (0, 1):  # the second time what was compiled is used again
        model.load_state_dict(DRCModel(config, seed).state_dict())
        images = to_signed(block_pictures(5)[seed : seed + 4], "cpu")
        z, same = (chains.clone().requires_grad_(True) for _ in range(2))
        (found,) = torch.autograd.grad(sampler.posterior(images)(z).sum(), z)
        reference = posterior_potential(model, model, same, images, config)
        (expected,) = torch.autograd.grad(reference.sum(), same)
        assert (found - expected).norm() < tolerance * expected.norm()


@pytest.mark.parametrize(("vectors", "said"), [("AVX2", 1), ("AVX512", 0)])
def test_a_processor_without_bfloat16_is_named_once(
    vectors: str, said: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    warn_where_bfloat16_is_slow.cache_clear()
    config, images = replace(SMOKE, sampler_precision="bfloat16"), to_signed(block_pictures(2), "cpu")
    sampler = Sampler(DRCModel(config, seed=0), config)
    for _ in range(2):
        sampler.posterior(images)
    assert [record.message for record in caplog.records if "bfloat16" in record.message] == [
        "bfloat16 steps take many times as long on a processor without AVX-512; "
        "sampler_precision float32 is faster here"
    ] * said


@NO_CUDA
def test_training_that_is_compiled_on_cuda_follows_that_which_is_not() -> None:
    config = replace(SMOKE, posterior_step_size=0.01, prior_step_size=0.01)
    runs = [Trainer(block_pictures(), replace(config, compiled=fused), 0, "cuda") for fused in (False, True)]
    expected, found = ([run.train_step() for _ in range(2)] for run in runs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-2)
    torch.testing.assert_close(runs[1].posterior_chains, runs[0].posterior_chains, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_fits_and_segments(variant: str, device: str, tmp_path: Path) -> None:
    config = DRC.configure(variant=variant, preset="smoke", dataset="tm-dsprites", image_size=16)
    method = DRC()
    method.fit(
        block_pictures(), config=config, seed=0, device=device, checkpoint_dir=tmp_path, progress=quiet
    )
    masks = method.segment(block_pictures(5))
    assert masks.shape == (5, 2, 16, 16)
    np.testing.assert_allclose(masks.sum(axis=1), 1, atol=1e-5)
    assert DRC.load(tmp_path, device=device).segment(block_pictures(5)) == pytest.approx(masks, abs=1e-2)
