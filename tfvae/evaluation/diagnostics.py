"""What a VAE's latent space does: which dimensions are used, how far q(z) is from p(z), collapse.

The ELBO averaged over events splits into terms that name what goes wrong, Hoffman and Johnson
(2016), "ELBO surgery":

    ELBO = −distortion − rate
    rate = mean KL(q(z|x) ‖ p(z)) = I(x; z) + KL(q(z) ‖ p(z))

with q(z) = (1/N) Σ_n q(z|x_n) and I(x; z) the mutual information of z with the number n of the
event it is drawn for.
"""

import contextlib
import dataclasses
import json
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count, checked_seed
from tfvae.distributions.kl import factorizes, gaussian_kl, kl_per_dimension
from tfvae.errors import InputError
from tfvae.evaluation.batches import (
    BATCH_SIZE,
    EventData,
    Progress,
    check_vae,
    compiled,
    event_batches,
)
from tfvae.evaluation.estimates import counted, figure, mean_and_error
from tfvae.models.vae import VAE
from tfvae.typing import Tensor

# Burda et al. (2016), section 5.1: a unit is active if its mean has a larger variance over events.
ACTIVE = 0.01
# Draws from p(z) for its mean and variance, where a prior does not tell them.
_PRIOR_DRAWS = 20_000
# Below this rate, in nats an event, z says next to nothing of x.
_LEAST_RATE = 0.1
# Above this KL of q(z) and p(z) in one dimension, taken as Gaussians, in nats, draws from p(z) miss
# the codes.
_MOST_MISMATCH = 3.0
# The mutual information is at most log N: within so many nats of that, it is at its ceiling.
_SATURATED = 0.5


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What `diagnose` found; nats, and means over events. `tfvae.plotting.diagnosis` draws it.

    Attributes:
        events: N, how many events it is about.
        rate: mean KL(q(z|x) ‖ p(z)).
        rate_standard_error: of `rate`, over events.
        distortion: mean −E_q[log p(x|z)].
        distortion_standard_error: of `distortion`, over events.
        activity: variance over events of each dimension's E_q[z], `[d]`.
        kl_per_dimension: mean KL of each dimension, `[d]`, of a hierarchy given the groups above;
            None where posterior or prior do not factorise over dimensions.
        group_sizes: how many dimensions each group of a hierarchy has, topmost first; of other
            models one number, d.
        kl_by_group: mean KL of each group, `[L]`.
        mutual_information: I(x; z) of z and the event it stands for: at most log N.
        marginal_kl: KL(q(z) ‖ p(z)) = rate − mutual_information, of the same events. Where the
            mutual information is at its ceiling log N, the rest of the rate counts here, and the
            figure says nothing of events beyond these.
        pair_events: N of the two figures before, which take the first of the events.
        code_mean: mean of q(z) in each dimension, `[d]`.
        code_std: its standard deviation, `[d]`.
        prior_mean: that of p(z), `[d]`.
        prior_std: the same, `[d]`.
    """

    events: int
    rate: float
    rate_standard_error: float
    distortion: float
    distortion_standard_error: float
    activity: np.ndarray
    kl_per_dimension: np.ndarray | None
    mutual_information: float
    marginal_kl: float
    pair_events: int
    code_mean: np.ndarray
    code_std: np.ndarray
    prior_mean: np.ndarray
    prior_std: np.ndarray
    group_sizes: tuple[int, ...]
    kl_by_group: np.ndarray

    def __repr__(self) -> str:
        rate = figure(self.rate, self.rate_standard_error)
        distortion = figure(self.distortion, self.distortion_standard_error)
        return (
            f"Diagnosis({self.active_units} of {self.latent_dim} units active, rate {rate}, "
            f"distortion {distortion}, I(x; z) {self.mutual_information:.3f}, KL(q(z) || p(z)) "
            f"{self.marginal_kl:.3f} nats; {counted(self.events)})"
        )

    @property
    def latent_dim(self) -> int:
        """How many dimensions z has."""
        return len(self.activity)

    @property
    def active(self) -> np.ndarray:
        """Which dimensions are active units: activity above 0.01, `[d]` of booleans."""
        return self.activity > ACTIVE

    @property
    def active_units(self) -> int:
        """How many."""
        return int(self.active.sum())

    @property
    def active_by_group(self) -> list[int]:
        """How many dimensions of each group are active units, `[L]`."""
        ends = np.cumsum(self.group_sizes)[:-1]
        return [int(part.sum()) for part in np.split(self.active, ends)]

    @property
    def is_saturated(self) -> bool:
        """Whether the mutual information is at log N, and more events would raise it."""
        return self.mutual_information > math.log(self.pair_events) - _SATURATED

    @property
    def mismatch(self) -> np.ndarray:
        """KL of q(z) and p(z) in each dimension as if both were Gaussian, `[d]`, nats.

        It depends on their means and standard deviations alone.
        """
        # Codes that are all the same would have an infinite KL.
        code_std = np.maximum(self.code_std, 1e-15 * self.prior_std)
        code_log_var, prior_log_var = 2 * np.log(code_std), 2 * np.log(self.prior_std)
        return gaussian_kl(self.code_mean, code_log_var, self.prior_mean, prior_log_var).numpy()

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each thing that is wrong."""
        found = []
        if self.rate < _LEAST_RATE or self.active_units == 0:
            found.append(
                f"the posterior has collapsed: z says nothing of x (rate {self.rate:.3f} nats, "
                f"{self.active_units} active units): give the KL less weight at the start "
                "(elbo:beta=linear(steps=...)), or a least rate (free_bits)"
            )
        elif self.active_units <= self.latent_dim / 2:
            found.append(
                f"{self.latent_dim - self.active_units} of {self.latent_dim} latent dimensions "
                "are not used: a smaller latent space would do as well, or free_bits"
            )
        far = np.flatnonzero(self.mismatch > _MOST_MISMATCH)
        if len(far):
            worst = far[np.argmax(self.mismatch[far])]
            found.append(
                "the KL term does nothing: codes lie where the prior has next to no mass in "
                f"{len(far)} of {self.latent_dim} dimensions (z[{worst}]: "
                f"{self.code_mean[worst]:.2g} ± {self.code_std[worst]:.2g}, prior "
                f"{self.prior_mean[worst]:.2g} ± {self.prior_std[worst]:.2g}), and samples will "
                "not look like the data: give the KL more weight, or fit a prior "
                "(tfvae.evaluation.fit_prior)"
            )
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures in lists and numbers, for JSON."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts |= {
            "latent_dim": self.latent_dim,
            "active_units": self.active_units,
            "active": self.active,
            "active_by_group": self.active_by_group,
            "mismatch": self.mismatch,
            "mutual_information_is_saturated": self.is_saturated,
            "warnings": list(self.warnings),
        }
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in facts.items()
        }

    def to_json(self) -> str:
        """Return all figures as JSON."""
        return json.dumps(self.as_dict(), indent=2)


