"""The chains of training and of inference take the steps that the settings name, with noise of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, block_pictures, smoke
from torch import Tensor
from training_helpers import train_method

from drc import DRC, fast, rng, segment
from drc.build import build_trainer
from drc.config import DRCConfig, configure
from drc.model import DRCModel, expected_log_likelihood, log_likelihoods
from drc.objectives import posterior_potential, prior_potential
from drc.sampler import Sampler
from drc.segment import infer, infer_regions
from drc.tensors import DivergedError, to_signed
from drc.trainer import Trainer


def by_hand(
    potential: Callable[[Tensor], Tensor], z: Tensor, noise: Tensor, sizes: list[float], momentum: float
) -> Tensor:
    """The chains of `drc.langevin`, written out once more."""
    v = torch.zeros_like(z)
    for epsilon, size in zip(noise, sizes, strict=True):
        z = z.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(potential(z).sum(), z)
        v = momentum * v - size**2 / 2 * slope + size * math.sqrt(1 - momentum) * epsilon
        z = z.detach() + v
    return z


UNUSUAL = replace(
    SMOKE,
    posterior_steps=3,
    posterior_step_size=0.2,
    posterior_step_fall=0.25,
    prior_steps=2,
    prior_step_size=0.3,
    momentum=0.5,
    temperature=0.04,
    pixel_weight=0.5,
    inference_steps=5,
    inference_step_size=0.3,
    inference_last_step_size=0.02,
    inference_momentum=0.9,
)


def test_training_chains_take_the_steps_that_the_settings_name() -> None:
    trainer = Trainer(block_pictures(), UNUSUAL, seed=3)
    trainer.step = trainer.config.train_steps // 2
    rows, visit = [5, 2, 7], 4
    images = to_signed(trainer.images[rows], "cpu")
    start = [chains[rows].clone() for chains in (trainer.posterior_chains, trainer.prior_chains)]
    posterior, prior = trainer.sample(rows, visit, images)
    c, shape = UNUSUAL, (trainer.model.z_dim,)
    noise = [
        rng.chain_noise(3, stream, rows, visit, (steps, *shape)).transpose(0, 1)
        for stream, steps in ((rng.POSTERIOR, 3), (rng.PRIOR, 2))
    ]
    torch.testing.assert_close(
        prior, by_hand(partial(prior_potential, trainer.model), start[1], noise[1], [0.3] * 2, 0.0)
    )
    # The sampler's render, which other tests hold to the model's own: chains amplify the rounding between the two.
    render = fast.sampler_render(trainer.model, c)
    potential = partial(posterior_potential, trainer.model, render, images=images, config=c)
    size = 0.2 * 0.25**0.5  # half of the training is over
    expected = by_hand(potential, start[0], 0.2 * noise[0], [size] * 3, 0.5)
    torch.testing.assert_close(posterior, expected)
    assert not torch.allclose(posterior, start[0], atol=1e-2)


def test_each_chain_goes_on_from_where_it_stopped() -> None:
    """Algorithm 1: chains persist, those of the posterior and those of the prior each their own."""
    trainer, same = (Trainer(block_pictures(), UNUSUAL, seed=3) for _ in range(2))
    rows, visit = [5, 2, 7], 4
    images = to_signed(trainer.images[rows], "cpu")
    before = trainer.posterior_chains.clone()
    posterior, prior = same.sample(rows, visit, images)
    trainer.update(rows, visit, images)
    torch.testing.assert_close(trainer.posterior_chains[rows], posterior)
    torch.testing.assert_close(trainer.prior_chains[rows], prior)
    others = [row for row in range(trainer.count) if row not in rows]
    assert torch.equal(trainer.posterior_chains[others], before[others])


def test_both_optimisers_are_the_authors_adam() -> None:
    optimisers = Trainer(block_pictures(), SMOKE, seed=0).optimisers
    assert {name: o.param_groups[0]["betas"] for name, o in optimisers.items()} == {
        "generators": (0.5, 0.999),
        "lebm": (0.5, 0.999),
    }


def test_inference_takes_the_steps_that_the_settings_name() -> None:
    model, images, rows = DRCModel(UNUSUAL, seed=0), to_signed(block_pictures(4), "cpu"), [4, 1, 0, 9]
    found = infer(Sampler(model, UNUSUAL), images, rows, seed=2)
    start = rng.chain_noise(2, rng.INFERENCE_START, rows, 0, (model.z_dim,))
    noise = [
        rng.chain_noise(2, rng.INFERENCE, rows, visit, (steps, model.z_dim)).transpose(0, 1)
        for visit, steps in enumerate((3, 2))
    ]
    sizes = [0.3 * (0.02 / 0.3) ** (i / 4) for i in range(5)]
    render = fast.sampler_render(model, UNUSUAL)
    potential = partial(posterior_potential, model, render, images=images, config=UNUSUAL)
    expected = by_hand(potential, start, 0.2 * torch.cat(noise), sizes, 0.9)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_inference_takes_gradients_where_others_take_none(without_gradients: Callable) -> None:
    method = untrained()
    expected = method.segment(block_pictures(5))
    with without_gradients():
        np.testing.assert_array_equal(method.segment(block_pictures(5)), expected)


@pytest.mark.parametrize("ask", [DRC.segment, DRC.panels])
def test_no_images_are_refused_in_a_sentence(ask: Callable) -> None:
    with pytest.raises(ValueError, match="there are no images"):
        ask(untrained(), block_pictures(5)[:0])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((0, 16, 16, 3), "^there are no images: give one or more$"),
        (
            (8, 32, 32, 3),
            "^the images have 32×32 pixels and the model's image_size is 16: resize them to 16×16 first$",
        ),
        ((8, 16, 24, 3), "^the images have 16×24 pixels and the model's image_size is 16: resize"),
        ((8, 16, 16, 4), "^the images are uint8 of shape"),
    ],
)
def test_images_of_another_size_are_refused_in_one_sentence(
    shape: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    """Those to train on and those to segment."""
    images = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=said):
        untrained().segment(images)
    for variant in ("full", "amortised-inference"):
        config = configure(variant=variant, preset="smoke", dataset="any", image_size=16)
        with pytest.raises(ValueError, match=said):
            train_method(DRC(), images, config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_first_image_whose_chain_diverged_is_told_by_its_place_among_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoilt(sampler: Sampler, images: Tensor, keys: list[int], *rest: Any) -> Tensor:
        ends = torch.zeros(len(keys), sampler.model.z_dim)
        ends[[key in (5, 6) for key in keys], 0] = math.nan
        return ends

    method = untrained()
    method.config = replace(SMOKE, inference_batch_size=4)
    monkeypatch.setattr(segment, "infer", spoilt)
    with pytest.raises(
        DivergedError, match="on 2 of the 3 images of a batch, the first at position 5 of all:"
    ):
        method.segment(block_pictures(7))


def untrained() -> DRC:
    method = DRC()
    method.config, method.seed, method.device, method.model = SMOKE, 0, "cpu", DRCModel(SMOKE)
    return method


def test_inference_meets_no_number_that_a_chain_of_the_training_met(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[set[tuple[int, ...]]] = [set(), set()]
    keyed = rng.keyed_generator
    monkeypatch.setattr(rng, "keyed_generator", lambda *key: (drawn[-1].add(key), keyed(*key))[1])
    inferring = replace(SMOKE, flips=True, restart=0.5, inference_chains=2)
    model = DRCModel(inferring, seed=0)
    list(infer_regions(Sampler(model, inferring), block_pictures(), 0, "cpu"))
    inference = drawn.pop()
    trainer = Trainer(block_pictures(), inferring, seed=0)
    for _ in range(SMOKE.train_steps):
        trainer.train_step()
    assert len(inference) > len(block_pictures())
    assert not inference & drawn.pop()


def test_no_number_is_drawn_for_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else, say, the images that are mirrored would be those whose chains start anew."""
    drawn: list[tuple[int, ...]] = []
    keyed = rng.keyed_generator
    config = replace(SMOKE, flips=True, restart=0.5)
    trainer = Trainer(block_pictures(), config, seed=0)
    monkeypatch.setattr(rng, "keyed_generator", lambda *key: (drawn.append(key), keyed(*key))[1])
    trainer.train_step()
    assert len(set(drawn)) == len(drawn) == 1 + 5 * config.batch_size
    drawn.clear()
    list(infer_regions(Sampler(trainer.model, config), block_pictures(), 0, "cpu"))
    assert len(set(drawn)) == len(drawn) == 3 * len(block_pictures())  # where a chain starts, and two visits


