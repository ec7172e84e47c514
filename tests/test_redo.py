"""ReDO: the authors' sizes, what the losses ask for, and starting anew after a collapse."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_helpers import noise_batch, noise_pictures, parameters, train_method

from baselines import redo
from baselines.redo import ReDO, ReDOConfig, ReDOLearner, ReDONetworks
from baselines.redo_networks import MaskNetwork, RegionGenerator, SelfAttention, Trunk
from baselines.training import DivergedError
from benchmarks.toys import two_textures

TINY = ReDO.configure(variant="full", preset="smoke", dataset="any", image_size=16)


def fit(config: ReDOConfig, folder: Path, **options: Any) -> ReDO:
    return train_method(ReDO(), noise_pictures(), config, folder, **options)


# --- the authors' sizes ------------------------------------------------------------------------------------


@pytest.fixture
def fast_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the orthogonal weights, which take longest to make and change no shape."""
    monkeypatch.setattr(nn.init, "orthogonal_", lambda weight, gain: weight)


def test_parameter_counts_are_the_authors(fast_start: None) -> None:
    """Counted by hand from the layers of their code."""
    assert parameters(MaskNetwork(128, 64, 3)) == 274_966
    assert parameters(RegionGenerator(128, 64, 32, attention=True)) == 30_933_791
    assert parameters(RegionGenerator(128, 32, 32, attention=True)) == 7_956_895  # for Flowers
    assert parameters(Trunk(128, 64, 1, attention=True)) == 38_424_258
    assert parameters(Trunk(128, 64, 64)) == 38_483_712


def test_shapes_are_the_authors_at_a_sixteenth_of_the_width() -> None:
    seen: dict[str, list[tuple[int, ...]]] = {"generator": [], "trunk": []}
    networks = ReDONetworks(replace(ReDOConfig(), width=4))
    for block in networks.generators[0].blocks:
        block.register_forward_hook(lambda m, i, out: seen["generator"].append(tuple(out.shape[1:])))
    for block in (networks.discriminator.first, *networks.discriminator.blocks):
        block.register_forward_hook(lambda m, i, out: seen["trunk"].append(tuple(out.shape[1:])))
    images, z = torch.rand(1, 3, 128, 128), torch.randn(1, 2, 32)
    masks = networks.masks(images)
    painted = networks.paint(masks, z)
    fake = redo.redrawn(images, masks, painted)
    assert masks.shape == (1, 2, 128, 128)
    assert painted.shape == (1, 2, 3, 128, 128)
    assert fake.shape == (2, 3, 128, 128)
    assert networks.discriminator(fake).shape == (2, 1)
    assert networks.recover(images).shape == z.shape
    assert seen["generator"] == [(64, 8, 8), (32, 16, 16), (16, 32, 32), (8, 64, 64), (4, 128, 128)]
    assert seen["trunk"] == [(4, 64, 64), (8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4), (64, 4, 4)]


def test_the_pyramid_has_the_authors_cells(fast_start: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []
    network = MaskNetwork(128, 64, 3)
    for layer in network.pyramid:
        layer.register_forward_hook(lambda m, i, out: sides.append(out.shape[-1]))
    network(torch.rand(1, 3, 128, 128))
    assert sides == [1, 2, 3, 6]


def test_the_authors_settings_are_the_paper_preset() -> None:
    c = ReDO.configure(variant="full", preset="paper", dataset="birds", image_size=128)
    assert (c.width, c.z_dim, c.residual_blocks, c.attention) == (64, 32, 3, True)
    assert (c.batch_size, c.lr_mask, c.lr, c.weight_decay, c.recovery_weight) == (20, 1e-5, 1e-4, 1e-4, 5.0)
    assert (c.collapse_area, c.collapse_every, c.collapse_until) == (0.1, 500, 7_000)
    assert 20_000 <= c.train_steps <= 40_000


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_smaller_images_pass_through_all_networks(size: int) -> None:
    networks = ReDONetworks(replace(TINY, image_size=size))
    images = torch.rand(2, 3, size, size)
    masks = networks.masks(images)
    painted = networks.paint(masks, torch.randn(2, 2, TINY.z_dim))
    assert masks.shape == (2, 2, size, size)
    assert networks.discriminator(redo.redrawn(images, masks, painted)).shape == (4, 1)


@pytest.mark.parametrize("size", [4, 12, 30, 100])
def test_other_sizes_are_refused_in_a_sentence(size: int) -> None:
    with pytest.raises(ValueError, match=rf"{size}; it must be 8, 16, 32, \.\.\.,"):
        ReDO.configure(variant="full", preset="smoke", dataset="any", image_size=size)


# --- what the parts do -------------------------------------------------------------------------------------


def test_masks_are_two_shares_of_every_pixel() -> None:
    masks = MaskNetwork(16, 8, 1)(torch.randn(3, 3, 16, 16))
    assert masks.min() >= 0
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(3, 16, 16))


