"""IODINE: the authors' sizes and settings, its likelihood and prior, and what its refinement sees."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_helpers import noise_batch, noise_pictures, parameters, train_method

from baselines import iodine
from baselines.iodine import IODINE, IODINEConfig, IODINELearner, IODINENetworks
from baselines.iodine_networks import (
    InputNorm,
    component_log_probs,
    coordinates,
    kl_from_prior,
    log_mixture,
    log_mixture_without,
    moments,
    sample,
)
from baselines.training import DivergedError

TINY = IODINE.configure(variant="full", preset="smoke", dataset="any", image_size=16)


def paper(dataset: str, size: int = 128) -> IODINEConfig:
    return IODINE.configure(variant="full", preset="paper", dataset=dataset, image_size=size)


def noise(config: IODINEConfig, count: int, seed: int = 0) -> Tensor:
    shape = (config.iterations + 1, count, config.slots, config.z_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fit(config: IODINEConfig, folder: Path, **options: Any) -> IODINE:
    return train_method(IODINE(), noise_pictures(), config, folder, **options)


def first_spatial_inputs(networks: IODINENetworks, images: Tensor) -> dict[str, Tensor]:
    seen: list[dict[str, Tensor]] = []
    original = networks.spatial_inputs

    def look(*values: Any) -> dict[str, Tensor]:
        seen.append(original(*values))
        return seen[-1]

    networks.spatial_inputs = look  # type: ignore[method-assign]
    list(networks.explain(images, noise(networks.config, len(images)), learning=True))
    return seen[0]


# --- the authors' sizes ------------------------------------------------------------------------------------


def test_parameter_counts_are_the_authors_for_clevr6() -> None:
    """Counted by hand: weights and biases of each layer of their tables."""
    n = IODINENetworks(paper("clevr6"))
    assert parameters(n.decoder) == (67 * 64 * 9 + 64) + 3 * (64 * 64 * 9 + 64) + (64 * 4 * 9 + 4)
    assert parameters(n.refinement.maps) == (18 * 64 * 9 + 64) + 3 * (64 * 64 * 9 + 64)
    assert parameters(n.refinement.mlp) == (64 * 256 + 256) + (256 * 256 + 256)
    assert parameters(n.refinement.lstm) == (513 + 256) * 4 * 256 + 4 * 256
    assert parameters(n.refinement.change) == 256 * 128 + 128
    assert parameters(n.norms) == 2 * (3 + 1 + 1 + 1 + 128)
    assert n.initial.shape == (2 * 64,)


def test_parameter_counts_are_the_authors_for_sprites() -> None:
    n = IODINENetworks(paper("tm-dsprites", 64))
    assert parameters(n.decoder) == (19 * 32 * 25 + 32) + 3 * (32 * 32 * 25 + 32) + (32 * 4 * 25 + 4)
    assert parameters(n.refinement.maps) == (24 * 32 * 25 + 32) + 2 * (32 * 32 * 25 + 32)
    assert parameters(n.refinement.mlp) == 32 * 128 + 128
    assert parameters(n.refinement.lstm) == (193 + 128) * 4 * 128 + 4 * 128
    assert parameters(n.refinement.change) == 128 * 32 + 32


def test_shapes_are_the_authors_for_clevr6() -> None:
    n = IODINENetworks(paper("clevr6"))
    with torch.no_grad():
        assert n.decoder(torch.randn(1, 7, 64)).shape == (1, 7, 4, 128, 128)
        assert n.refinement.maps(torch.randn(1, 18, 128, 128)).shape == (1, 64, 8, 8)
        change, state = n.refinement(torch.randn(2, 18, 128, 128), torch.randn(2, 257), n.refinement.start(2))
    assert change.shape == (2, 128)
    assert [part.shape for part in state] == [(2, 256), (2, 256)]


def test_the_authors_settings_are_the_paper_preset() -> None:
    c = paper("clevr6")
    assert (c.slots, c.z_dim, c.iterations, c.batch_size, c.lr) == (7, 64, 5, 32, 1e-3)
    assert (c.scale, c.clip, c.train_steps, c.lr_decay_steps) == (0.03, 5.0, 10**6, 10**6)
    c = paper("tm-dsprites-grey")
    assert (c.z_dim, c.kernel, c.hidden, c.batch_size, c.lr) == (16, 5, 128, 128, 3e-4)
    betas = IODINELearner(TINY, 0, "cpu").optimiser.param_groups[0]["betas"]
    assert betas[0] == 0.95


@pytest.mark.parametrize("preset", iodine.BUDGET_CHANGES)
def test_seven_slots_for_clevr6_and_two_for_one_object(preset: str) -> None:
    for dataset, slots in [("clevr6", 7), ("birds", 2), ("tm-dsprites", 2), ("someone's own", 2)]:
        c = IODINE.configure(variant="full", preset=preset, dataset=dataset, image_size=32)
        assert c.slots == slots


def test_the_rate_falls_tenfold_over_its_steps() -> None:
    learner = IODINELearner(replace(TINY, lr=1e-3, lr_decay_steps=10), 0, "cpu")
    rates = []
    for step in (0, 5, 10):
        learner.step(noise_batch(4), step)
        rates.append(learner.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3 / math.sqrt(10), 1e-4])


# --- likelihood and prior ----------------------------------------------------------------------------------


def test_a_component_is_a_density_of_its_scale() -> None:
    x = torch.linspace(-3, 4, 20_001)
    images, means = x[None, None, None].expand(1, 3, 1, -1), torch.full((1, 1, 3, 1, 1), 0.5)
    density = (component_log_probs(images, means, 0.03)[0, 0, 0, 0] / 3).exp()  # of one channel
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-4)
    variance = torch.trapezoid(density * (x - 0.5) ** 2, x).item()
    assert variance == pytest.approx((math.pi * 0.03) ** 2 / 3, rel=1e-3)


def test_far_from_its_mean_a_component_stays_finite() -> None:
    images = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    far = component_log_probs(images, torch.full((1, 1, 3, 1, 2), 50.0), 0.03)
    assert far.isfinite().all()
    assert (far < -1_000).all()


def test_the_mixture_does_not_know_the_order_of_the_slots() -> None:
    logits, components, order = torch.randn(2, 4, 1, 5, 5), torch.randn(2, 4, 1, 5, 5), [2, 0, 3, 1]
    whole = log_mixture(logits, components)
    torch.testing.assert_close(log_mixture(logits[:, order], components[:, order]), whole)
    expected = (logits.softmax(dim=1) * components.exp()).sum(dim=1, keepdim=True).log()
    torch.testing.assert_close(whole, expected)


def test_the_counterfactual_leaves_one_slot_out() -> None:
    logits, components = torch.randn(2, 3, 1, 4, 4), torch.randn(2, 3, 1, 4, 4)
    without = log_mixture_without(logits, components)
    alone = torch.where(torch.arange(3).view(1, 3, 1, 1, 1) == 1, -torch.inf, logits)
    torch.testing.assert_close(without[:, 1:2], log_mixture(alone, components))
    two = log_mixture_without(logits[:, :2], components[:, :2])
    torch.testing.assert_close(two, components[:, [1, 0]])


def test_the_prior_is_the_posterior_of_zeros() -> None:
    location, variance = moments(torch.zeros(2 * 5))
    assert location.abs().max() == 0
    torch.testing.assert_close(variance.sqrt(), torch.full((5,), 0.8326), atol=1e-4, rtol=0)
    assert kl_from_prior(torch.zeros(3, 10)).abs().max() < 1e-6


def test_kl_is_that_of_two_gaussians() -> None:
    p = torch.randn(6, 8)
    location, variance = moments(p)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(location, variance.sqrt()), normal(torch.zeros(4), math.log(2) ** 0.5)
    )
    torch.testing.assert_close(kl_from_prior(p), expected.sum(dim=-1))


def test_samples_have_the_posteriors_moments() -> None:
    p = torch.tensor([1.5, -0.5, 2.0, -1.0])
    z = sample(p, torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)))
    location, variance = moments(p)
    torch.testing.assert_close(z.mean(dim=0), location, atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(dim=0), variance, atol=0.02, rtol=0)


# --- refinement --------------------------------------------------------------------------------------------


def test_the_refinement_sees_all_that_the_authors_show_it() -> None:
    networks = IODINENetworks(replace(TINY, slots=3))
    seen = first_spatial_inputs(networks, noise_batch(2))
    channels = {name: value.shape[2] for name, value in seen.items()}
    assert channels == {
        "image": 3, "means": 3, "logits": 1, "masks": 1, "d_logits": 1, "d_means": 3, "posterior": 1,
        "log_prob": 1, "counterfactual": 1, "coordinates": 2, "capacity": 1,
    }  # fmt: skip
    assert sum(channels.values()) == 18
    for name in ("d_logits", "d_means", "log_prob", "counterfactual"):
        torch.testing.assert_close(
            seen[name].mean(dim=(2, 3, 4)), torch.zeros(seen[name].shape[:2]), atol=1e-4, rtol=0
        )
    torch.testing.assert_close(seen["masks"].sum(dim=1), torch.ones(2, 1, 16, 16))


def test_what_the_refinement_is_told_of_the_fit_carries_no_gradients() -> None:
    networks = IODINENetworks(TINY)
    networks.norms.requires_grad_(False)  # whose own weights learn from all of it
    seen = first_spatial_inputs(networks, noise_batch(2))
    carrying = {name for name, value in seen.items() if value.requires_grad}
    assert carrying == {"means", "logits", "masks", "posterior"}


def test_the_posterior_shown_takes_the_slots_as_equal_and_is_nothing_where_none_fits() -> None:
    networks, images = IODINENetworks(TINY), torch.zeros(1, 3, 1, 2)
    means = torch.tensor([0.01, 9.0, 0.02, 9.0]).view(1, 2, 1, 1, 2).expand(1, 2, 3, 1, 2)
    components = component_log_probs(images, means, TINY.scale)
    logits = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 2)
    gradients = (logits, means, logits)
    seen = networks.spatial_inputs(
        images, logits, means, components, log_mixture(logits, components), gradients
    )
    expected = components[..., 0].softmax(dim=1)
    torch.testing.assert_close(seen["posterior"][..., 0], expected, atol=1e-5, rtol=0)
    assert seen["posterior"][..., 1].max() < 1e-3


def test_a_slot_is_shown_where_the_others_do_not_do_without_it() -> None:
    images, logits = torch.zeros(1, 3, 1, 2), torch.zeros(1, 2, 1, 1, 2)
    means = torch.tensor([0.0, 0.5, 0.5, 0.0]).view(1, 2, 1, 1, 2).expand(1, 2, 3, 1, 2)  # each fits a pixel
    fit = component_log_probs(images, means, TINY.scale)
    given = images, logits, means, fit, log_mixture(logits, fit), (logits, means, logits)
    shown = IODINENetworks(TINY).spatial_inputs(*given)["counterfactual"][0, :, 0, 0]
    assert shown.argmax(dim=1).tolist() == [0, 1]


def test_gradients_shown_are_those_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the mask logits that of -log p is the softmax mask less the posterior of the mixture."""
    networks, shown = IODINENetworks(replace(TINY, slots=3)), {}

    def look(images: Tensor, logits: Tensor, means: Tensor, components: Tensor, *rest: Any) -> Any:
        shown.setdefault("expected", logits.softmax(dim=1) - (logits + components).softmax(dim=1))
        shown.setdefault("found", rest[1][2])
        return original(images, logits, means, components, *rest)

    original = networks.spatial_inputs
    monkeypatch.setattr(networks, "spatial_inputs", look)
    list(networks.explain(noise_batch(2), noise(networks.config, 2), learning=True))
    torch.testing.assert_close(shown["found"], shown["expected"], atol=1e-5, rtol=1e-3)


