"""A model and its SavedModel, with every signature there is."""

import atexit
import functools
import io
import tempfile
from pathlib import Path

import numpy as np
from components import shaken
from PIL import Image

import tfvae
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.saving.card import Anomaly, Card

SHAPE = (9, 7, 1)
DRAWS = 40


def export(folder, shape=SHAPE, **options):
    """Make a small model, its weights those of no start; return it and its SavedModel's folder."""
    options = {"latent_dim": 3, "likelihood": "normal:scale=learned", "seed": 0} | options
    vae = shaken(tfvae.VAE.for_events(shape, **options), size=0.05)
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
def shared_path():
    """Return the folder of the SavedModel of `shared`."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return export(Path(folder.name))[1]


def shared():
    """Return what `export` returns, exported once for all tests of a process."""
    # The model anew: it would stay in memory with all graphs that tests make of it.
    return tfvae.load(shared_path()), shared_path()


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
