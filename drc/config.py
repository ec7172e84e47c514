"""The settings of DRC: what each means, the authors' values, and the presets of each budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

# Marks a setting that earlier versions lacked: at its default it is in no key, so that what they made is found.
ADDED = {"added": True}


class Range(NamedTuple):
    """The numbers that a setting may be."""

    said: str
    holds: Callable[[float], bool]


COUNT = Range("a whole number from 1 to 1e12", lambda value: 1 <= value <= 1e12)
ANY = Range("a number from -1e12 to 1e12", lambda value: abs(value) <= 1e12)
POSITIVE = Range("a number above 0, up to 1e12", lambda value: 0 < value <= 1e12)
NOT_NEGATIVE = Range("a number from 0 to 1e12", lambda value: 0 <= value <= 1e12)
SHARE = Range("a number from 0 to 1", lambda value: 0 <= value <= 1)
MOMENTUM = Range("a number from 0 to below 1", lambda value: 0 <= value < 1)
PIXELS = Range(
    "8, 16, 32, ..., which are 4 times 2, 4, 8, ..., up to 16,384",
    lambda value: value in {2**k for k in range(3, 15)},
)
RANGES = {
    "image_size": PIXELS,
    "sigma": POSITIVE,
    "mask_bias": ANY,
    "posterior_step_size": POSITIVE,
    "posterior_step_fall": POSITIVE,
    "prior_step_size": POSITIVE,
    "momentum": MOMENTUM,
    "restart": SHARE,
    "lr_decay": SHARE,
    "inference_step_size": POSITIVE,
    "inference_last_step_size": POSITIVE,
    "inference_momentum": MOMENTUM,
}  # other numbers: COUNT where they are whole, else NOT_NEGATIVE
WORDS = {
    "likelihood": ("l1", "l2"),
    "gamma_per": ("channel", "pixel"),
    "sampler_precision": ("float32", "bfloat16"),
    "inference_masks": ("mixing", "responsibilities"),
}  # that a setting may be


@dataclass(frozen=True)
class DRCConfig:
    """All settings of one run; the defaults are the authors' for birds, all images.

    But for `flips`, which they have, and for `train_steps`, which is a guess. ValueError names a setting that cannot be
    what it is, and says what it may be. Numbers are Python's own, as checkpoints have them.
    """

    # The model (Sections 3.2 and 3.4)
    image_size: int = 128  # pixels a side: 8, 16, 32, ...
    start: int = 128  # channels of the 4×4 map that a decoder starts from
    width: int = 64  # channels at full resolution; each halving of the resolution doubles them
    z_fg: int = 256  # length of the foreground's latent vector
    z_bg: int = 256  # ... of the background's
    z_reassign: int = 512  # ... of the pixel re-assignment's
    classes: int = 200  # length of the symbolic vectors y
    reassign: bool = True  # pixel re-assignment of the background (Table 2: "w/o pix. re-assign.")
    amortised: bool = False  # encoders and a VAE in place of the LEBM and Langevin (Table 2)
    likelihood: str = "l1"  # "l1": Laplace, as released; "l2": the paper's Gaussian (Eq. 5)
    sigma: float = 0.25  # σ of Eq. 5
    gamma_per: str = field(default="channel", metadata=ADDED)  # γ: one a "channel", as released, or "pixel"
    mask_bias: float = 0.0  # first bias of the foreground's mask logit; below 0 it must earn its pixels
    mask_gain: float = field(default=1.0, metadata=ADDED)  # on the first weights of both mask logits

    # The E-step (Algorithm 1, lines 3 and 4)
    start_scale: float = field(default=1.0, metadata=ADDED)  # standard deviation of all chains' starts
    posterior_steps: int = 40
    posterior_step_size: float = 0.1  # δ₁; the s of Eq. 13 is ½δ²
    posterior_step_fall: float = field(default=1.0, metadata=ADDED)  # what is left of δ₁ at the end
    prior_steps: int = 60
    prior_step_size: float = 0.4  # δ₀
    momentum: float = 0.0  # of the posterior chains; 0 is Eq. 13
    temperature: float = 1.0  # of the posterior chains; 1 samples the posterior
    sampler_precision: str = "float32"  # of the sampler's convolutions; "bfloat16" is faster where supported
    compiled: bool = field(default=False, metadata=ADDED)  # fuse the generators; takes a minute
    tv_in_e_step: bool = field(default=True, metadata=ADDED)  # the background's, as released; not in Eq. 12
    pixel_weight: float = 1.0  # on the pixels' part of the potential: less where there are more of them
    flips: bool = field(default=False, metadata=ADDED)  # mirror images at random; their chains are not told
    restart: float = 0.0  # share of visits at which a chain starts anew (Table 2: "short-run chain" is 1)

    # The M-step (lines 5 and 6)
    train_steps: int = 50_000  # the paper's text and code state no length
    train_images: int | None = None  # only the first so many images; None: all
    batch_size: int = 48
    lr_generators: float = 1e-4  # η_β
    lr_lebm: float = 2e-5  # η_α
    lr_decay: float = 0.0  # share of the steps, at the end, over which both fall to a tenth
    sigma_in_m_step: bool = False  # divide the M-step's likelihood by 2σ² too
    tv_weight: float = 0.01  # total variation of the background
    pseudo_label_weight: float = 0.1  # cross-entropy of the auxiliary classifiers
    ortho_weight: float = 0.1  # orthogonality of the region networks' convolutions

    # Inference (Section 3.3)
    inference_steps: int = 300
    inference_step_size: float = 0.1  # δ₁ of the first step
    inference_last_step_size: float = 0.1  # ... and of the last; in between it falls geometrically
    inference_momentum: float = 0.0
    inference_chains: int = field(default=1, metadata=ADDED)  # independent ones an image, which are averaged
    inference_masks: str = field(default="mixing", metadata=ADDED)  # π; or the chains' "responsibilities"
    inference_batch_size: int = 64

    def __post_init__(self) -> None:
        for f in fields(self):
            check_setting(f.name, str(f.type), getattr(self, f.name))
        if self.amortised and (self.pseudo_label_weight or self.inference_chains > 1):
            raise ValueError(
                "amortised inference has neither pseudo labels nor chains: set pseudo_label_weight to 0 and "
                "inference_chains to 1"
            )


def check_setting(name: str, kind: str, value: Any) -> None:
    """ValueError where the setting of that name, declared as `kind`, cannot be `value`."""
    if kind == "bool":
        fits, said = type(value) is bool, "true or false"
    elif kind == "str":
        fits, said = type(value) is str and value in WORDS[name], " or ".join(WORDS[name])
    else:
        kinds, usual = ((int, float), NOT_NEGATIVE) if kind == "float" else ((int,), COUNT)
        said, holds = RANGES.get(name, usual)
        fits = type(value) in kinds and holds(value)
        if kind == "int | None":
            fits, said = fits or value is None, f"{said} or none"
    if not fits:
        raise ValueError(f"the setting {name} cannot be {value!r}; it is {said}")


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as an earlier version wrote them, with the defaults of those that it lacked."""
    return {f.name: f.default for f in fields(DRCConfig) if f.metadata == ADDED} | settings


