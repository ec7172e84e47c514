"""DRC at the authors' sizes with every weight filled by rule, so that anybody can compute the same numbers.

Parameter k in the order below, flattened, has at element i the value s = sin(12.9898·(i + 1) + 4.1·k), scaled by
1.5 / sqrt(fan-in) for weights, by 0.1 for biases, and 1 + 0.1·s for the scales of norms. The latent vector is
z[b, j] = sin(0.11·j + 1.7·b), the image x[b, c, row, col] = sin(0.05·(c + 1)·col + 0.03·(b + 1)·row + c).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from drc import fast
from drc.config import configure
from drc.model import DRCModel, log_likelihoods, responsibilities
from drc.objectives import generator_terms, posterior_potential, prior_potential, total_variation_sum

CONFIG = configure(variant="full", preset="paper", dataset="tm-dsprites", image_size=128)


def parameters_in_order(model: DRCModel) -> list[tuple[str, Tensor]]:
    """Foreground, background, re-assignment, LEBM; heads before the classifier."""
    named = dict(model.named_parameters())

    def rank(name: str) -> tuple[int, int]:
        region, part = name.split(".")[:2]
        heads = ["fc", *(f"block{k}" for k in range(1, 6)), "content", "mask", "grid", "classifier"]
        if region == "lebm":
            return 3, ("fg", "bg", "reassign").index(part)
        return ("fg", "bg", "reassign").index(region), heads.index(part)

    return sorted(named.items(), key=lambda item: rank(item[0]))


def model_by_rule() -> DRCModel:
    """The model, in double precision."""
    model = DRCModel(CONFIG, seed=None).double()
    with torch.no_grad():
        for k, (name, parameter) in enumerate(parameters_in_order(model)):
            s = torch.sin(12.9898 * torch.arange(1, parameter.numel() + 1, dtype=torch.float64) + 4.1 * k)
            if parameter.ndim > 1:
                values = 1.5 * s / parameter[0].numel() ** 0.5
            else:
                values = 1 + 0.1 * s if name.endswith("norm.weight") else 0.1 * s
            parameter.copy_(values.view_as(parameter))
    return model


def inputs_by_rule() -> tuple[Tensor, Tensor]:
    """z (2, 1284) and images (2, 3, 128, 128), in double precision."""
    b, c = torch.arange(2.0).double(), torch.arange(3.0).double().view(3, 1, 1)
    row, column = torch.arange(128.0).double().view(128, 1), torch.arange(128.0).double()
    z = torch.sin(0.11 * torch.arange(1284.0).double() + 1.7 * b.view(2, 1))
    images = torch.sin(0.05 * (c + 1) * column + 0.03 * (b.view(2, 1, 1, 1) + 1) * row + c)
    return z, images


def outputs(model: DRCModel, z: Tensor, images: Tensor, *, use_fast: bool = False) -> dict[str, Tensor]:
    """Everything the comparison looks at; spatial outputs at every 8th row and column."""
    render: Callable = partial(fast.render, model) if use_fast else model
    z = z.clone().requires_grad_()
    regions, energies = render(z), model.lebm(z)
    log_p = partial(log_likelihoods, regions, images, norm="l1")
    gamma_e = responsibilities(regions.pi, log_p(scale=2 * CONFIG.sigma**2))[:, 0]
    gamma_m = responsibilities(regions.pi, log_p(scale=1.0))[:, 0]
    posterior = posterior_potential(model, render, z, images, CONFIG).sum()
    (grad_posterior,) = torch.autograd.grad(posterior, z, retain_graph=True)
    (grad_prior,) = torch.autograd.grad(prior_potential(model, z).sum(), z)
    terms = generator_terms(model, regions, energies, images, CONFIG)
    assert model.fg.classifier is not None
    assert model.bg.classifier is not None
    assert regions.grid is not None
    spatial = {
        "fg_content": regions.content_fg,
        "bg_content_before": regions.source_bg,
        "bg_content": regions.content_bg,
        "pi_fg": regions.pi[:, :1],
        "gamma_fg_e_step": gamma_e,
        "gamma_fg_m_step": gamma_m,
    }
    found = {name: value[..., ::8, ::8] for name, value in spatial.items()} | {
        "grid": regions.grid[:, ::8, ::8],
        "classifier_fg": model.fg.classifier(regions.content_fg * regions.logit_fg.sigmoid()),
        "classifier_bg": model.bg.classifier(regions.source_bg * regions.source_logit_bg.sigmoid()),
        "lebm_class_fg": energies.classes_fg,
        "lebm_class_bg": energies.classes_bg,
        "lebm_energy": energies.energy,
        "U_posterior": posterior,
        "grad_posterior": grad_posterior,
        "grad_prior": grad_prior,
        "tv_sum": total_variation_sum(regions.content_bg).sum(),
        "m_expected_log_p": -terms.likelihood,
        "m_tv": terms.tv,
        "m_pseudo_fg": terms.pseudo_fg,
        "m_pseudo_bg": terms.pseudo_bg,
        "m_ortho": terms.ortho,
    }
    return {name: value.detach() for name, value in found.items()}


def summary(value: Tensor) -> list[float]:
    """Six numbers that pin an output down: its sum, its norm and four of its elements."""
    flat = value.double().flatten()
    picks = flat[torch.linspace(0, flat.numel() - 1, 4).long()]
    return [flat.sum().item(), flat.norm().item(), *picks.tolist()]
