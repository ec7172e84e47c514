"""Properties that the equations promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional

from drc import compiled, fast
from drc.config import DRCConfig
from drc.langevin import falling, langevin
from drc.model import DRCModel, Regions, expected_log_likelihood, log_likelihoods, responsibilities
from drc.networks import Energies, reassign
from drc.objectives import (
    GeneratorTerms,
    generation,
    generator_terms,
    m_step_log_likelihoods,
    orthogonality,
    posterior_potential,
    prior_potential,
    pseudo_label_loss,
    total_variation,
    total_variation_sum,
)
from drc.rng import chain_noise

TINY = DRCConfig(image_size=16, start=8, width=4, z_fg=6, z_bg=4, z_reassign=5, classes=7)


def tiny_model(config: DRCConfig = TINY) -> DRCModel:
    return DRCModel(config, seed=3).double()


def tiny_images(count: int = 2, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64) * 2 - 1


def stationary_variance(potential, step_size: float, momentum: float = 0.0) -> float:
    """Variance over 500 chains of 60 dimensions after 80 steps from N(0, 1)."""
    generator = torch.Generator().manual_seed(0)
    shape = (80, 500, 60)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    start = torch.randn(shape[1:], generator=generator, dtype=torch.float64)
    return langevin(potential, start, noise, step_size, momentum).var().item()


@pytest.mark.parametrize(("step_size", "expected"), [(0.4, 1.0417), (0.1, 1.0025)])
def test_prior_langevin_keeps_a_standard_normal_when_the_lebm_is_zero(
    step_size: float, expected: float
) -> None:
    model = tiny_model(replace(TINY, z_fg=20, z_bg=20, z_reassign=20))
    for parameter in model.lebm.parameters():
        torch.nn.init.zeros_(parameter)
    variance = stationary_variance(partial(prior_potential, model), step_size)
    assert variance == pytest.approx(expected, abs=0.02)
    assert 1 / (1 - step_size**2 / 4) == pytest.approx(expected, abs=1e-4)


def test_the_energy_of_the_latent_ebm_tilts_the_prior_to_where_it_is_low() -> None:
    """Eq. 2: p(z) ∝ exp(-energy) N(z; 0, I), here with an energy of 3/2 z², and so of variance 1/4."""

    class Bowl(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> Energies:
            return Energies(1.5 * z.square().sum(dim=1), z, z)

    model = tiny_model()
    model.lebm = Bowl()  # type: ignore[assignment]
    step_size = 0.2
    variance = stationary_variance(partial(prior_potential, model), step_size)
    assert variance == pytest.approx(0.25 / (1 - step_size**2), abs=0.005)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_keeps_the_target(momentum: float) -> None:
    step_size = 1.0  # large, so that the discretisation shows
    variance = stationary_variance(lambda z: 0.5 * z.square().sum(1), step_size, momentum)
    assert variance == pytest.approx(1 / (1 - step_size**2 / (4 * (1 + momentum))), abs=0.02)


def test_every_step_may_have_a_size_of_its_own() -> None:
    noise = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1))

    def potential(z: torch.Tensor) -> torch.Tensor:
        return z.square().sum(1)

    whole = langevin(potential, torch.ones(2, 3), noise, [0.3, 0.3, 0.3, 0.1, 0.1, 0.1])
    halves = langevin(potential, langevin(potential, torch.ones(2, 3), noise[:3], 0.3), noise[3:], 0.1)
    torch.testing.assert_close(whole, halves)
    with pytest.raises(ValueError, match="shorter"):
        langevin(potential, torch.ones(2, 3), noise, [0.3, 0.1])


def test_falling_step_sizes_go_from_the_first_to_the_last_by_equal_shares() -> None:
    assert falling(0.4, 0.1, 3) == pytest.approx([0.4, 0.2, 0.1])
    assert falling(0.4, 0.1, 1) == [0.1]
    assert falling(0.2, 0.2, 4) == [0.2] * 4


def test_the_foreground_starts_with_the_share_that_its_mask_bias_leaves_it() -> None:
    shares = []
    for bias in (0.0, -2.0):
        model = tiny_model(replace(TINY, mask_bias=bias))
        shares.append(model(torch.zeros(1, model.z_dim).double()).pi[:, 0].mean().item())
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert shares[1] == pytest.approx(1 / (1 + 2.718281828**2), abs=0.05)


def test_a_smaller_mask_gain_brings_all_masks_nearer_to_the_bias() -> None:
    models = [tiny_model(replace(TINY, mask_bias=-3.0, mask_gain=gain)) for gain in (1.0, 0.5, 0.0)]
    for region, bias, z_dim in (("fg", -3.0, TINY.z_fg), ("bg", 0.0, TINY.z_bg)):
        whole, half, none = (getattr(m, region)(torch.ones(1, z_dim).double())[1] - bias for m in models)
        assert torch.allclose(half, whole / 2)
        assert whole.abs().max() > 0.1 > none.abs().max() == 0


def test_langevin_without_noise_descends() -> None:
    model, images = tiny_model(), tiny_images()
    potential = partial(posterior_potential, model, model, images=images, config=TINY)
    z = torch.zeros(2, model.z_dim, dtype=torch.float64)
    after = langevin(potential, z, torch.zeros(20, 2, model.z_dim, dtype=torch.float64), 0.002)
    assert (potential(after) < potential(z)).all()


def test_a_chain_does_not_depend_on_the_batch_it_sits_in() -> None:
    model, images = tiny_model(), tiny_images(3)

    def run(rows: list[int]) -> torch.Tensor:
        potential = partial(posterior_potential, model, model, images=images[rows], config=TINY)
        noise = chain_noise(1, 2, rows, 0, (5, model.z_dim)).double().transpose(0, 1)
        return langevin(potential, torch.ones(len(rows), model.z_dim).double(), noise, 0.05)

    torch.testing.assert_close(run([0, 1, 2])[2:], run([2]), rtol=1e-9, atol=1e-9)


def test_responsibilities_sum_to_one_and_swap_with_the_experts() -> None:
    generator = torch.Generator().manual_seed(1)
    pi = torch.rand(2, 2, 4, 4, generator=generator).softmax(1)
    log_p = -torch.rand(2, 2, 3, 4, 4, generator=generator) * 4
    gamma = responsibilities(pi, log_p)
    torch.testing.assert_close(gamma.sum(1), torch.ones(2, 3, 4, 4))
    torch.testing.assert_close(responsibilities(pi.flip(1), log_p.flip(1)), gamma.flip(1), rtol=0, atol=1e-5)


def test_responsibilities_are_a_half_where_the_experts_agree() -> None:
    gamma = responsibilities(torch.full((1, 2, 2, 2), 0.5), torch.full((1, 2, 3, 2, 2), -1.5))
    torch.testing.assert_close(gamma, torch.full_like(gamma, 0.5))


def test_the_expert_that_is_right_owns_the_pixel() -> None:
    log_p = torch.zeros(1, 2, 3, 2, 2)
    log_p[:, 1] = -16.0  # the background is as far off as it can be
    gamma = responsibilities(torch.full((1, 2, 2, 2), 0.5), log_p)
    assert (gamma[:, 0] > 0.999).all()


def test_the_expected_log_likelihood_bounds_the_log_mixture_from_below() -> None:
    """Σ γ (log π + log p) + H(γ) = log Σ π p at the posterior γ (Eqs. 6, 7 and 12)."""
    generator = torch.Generator().manual_seed(2)
    pi = torch.rand(1, 2, 5, 5, generator=generator, dtype=torch.float64).softmax(1)
    log_p = -torch.rand(1, 2, 3, 5, 5, generator=generator, dtype=torch.float64)
    gamma = responsibilities(pi, log_p)
    mixture = (pi.unsqueeze(2) * log_p.exp()).sum(1).log()
    entropy = -(gamma * gamma.log()).sum(1)
    torch.testing.assert_close(expected_log_likelihood(pi, log_p) + entropy, mixture, rtol=0, atol=1e-6)


def test_log_likelihoods_of_both_norms() -> None:
    model = tiny_model()
    images, regions = tiny_images(), model(torch.ones(2, model.z_dim).double())
    difference = regions.content_bg - images
    for norm, expected in (("l1", -difference.abs() / 0.125), ("l2", -difference.square() / 0.125)):
        log_p = log_likelihoods(regions, images, norm=norm, scale=0.125)
        torch.testing.assert_close(log_p[:, 1], expected)


def test_an_identity_grid_returns_the_image() -> None:
    images = tiny_images()
    centres = (torch.arange(16).double() + 0.5) / 8 - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).expand(2, -1, -1, -1)
    torch.testing.assert_close(reassign(images, grid), images)


@pytest.mark.parametrize("use_fast", [False, True])
@pytest.mark.parametrize(("reassigned", "elements"), [(True, (0, 5, 10, 14)), (False, (0, 5, 6, 9))])
def test_the_gradient_to_z_agrees_with_finite_differences(
    use_fast: bool, reassigned: bool, elements: tuple[int, ...]
) -> None:
    """z_bg (elements 6 to 9) only without re-assignment, whose network takes the background's map as a constant."""
    config = replace(TINY, likelihood="l2", reassign=reassigned)  # smooth, so that differences converge
    model, images = tiny_model(config).requires_grad_(False), tiny_images()
    render = partial(fast.render, model) if use_fast else model
    z = torch.randn(2, model.z_dim, generator=torch.Generator().manual_seed(7)).double().requires_grad_()
    with torch.no_grad():
        gamma = responsibilities(model(z).pi, log_likelihoods(model(z), images, norm="l2", scale=0.125))

    def potential(z: torch.Tensor) -> torch.Tensor:  # as in the E-step: γ gets no gradient
        regions = render(z)
        log_p = log_likelihoods(regions, images, norm="l2", scale=0.125)
        return -(gamma * (regions.pi.log().unsqueeze(2) + log_p)).sum() + prior_potential(model, z).sum()

    (gradient,) = torch.autograd.grad(potential(z), z)
    step = 1e-6
    for j in elements:
        move = torch.zeros_like(z)
        move[1, j] = step
        difference = (potential(z.detach() + move) - potential(z.detach() - move)) / (2 * step)
        assert gradient[1, j].item() == pytest.approx(difference.item(), rel=1e-5, abs=1e-6)


