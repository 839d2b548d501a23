"""A trained model and its SavedModel, with every signature there is."""

import atexit
import functools
import io
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import tfvae
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.saving.card import Anomaly, Card

SHAPE = (9, 7, 1)
DRAWS = 40


def export(folder, shape=SHAPE, **options):
    """Train a small model for a moment; return it and the directory of its SavedModel."""
    keras.utils.set_random_seed(0)  # or it is another model each time, by the order of its events
    options = {"latent_dim": 3, "likelihood": "normal:scale=learned", "seed": 0} | options
    vae = tfvae.VAE.for_events(shape, **options)
    vae.compile("adam")
    rng = np.random.default_rng(0)
    x = rng.random((40, *shape)).astype("float32")
    if vae.missing:
        x[rng.random(x.shape) < 0.3] = np.nan
    if vae.num_classes is None:
        vae.fit(x, epochs=2, verbose=0)
    else:
        vae.fit(x, rng.integers(0, vae.num_classes, 40), epochs=2, verbose=0)
    card = Card(
        data={"name": "noise", "licence": "none", "rows": {"train": 40}},
        preprocessing=Preprocessing() if len(shape) == 3 else None,
        metrics={"elbo": -1.0},
        anomaly=Anomaly(30.0, 0.01, 100),
    )
    path = folder / "saved_model"
    vae.export(path, card=card, num_samples=DRAWS)
    return vae, path


@functools.cache
def shared():
    """Return what `export` returns, the same to all tests of a process, which leave it as it is."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return export(Path(folder.name))


def seeds(count, first=0):
    return np.stack([np.full(count, 5), np.arange(first, first + count)], axis=1).astype("int32")


def inputs_for(signature, batch, label=False, shape=SHAPE, latent_dim=3):
    """Make a request of so many images, or of other events."""
    rng = np.random.default_rng(batch)
    name = signature.removesuffix("_png").removesuffix("_uint8")
    form = signature.removeprefix(name).lstrip("_")
    pixels = rng.integers(0, 256, (batch, *shape)).astype("uint8")
    if form == "png":
        images = {"image_bytes": np.array([png(one) for one in pixels], object)}
    elif form == "uint8":
        images = {"images": pixels}
    else:
        images = {"images" if len(shape) == 3 else "x": (pixels / 255).astype("float32")}
    given = {
        "decode": {"z": rng.normal(size=(batch, latent_dim)).astype("float32")},
        "sample": {"seed": seeds(batch)},
        "sample_latent": {"seed": seeds(batch)},
        "interpolate": {
            "start": (pixels / 255).astype("float32"),
            "end": rng.random((batch, *shape)).astype("float32"),
            "weight": rng.random(batch).astype("float32"),
        },
    }
    z = {"z": rng.normal(size=(batch, latent_dim)).astype("float32")}
    for seeded in ("elbo", "log_prob", "impute", "sample_posterior"):
        given[seeded] = images | {"seed": seeds(batch)}
    for joint in ("log_joint", "log_posterior"):
        given[joint] = images | z
    given = given.get(name, images)
    return given | ({"label": np.arange(batch, dtype="int32") % 3} if label else {})


def png(pixels, kind="PNG"):
    """Encode bytes `[H, W, C]` as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, kind)
    return file.getvalue()