def test_a_region_is_painted_within_its_mask_and_the_other_stays() -> None:
    networks, images = ReDONetworks(TINY), torch.rand(2, 3, 16, 16)
    first = (torch.arange(16) < 6).float().expand(2, 1, 16, 16)
    masks = torch.cat([first, 1 - first], dim=1)
    painted = networks.paint(masks, torch.randn(2, 2, TINY.z_dim))
    fake = redo.redrawn(images, masks, painted).unflatten(0, (2, 2))
    for k in range(2):
        torch.testing.assert_close(fake[:, k] * (1 - masks[:, k : k + 1]), images * (1 - masks[:, k : k + 1]))
        torch.testing.assert_close(fake[:, k] * masks[:, k : k + 1], painted[:, k])
        assert (painted[:, k] != 0).any()


def test_what_is_painted_depends_on_z_and_on_the_mask() -> None:
    generator = RegionGenerator(16, 4, 4, attention=True)
    mask, z = torch.rand(1, 1, 16, 16), torch.randn(1, 4)
    picture = generator(mask, z)
    assert not torch.allclose(picture, generator(mask, z + 1))
    assert not torch.allclose(picture / mask, generator(1 - mask, z) / (1 - mask))


def test_losses_are_hinges() -> None:
    real, fake = torch.tensor([[2.0], [0.0]]), torch.tensor([[-3.0], [0.5]])
    assert redo.discriminator_loss(real, fake).item() == pytest.approx((0 + 1) / 2 + (0 + 1.5) / 2)
    told = torch.tensor([[1.5]], requires_grad=True)
    redo.discriminator_loss(told, -told).backward()
    assert told.grad is not None
    assert told.grad.item() == 0, "what is told apart by the margin pulls no more"
    assert redo.generator_loss(fake).item() == pytest.approx(1.25)
    z = torch.randn(3, 2, 4)
    assert redo.recovery_loss(z, z).item() == 0
    assert redo.recovery_loss(z, z + 2).item() == pytest.approx(4)


def test_spectral_norms_come_to_one() -> None:
    network = Trunk(16, 4, 1, attention=True)
    for _ in range(50):
        network(torch.randn(1, 3, 16, 16))
    network.eval()
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == 3 * 2 + 2 + 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-2)


def test_attention_starts_as_nothing_and_learns() -> None:
    layer, x = SelfAttention(8), torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(layer(x), x)
    layer(x).square().sum().backward()
    assert layer.gamma.grad is not None
    assert layer.gamma.grad.item() != 0


def test_a_step_moves_each_network() -> None:
    learner = ReDOLearner(replace(TINY, attention=False), 0, "cpu")
    before = {name: p.clone() for name, p in learner.networks.named_parameters()}
    learner.step(noise_batch(8), 0)
    for part in ("masks", "generators.0", "generators.1", "discriminator", "recovery"):
        moved = [
            not torch.equal(p, before[n])
            for n, p in learner.networks.named_parameters()
            if n.startswith(part)
        ]
        assert sum(moved) > len(moved) / 2, part