# The size of image that each budget is made for.
IMAGE_SIZES = {
    "smoke": 16, "quick": 32, "quick-ablation": 32, "cpu-hour": 64, "cpu-hour-ablation": 64, "cpu-evening": 128,
    "gpu": 128, "paper": 128,
}  # fmt: skip

# A variant of Table 2 is the full model with these settings changed.
VARIANT_CHANGES: dict[str, dict] = {
    "full": {},
    "amortised-inference": {  # no LEBM, no y, no chains
        "amortised": True,
        "pseudo_label_weight": 0.0,
        "inference_chains": 1,
    },
    "no-pixel-reassignment": {"reassign": False},
    "no-pseudo-label": {"pseudo_label_weight": 0.0},
    "no-tv": {"tv_weight": 0.0},
    "no-ortho": {"ortho_weight": 0.0},
    "short-run-chain": {"restart": 1.0},
    "responsibilities": {"inference_masks": "responsibilities"},  # not the paper's
    "untuned": {},  # likewise; the only one without `drc-tuned`
}
VARIANTS = tuple(VARIANT_CHANGES)

# The authors' settings for each run; "-split" runs train on the training images alone (Tables 3 and 4).
PAPER_CHANGES: dict[str, dict] = {
    "birds": {},
    "birds-split": {},
    "dogs": {},
    "dogs-split": {"z_bg": 192},
    "cars": {"z_bg": 192},
    "cars-split": {},
    "clevr6": {"z_bg": 2, "z_reassign": 256, "inference_steps": 20_000},
    "tm-dsprites": {"z_bg": 4, "z_reassign": 1024, "inference_steps": 5_000},
}

