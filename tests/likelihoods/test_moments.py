"""Mean and spread of data, some events at a time."""

import tracemalloc

import numpy as np
import pytest

from tfvae.likelihoods import moments


def with_holes(rng, shape):
    x = rng.normal(3, 2, shape).astype("float32")
    x[rng.random(shape) < 0.2] = np.nan
    x[:, 1, 0] = np.nan
    return x


@pytest.mark.parametrize("values", [1, 40, 2**20])
def test_moments_are_of_what_was_observed(values, monkeypatch, rng):
    monkeypatch.setattr(moments, "_VALUES", values)
    x = with_holes(rng, (50, 5, 2))
    channel = np.nanmean(x.astype("float64"), axis=(0, 1))
    np.testing.assert_allclose(moments.pooled_mean(x, by_channel=True), channel)
    np.testing.assert_allclose(moments.pooled_mean(x, by_channel=False), np.nanmean(x, dtype="f8"))
    spread = np.sqrt(np.nanmean((x - channel) ** 2, axis=(0, 1)))
    np.testing.assert_allclose(moments.spread_of_channels(x), spread)
    mean = moments.observed_mean(x)
    # Nowhere observed: the channel's mean.
    np.testing.assert_allclose(mean[1, 0], channel[0])
    x, mean = np.delete(x, 1, axis=1), np.delete(mean, 1, axis=0)
    np.testing.assert_allclose(mean, np.nanmean(x.astype("float64"), axis=0))
    variance = np.nanvar(x.astype("float64"), axis=0)
    np.testing.assert_allclose(moments.observed_mean(x, mean), variance)


def test_large_events_are_not_copied_whole(rng):
    x = rng.random((128, 64, 64, 32), np.float32)
    tracemalloc.start()
    spread = moments.spread_of_channels(x, moments.observed_mean(x))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # That of a uniform distribution, about the means of 128 at each place.
    np.testing.assert_allclose(spread, np.sqrt(127 / 128 / 12), rtol=0.01)
    assert peak < x.nbytes
