"""Encoders and decoders: dense ones for any event, convolutional and residual ones for arrays.

Each function builds a functional `keras.Model` from events to features, or from z `[B, d]` to
features. What the features mean is the families' business: a posterior makes the parameters of
q(z|x) from an encoder's, a likelihood those of p(x|z) from a decoder's.

An event is a vector `[D]`, a series `[T, C]`, an image `[H, W, C]` or a volume `[D, H, W, C]`.
Sides may be odd or differ. A convolutional encoder halves them, rounding up; the decoder doubles
them back and crops where the encoder had rounded.

With `num_classes` a network takes a second input, a label as a one-hot vector `[B, num_classes]`:
see `tfvae.networks.labels`.
"""

from tfvae.networks.checks import (
    check_event_shape,
    check_image_shape,
    check_latent_dim,
    check_num_classes,
)
from tfvae.networks.conv import conv_decoder, conv_encoder
from tfvae.networks.dense import dense_decoder, dense_encoder
from tfvae.networks.names import BY_NAME, Convolutional, Dense, Network, Residual, pair
from tfvae.networks.residual import residual_decoder, residual_encoder
from tfvae.networks.sides import default_filters

__all__ = [
    "BY_NAME",
    "Convolutional",
    "Dense",
    "Network",
    "Residual",
    "check_event_shape",
    "check_image_shape",
    "check_latent_dim",
    "check_num_classes",
    "conv_decoder",
    "conv_encoder",
    "default_filters",
    "dense_decoder",
    "dense_encoder",
    "pair",
    "residual_decoder",
    "residual_encoder",
]
