"""Every variant, size and batch that the settings allow trains a step, and a chain belongs to its image alone."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from drc_helpers import SMOKE, smoke
from training_helpers import noise_pictures

from drc.build import build_trainer
from drc.config import BUDGET_CHANGES, VARIANTS, configure, drc_tuned
from drc.sampler import Sampler
from drc.segment import infer_regions
from drc.tensors import to_signed


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_a_variant_changes_every_weight_it_trains_and_stays_finite(variant: str) -> None:
    config = smoke(variant)
    trainer = build_trainer(noise_pictures(8), config, seed=0)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    values = trainer.train_step()
    assert np.isfinite(list(values.values())).all()
    optimised = {id(p) for o in trainer.optimisers.values() for g in o.param_groups for p in g["params"]}
    for name, value in trainer.model.named_parameters():
        assert id(value) in optimised, name
        assert value.isfinite().all(), name
        if name != "lebm.reassign.4.bias":  # a constant of the energy, which cancels in the contrast
            assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("image_size", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("variant", ["full", "amortised-inference", "no-pixel-reassignment"])
def test_every_size_of_4_times_2_4_8_and_so_on_trains_and_segments(image_size: int, variant: str) -> None:
    config = configure(variant=variant, preset="smoke", dataset="tm-dsprites", image_size=image_size)
    trainer = build_trainer(noise_pictures(3, size=image_size), config, seed=0)
    assert np.isfinite(list(trainer.train_step().values())).all()
    (regions,) = infer_regions(Sampler(trainer.model, config), noise_pictures(3, size=image_size), 0, "cpu")
    assert regions.pi.shape == (3, 2, image_size, image_size)
    torch.testing.assert_close(regions.pi.sum(1), torch.ones(3, image_size, image_size))


@pytest.mark.parametrize("variant", ["full", "amortised-inference"])
def test_latent_vectors_of_length_one_and_a_single_image(variant: str) -> None:
    config = smoke(variant)
    config = replace(config, z_fg=1, z_bg=1, z_reassign=1)
    trainer = build_trainer(noise_pictures(1), config, seed=0)
    for _ in range(2):
        assert np.isfinite(list(trainer.train_step().values())).all()
    (regions,) = infer_regions(Sampler(trainer.model, config), noise_pictures(1), 0, "cpu")
    assert regions.pi.shape == (1, 2, 16, 16)


@pytest.mark.parametrize("case", range(8))
def test_any_sizes_train_and_segment(case: int) -> None:
    """Drawn at random: variant, size, batch, latent vectors, and images that may not fill a batch."""
    draw = random.Random(case)
    size, count = draw.choice((8, 16, 32, 64)), draw.randint(1, 6)
    config = configure(variant=draw.choice(VARIANTS), preset="smoke", dataset="any", image_size=size)
    lengths = {name: draw.randint(1, 7) for name in ("z_fg", "z_bg", "z_reassign")}
    batches = {"batch_size": draw.randint(1, 7), "inference_batch_size": draw.randint(1, 7)}
    config = replace(config, start=draw.randint(1, 9), width=draw.randint(1, 5), **lengths, **batches)
    trainer = build_trainer(noise_pictures(count, size=size), config, seed=case)
    for _ in range(2):
        assert np.isfinite(list(trainer.train_step().values())).all()
    found = torch.cat(
        [
            r.pi
            for r in infer_regions(Sampler(trainer.model, config), noise_pictures(count, size=size), 0, "cpu")
        ]
    )
    assert found.shape == (count, 2, size, size)
    torch.testing.assert_close(found.sum(1), torch.ones(count, size, size))


@pytest.mark.parametrize(
    ("run", "sizes"),  # z_fg, z_bg, z_reassign, steps of inference
    [
        ("birds", (256, 256, 512, 300)),
        ("birds-split", (256, 256, 512, 300)),
        ("dogs", (256, 256, 512, 300)),
        ("dogs-split", (256, 192, 512, 300)),
        ("cars", (256, 192, 512, 300)),
        ("cars-split", (256, 256, 512, 300)),
        ("clevr6", (256, 2, 256, 20_000)),
        ("tm-dsprites", (256, 4, 1024, 5_000)),
        ("tm-dsprites-grey", (256, 4, 1024, 5_000)),
    ],
)
def test_the_authors_settings_of_each_run(run: str, sizes: tuple[int, int, int, int]) -> None:
    c = configure(variant="full", preset="paper", dataset=run, image_size=128)
    assert (c.z_fg, c.z_bg, c.z_reassign, c.inference_steps) == sizes
    assert (c.posterior_step_size, c.posterior_steps, c.prior_step_size, c.prior_steps) == (0.1, 40, 0.4, 60)
    assert (c.batch_size, c.lr_generators, c.lr_lebm, c.lr_decay) == (48, 1e-4, 2e-5, 0)
    assert (c.tv_weight, c.pseudo_label_weight, c.ortho_weight) == (0.01, 0.1, 0.1)
    assert (c.width, c.start, c.classes, c.sigma, c.likelihood) == (64, 128, 200, 0.25, "l1")
    assert (c.gamma_per, c.tv_in_e_step, c.sigma_in_m_step) == ("channel", True, False)
    assert (c.momentum, c.temperature, c.restart, c.mask_bias, c.inference_chains) == (0, 1, 0, 0, 1)
    assert (c.inference_step_size, c.inference_last_step_size) == (0.1, 0.1)


def test_images_that_fill_no_batch_sit_an_epoch_out_and_are_segmented_all_the_same() -> None:
    config = replace(SMOKE, batch_size=4, inference_batch_size=4)
    trainer = build_trainer(noise_pictures(7), config, seed=0)
    visited: set[int] = set()
    for _ in range(6):
        rows, _ = trainer.batch()
        assert len(set(rows)) == 4
        visited |= set(rows)
        trainer.train_step()
    assert visited == set(range(7))
    batches = list(infer_regions(Sampler(trainer.model, config), noise_pictures(7), 0, "cpu"))
    assert [len(batch.pi) for batch in batches] == [4, 3]


def test_a_chain_depends_on_seed_and_image_and_not_on_its_neighbours() -> None:
    images = noise_pictures(8)

    def moved(rows: list[int], seed: int = 0) -> dict[int, torch.Tensor]:
        """Where both chains of each image stand after two visits, in the company of `rows`."""
        trainer = build_trainer(images, replace(SMOKE, posterior_step_size=0.02), seed=0)
        trainer.seed = seed
        for visit in range(2):
            trainer.keep_chains(rows, *trainer.sample(rows, visit, to_signed(images[rows], "cpu")))
        return {
            row: torch.cat([trainer.posterior_chains[row], trainer.prior_chains[row]]) for row in range(8)
        }

    together, apart, reordered = moved([0, 1, 2, 3, 4]), moved([3]), moved([6, 3, 0])
    for other in (apart, reordered):
        torch.testing.assert_close(together[3], other[3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[3], moved([3], seed=1)[3], atol=1e-2)
    assert torch.equal(together[6], apart[6]), "a chain moved though its image was not visited"


def test_a_data_set_takes_what_the_beginnings_of_its_name_change_of_a_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {
        "ab-c": {"quick": {"z_fg": 3}},
        "ab": {"quick": {"z_fg": 2, "mask_bias": -1.0}},
    }  # in any order
    monkeypatch.setattr("drc.config.DRC_TUNED_FOR", changes)
    found = {
        (name, preset): configure(variant="full", preset=preset, dataset=name, image_size=16)
        for name, preset in [("ab-c-d", "quick"), ("ab-x", "quick"), ("b", "quick"), ("ab-c", "cpu-hour")]
    }
    assert [(c.z_fg, c.mask_bias) for c in found.values()] == [(3, -1.0), (2, -1.0), (64, 0.0), (64, 0.0)]


@pytest.mark.parametrize("preset", BUDGET_CHANGES)
@pytest.mark.parametrize("dataset", ["birds", "clevr6", "tm-dsprites", "tm-dsprites-grey"])
def test_without_drc_tuned_a_budget_cuts_sizes_and_lengths_and_nothing_else(
    preset: str, dataset: str
) -> None:
    def settings(variant: str, preset: str) -> dict[str, Any]:
        return asdict(configure(variant=variant, preset=preset, dataset=dataset, image_size=16))

    def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        return {name: after[name] for name in before if before[name] != after[name]}

    paper, untuned, full = settings("full", "paper"), settings("untuned", preset), settings("full", preset)
    sizes = {"start", "width", "z_fg", "z_bg", "z_reassign", "classes", "batch_size", "inference_batch_size"}
    lengths = {"posterior_steps", "prior_steps", "train_steps", "train_images", "inference_steps"}
    assert set(changed(paper, untuned)) <= sizes | lengths | {"sampler_precision", "compiled"}
    assert changed(untuned, full).items() <= drc_tuned(preset, dataset).items() <= full.items()
    assert not lengths & set(changed(untuned, full))
    assert (untuned == full) == (preset in ("paper", "smoke"))
