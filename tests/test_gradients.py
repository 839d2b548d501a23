"""Gradients of E_q[f(z)] by the parameters of q = N(μ, exp λ), through draws of z."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfvae.distributions.normal import LogVarianceNormal
from tfvae.posteriors import DiagonalNormal

EPS = float(np.finfo(np.float32).eps)
DRAWS = 100_000

LOC = np.array([0.8, -0.5])
LOG_VAR = np.array([-0.7, 0.4])
VARIANCE = np.exp(LOG_VAR)

MATRIX = np.array([[1.0, 0.6], [-0.2, -0.8]])
VECTOR = np.array([0.5, -1.5])
RATE = np.array([0.7, -0.4])


@dataclasses.dataclass(frozen=True)
class Case:
    """f(z) for rows of z, and the gradient of E_q[f(z)] by μ and by λ in closed form."""

    function: Callable
    by_loc: np.ndarray
    by_log_var: np.ndarray


def quadratic(z, q):
    matrix = tf.constant(MATRIX, tf.float32)
    return tf.reduce_sum(z * (z @ tf.transpose(matrix) + tf.constant(VECTOR, tf.float32)), -1)


def exponential(z, q):
    return tf.reduce_sum(tf.exp(tf.constant(RATE, tf.float32) * z), -1)


def cosine(z, q):
    return tf.reduce_sum(tf.cos(z), -1)


def log_ratio(z, q):
    return tf.reduce_sum(q.log_prob(z) - tfd.Normal(0.0, 1.0).log_prob(z), -1)


EXPONENTIAL_MEAN = np.exp(RATE * LOC + 0.5 * RATE**2 * VARIANCE)
DAMPING = np.exp(-0.5 * VARIANCE)

CASES = {
    # E[zᵀ A z + bᵀ z] = tr(A S) + μᵀ A μ + bᵀ μ
    "quadratic": Case(quadratic, (MATRIX + MATRIX.T) @ LOC + VECTOR, np.diag(MATRIX) * VARIANCE),
    # E[exp(a z)] = exp(a μ + ½ a² σ²)
    "exponential": Case(
        exponential, RATE * EXPONENTIAL_MEAN, 0.5 * RATE**2 * VARIANCE * EXPONENTIAL_MEAN
    ),
    # E[cos z] = cos(μ) exp(−½ σ²)
    "cosine": Case(cosine, -np.sin(LOC) * DAMPING, -0.5 * VARIANCE * np.cos(LOC) * DAMPING),
    # E[log q(z) − log p(z)] = KL(q ‖ N(0, I)) = ½ Σ [exp λ − 1 − λ + μ²]
    "kl": Case(log_ratio, LOC, 0.5 * (VARIANCE - 1)),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def rows():
    """μ and λ repeated, one row a draw, so that each draw has a gradient of its own."""
    return (tf.constant(np.tile(value, (DRAWS, 1)), tf.float32) for value in (LOC, LOG_VAR))


def reparameterised(case, seed):
    """The gradient of f(z) itself, z a function of the parameters: `[draws, 2 d]`."""
    loc, log_var = rows()
    with tf.GradientTape() as tape:
        tape.watch((loc, log_var))
        q = LogVarianceNormal(loc, log_var)
        value = tf.reduce_sum(case.function(q.sample(seed=seed), q))
    return np.concatenate(tape.gradient(value, (loc, log_var)), axis=1).astype(np.float64)


def score_function(case, seed):
    """f(z) times the gradient of log q(z), z held fixed: `[draws, 2 d]`.

    Where f depends on the parameters itself, as log q does, the gradient it has by them with z
    fixed has expectation 0.
    """
    loc, log_var = rows()
    q = LogVarianceNormal(loc, log_var)
    z = q.sample(seed=seed)
    value = case.function(z, q)
    with tf.GradientTape() as tape:
        tape.watch((loc, log_var))
        log_prob = tf.reduce_sum(LogVarianceNormal(loc, log_var).log_prob(tf.stop_gradient(z)))
    score = np.concatenate(tape.gradient(log_prob, (loc, log_var)), axis=1)
    return value.numpy()[:, None].astype(np.float64) * score


def estimate(gradients):
    """The mean over draws and its standard error."""
    return gradients.mean(0), gradients.std(0, ddof=1) / np.sqrt(len(gradients))


def exact(case):
    return np.concatenate([case.by_loc, case.by_log_var])


def test_reparameterised_gradient_is_the_closed_forms(case):
    mean, error = estimate(reparameterised(case, seed=(1, 2)))
    assert np.all(np.abs(mean - exact(case)) <= 4 * error)
    # The bars are narrow enough to tell a gradient from none, and from one of half the size.
    assert np.max(np.abs(exact(case)) / error) > 50


def test_score_function_estimate_agrees(case):
    mean, error = estimate(reparameterised(case, seed=(1, 2)))
    score, score_error = estimate(score_function(case, seed=(3, 4)))
    assert np.all(np.abs(score - exact(case)) <= 4 * score_error)
    assert np.all(np.abs(score - mean) <= 4 * np.hypot(error, score_error))


def test_reparameterised_gradient_has_the_smaller_variance():
    # Why the model uses it.
    path = reparameterised(CASES["quadratic"], seed=(1, 2)).var(0)
    score = score_function(CASES["quadratic"], seed=(3, 4)).var(0)
    assert np.all(path < score)


def test_gradient_through_several_draws_of_a_batch_is_the_mean_of_each(rng):
    # Exact: by μ it is mean_k f'(z_k), by λ mean_k f'(z_k) ½ (z_k − μ).
    loc, log_var = (tf.constant(v, tf.float32) for v in rng.normal(size=(2, 3, 4)))
    with tf.GradientTape() as tape:
        tape.watch((loc, log_var))
        q = DiagonalNormal().distribution({"loc": loc, "log_var": log_var})
        z = q.sample(7, seed=(5, 6))
        value = tf.reduce_mean(tf.reduce_sum(z**3, (1, 2)))
    assert z.shape == (7, 3, 4)
    slope = 3 * np.square(z.numpy().astype(np.float64))
    by_loc, by_log_var = tape.gradient(value, (loc, log_var))
    # Seven terms of either sign, each good to a few roundings.
    half_step = 0.5 * (z.numpy() - loc.numpy())
    size = (slope * (1 + np.abs(z) + np.abs(loc))).mean(0)
    assert np.all(np.abs(by_loc - slope.mean(0)) <= 10 * EPS * size)
    assert np.all(np.abs(by_log_var - (slope * half_step).mean(0)) <= 10 * EPS * size)


def test_gradient_of_the_closed_form_kl_is_the_score_functions():
    # The KL that the model uses, against an estimate that shares nothing with it but log q.
    case = CASES["kl"]
    loc, log_var = tf.constant(LOC, tf.float32), tf.constant(LOG_VAR, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch((loc, log_var))
        kl = tf.reduce_sum(tfd.kl_divergence(LogVarianceNormal(loc, log_var), tfd.Normal(0.0, 1.0)))
    gradient = np.concatenate(tape.gradient(kl, (loc, log_var)))
    np.testing.assert_allclose(gradient, exact(case), rtol=10 * EPS)
    score, error = estimate(score_function(case, seed=(3, 4)))
    assert np.all(np.abs(score - gradient) <= 4 * error)
