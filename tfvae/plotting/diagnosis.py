"""The picture of a latent space's diagnosis."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from tfvae.plotting.figure import Shown

if TYPE_CHECKING:
    from tfvae.evaluation.diagnostics import Diagnosis


# Latent dimensions that have room for their numbers.
_NUMBERED = 128


def diagnosis(found: "Diagnosis") -> Figure:
    """Draw what `tfvae.evaluation.diagnose` found, dimension by dimension.

    Above the KL of each latent dimension, the largest first, or its activity where posterior or
    prior do not factorise; below where the codes lie in it, and where the prior does.

    Args:
        found: the diagnosis.
    """
    by_kl = found.kl_per_dimension is not None
    heights = found.activity if found.kl_per_dimension is None else found.kl_per_dimension
    order = np.argsort(-heights)
    positions = np.arange(found.latent_dim)
    # Of more dimensions nobody could read the numbers.
    width = 0.32 * min(found.latent_dim, _NUMBERED)
    figure = Shown(figsize=(max(7, width), 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    colours = np.where(found.active[order], "C0", "0.75")
    upper.bar(positions, heights[order], color=colours)
    upper.set_ylabel("KL, nats" if by_kl else "variance of E[z|x]")
    parts = (
        f"I(x; z) at its ceiling, log {found.pair_events}"
        if found.is_saturated
        else f"I(x; z) {found.mutual_information:.2f}, KL(q(z) ‖ p(z)) {found.marginal_kl:.2f}"
    )
    groups = ""
    if len(found.group_sizes) > 1:
        groups = f" ({' + '.join(f'{kl:.2f}' for kl in found.kl_by_group)})"
    upper.set_title(
        f"{found.active_units} of {found.latent_dim} units active (grey: not)\n"
        f"rate {found.rate:.2f}{groups}, distortion {found.distortion:.2f} nats; {parts}",
        fontsize=10,
    )
    for offset, mean, std, colour, name in (
        (-0.15, found.code_mean, found.code_std, "C0", "q(z)"),
        (0.15, found.prior_mean, found.prior_std, "C1", "p(z)"),
    ):
        lower.errorbar(
            positions + offset, mean[order], 2 * std[order], color=colour, fmt="o", ms=3, label=name
        )
    lower.set(xlabel="latent dimension", ylabel="mean ± 2 std")
    if found.latent_dim <= _NUMBERED:
        lower.set_xticks(positions, order, fontsize=7 if found.latent_dim > 24 else 9)
    else:
        lower.set_xticks([])
    lower.legend(fontsize=8, ncols=2)
    if found.warnings:
        figure.supxlabel("\n".join(map(_wrapped, found.warnings)), fontsize=8, color="C3")
    return figure


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 95)
