"""What the page of a model with codes shows: a `VQVAE`, arrays in and out, and its codes drawn."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfvae.app import views
from tfvae.app.explorable import Examples, check_images
from tfvae.models.vq import perplexity_of

if TYPE_CHECKING:
    from tfvae.models.vq import VQVAE

_MOST_BARS = 16
_MAP_SIZE = 360


class Bound(NamedTuple):
    """The bound of one image and its terms, in nats."""

    bound: float
    log_likelihood: float
    log_prior: float


class CodeModel:
    """A `VQVAE` of images whose functions are traced once; codes are int32 `[B, T]`, all in a row.

    Args:
        vq: a built `VQVAE` of images.

    Attributes:
        image_shape: `(H, W, C)`.
        places: rows and columns of the map of codes.
        depth: codes at each place.
        num_codes: K.
        num_classes: labels of a conditional model, or None.

    Raises:
        InputError: if its events are no images.
    """

    def __init__(self, vq: "VQVAE"):
        check_images(vq)
        height, width, channels = vq.event_shape
        self.image_shape = (height, width, channels)
        self.depth = vq.quantizer.depth
        count = vq.code_prior.length // self.depth
        sides = vq.code_shape[: len(vq.code_shape) - (self.depth > 1)]
        columns = sides[1] if len(sides) == 2 else math.ceil(math.sqrt(count))
        self.places = (-(-count // columns), columns)
        self.num_codes, self.num_classes = vq.num_codes, vq.num_classes
        self.prior_is_trained = vq.prior_is_trained
        self._vq = vq
        labels = [] if vq.num_classes is None else [tf.TensorSpec((None,), tf.int32)]
        images = tf.TensorSpec((None, *self.image_shape), tf.float32)
        codes = tf.TensorSpec((None, vq.code_prior.length), tf.int32)

        def decode(codes: tf.Tensor, label: Any = None) -> tf.Tensor:
            shown = tf.reshape(codes, (-1, *vq.code_shape))
            return vq.likelihood_family.mean(vq.decode_codes(shown, label))

        # Traced here: requests come in several threads, and the first must not wait for it.
        self._code = tf.function(vq.codes, [images, *labels]).get_concrete_function()
        self._decode = tf.function(decode, [codes, *labels]).get_concrete_function()
        self._bound = tf.function(vq.bound, [images, *labels]).get_concrete_function()

    def _given(self, label: np.ndarray | None) -> list[tf.Tensor]:
        return [] if label is None else [tf.constant(label, tf.int32)]

    def code(self, x: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Return the codes of images `[B, H, W, C]`."""
        codes = self._code(tf.constant(x, tf.float32), *self._given(label))
        return codes.numpy().reshape(len(x), -1)

    def decode(self, codes: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Return the mean images `[B, H, W, C]` of codes."""
        return self._decode(tf.constant(codes, tf.int32), *self._given(label)).numpy()

    def draw(
        self, n: int, label: np.ndarray | None, seed: int, temperature: float = 1.0
    ) -> np.ndarray:
        """Draw codes from p(c)."""
        drawn = self._vq.sample_codes(n, label=label, seed=seed, temperature=temperature)
        return drawn.numpy().reshape(n, -1)

    def draw_images(self, n: int, label: np.ndarray | None, seed: int) -> Any:
        """Draw codes from p(c), and return them and the mean images of p(x|c)."""
        codes = self.draw(n, label, seed)
        return codes, self.decode(codes, label)

    def bound(self, x: np.ndarray, label: np.ndarray | None) -> Bound:
        """Compute the bound of one image, `[1, H, W, C]`."""
        found = self._bound(tf.constant(x, tf.float32), *self._given(label))
        return Bound(*(float(value[0]) for value in found))


def reconstruction(
    model: CodeModel, image: np.ndarray, codes: np.ndarray, label: int | None
) -> str:
    """Show an image `[H, W, C]`, what codes `[T]` decode to, and its bound."""
    condition = views.one_label(model, label)
    own = model.code(image[None], condition)[0]
    back = model.decode(np.stack([own, codes]), None if label is None else np.repeat(label, 2))
    changed = int((own != codes).sum())
    names = ["image", "reconstruction"]
    pictures = [image, back[0]]
    if changed:
        names.append(f"{changed} code{'s' if changed > 1 else ''} changed")
        pictures.append(back[1])
    terms = model.bound(image[None], condition)
    rows = (
        ("bound", terms.bound),
        ("log p(x|c)", terms.log_likelihood),
        ("log p(c)", terms.log_prior),
    )
    said = "nats, of the image's own codes; bound = log p(x|c) + log p(c) ≤ log p(x)"
    if not model.prior_is_trained:
        said += "; p(c) is uniform, since it has not been trained"
    return (
        f'<div class="triple">{views.captioned(pictures, names)}</div>'
        f"{views.figures(rows)}{views.hint(said)}"
    )


def code_map(model: CodeModel, codes: np.ndarray, level: int, chosen: int | None) -> str:
    """Draw the map of codes `[T]`, each in a colour of its own, to choose one from.

    Args:
        model: whose they are.
        codes: of one image.
        level: which of the codes at each place.
        chosen: a place with a ring around it.
    """
    of_level = codes.reshape(-1, model.depth)[:, level]
    _, columns = model.places
    side = _MAP_SIZE / columns
    height = side * model.places[0]
    marks = []
    for place, code in enumerate(of_level):
        x, y = (place % columns + 0.5) * side, (place // columns + 0.5) * side
        ring = ' class="chosen"' if place == chosen else ""
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{0.44 * side:.1f}" fill="{_colour(code)}" '
            f'data-name="place {place}: code {code}"{ring}/>'
        )
        if side >= 24:
            marks.append(
                f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" class="code">{code}</text>'
            )
    return (
        f'<div class="map codes"><svg viewBox="0 0 {_MAP_SIZE} {height:.0f}" role="img" '
        f'aria-label="codes">{"".join(marks)}</svg><div class="hover"><span></span></div></div>'
    )


def use(model: CodeModel, examples: Examples) -> str:
    """Show how often each code stands for something in the examples."""
    codes = np.asarray(examples.codes, int).reshape(-1, model.depth)
    counts = np.stack([np.bincount(one, minlength=model.num_codes) for one in codes.T])
    perplexity = float(perplexity_of(tf.constant(counts, tf.float32)))
    share = counts.mean(axis=0) / counts.sum(axis=1).mean()
    order = np.argsort(-share, kind="stable")[:_MOST_BARS]
    rows = "".join(
        f'<tr><td>code {code}</td><td><i style="width: {100 * share[code] / share.max():.1f}%; '
        f'background: {_colour(code)}"></i></td><td>{share[code]:.2%}</td></tr>'
        for code in order
    )
    facts = (
        ("perplexity", perplexity),
        (f"of {model.num_codes} codes in use", float((counts > 0).mean() * model.num_codes)),
    )
    more = model.num_codes - len(order)
    rest = f"{more} more codes: {1 - share[order].sum():.1%}" if more > 0 else ""
    return f'{views.figures(facts, digits=1)}<table class="bars">{rows}</table>{views.hint(rest)}'


def _colour(code: int) -> str:
    # Steps of the golden angle keep neighbours apart.
    return f"hsl({int(code) * 137.508 % 360:.0f} 60% 62%)"
