"""What each value adds to an anomaly score."""

import numpy as np
import pytest

import tfvae
from tfvae.errors import InputError
from tfvae.evaluation import score_by_value
from tfvae.likelihoods import Columns


def table_model():
    columns = Columns({"a": "normal:scale=learned", "b": "bernoulli", "c": "normal:scale=learned"})
    return tfvae.VAE.for_events(
        (3,), latent_dim=2, network="dense:hidden=8", likelihood=columns, missing=True, seed=0
    )


def test_shares_sum_to_the_log_likelihood_and_are_nothing_of_a_hole(rng):
    vae = table_model()
    x = np.stack([rng.normal(size=9), rng.integers(0, 2, 9), rng.normal(size=9)], 1).astype("f4")
    x[2, 0] = x[3, 1] = np.nan
    found = score_by_value(vae, x, num_samples=7, seed=3)
    z = vae.encode(x).sample(7, seed=(3, 0))
    expected = -np.mean(vae.log_likelihood(x, z), axis=0)
    np.testing.assert_allclose(found.sum(axis=1), expected, rtol=1e-5, atol=1e-5)
    assert found[2, 0] == found[3, 1] == 0


def test_the_value_that_is_odd_has_the_largest_share(rng):
    vae = table_model()
    x = np.stack([rng.normal(size=9), np.ones(9), rng.normal(size=9)], 1).astype("float32")
    odd = x.copy()
    odd[:, 2] += 30
    above = score_by_value(vae, odd) - np.median(score_by_value(vae, x), axis=0)
    assert (above.argmax(axis=1) == 2).all()


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [(5, 2), (4, 4, 1)], ids=["series", "images"])
def test_events_of_other_shapes_and_labels(shape, rng):
    vae = tfvae.VAE.for_events(
        shape, latent_dim=2, network="dense:hidden=8", num_classes=3, seed=0, likelihood="normal"
    )
    x, label = rng.random((6, *shape), np.float32), np.arange(6) % 3
    found = score_by_value(vae, x, label, num_samples=2)
    assert found.shape == x.shape
    assert np.isfinite(found).all()
    with pytest.raises(InputError, match="label"):
        score_by_value(vae, x)