def compiled_on_a_cpu(model: DRCModel, z: torch.Tensor) -> Regions:
    return compiled.render(model, z, compiled.cpu_kernels(model, z.dtype), compiled.Interleave)


@pytest.mark.parametrize(
    "render", [fast.render, compiled.render, compiled_on_a_cpu], ids=["fast", "gpu", "compiled"]
)
@pytest.mark.parametrize("image_size", [8, 16, 32, 64])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_fast_paths_agree_with_the_reference(render: Callable, image_size: int, batch: int) -> None:
    config = replace(TINY, image_size=image_size, z_bg=1)
    model = tiny_model(config)
    z = torch.randn(batch, model.z_dim, generator=torch.Generator().manual_seed(0)).double()
    for reference, other in zip(model(z), render(model, z), strict=True):
        torch.testing.assert_close(other, reference, rtol=1e-8, atol=1e-8)
    weights = [p for name, p in model.named_parameters() if "classifier" not in name and "lebm" not in name]
    expected = torch.autograd.grad(model(z).image.square().sum(), weights)  # all but classifiers and LEBM
    found = torch.autograd.grad(render(model, z).image.square().sum(), weights)
    for reference, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, reference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("enlarge", [compiled.Enlarge, compiled.Interleave])
@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_enlarging_by_reads_is_the_bilinear_one(side: int, enlarge: type[compiled.Enlarge]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, side, side, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    found = enlarge.apply(x)
    expected = functional.interpolate(
        x.permute(0, 3, 1, 2), scale_factor=2.0, mode="bilinear", align_corners=False
    ).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sin().sum(), x), torch.autograd.grad(expected.sin().sum(), x)
    )


