"""Distributions, their divergences, and the base class of families of them."""

from tfvae.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
