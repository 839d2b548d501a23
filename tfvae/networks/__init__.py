"""Encoders and decoders: convolutional, residual and dense, for images of any size.

Each function gives a functional `keras.Model` from images `[B, H, W, C]` to features, or from z
`[B, d]` to features. What the features mean is the families' business: a posterior makes the
parameters of q(z|x) from an encoder's, a likelihood those of p(x|z) from a decoder's.

Height and width may be odd or differ. An encoder halves them, rounding up; the decoder doubles
them back and crops where the encoder had rounded.

With `num_classes` a network takes a second input, a label as a one-hot vector `[B, num_classes]`:
an encoder sees it as one more channel, a learned picture of the label, and a decoder as more
dimensions of z.
"""

from tfvae.networks.checks import check_image_shape, check_latent_dim, check_num_classes
from tfvae.networks.conv import conv_decoder, conv_encoder, default_filters
from tfvae.networks.dense import dense_decoder, dense_encoder
from tfvae.networks.names import KNOWN, Convolutional, Dense, Network, Residual, pair
from tfvae.networks.residual import residual_decoder, residual_encoder

__all__ = [
    "KNOWN",
    "Convolutional",
    "Dense",
    "Network",
    "Residual",
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