@pytest.mark.parametrize(
    ("kernels", "enlarge"),
    [(compiled.kernels, compiled.Enlarge), (compiled.cpu_kernels, compiled.Interleave)],
    ids=["gpu", "cpu"],
)
@pytest.mark.parametrize("reassigned", [True, False])
def test_the_form_that_fuses_can_be_compiled_whole_and_is_the_same_then(
    reassigned: bool, kernels: Callable, enlarge: type[compiled.Enlarge]
) -> None:
    model = tiny_model(replace(TINY, reassign=reassigned)).requires_grad_(False)
    z = torch.randn(2, model.z_dim, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    whole = torch.compile(compiled.potential, backend="aot_eager", dynamic=False, fullgraph=True)
    arranged = kernels(model, torch.float64)
    expected = posterior_potential(model, model, z, tiny_images(), TINY)
    found = whole(model, arranged, z, tiny_images(), TINY, enlarge)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), z), torch.autograd.grad(expected.sum(), z), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_products_before_enlarging_give_the_convolution_of_the_enlarged_map(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, side, side, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    enlarged = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    expected = functional.conv2d(enlarged, weight, padding=1)
    found = fast.enlarged_conv(x, weight.permute(2, 1, 3, 0).flatten(2))
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found.sin().sum(), (x, weight)),
        torch.autograd.grad(expected.sin().sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("image_size", [0, 4, 12, 30, 100])
def test_impossible_image_sizes_are_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size cannot be {image_size}; it is 8, 16, 32"):
        DRCModel(replace(TINY, image_size=image_size))


def test_the_generators_descend_the_weighted_sum_of_the_terms() -> None:
    terms = GeneratorTerms(*torch.tensor([1.0, 10.0, 100.0, 1_000.0, 10_000.0]))
    config = replace(TINY, tv_weight=2.0, pseudo_label_weight=3.0, ortho_weight=5.0)
    assert terms.total(config) == 1 + 2 * 10 + 3 * (100 + 1_000) + 5 * 10_000


def test_the_weight_of_the_pixels_scales_all_of_the_potential_but_the_prior() -> None:
    model, images = tiny_model(), tiny_images()
    z = torch.randn(2, model.z_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def pixels(weight: float) -> torch.Tensor:
        config = replace(TINY, pixel_weight=weight)
        return posterior_potential(model, model, z, images, config) - prior_potential(model, z)

    torch.testing.assert_close(pixels(0.25), 0.25 * pixels(1.0), rtol=1e-4, atol=1e-2)


def test_sigma_enters_the_m_step_when_asked() -> None:
    model, images = tiny_model(), tiny_images()
    z = torch.randn(2, model.z_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    regions = model(z)
    for asked, scale in ((False, 1.0), (True, 2 * 0.5**2)):
        config = replace(TINY, sigma=0.5, sigma_in_m_step=asked)
        terms = generator_terms(model, regions, model.lebm(z), images, config)
        log_p = log_likelihoods(regions, images, norm=config.likelihood, scale=scale)
        torch.testing.assert_close(terms.likelihood, -expected_log_likelihood(regions.pi, log_p).mean())


@pytest.mark.parametrize("per", ["channel", "pixel"])
def test_the_likelihood_is_the_partitioning_and_the_generation(per: str) -> None:
    """Where both regions paint the image itself, γ is π and nothing is left to generate."""
    model, images, config = tiny_model(), tiny_images(), replace(TINY, gamma_per=per)
    z = torch.randn(2, model.z_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    regions, energies = model(z), model.lebm(z)
    painted = regions._replace(content_fg=images, content_bg=images)
    assert generation(painted, images, config).item() == 0
    entropy = -(regions.pi * regions.pi.log()).sum(dim=1).mean() / (3 if per == "pixel" else 1)
    likelihood = generator_terms(model, painted, energies, images, config).likelihood
    torch.testing.assert_close(likelihood, entropy, rtol=0, atol=1e-6)
    log_p = m_step_log_likelihoods(regions, images, config)
    partitioning = -(responsibilities(regions.pi, log_p, per) * regions.pi.log().unsqueeze(2)).sum(dim=1)
    partitioning = partitioning.sum(dim=1).mean() / 3  # of three channels, or of one that stands for them
    likelihood = generator_terms(model, regions, energies, images, config).likelihood
    torch.testing.assert_close(
        generation(regions, images, config) + partitioning, likelihood, rtol=0, atol=1e-6
    )


def test_of_a_whole_pixel_the_terms_are_the_papers() -> None:
    """Eqs. 7 and 12, written out for one pixel; its channels share one γ, and count together."""
    pi = torch.tensor([0.3, 0.7], dtype=torch.float64)
    log_p = torch.tensor([[-1.0, -0.5, -2.0], [-0.2, -3.0, -1.5]], dtype=torch.float64)
    shaped = (pi.view(1, 2, 1, 1), log_p.view(1, 2, 3, 1, 1))
    joint = pi * log_p.sum(dim=1).exp()
    gamma = joint / joint.sum()
    torch.testing.assert_close(responsibilities(*shaped, "pixel").flatten(), gamma, rtol=0, atol=1e-7)
    expected = (gamma * (pi.log() + log_p.sum(dim=1))).sum()
    found = expected_log_likelihood(*shaped, "pixel").sum()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_total_variation_leaves_the_e_step_alone_when_asked() -> None:
    model, images = tiny_model(), tiny_images()
    z = torch.randn(2, model.z_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with_it, without = (
        posterior_potential(model, model, z, images, replace(TINY, tv_weight=0.5, tv_in_e_step=asked))
        for asked in (True, False)
    )
    torch.testing.assert_close(with_it - without, 0.5 * total_variation_sum(model(z).content_bg))


def test_total_variation_of_a_ramp_is_its_slope() -> None:
    ramp = (torch.arange(8.0) * 0.25).expand(1, 3, 8, 8)
    assert total_variation(ramp).item() == pytest.approx(0.25)


def test_orthogonality_is_zero_at_the_initialisation_and_not_after_a_disturbance() -> None:
    model = tiny_model()
    assert orthogonality(model.fg).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        model.fg.content.weight.add_(0.1)
    assert orthogonality(model.fg).item() > 1e-3


def test_weights_start_orthogonal_and_biases_at_zero() -> None:
    for layer in tiny_model().modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            rows = layer.weight.detach().flatten(1)
            rows = rows if rows.shape[0] <= rows.shape[1] else rows.T
            torch.testing.assert_close(
                rows @ rows.T, torch.eye(len(rows), dtype=rows.dtype), rtol=0, atol=1e-5
            )
            assert layer.bias is None or not layer.bias.any()


def test_a_pseudo_label_is_a_target_and_gets_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    classes, prior = torch.randn(2, 4, 7, generator=generator, dtype=torch.float64).unbind(0)
    classes.requires_grad_(True)
    prior.requires_grad_(True)
    pseudo_label_loss(classes, prior).backward()
    assert prior.grad is None
    expected = (classes.softmax(dim=1) - prior.softmax(dim=1)) / len(prior)
    torch.testing.assert_close(classes.grad, expected.detach())
