"""What the page explores: a model behind a small protocol, and images to explore it with."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfvae.checks import is_number
from tfvae.distributions.kl import factorizes, kl_per_dimension
from tfvae.errors import InputError
from tfvae.saving.config import DataOptions

if TYPE_CHECKING:
    from tfvae.datasets.options import PictureOptions
    from tfvae.models.vae import VAE
    from tfvae.models.vq import VQVAE
    from tfvae.saving.run import TrainedModel

# Draws of z that the ELBO of an image is averaged over.
ELBO_DRAWS = 16
# Images to explore with; of large ones fewer, as all are encoded and decoded at once.
_MOST_IMAGES = 1000
_MOST_PIXELS = 2**22


class Score(NamedTuple):
    """The ELBO of one image and its terms, in nats."""

    elbo: float
    log_likelihood: float
    kl: float
    kl_per_dimension: np.ndarray | None  # [d]; None where q or p does not factorise


class ImageModel(Protocol):
    """What examples need of a model of images: arrays in, arrays out.

    Attributes:
        image_shape: `(H, W, C)`.
        num_classes: labels of a conditional model, or None. Labels `[B]` are given to such a model
            alone, and None to others.
    """

    image_shape: tuple[int, int, int]
    num_classes: int | None

    def code(self, x: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Return the codes `[B, d]` that stand for images `[B, H, W, C]`."""

    def decode(self, z: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Return the mean images `[B, H, W, C]` of codes `[B, d]`."""

    def draw(self, n: int, label: np.ndarray | None, seed: int) -> np.ndarray:
        """Draw codes `[n, d]` from the prior."""

    def draw_images(self, n: int, label: np.ndarray | None, seed: int) -> Any:
        """Draw codes `[n, d]` from the prior, and images `[n, H, W, C]` from p(x|z)."""


class LatentModel(ImageModel, Protocol):
    """A model as the page of latent vectors sees it, float32.

    Attributes:
        latent_dim: d.
    """

    latent_dim: int

    def elbo(self, x: np.ndarray, label: np.ndarray | None, seed: int) -> Score:
        """Score one image, `[1, H, W, C]`.

        Raises:
            InputError: if it has values that the model has no density for.
        """

    def admitted(self, x: np.ndarray) -> np.ndarray:
        """Return the images of [0, 1] nearest to `x` that the model takes, the same shape."""


class CompiledVAE:
    """A `VAE` whose functions are traced once, for any number of images.

    Args:
        vae: a built `VAE` of images.
        dequantized: whether it was trained on bytes with noise, (b + u) / 256.

    Raises:
        InputError: if its events are no images.
    """

    def __init__(self, vae: "VAE", *, dequantized: bool = False):
        check_images(vae)
        height, width, channels = vae.event_shape
        self.image_shape = (height, width, channels)
        self.latent_dim: int = vae.latent_dim
        self.num_classes: int | None = vae.num_classes
        self._vae = vae
        self._dequantized = dequantized
        labels = [] if vae.num_classes is None else [tf.TensorSpec((None,), tf.int32)]
        images = tf.TensorSpec((None, *self.image_shape), tf.float32)
        z = tf.TensorSpec((None, vae.latent_dim), tf.float32)

        def decode(z: tf.Tensor, label: Any = None) -> tf.Tensor:
            return vae.likelihood_family.mean(vae.decode(z, label))

        def score(x: tf.Tensor, seed: tf.Tensor, label: Any = None) -> dict[str, tf.Tensor]:
            terms = vae.terms(x, label, num_samples=ELBO_DRAWS, seed=seed)
            found = {
                "elbo": terms.elbo,
                "log_likelihood": terms.mean_log_likelihood,
                "kl": terms.kl,
            }
            if terms.kl_per_dimension is not None:
                found["kl_per_dimension"] = terms.kl_per_dimension
            elif factorizes(terms.posterior) and factorizes(terms.prior):
                found["kl_per_dimension"] = kl_per_dimension(terms.posterior, terms.prior, terms.z)
            return found

        # Traced here: requests come in several threads, and the first must not wait for it.
        self._code = tf.function(vae.code, [images, *labels]).get_concrete_function()
        self._decode = tf.function(decode, [z, *labels]).get_concrete_function()
        seed = tf.TensorSpec((), tf.int32)
        self._score = tf.function(score, [images, seed, *labels]).get_concrete_function()

    def _labels(self, label: np.ndarray | None) -> list[tf.Tensor]:
        return [] if label is None else [tf.constant(label, tf.int32)]

    def code(self, x: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Return the codes of images."""
        return self._code(tf.constant(x, tf.float32), *self._labels(label)).numpy()

    def decode(self, z: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Return the mean of p(x|z)."""
        return self._decode(tf.constant(z, tf.float32), *self._labels(label)).numpy()

    def draw(self, n: int, label: np.ndarray | None, seed: int) -> np.ndarray:
        """Draw z from p(z), as `VAE.sample` does."""
        return self.draw_images(n, label, seed)[0]

    def draw_images(
        self, n: int, label: np.ndarray | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw z from p(z), and x from p(x|z)."""
        x, z, _ = self._vae.sample_joint(n, label=label, seed=seed)
        return z.numpy(), x.numpy()

    def elbo(self, x: np.ndarray, label: np.ndarray | None, seed: int) -> Score:
        """Score one image with `ELBO_DRAWS` draws of z."""
        self._vae.checked(x, label)
        found = self._score(tf.constant(x, tf.float32), tf.constant(seed), *self._labels(label))
        each = found.get("kl_per_dimension")
        elbo, log_likelihood, kl = (
            float(found[name][0]) for name in ("elbo", "log_likelihood", "kl")
        )
        return Score(elbo, log_likelihood, kl, None if each is None else each[0].numpy())

    def admitted(self, x: np.ndarray) -> np.ndarray:
        """Round to the levels of a discrete likelihood; put dequantized bytes amid their cells."""
        support = self._vae.likelihood_family.support
        if self._dequantized:
            return (np.round(255 * x) + np.float32(0.5)) / np.float32(256)
        if support.step is None:
            return x
        levels = np.round((x - support.low) / support.step) * support.step + support.low
        return levels.astype(np.float32)


def check_images(vae: "VAE | VQVAE") -> None:
    """Check that the page can show a model.

    Raises:
        InputError: if its events are no images.
    """
    spec = vae.event_spec
    if spec.rank != 3:
        raise InputError(
            f"tfvae explore shows images and tables; this model's events are {spec.noun} "
            f"{spec.shape}: use tfvae sample or tfvae reconstruct"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Images that the page shows the model at work on.

    Attributes:
        name: what they are, in the plural.
        images: `[N, H, W, C]`, at least one.
        labels: `[N]`, or None.
        codes: codes `[N, d]` that stand for them.
        binarized: whether the pixels of the model's images are 0 and 1 alone.
        pictures: how the picture files were read that the model's images come from, None where
            they come from none.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    codes: np.ndarray
    binarized: bool = False
    pictures: "PictureOptions | None" = None

    @classmethod
    def of_run(
        cls, trained: "TrainedModel", model: ImageModel, data: DataOptions | None = None
    ) -> "Examples":
        """Take validation images of a run; or the model's own samples where there is no run.

        Args:
            trained: the model, and the options of its run if they are beside it.
            model: the same as the page sees it.
            data: which images, where they are not those of the run.

        Raises:
            InputError: if the images cannot be read, or do not fit the model.
        """
        options = DataOptions() if data is None else data
        if trained.config is None and options.dataset is None:
            return cls.drawn(model)
        found = trained.data(options)
        split = found.validation.subset(most_images(model))
        images, labels = split.arrays()
        conditions = None if model.num_classes is None else labels
        return cls(
            f"validation images of {Path(found.name).name}",
            images,
            labels,
            model.code(images, conditions),
            binarized=split.binarize != "none",
            pictures=split.source.pictures,
        )

    @classmethod
    def drawn(cls, model: ImageModel, seed: int = 0) -> "Examples":
        """Draw images from the model itself."""
        n = most_images(model)
        labels = None if model.num_classes is None else np.arange(n) * model.num_classes // n
        codes, images = model.draw_images(n, labels, seed)
        return cls("samples of the model", images, labels, codes)

    def condition(self, model: ImageModel, rows: Any) -> np.ndarray | None:
        """Return the labels of some images where the model takes labels."""
        if model.num_classes is None or self.labels is None:
            return None
        return self.labels[rows]

    def row(self, number: Any) -> int:
        """Check the number of an image.

        Raises:
            InputError: if there is none.
        """
        last = len(self.images) - 1
        if not (is_number(number) and 0 <= number <= last and number == int(number)):
            received = "none" if number is None else number
            raise InputError(f"the {self.name} have numbers from 0 to {last}; received {received}")
        return int(number)

    def most_active(self, model: ImageModel, most: int = 8) -> list[int]:
        """Return the latent dimensions whose codes vary most over the images, in that order.

        The codes of an unused dimension are all the same.
        """
        codes = model.code(self.images, self.condition(model, slice(None)))
        return [int(dimension) for dimension in np.argsort(-codes.var(axis=0))[:most]]


def most_images(model: ImageModel) -> int:
    """Count the images to explore a model with."""
    return max(1, min(_MOST_IMAGES, _MOST_PIXELS // math.prod(model.image_shape[:2])))