def diagnose(
    vae: VAE,
    data: EventData,
    *,
    num_samples: int = 4,
    pair_limit: int = 1000,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Diagnosis:
    """Say what the latent space of a model does with events.

    Args:
        vae: a built `VAE`.
        data: a split, arrays or batches; see `tfvae.evaluation.batches.event_batches`.
        num_samples: draws of z for each event, 2 or more, for the distortion and what has no closed
            form.
        pair_limit: mutual information and the KL of q(z) weigh each code against the q(z|x) of
            every event: they take the first so many events; of a hierarchy 200 at most, as each
            pair runs its networks.
        seed: of the draws. They depend on how the events come in batches, too.
        batch_size: events encoded at a time, where data does not come in batches.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if a number does not fit, there are no events or only one, they do not fit, or
            q(z|x) has no density.
    """
    checked_count("num_samples", num_samples, least=2)
    checked_count("pair_limit", pair_limit, least=2)
    checked_seed("seed", seed)
    check_vae(vae)

    @compiled
    def look(x: Tensor, label: Tensor | None, seed: Tensor) -> dict[str, Any]:
        terms = vae.terms(x, label, num_samples=num_samples, seed=seed)
        seen = {
            "parameters": vae.posterior_parameters(x, label),
            "log_likelihood": terms.mean_log_likelihood,
            "kl": terms.kl,
            "kl_by_group": terms.kl_by_group,
            "z": terms.z,
        }
        with contextlib.suppress(NotImplementedError):  # a flow has none in closed form
            seen["mean"] = terms.posterior.mean()
        if terms.kl_per_dimension is not None:
            seen["kl_per_dimension"] = terms.kl_per_dimension
        elif factorizes(terms.posterior) and factorizes(terms.prior):
            seen["kl_per_dimension"] = kl_per_dimension(terms.posterior, terms.prior, terms.z)
        return seen

    batches = event_batches(vae, data, batch_size=batch_size)
    found = []
    with Progress(batches, progress) as bar:
        for number, (x, label) in enumerate(batches):
            key = tf.random.experimental.stateless_fold_in([seed, 2], number)
            found.append(tf.nest.map_structure(np.asarray, look(x, label, key)))
            bar.advance(1)
    events = sum(len(part["kl"]) for part in found)
    if events < 2:
        raise InputError(f"a diagnosis needs two events or more; received {events}")

    def joined(name: str, axis: int = 0) -> np.ndarray:
        return np.concatenate([part[name] for part in found], axis=axis).astype("float64")

    z, kl = joined("z", axis=1), joined("kl")
    rate, rate_error = mean_and_error(kl)
    distortion, distortion_error = mean_and_error(-joined("log_likelihood"))
    few = min(events, pair_limit, vae.posterior_family.pair_limit or events)
    parameters = tf.nest.map_structure(
        lambda *parts: np.concatenate(parts)[:few], *[part["parameters"] for part in found]
    )
    information = _mutual_information(vae, parameters, z[0, :few])
    prior_mean, prior_std = _prior_moments(vae)
    return Diagnosis(
        events=events,
        rate=rate,
        rate_standard_error=rate_error,
        distortion=distortion,
        distortion_standard_error=distortion_error,
        activity=joined("mean").var(axis=0, ddof=1) if "mean" in found[0] else _activity(z),
        kl_per_dimension=(
            joined("kl_per_dimension").mean(axis=0) if "kl_per_dimension" in found[0] else None
        ),
        mutual_information=information,
        marginal_kl=float(kl[:few].mean()) - information,
        pair_events=few,
        code_mean=z.mean(axis=(0, 1)),
        code_std=z.std(axis=(0, 1)),
        prior_mean=prior_mean,
        prior_std=prior_std,
        group_sizes=getattr(vae, "group_sizes", (vae.latent_dim,)),
        kl_by_group=joined("kl_by_group").mean(axis=0),
    )


def _activity(z: np.ndarray) -> np.ndarray:
    """Estimate the variance over events of E_q[z] from draws `[K, N, d]`.

    The means of K draws scatter by the variance of q(z|x) over K more than E_q[z] does.
    """
    scatter = z.var(axis=0, ddof=1).mean(axis=0) / len(z)
    return np.maximum(z.mean(axis=0).var(axis=0, ddof=1) - scatter, 0)


def _mutual_information(vae: VAE, parameters: dict[str, np.ndarray], z: np.ndarray) -> float:
    """Estimate I(x; z): the mean of log q(z_n|x_n) − log (1/N) Σ_m q(z_n|x_m).

    Args:
        vae: the model.
        parameters: of the q(z|x) of N events.
        z: a draw from each, `[N, d]`.
    """

    @compiled
    def log_probs(parameters: dict[str, Tensor], z: Tensor) -> Tensor:
        """Return log q(z_i|x_m), `[n, N]`."""
        return vae.posterior_family.distribution(parameters).log_prob(z[:, None])

    events, found = len(z), []
    together = max(1, vae.posterior_family.pairs_at_a_time // events)
    for start in range(0, events, together):
        rows = np.arange(start, min(start + together, events))
        values = log_probs(parameters, tf.constant(z[rows], tf.float32)).numpy().astype("float64")
        own = values[np.arange(len(rows)), rows]
        found.append(own - np.logaddexp.reduce(values, axis=1) + math.log(events))
    return float(np.concatenate(found).mean())


def _prior_moments(vae: VAE) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of p(z) in each dimension, from draws if need be."""
    prior = vae.prior
    try:
        moments = prior.mean(), prior.stddev()
    except NotImplementedError:
        draws = prior.sample(_PRIOR_DRAWS, seed=(0, 0))
        moments = tf.reduce_mean(draws, axis=0), tf.math.reduce_std(draws, axis=0)
    mean, std = (np.asarray(moment, "float64") for moment in moments)
    return mean, std
