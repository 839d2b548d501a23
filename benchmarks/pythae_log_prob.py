"""The other side of log_prob.py, run by it: pythae's `get_nll` on the same small networks.

Needs pythae and torch, and nothing of this package.
"""

import sys
import time
from importlib.metadata import version

import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import nn


class Encoder(BaseEncoder):
    """Two strided convolutions, a dense layer, and the two heads."""

    def __init__(self):
        BaseEncoder.__init__(self)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(7 * 7 * 64, 16), nn.ReLU(),
        )  # fmt: skip
        self.loc, self.log_var = nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x):
        """Give the parameters of q(z|x)."""
        x = self.layers(x)
        return ModelOutput(embedding=self.loc(x), log_covariance=self.log_var(x))


class Decoder(BaseDecoder):
    """A dense layer and three transposed convolutions."""

    def __init__(self):
        BaseDecoder.__init__(self)
        self.dense = nn.Sequential(nn.Linear(2, 7 * 7 * 64), nn.ReLU())
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(64, 64, 3, 2, 1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 3, 1, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, z):
        """Give the means of the pixels."""
        return ModelOutput(reconstruction=self.layers(self.dense(z).reshape(-1, 64, 7, 7)))


def main():
    """Answer each line on standard input with decodes a second."""
    num_samples, images = map(int, sys.argv[1:])
    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=2, reconstruction_loss="bce")
    model = VAE(config, Encoder(), Decoder()).eval()
    x = (torch.rand(images, 1, 28, 28) < 0.2).float()
    batch_size = 250  # the fastest of 50, 100 (its default), 250 and 500
    print(f"pythae {version('pythae')} with PyTorch {version('torch')}", flush=True)
    with torch.no_grad():
        model.get_nll(x[:1], num_samples, batch_size)
        for _ in sys.stdin:
            begun = time.perf_counter()
            model.get_nll(x, num_samples, batch_size)
            print(images * num_samples / (time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    main()
