"""Posteriors q(z|x) whose log-density nobody knows, for encoders that put out a list."""

from tensorflow_probability import distributions as tfd

from tfvae.posteriors import Posterior


class Atom(Posterior):
    """A posterior that is one point; it has no density, or says so."""

    def __init__(self, silent):
        super().__init__()
        self.silent = silent

    def call(self, encoder_output):
        return {"loc": encoder_output[0]}

    def distribution(self, parameters):
        if self.silent:
            return tfd.VectorDeterministic(parameters["loc"])
        return NoDensity(parameters["loc"])


class NoDensity(tfd.MultivariateNormalDiag):
    def _log_prob(self, value):
        raise NotImplementedError

    _sample_and_log_prob = None

    def experimental_sample_and_log_prob(self, *args, **kwargs):
        raise NotImplementedError
