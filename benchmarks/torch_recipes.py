"""The small VAE of recipes.py in PyTorch, and by pythae's trainer; run by training.py.

    PYTHON benchmarks/torch_recipes.py NAME IMAGES.npz EPOCHS [--straight]

Needs torch and pythae, and nothing of this package. `IMAGES.npz` holds `train` and `test`, bytes.
"""

import sys
import tempfile

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from turns import Straight, Turns, say

LATENT_DIM = 2
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Encoder(nn.Module):
    """Two strided convolutions, a dense layer, and the two heads."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(7 * 7 * 64, 16), nn.ReLU(),
        )  # fmt: skip
        self.loc, self.log_var = nn.Linear(16, LATENT_DIM), nn.Linear(16, LATENT_DIM)

    def forward(self, x):
        """Give the parameters of q(z|x)."""
        x = self.features(x)
        return self.loc(x), self.log_var(x)


class Decoder(nn.Module):
    """A dense layer and three transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(LATENT_DIM, 7 * 7 * 64), nn.ReLU())
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(64, 64, 3, 2, 1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, z):
        """Give the logits of the pixels."""
        return self.layers(self.dense(z).reshape(-1, 64, 7, 7))


def plain_torch(train, epochs, hooks):
    """Train by the loop that everybody writes."""
    encoder, decoder = Encoder().to(DEVICE), Decoder().to(DEVICE)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(weights, LEARNING_RATE)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(train), BATCH_SIZE, shuffle=True
    )
    for _ in range(epochs):
        hooks.begin()
        total = 0.0
        for (batch,) in loader:
            x = batch.to(DEVICE)
            loc, log_var = encoder(x)
            z = loc + torch.exp(0.5 * log_var) * torch.randn_like(loc)
            cross_entropy = functional.binary_cross_entropy_with_logits(
                decoder(z), x, reduction="sum"
            )
            kl = 0.5 * (loc.square() + log_var.exp() - 1 - log_var).sum()
            loss = (cross_entropy + kl) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        hooks.end()
    return encoder, decoder


def pythae_trainer(train, epochs, hooks):
    """Train by pythae's `BaseTrainer`."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class OwnEncoder(BaseEncoder):
        def __init__(self):
            BaseEncoder.__init__(self)
            self.inner = Encoder()

        def forward(self, x):
            loc, log_var = self.inner(x)
            return ModelOutput(embedding=loc, log_covariance=log_var)

    class OwnDecoder(BaseDecoder):
        def __init__(self):
            BaseDecoder.__init__(self)
            self.inner = Decoder()

        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(self.inner(z)))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT_DIM, reconstruction_loss="bce")
    model = VAE(config, OwnEncoder(), OwnDecoder())
    trainer = BaseTrainer(
        model,
        BaseDataset(train, torch.zeros(len(train))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            num_epochs=epochs,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
        ),
    )
    trainer.prepare_training()
    # Its `train` also copies the model and writes files; an epoch alone is what it is quickest at.
    for epoch in range(1, epochs + 1):
        hooks.begin()
        trainer.train_step(epoch)
        hooks.end()
    return model.encoder.inner, model.decoder.inner


RECIPES = {"PyTorch": plain_torch, "pythae": pythae_trainer}


@torch.no_grad()
def mean_elbo(encoder, decoder, x, draws=4):
    """Estimate the mean ELBO of binary images, as recipes.py does."""
    random = np.random.default_rng(0)
    total = 0.0
    for batch in x.split(500):
        images = batch.to(DEVICE)
        loc, log_var = encoder(images)
        total -= float(0.5 * (loc.square() + log_var.exp() - 1 - log_var).sum())
        for _ in range(draws):
            epsilon = torch.tensor(random.standard_normal(loc.shape), dtype=loc.dtype).to(DEVICE)
            logits = decoder(loc + torch.exp(0.5 * log_var) * epsilon)
            cross_entropy = functional.binary_cross_entropy_with_logits(
                logits, images, reduction="sum"
            )
            total -= float(cross_entropy) / draws
    return total / len(x)


def main():
    """Train in turns; or straight on, and give seconds and the test images' ELBO."""
    name, path, epochs, *straight = sys.argv[1:]
    torch.manual_seed(0)
    images = np.load(path)
    train, test = (
        torch.tensor(np.moveaxis(images[split], -1, 1), dtype=torch.float32)
        for split in ("train", "test")
    )
    hooks = Straight() if straight else Turns()
    trained = RECIPES[name](train, int(epochs), hooks)
    if straight:
        say({"seconds": hooks.seconds, "elbo": mean_elbo(*trained, test)})


if __name__ == "__main__":
    main()
