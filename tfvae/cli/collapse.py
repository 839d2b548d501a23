"""Posterior collapse: what to say of it at the end of a training, and what to do about it."""

import re

from tfvae.saving.config import TrainConfig

# Below this KL in nats an event, z says next to nothing of x.
_LEAST_KL = 1.0


def collapse_warnings(
    kl: float, active: int, latent_dim: int, config: TrainConfig
) -> tuple[str, ...]:
    """Return a line if the posterior has collapsed onto the prior, with an option that cures it.

    Args:
        kl: mean KL(q(z|x) ‖ p(z)) of test events, nats.
        active: how many latent dimensions are used.
        latent_dim: of how many.
        config: the options of the training.
    """
    if kl >= _LEAST_KL and active > 0:
        return ()
    return (
        f"the posterior has collapsed: z says next to nothing of x (KL {kl:.2f} nats, {active} of "
        f"{latent_dim} latent dimensions in use), and samples are all alike: train again with "
        f"{_cure(config)}",
    )


def _cure(config: TrainConfig) -> str:
    """Return the options that are likely to help in this run."""
    name, _, options = (config.likelihood or "").partition(":")
    scale = re.search(r"scale=([\d.e+-]+)", options)
    if name in ("normal", "laplace", "logistic", "student_t") and (scale or not options):
        fixed = scale[1] if scale else "1"
        return (
            f"--likelihood {name}:scale=learned, as a scale of {fixed} takes all that z could tell "
            "for noise"
        )
    objective = config.objective or "elbo"
    beta = re.search(r"beta=([\d.]+)", objective)
    if beta and float(beta[1]) > 1:
        return f"--objective elbo, as beta={beta[1]} makes what z tells too dear"
    if objective.partition(":")[0] == "elbo":
        return "--objective free_bits:nats=0.5, which asks each latent dimension for so much"
    return "--objective elbo and more --epochs"
