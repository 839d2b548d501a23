"""Networks: encoders, decoders, and what turns features into pixels."""

from tfvae.networks.networks import (
    KNOWN,
    Convolutional,
    Dense,
    Network,
    Residual,
    check_image_shape,
    check_latent_dim,
    check_num_classes,
    conv_decoder,
    conv_encoder,
    default_filters,
    dense_decoder,
    dense_encoder,
    pair,
    residual_decoder,
    residual_encoder,
)

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
