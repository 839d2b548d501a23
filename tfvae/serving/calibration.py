"""What score is unusual: the threshold of anomalies."""

from typing import Any

import numpy as np

from tfvae.checks import is_number
from tfvae.errors import InputError
from tfvae.evaluation.batches import event_batches
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.saving.card import Anomaly
from tfvae.serving.signatures import signatures

# One false alarm in a hundred.
DEFAULT_RATE = 0.01


def calibrate(vae: VAE | VQVAE, data: Any, *, rate: float = DEFAULT_RATE) -> Anomaly:
    """Find the score that a share of events is above.

    The score is that of the signature ``anomaly_score``, the negative ELBO in nats. On events like
    those of `data` an alarm is false at about this rate, with a relative error of
    1/sqrt(rate · events); what an event of another kind scores, no threshold can promise: smooth
    images may be more probable than any that a model was trained on (Nalisnick et al. 2019,
    arXiv:1810.09136).

    Args:
        vae: a built `VAE` or `VQVAE`.
        data: events that were not trained on, such as ``data.validation``: a split, arrays or
            batches; see `tfvae.evaluation.batches.event_batches`.
        rate: the share, between 0 and 1.

    Raises:
        InputError: if the rate does not fit, there are too few events for it, or their ELBO is not
            finite.
    """
    if not is_number(rate) or not 0 < rate < 1:
        raise InputError(f"the rate of anomalies lies between 0 and 1; received {rate!r}")
    (scorer,) = (one for one in signatures(vae) if one.name == "anomaly_score")
    scores = np.concatenate(
        [
            scorer.function(x, *([] if label is None else [label]))["score"].numpy()
            for x, label in event_batches(vae, data)
        ]
    )
    if rate * len(scores) < 1:
        raise InputError(
            f"a rate of {rate:g} needs at least {int(np.ceil(1 / rate))} {vae.event_spec.noun} to "
            f"calibrate on; received {len(scores)}"
        )
    if not np.isfinite(scores).all():
        wrong = int((~np.isfinite(scores)).sum())
        raise InputError(
            f"the ELBO of {wrong} of {len(scores)} {vae.event_spec.noun} is not finite: no "
            "threshold can be told"
        )
    return Anomaly(float(np.quantile(scores, 1 - rate)), float(rate), len(scores))