# Budgets: how far the paper's sizes and lengths are cut down. `paper` cuts nothing.
BUDGET_CHANGES: dict[str, dict] = {
    "paper": {"compiled": True},
    "gpu": {  # the authors' networks
        "posterior_steps": 16, "prior_steps": 20, "train_steps": 600, "train_images": 1_000,
        "sampler_precision": "bfloat16", "compiled": True, "inference_steps": 400, "inference_batch_size": 48,
    },
    "quick": {
        "start": 64, "width": 8, "z_fg": 64, "z_reassign": 512, "posterior_steps": 16, "prior_steps": 20,
        "train_steps": 400, "train_images": 512, "batch_size": 32, "inference_steps": 300,
    },
    "smoke": {
        "start": 8, "width": 4, "z_fg": 8, "z_bg": 4, "z_reassign": 8, "classes": 10,
        "posterior_steps": 2, "prior_steps": 2, "train_steps": 4, "batch_size": 8,
        "inference_steps": 4,
    },
}  # fmt: skip
# Twice as many steps at inference, for which `quick` has no time.
BUDGET_CHANGES["cpu-hour"] = BUDGET_CHANGES["quick"] | {
    "train_steps": 1_200, "train_images": 1_000, "inference_steps": 600,
}  # fmt: skip
# The paper's size of image. It was made for processors that multiply bfloat16 matrices; others take it too, slower.
BUDGET_CHANGES["cpu-evening"] = BUDGET_CHANGES["cpu-hour"] | {
    "posterior_steps": 8, "train_steps": 1_600, "train_images": 512, "sampler_precision": "bfloat16", "compiled": True,
}  # fmt: skip
# For tables of many trainings, a part of the length.
BUDGET_CHANGES["quick-ablation"] = BUDGET_CHANGES["quick"] | {"train_steps": 180}
BUDGET_CHANGES["cpu-hour-ablation"] = BUDGET_CHANGES["cpu-hour"] | {"train_steps": 300}

# The changes `drc-tuned`: how the method departs from the authors' under a budget, found by the trials of
# docs/quick_preset.md. Every variant has it but `untuned`; `smoke` and `paper` have none.
DRC_TUNED: dict[str, dict] = {
    "quick": {
        "posterior_step_size": 0.05, "momentum": 0.8, "temperature": 0.05, "lr_generators": 5e-4, "lr_decay": 0.6,
        "inference_step_size": 0.3, "inference_last_step_size": 0.02, "inference_momentum": 0.9,
        "inference_chains": 4,
    },
}  # fmt: skip
# Four times the pixels, each with a quarter of the weight; chains take larger steps until the background is learned.
DRC_TUNED["cpu-hour"] = DRC_TUNED["quick"] | {
    "pixel_weight": 1 / 4, "posterior_step_size": 0.2, "posterior_step_fall": 0.2,
    "inference_step_size": 0.6, "inference_last_step_size": 0.04,
}  # fmt: skip
DRC_TUNED["cpu-evening"] = DRC_TUNED["cpu-hour"] | {"pixel_weight": 1 / 16}
# Sixteen times the pixels; the authors' networks want the authors' learning rate.
DRC_TUNED["gpu"] = DRC_TUNED["cpu-hour"] | {
    "pixel_weight": 1 / 16,
    "lr_generators": 1e-4,
    "inference_chains": 2,
}
# Half of the work of inference.
DRC_TUNED["quick-ablation"] = DRC_TUNED["quick"] | {"inference_chains": 2}
DRC_TUNED["cpu-hour-ablation"] = DRC_TUNED["cpu-hour"] | {"inference_chains": 2}