def test_the_posteriors_gradient_is_that_of_the_error_and_the_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    networks, images, shown = IODINENetworks(replace(TINY, scale=1.0)), noise_batch(2), []
    draws, original = noise(networks.config, 2), networks.refined

    def look(parameters: Tensor, gradient: Tensor, *rest: Any) -> Any:
        shown.append(gradient)
        return original(parameters, gradient, *rest)

    monkeypatch.setattr(networks, "refined", look)
    list(networks.explain(images, draws, learning=True))
    posterior = networks.initial.detach().repeat(2, TINY.slots, 1).requires_grad_()
    painted = networks.decoder(sample(posterior, draws[0]))
    mixture = log_mixture(painted[:, :, :1], component_log_probs(images, painted[:, :, 1:], 1.0))
    (kl_from_prior(posterior).sum() - mixture.sum()).backward()
    torch.testing.assert_close(shown[0], posterior.grad, atol=1e-4, rtol=1e-3)


def test_inputs_are_normed_for_each_image_and_slot_over_all_else() -> None:
    x = torch.randn(2, 3, 4, 6, 6) * 5 + torch.arange(3.0).view(1, 3, 1, 1, 1)
    normed = InputNorm(4)(x)
    torch.testing.assert_close(normed.mean(dim=(2, 3, 4)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(dim=(2, 3, 4), unbiased=False), torch.ones(2, 3), atol=1e-3, rtol=0)


def test_coordinates_are_a_line_or_a_basis_of_cosines() -> None:
    line, waves = coordinates(8, "linear"), coordinates(8, "cosine")
    assert (line.shape, waves.shape) == ((2, 8, 8), (8, 8, 8))
    assert (line.min(), line.max()) == (-1, 1)
    assert (line[0, :, 0] == -1).all()
    expected = [math.cos(f * math.pi) for f in range(3) for _ in range(3)][1:]
    torch.testing.assert_close(waves[:, 0, -1], torch.tensor(expected))


def test_the_loss_counts_later_decodings_more() -> None:
    assert iodine.iteration_weights(5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    learner = IODINELearner(TINY, 0, "cpu")
    draws = noise(TINY, 4)
    total, _ = learner.loss(noise_batch(4), draws)
    each = [(e + kl).mean() for _, _, e, kl in learner.networks.explain(noise_batch(4), draws, learning=True)]
    torch.testing.assert_close(total, 0.5 * each[1] + each[2])


def test_exchanging_the_slots_noise_exchanges_the_slots() -> None:
    c = replace(TINY, slots=3)
    networks, draws, order = IODINENetworks(c), noise(c, 2), [2, 0, 1]
    *_, (logits, means, error, kl) = networks.explain(noise_batch(2), draws, learning=False)
    *_, other = networks.explain(noise_batch(2), draws[:, :, order], learning=False)
    torch.testing.assert_close(other[0], logits[:, order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(other[1], means[:, order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(other[2:], (error, kl), atol=1e-2, rtol=1e-4)


def test_learning_and_segmenting_go_through_the_same_numbers() -> None:
    networks, draws = IODINENetworks(TINY), noise(TINY, 2)
    learned = list(networks.explain(noise_batch(2), draws, learning=True))
    with torch.no_grad():
        segmented = list(networks.explain(noise_batch(2), draws, learning=False))
    for one, two in zip(learned, segmented, strict=True):
        torch.testing.assert_close(one[0], two[0])


def test_all_weights_learn() -> None:
    learner = IODINELearner(TINY, 0, "cpu")
    loss, _ = learner.loss(noise_batch(4), noise(TINY, 4))
    loss.backward()
    idle = [n for n, p in learner.networks.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_steps_lower_the_loss() -> None:
    learner, draws = IODINELearner(replace(TINY, lr=1e-3), 0, "cpu"), noise(TINY, 4)
    before = learner.loss(noise_batch(4), draws)[0].item()
    learner.step(noise_batch(4), 0)
    once = learner.loss(noise_batch(4), draws)[0].item()
    for step in range(1, 20):
        learner.step(noise_batch(4), step)
    assert once < before
    assert learner.loss(noise_batch(4), draws)[0].item() < once


# --- the method --------------------------------------------------------------------------------------------


def test_a_mask_does_not_depend_on_the_images_beside_it(tmp_path: Path) -> None:
    method, images = fit(TINY, tmp_path), noise_pictures(IODINE.segment_batch + 3, seed=2)
    together = method.segment(images)
    assert together.shape == (len(images), 2, 16, 16)
    for i in (0, IODINE.segment_batch - 1, IODINE.segment_batch + 2):
        np.testing.assert_allclose(method.segment(images[i : i + 1])[0], together[i], atol=1e-4)


def test_how_it_segments_is_no_part_of_its_training(tmp_path: Path) -> None:
    few, many = replace(TINY, inference_iterations=1), replace(TINY, inference_iterations=6)
    steps: list[int] = []
    masks = [
        fit(config, tmp_path, progress=lambda step, total, **values: steps.append(step)).segment(
            noise_pictures(2)
        )
        for config in (few, many)
    ]
    assert steps == [1, 2, 3, 4]  # the second found the training done
    assert np.abs(masks[0] - masks[1]).max() > 1e-4


def test_with_means_only_the_first_draw_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def masks(samples: bool, later: float) -> np.ndarray:
        method = fit(replace(TINY, inference_samples=samples), tmp_path)
        draws = noise(replace(TINY, iterations=TINY.inference_iterations), 1)
        draws[1:] += later
        monkeypatch.setattr(method.learner, "noise", lambda *_: draws)
        return method.segment(noise_pictures(2))

    np.testing.assert_array_equal(masks(False, 0.0), masks(False, 3.0))
    assert np.abs(masks(True, 0.0) - masks(True, 3.0)).max() > 1e-4


def test_another_seed_segments_with_other_noise(tmp_path: Path) -> None:
    method = fit(TINY, tmp_path)
    masks = method.segment(noise_pictures(2))
    method.learner.seed = 1
    assert np.abs(method.segment(noise_pictures(2)) - masks).max() > 1e-4


def test_slots_start_apart(tmp_path: Path) -> None:
    """All share one first guess; only the noise tells them apart."""
    masks = fit(TINY, tmp_path).segment(noise_pictures(2))
    assert np.abs(masks[:, 0] - masks[:, 1]).max() > 1e-3


def test_a_training_that_leaves_the_numbers_says_at_which_step(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step \d+: \w+ is (nan|inf|-inf); lower"):
        fit(replace(TINY, lr=1e30, train_steps=50), tmp_path)


def test_gradients_are_clipped_to_the_authors_norm() -> None:
    for clip in (1e-3, 1e9):
        learner = IODINELearner(replace(TINY, clip=clip), 0, "cpu")
        learner.step(noise_batch(4), 0)
        gradients = [p.grad.flatten() for p in learner.networks.parameters() if p.grad is not None]
        norm = torch.cat(gradients).norm().item()
        assert norm == pytest.approx(clip, rel=1e-2) if clip < 1 else norm > 1e-2


def test_its_picture_is_the_mixture_of_its_slots(tmp_path: Path) -> None:
    method = fit(TINY, tmp_path)
    ((masks, means),) = method.explained(noise_pictures(3))
    mixed = torch.einsum("bkhw,bkchw->bhwc", masks, means).numpy()
    shown = method.panels(noise_pictures(3))["reconstruction"]
    np.testing.assert_allclose(shown, np.clip(255 * mixed, 0, 255), atol=0.51)


def test_what_the_refinement_sees_passes_through_an_mlp_that_is_not_linear() -> None:
    layers = IODINENetworks(paper("clevr6")).refinement.mlp
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ELU, nn.Linear]