def test_the_discriminator_is_not_moved_by_the_painters() -> None:
    learner, images = ReDOLearner(TINY, 0, "cpu"), 2 * noise_batch(8) - 1
    before = [p.clone() for p in learner.networks.discriminator.parameters()]
    learner.learn_to_redraw(images, torch.randn(len(images), 2, TINY.z_dim))
    after = learner.networks.discriminator.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def assert_same_gradients(ours: nn.Module, expected: nn.Module) -> None:
    for (name, one), other in zip(ours.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_masks_and_generators_go_where_what_they_redraw_scores_high_and_tells_its_z() -> None:
    learner, images = ReDOLearner(replace(TINY, recovery_weight=2.5), 0, "cpu"), 2 * noise_batch(8) - 1
    networks, z = deepcopy(learner.networks), torch.randn(len(images), 2, TINY.z_dim)
    learner.learn_to_redraw(images, z)
    masks = networks.masks(images)
    painted = networks.paint(masks, z)
    scores = networks.discriminator(redo.redrawn(images, masks, painted))
    recovered = networks.recover(painted[:, 0] + painted[:, 1])
    (2.5 * (z - recovered).square().mean() - scores.mean()).backward()
    for part in ("masks", "generators", "recovery"):
        assert_same_gradients(learner.networks.get_submodule(part), networks.get_submodule(part))


def test_the_discriminator_learns_to_score_images_high_and_what_was_redrawn_low() -> None:
    learner, (images, real) = ReDOLearner(TINY, 0, "cpu"), (2 * noise_batch(16) - 1).chunk(2)
    learner.networks.discriminator.head.weight.data /= 20  # so that scores lie between the margins
    networks, z = deepcopy(learner.networks), torch.randn(len(images), 2, TINY.z_dim)
    learner.learn_to_tell(images, real, z)
    masks = networks.masks(images)
    fake = redo.redrawn(images, masks, networks.paint(masks, z)).detach()
    scores = networks.discriminator(torch.cat([real, fake]))
    ((1 - scores[: len(real)]).relu().mean() + (1 + scores[len(real) :]).relu().mean()).backward()
    assert_same_gradients(learner.networks.discriminator, networks.discriminator)


def test_another_seed_paints_from_other_vectors() -> None:
    learners = [ReDOLearner(TINY, seed, "cpu") for seed in (0, 1)]
    learners[1].networks.load_state_dict(learners[0].networks.state_dict())
    values = [learner.step(noise_batch(8), 0) for learner in learners]
    assert values[0]["smaller_region"] == values[1]["smaller_region"]
    assert values[0]["recovery"] != values[1]["recovery"]


# --- collapse ----------------------------------------------------------------------------------------------


def give_all_to_the_first(learner: ReDOLearner) -> None:
    last = learner.networks.masks.up[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.constant_(last.bias, 50.0)  # type: ignore[arg-type]


def weights(learner: ReDOLearner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in learner.networks.parameters()])


def test_a_collapse_is_looked_for_at_its_time_and_answered_by_other_weights() -> None:
    config = replace(TINY, collapse_every=2, collapse_until=4, train_steps=100)
    learner, first = ReDOLearner(config, 0, "cpu"), weights(ReDOLearner(config, 0, "cpu"))
    torch.testing.assert_close(weights(learner), first)
    give_all_to_the_first(learner)
    assert learner.step(noise_batch(8), 0)["restarts"] == 0
    values = learner.step(noise_batch(8), 1)
    assert (values["restarts"], values["smaller_region"]) == (1, 0)
    assert not torch.allclose(weights(learner), first)
    learner.step(noise_batch(8), 2)
    learner.step(noise_batch(8), 3)
    assert learner.restarts == 1, "fresh networks have not collapsed"


@pytest.mark.parametrize(("steps", "restarts"), [(2, True), (3, False), (4, True), (6, False)])
def test_only_early_collapses_count(steps: int, restarts: bool) -> None:
    learner = ReDOLearner(replace(TINY, collapse_every=2, collapse_until=4, train_steps=100), 0, "cpu")
    assert learner.collapsed(0.01, steps) == restarts
    assert not learner.collapsed(0.3, steps)


def test_the_second_half_of_the_steps_is_left_to_whatever_came_first() -> None:
    learner = ReDOLearner(replace(TINY, collapse_every=2, collapse_until=100, train_steps=10), 0, "cpu")
    assert learner.collapsed(0.0, 4)
    assert not learner.collapsed(0.0, 6)


def test_the_smaller_region_is_measured_over_all_images_and_either_may_be_it() -> None:
    masks = torch.zeros(2, 2, 4, 4)
    masks[0, 0] = 1
    masks[1, 0, 0] = 1
    masks[:, 1] = 1 - masks[:, 0]
    assert redo.smaller_share(masks) == pytest.approx(1 - 20 / 32)
    assert redo.smaller_share(masks.flip(1)) == redo.smaller_share(masks)


def test_restarts_are_counted_kept_and_resumed_exactly(tmp_path: Path) -> None:
    config = replace(TINY, train_steps=8, collapse_area=0.6, collapse_every=2, collapse_until=2)
    whole = fit(config, tmp_path / "whole")
    assert whole.restarts == 2, "no region can have 60 %, so each look in the first half starts anew"

    def interrupt(step: int, total: int, **values: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, tmp_path / "parts", progress=interrupt)
    resumed = fit(config, tmp_path / "parts")
    assert resumed.restarts == 2
    np.testing.assert_array_equal(resumed.segment(noise_pictures()), whole.segment(noise_pictures()))


def test_a_small_foreground_is_no_collapse() -> None:
    """TM-dSprites has 7 % of foreground, which the authors' threshold of 10 % would take for a collapse."""
    for preset in ("paper", "gpu", "quick"):
        for dataset in ("tm-dsprites", "tm-dsprites-grey"):
            c = ReDO.configure(variant="full", preset=preset, dataset=dataset, image_size=32)
            assert c.collapse_area <= 0.03


def test_attention_is_a_mean_over_the_places_that_are_looked_at() -> None:
    attention = SelfAttention(16).eval()
    torch.nn.init.ones_(attention.gamma)
    plain = noise_batch(2).mean(dim=(1, 2, 3), keepdim=True).expand(2, 16, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(attention(plain), plain + attention.out(attention.value(plain)))


# --- the method --------------------------------------------------------------------------------------------


def test_a_mask_does_not_depend_on_the_images_beside_it(tmp_path: Path) -> None:
    method, images = fit(TINY, tmp_path), noise_pictures(ReDO.segment_batch + 3, seed=2)
    together = method.segment(images)
    for i in (0, ReDO.segment_batch - 1, ReDO.segment_batch + 2):
        np.testing.assert_allclose(method.segment(images[i : i + 1])[0], together[i], atol=1e-6)
    signed = torch.from_numpy(images[:4]).permute(0, 3, 1, 2) / 127.5 - 1  # as it was trained on
    with torch.no_grad():
        masks = method.learner.networks.masks(signed)
    np.testing.assert_allclose(masks.numpy(), together[:4], atol=1e-5)


def test_a_picture_that_fails_leaves_the_training_as_it_was(tmp_path: Path) -> None:
    """Evaluating, spectral norms take no step, and no more would they in the rest of the training."""
    method = fit(TINY, tmp_path)
    assert method.learner.networks.training
    with pytest.raises(ValueError, match="images"):
        method.panels(np.zeros((2, 8, 8, 3), np.uint8))
    assert method.learner.networks.training


def test_one_image_is_too_few_to_redraw_and_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 2 images, not 1"):
        train_method(ReDO(), noise_pictures(1), TINY, tmp_path)


# --- the toy it is validated on ----------------------------------------------------------------------------


def test_the_toy_has_one_disc_whose_colour_says_nothing_of_its_background() -> None:
    images, truth = two_textures(600, 32, 0)
    assert (images.shape, images.dtype, truth.dtype) == ((600, 32, 32, 3), np.uint8, bool)
    assert truth.mean() == pytest.approx(0.31, abs=0.02)
    assert truth.sum(axis=(1, 2)).min() > 100
    outside = ~truth[..., None]
    means = [(images * part).sum(axis=(1, 2)) / part.sum(axis=(1, 2)) for part in (truth[..., None], outside)]
    assert abs(np.corrcoef(means[0][:, 0], means[1][:, 0])[0, 1]) < 0.15
    again, _ = two_textures(600, 32, 0)
    np.testing.assert_array_equal(images, again)
    assert not np.array_equal(images, two_textures(600, 32, 1)[0])


@pytest.mark.filterwarnings("ignore:Degrees of freedom")
def test_the_toys_stripes_run_across_the_background_and_along_the_disc() -> None:
    images, truth = two_textures(50, 32, 0)
    background, disc = np.where(truth[..., None], np.nan, images), np.where(truth[..., None], images, np.nan)
    assert np.nanmax(np.nanstd(background, axis=1)) == 0
    assert np.nanmax(np.nanstd(disc, axis=2)) == 0


def test_a_training_that_leaves_the_numbers_says_at_which_step(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step \d+: \w+ is (nan|inf|-inf); lower"):
        fit(replace(TINY, lr=1e30, train_steps=50), tmp_path)


def test_each_network_learns_at_its_own_rate() -> None:
    learner = ReDOLearner(replace(TINY, lr=1e-3, lr_mask=2e-4, weight_decay=5e-3), 0, "cpu")
    masks, others = learner.optimiser.param_groups
    (discriminator,) = learner.optimiser_discriminator.param_groups
    assert (masks["lr"], masks["weight_decay"]) == (2e-4, 5e-3)
    assert (others["lr"], others["weight_decay"]) == (1e-3, 0)
    assert discriminator["lr"] == 1e-3
    assert {group["betas"] for group in (masks, others, discriminator)} == {(0.0, 0.9)}
    ours = {id(p) for p in learner.networks.masks.parameters()}
    assert {id(p) for p in masks["params"]} == ours


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_the_recovery_of_z_counts_by_its_weight(weight: float) -> None:
    learner = ReDOLearner(replace(TINY, recovery_weight=weight), 0, "cpu")
    learner.step(noise_batch(8), 0)
    moved = [p.grad.abs().max().item() for p in learner.networks.recovery.parameters() if p.grad is not None]
    assert (max(moved) > 0) == (weight > 0)


def test_its_picture_has_both_regions_painted_anew(tmp_path: Path) -> None:
    method = fit(TINY, tmp_path)
    networks, images = deepcopy(method.learner.networks).eval(), 2 * noise_batch(3) - 1
    with torch.no_grad():
        painted = networks.paint(networks.masks(images), networks.recover(images)).sum(dim=1)
    shown = method.panels(noise_pictures(3))["reconstruction"]
    np.testing.assert_allclose(shown, 127.5 * (painted.permute(0, 2, 3, 1).numpy() + 1), atol=0.51)
