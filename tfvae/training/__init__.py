"""Training beside `fit`: a loop of compiled steps, on one device or many, through any crash."""

from tfvae.training.loop import train

__all__ = ["train"]