# What `drc-tuned` changes further for a data set, and for all whose names start with its own. Where the foreground is
# known to be small (sprites cover 7 % of an image), its mask starts low, so that the background is learned first. Where
# sprites are as grey as the gratings, larger steps at first and the authors' length of z_reassign keep more of them.
# The floor of a scene needs few numbers, and a background that has more paints the things too; with few, both regions
# can paint floor, and masks that start a little low give it to the background.
CPU_BUDGETS = ("quick", "quick-ablation", "cpu-hour", "cpu-hour-ablation", "cpu-evening")
DRC_TUNED_FOR: dict[str, dict[str, dict]] = {
    "clevr6": {budget: {"mask_bias": -1.0, "z_reassign": 32} for budget in CPU_BUDGETS},
    "tm-dsprites": {budget: {"mask_bias": -3.0} for budget in (*CPU_BUDGETS, "gpu")},
    "tm-dsprites-grey": {
        budget: {"posterior_step_size": 0.2, "posterior_step_fall": 0.2, "z_reassign": 1024}
        for budget in ("quick", "quick-ablation")
    },
}

# Of a few hundred photographs, a background of many numbers learns the things by heart too; see docs/quick_preset.md.
SMALL_BACKGROUND = 4  # the largest z_bg under a budget that limits the training images


def called_after(dataset: str, known: Iterable[str]) -> list[str]:
    """The `known` names that a data set has, or that a dash follows in its name, the shortest first."""
    return sorted(name for name in known if f"{dataset}-".startswith(f"{name}-"))


def run_of(dataset: str, split: str) -> str:
    """The authors' run that a training follows: `dogs-split` but for all of the dogs; without one, `dataset` itself."""
    base = next(reversed(called_after(dataset, PAPER_CHANGES)), "")
    return f"{base}-split" if split != "all" and f"{base}-split" in PAPER_CHANGES else dataset


def drc_tuned(preset: str, dataset: str) -> dict[str, Any]:
    """What `drc-tuned` changes of the authors' settings on a data set under a budget; nothing where it has none."""
    changes = dict(DRC_TUNED.get(preset, {}))
    for name in called_after(dataset, DRC_TUNED_FOR):
        changes |= DRC_TUNED_FOR[name].get(preset, {})
    return changes


@lru_cache
def tell_near_name(dataset: str) -> None:
    """Say so, once, where a name that is none of the paper's data sets may be meant as one."""
    plain = PurePath(dataset).name.lower().replace("_", "-")
    near = called_after(plain, PAPER_CHANGES) or get_close_matches(plain, PAPER_CHANGES, n=1, cutoff=0.85)
    if near and near[-1] != "birds":
        log.warning("%r has the settings of birds; those of %s go by that name", dataset, near[-1])


def configure(*, variant: str, preset: str, dataset: str, image_size: int) -> DRCConfig:
    """The settings of `variant` (Table 2) on `dataset` under the budget `preset`, for images of `image_size` pixels.

    A data set the paper does not have is trained with the settings of birds; a variant of a paper's data set, such
    as tm-dsprites-grey, with those of the longest name that it is called after. ValueError names an unknown variant or
    preset.
    """
    for kind, name, known in (("variant", variant, VARIANT_CHANGES), ("preset", preset, BUDGET_CHANGES)):
        if name not in known:
            raise ValueError(f"DRC has no {kind} {name!r}; it has {', '.join(known)}")
    base = next(reversed(called_after(dataset, PAPER_CHANGES)), "")
    if not base:
        base = "birds"
        tell_near_name(dataset)
    tuned = {} if variant == "untuned" else drc_tuned(preset, dataset)
    changes = PAPER_CHANGES[base] | BUDGET_CHANGES[preset] | tuned
    config = replace(DRCConfig(), image_size=image_size, **changes | VARIANT_CHANGES[variant])
    return config if config.train_images is None else replace(config, z_bg=min(config.z_bg, SMALL_BACKGROUND))
