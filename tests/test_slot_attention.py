"""Slot-Attention: the authors' sizes and settings, the competition of its slots, its schedule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_helpers import noise_batch, noise_pictures, parameters, train_method

from baselines import slot_attention
from baselines.slot_attention import (
    SlotAttention,
    SlotAttentionConfig,
    SlotAttentionLearner,
    SlotAttentionNetworks,
    learning_rate,
    mixture,
)
from baselines.slot_attention_networks import PositionEmbedding, SlotAttentionModule, attention
from baselines.training import DivergedError

TINY = SlotAttention.configure(variant="full", preset="smoke", dataset="any", image_size=16)


def paper(dataset: str) -> SlotAttentionConfig:
    return SlotAttention.configure(variant="full", preset="paper", dataset=dataset, image_size=128)


def fit(config: SlotAttentionConfig, folder: Path) -> SlotAttention:
    return train_method(SlotAttention(), noise_pictures(), config, folder)


# --- the authors' sizes ------------------------------------------------------------------------------------


def test_parameter_counts_are_the_authors() -> None:
    """Counted by hand: weights and biases of each layer of their tables."""
    n = SlotAttentionNetworks(paper("clevr6"))
    wide = 64 * 64 * 25 + 64
    position, norm, linear = 4 * 64 + 64, 2 * 64, 64 * 64 + 64
    assert parameters(n.encoder) == (3 * 64 * 25 + 64) + 3 * wide + position + norm + 2 * linear
    gru = 2 * 3 * (64 * 64 + 64)
    mlp = (64 * 128 + 128) + (128 * 64 + 64)
    assert parameters(n.attention) == 2 * 64 + 3 * norm + 3 * 64 * 64 + gru + mlp
    assert parameters(n.decoder) == position + 5 * wide + (64 * 4 * 9 + 4)


def test_shapes_are_the_authors() -> None:
    n = SlotAttentionNetworks(paper("clevr6"))
    with torch.no_grad():
        features = n.encoder(torch.zeros(1, 3, 128, 128))
        assert features.shape == (1, 16_384, 64)
        slots = n.attention(features, torch.randn(1, 7, 64))
        assert slots.shape == (1, 7, 64)
        assert n.decoder.position(torch.zeros(7, 64, 8, 8)).shape == (7, 64, 8, 8)
        assert n.decoder(slots).shape == (1, 7, 4, 128, 128)


def test_the_strided_encoder_has_a_sixteenth_of_the_places() -> None:
    c = SlotAttention.configure(variant="full", preset="gpu", dataset="clevr6", image_size=128)
    with torch.no_grad():
        assert SlotAttentionNetworks(c).encoder(torch.zeros(1, 3, 128, 128)).shape == (1, 1_024, 64)


def test_the_authors_settings_are_the_paper_preset() -> None:
    c = paper("clevr6")
    assert (c.slots, c.iterations, c.batch_size, c.lr, c.train_steps) == (7, 3, 64, 4e-4, 500_000)
    group = SlotAttentionLearner(TINY, 0, "cpu").optimiser.param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)


@pytest.mark.parametrize("preset", slot_attention.BUDGET_CHANGES)
def test_seven_slots_for_clevr6_and_two_for_one_object(preset: str) -> None:
    for dataset, slots in [("clevr6", 7), ("birds", 2), ("tm-dsprites", 2), ("someone's own", 2)]:
        c = SlotAttention.configure(variant="full", preset=preset, dataset=dataset, image_size=32)
        assert c.slots == slots


def test_the_rate_rises_and_halves_from_the_first_step_on() -> None:
    c = paper("any")
    assert learning_rate(c, 0) == 0
    assert learning_rate(c, 5_000) == pytest.approx(4e-4 * 0.5 * 0.5**0.05)
    assert learning_rate(c, 10_000) == pytest.approx(4e-4 * 0.5**0.1)
    assert learning_rate(c, 300_000) == pytest.approx(4e-4 / 8)


def test_a_size_that_the_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16 pixels a side under paper, not 100"):
        SlotAttention.configure(variant="full", preset="paper", dataset="any", image_size=100)


# --- slots -------------------------------------------------------------------------------------------------


def test_slots_compete_for_each_place() -> None:
    weights = attention(torch.randn(2, 3, 8), torch.randn(2, 10, 8))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 10))
    queries = torch.eye(3, 8)[None] * 100
    won = attention(queries, torch.eye(3, 8)[None])
    torch.testing.assert_close(won, torch.eye(3)[None], atol=1e-6, rtol=0)


def test_a_slot_that_wins_no_place_is_still_a_number() -> None:
    nothing = attention(torch.tensor([[[1e4], [-1e4]]]), torch.ones(1, 5, 1))[0, 1]
    assert nothing.tolist() == pytest.approx([1e-8] * 5), "the authors' constant"


def test_products_of_slots_and_places_are_scaled_by_the_root_of_their_length() -> None:
    queries = torch.tensor([[1.0], [0.0]]).expand(1, 2, 16)
    won = attention(queries, torch.ones(1, 1, 16))  # 16 / √16 against 0
    torch.testing.assert_close(won[0, :, 0], torch.tensor([4.0, 0.0]).softmax(dim=0))


def test_the_order_of_places_is_nothing_and_that_of_slots_is_kept() -> None:
    module = SlotAttentionModule(8, 16, 3)
    inputs, noise = torch.randn(2, 12, 8), torch.randn(2, 4, 8)
    slots = module(inputs, noise)
    torch.testing.assert_close(module(inputs[:, torch.randperm(12)], noise), slots, atol=1e-5, rtol=1e-4)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(module(inputs, noise[:, order]), slots[:, order], atol=1e-5, rtol=1e-4)


def test_without_rounds_slots_are_draws_of_the_learned_gaussian() -> None:
    module = SlotAttentionModule(4, 8, 0)
    with torch.no_grad():
        module.mu.copy_(torch.arange(4.0))
        module.log_sigma.fill_(0.5)
        slots = module(torch.zeros(1, 5, 4), torch.randn(1, 100_000, 4))
    torch.testing.assert_close(slots.mean(dim=1)[0], torch.arange(4.0), atol=0.03, rtol=0)
    torch.testing.assert_close(slots.std(dim=1)[0], torch.full((4,), 0.5).exp(), atol=0.03, rtol=0)


def test_slots_that_start_alike_stay_alike() -> None:
    module = SlotAttentionModule(8, 16, 3)
    slots = module(torch.randn(1, 12, 8), torch.randn(1, 1, 8).expand(1, 3, 8))
    torch.testing.assert_close(slots[:, 1:], slots[:, :1].expand(1, 2, 8))


def test_positions_are_the_distances_from_the_four_sides() -> None:
    grid = PositionEmbedding(5, 3).grid
    assert grid.shape == (5, 5, 4)
    torch.testing.assert_close(grid[0, 4], torch.tensor([1.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(grid[..., :2] + grid[..., 2:], torch.ones(5, 5, 2))


def test_masks_sum_to_one_and_mix_the_colours() -> None:
    networks = SlotAttentionNetworks(replace(TINY, slots=3))
    colours, masks = networks(noise_batch(2), torch.randn(2, 3, TINY.slot_size))
    assert (colours.shape, masks.shape) == ((2, 3, 3, 16, 16), (2, 3, 1, 16, 16))
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(2, 1, 16, 16))
    whole = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1, 1).expand_as(masks)
    torch.testing.assert_close(mixture(colours, whole), colours[:, 0])


def test_all_weights_learn() -> None:
    learner = SlotAttentionLearner(TINY, 0, "cpu")
    images = 2 * noise_batch(4) - 1
    colours, masks = learner.networks(images, torch.randn(4, 2, TINY.slot_size))
    (mixture(colours, masks) - images).square().mean().backward()
    idle = [n for n, p in learner.networks.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_steps_lower_the_loss() -> None:
    learner = SlotAttentionLearner(replace(TINY, lr=3e-3, warmup_steps=1), 0, "cpu")
    losses = [learner.step(noise_batch(4), step)["reconstruction"] for step in range(60)]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


# --- the method --------------------------------------------------------------------------------------------


def test_a_mask_does_not_depend_on_the_images_beside_it(tmp_path: Path) -> None:
    method, images = fit(TINY, tmp_path), noise_pictures(SlotAttention.segment_batch + 3, seed=2)
    together = method.segment(images)
    assert together.shape == (len(images), 2, 16, 16)
    for i in (0, SlotAttention.segment_batch - 1, SlotAttention.segment_batch + 2):
        np.testing.assert_allclose(method.segment(images[i : i + 1])[0], together[i], atol=1e-5)


def test_another_seed_segments_with_other_noise(tmp_path: Path) -> None:
    method = fit(TINY, tmp_path)
    masks = method.segment(noise_pictures(2))
    method.learner.seed = 1
    assert np.abs(method.segment(noise_pictures(2)) - masks).max() > 1e-4


def test_a_training_that_leaves_the_numbers_says_at_which_step(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step \d+: \w+ is (nan|inf|-inf); lower"):
        fit(replace(TINY, lr=1e30, warmup_steps=1, train_steps=50), tmp_path)


def test_what_a_slot_gathers_is_a_mean_over_places() -> None:
    """Algorithm 1 weighs places to a sum of 1: all of them twice are no other image."""
    module = SlotAttentionModule(8, 16, 3)
    generator = torch.Generator().manual_seed(0)
    places, noise = (torch.randn((2, count, 8), generator=generator) for count in (12, 4))
    with torch.no_grad():
        once, twice = module(places, noise), module(torch.cat([places, places], dim=1), noise)
    torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [0, 3, 500])
def test_each_step_is_taken_at_the_rate_of_the_schedule(step: int) -> None:
    learner = SlotAttentionLearner(TINY, 0, "cpu")
    learner.step(noise_batch(4), step)
    assert [group["lr"] for group in learner.optimiser.param_groups] == [learning_rate(TINY, step)]


def test_its_picture_is_the_mixture_of_its_slots(tmp_path: Path) -> None:
    method = fit(TINY, tmp_path)
    ((colours, masks),) = method.explained(noise_pictures(3))
    mixed = torch.einsum("bkchw,bkuhw->bhwc", colours, masks).numpy()
    shown = method.panels(noise_pictures(3))["reconstruction"]
    np.testing.assert_allclose(shown, np.clip(127.5 * (mixed + 1), 0, 255), atol=0.51)