@pytest.mark.parametrize("variant", ["full", "amortised-inference"])
def test_a_seed_draws_the_weights_and_the_order_of_the_images(variant: str) -> None:
    config = smoke(variant)
    runs = [build_trainer(block_pictures(24), config, seed, "cpu") for seed in (0, 0, 1)]
    weights = [run.model.fg.content.weight for run in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    orders = [run.batch()[0] for run in runs]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


@pytest.mark.parametrize("scale", [0, 0.1, 1.0, 3.0])
def test_a_chain_starts_with_the_standard_deviation_that_the_settings_name(scale: float) -> None:
    """In training, where it starts anew there, and at inference, where steps of no size leave it: N(0, scale² I)."""
    still = {"inference_steps": 1, "inference_step_size": 1e-12, "inference_last_step_size": 1e-12}
    config = replace(SMOKE, z_fg=1000, restart=1.0, **still)
    images, rows = to_signed(block_pictures(8), "cpu"), list(range(8))

    def starts(config: DRCConfig) -> list[Tensor]:
        trainer = Trainer(block_pictures(8), config, seed=0)
        held = [trainer.posterior_chains.clone(), trainer.prior_chains.clone()]
        inferred = infer(Sampler(trainer.model, config), images, rows, seed=0)
        return [*held, *trainer.chains(rows, 1), inferred]

    plain, scaled = starts(config), starts(replace(config, start_scale=scale))
    for unit, start in zip(plain, scaled, strict=True):
        assert start.std().item() == pytest.approx(scale, rel=0.03, abs=1e-9)
        assert abs(start.mean().item()) <= 0.03 * scale + 1e-9
        torch.testing.assert_close(start, scale * unit, rtol=1e-6, atol=1e-9)
    given = rng.chain_noise(0, rng.INITIAL, rows, 0, (2, 1000 + SMOKE.z_bg + SMOKE.z_reassign))
    assert torch.equal(torch.stack(plain[:2], dim=1), given)


def test_chains_that_start_anew_start_elsewhere_each_time() -> None:
    trainer = Trainer(block_pictures(8), replace(SMOKE, restart=1.0), 0)
    for first, second in zip(trainer.chains([0, 1], 1), trainer.chains([0, 1], 2), strict=True):
        assert not torch.isclose(first, second).any()


def test_of_many_images_the_first_are_trained_on() -> None:
    trainer = Trainer(block_pictures(9), replace(SMOKE, train_images=5), 0)
    np.testing.assert_array_equal(trainer.images, block_pictures(9)[:5])


def test_a_step_has_the_learning_rate_of_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(block_pictures(8), replace(SMOKE, lr_decay=1.0, train_steps=2), 0)
    whole, seen = trainer.update, list[float]()

    def noting(*words: Any) -> dict[str, float]:
        seen.append(trainer.optimisers["lebm"].param_groups[0]["lr"])
        return whole(*words)

    monkeypatch.setattr(trainer, "update", noting)
    trainer.train_step()
    trainer.train_step()
    assert seen == pytest.approx([SMOKE.lr_lebm, SMOKE.lr_lebm * (0.1 + 0.9 * 0.5)])


@pytest.mark.parametrize("per", ["channel", "pixel"])
def test_the_e_step_has_the_responsibilities_that_the_settings_name(per: str) -> None:
    config = replace(UNUSUAL, gamma_per=per, tv_in_e_step=False, pixel_weight=1.0)
    model, images = DRCModel(config, seed=0), to_signed(block_pictures(4), "cpu")
    z = torch.randn(4, model.z_dim, generator=torch.Generator().manual_seed(0))
    regions = model(z)
    log_p = log_likelihoods(regions, images, norm=config.likelihood, scale=2 * config.sigma**2)
    expected = prior_potential(model, z) - expected_log_likelihood(regions.pi, log_p, per).sum(dim=(1, 2, 3))
    torch.testing.assert_close(posterior_potential(model, model, z, images, config), expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_sampler_descends_the_weights_as_they_now_are(precision: str) -> None:
    config = replace(SMOKE, sampler_precision=precision)
    model, images = DRCModel(config, seed=0).requires_grad_(False), to_signed(block_pictures(4), "cpu")
    z, sampler = torch.ones(4, model.z_dim), Sampler(model, config)
    before = sampler.posterior(images)(z)
    model.load_state_dict(DRCModel(config, seed=1).state_dict())
    after = sampler.posterior(images)(z)
    assert not torch.equal(after, before)
    assert torch.equal(after, Sampler(model, config).posterior(images)(z))


def test_chance_goes_by_the_image_and_the_seed_and_not_by_the_place_in_a_batch() -> None:
    """Which images are mirrored, and which chains start anew and where."""

    def chance(rows: list[int], seed: int) -> tuple[Tensor, Tensor]:
        trainer = Trainer(block_pictures(16), replace(SMOKE, flips=True, restart=0.5), seed=0)
        trainer.seed = seed
        return trainer.pixels(rows, 2), torch.cat(trainer.chains(rows, 2), dim=1)

    rows = list(range(16))
    for found, turned, other in zip(chance(rows, 0), chance(rows[::-1], 0), chance(rows, 1), strict=True):
        assert torch.equal(found, turned.flip(0))
        assert not torch.equal(found, other)


def test_what_random_numbers_are_for_tells_them_apart() -> None:
    names = ("INITIAL", "POSTERIOR", "PRIOR", "ORDER", "RESTART", "FLIP", "INFERENCE_START", "INFERENCE")
    drawn = {rng.chain_noise(0, getattr(rng, name), [1], 2, ()).item() for name in names}
    assert len(drawn) == len(names)


def test_what_a_sampler_has_compiled_serves_the_next_pictures_too() -> None:
    made: list[Sampler] = []
    method = untrained()
    for images, changes in (
        (block_pictures(), {}),
        (block_pictures()[:3], {}),
        (block_pictures(), {"temperature": 0.5}),
    ):
        method.config = replace(method.config, **changes)
        fresh = untrained()
        fresh.config = method.config
        assert np.array_equal(method.segment(images), fresh.segment(images))
        made.append(method._sampler())
    assert made[0] is made[1]
    assert made[1] is not made[2]
    method.model = DRCModel(SMOKE, seed=1)
    assert method._sampler().model is method.model


def test_a_mask_of_one_picture_is_that_in_a_batch_of_many_with_the_latents_of_quick() -> None:
    """Products of 4, 8 and 12 rows of 200 numbers or more round otherwise than one of 64, on some processors."""
    config = configure(variant="full", preset="quick", dataset="tm-dsprites", image_size=8)
    config = replace(config, inference_steps=100, inference_chains=1)
    model, images = DRCModel(config, seed=0), block_pictures(70, 8)
    keys = list(range(100, 170))
    whole = torch.cat(
        [regions.pi for regions in infer_regions(Sampler(model, config), images, 0, "cpu", keys=keys)]
    )
    for rows in ([3], [69], [5, 40, 3, 66, 7, 1, 0, 68, 2]):
        chosen = [keys[row] for row in rows]
        (apart,) = infer_regions(Sampler(model, config), images[rows], 0, "cpu", keys=chosen)
        assert torch.equal(apart.pi, whole[rows]), rows
