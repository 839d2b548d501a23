"""Where a training starts: at the mean and the spread of the data, before the first step.

What is true of all events needs no z, and a network should not have to learn it. Without this the
first hundreds of steps go into finding how dark an image is; a decoder that starts wild stays wild
wherever no code has been, so that samples from there are noise; and a learned scale that starts far
above the error makes the likelihood flat, the KL weigh more than all of it, and the posterior
collapse onto the prior before the scale has come down.

So, once, before the first step:

* The bias of the layer that puts out the likelihood's parameters becomes the parameters at the
  data's mean: the logit of it for a Bernoulli, the mean for a Normal, the logarithms of how often
  each level occurs for a categorical, and so on. The likelihood says which
  (`Likelihood.starting_parameters`); one that does not is left as it is. Layers that the library
  builds have a bias for each value, and get what is told at each place: on MNIST, with a kernel at
  a tenth, the ELBO after 100 steps is -128.5 then, against -133.8 with one bias for all pixels,
  after 1,000 steps -99.4 against -101.6. The convolution of a user's own decoder has one for each
  channel, and gets what all places tell together.
* That layer's kernel starts at three tenths of the usual size
  (`tfvae.likelihoods.base.HEAD_SCALE`), so that every z decodes to about the mean until it means
  something. (At a tenth MNIST is 1.6 nats behind after 300 steps, at three tenths not.) Layers that
  the library builds are made so; the last layer of a user's own decoder is scaled here.
* What the likelihood learns beside, such as the scale of ``normal:scale=learned``, becomes the
  spread of the data about that mean; and it moves fast enough to follow the error down (see
  `tfvae.likelihoods.base.FreeScale`).
* Values that spread over more than 1 are taken as if they spread over 1, and made as far apart as
  they are: the kernel of the encoder's first layer is divided by the spread of each channel, with a
  bias that takes its mean away, and the kernel of the layer that puts out locations is multiplied
  by it. (BasicMotions has values from -28 to 35. Without this its first epoch has an ELBO of
  -2,500,000, and the best, on the test series, is -1,934; with it -1,790 and -1,811.)
* The pseudo-inputs of the prior "vamp" become events. (log σ² of q(z|x) is bounded in any case; see
  `tfvae.posteriors.bounded_log_var`.)

`LatentVariableModel.adapt` does it when it is called, as Keras' preprocessing layers do. `fit`,
`tfvae.training.train` and with it the command line do it by themselves for a model that has not
been adapted, nor trained: its optimiser has taken no step, and its biases are the zeros they were
made with. They take what is at hand: of arrays and of splits some thousand events from all over, of
a data set the first batch, for which it is iterated once more. It is a function of the data and of
nothing else; that it has been done is saved with the model. With ``vae.adapted = True`` a model
starts as it is.

The last layer of a decoder of one's own takes part if it can be told, a dense layer or a
convolution with a bias and without activation, or with the sigmoid of a decoder that puts out
means. All others are left as they are.
"""

import math
from collections.abc import Iterator
from types import GeneratorType
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfvae.likelihoods import Likelihood
from tfvae.likelihoods.base import HEAD_SCALE
from tfvae.likelihoods.moments import (
    logit,
    observed_mean,
    pooled_mean,
    smoothed_share,
    spread_of_channels,
)
from tfvae.models.batch import Batch
from tfvae.models.building import first_layer, last_layer
from tfvae.models.event_spec import EventSpec
from tfvae.typing import Data

# As many events as have so many values, but some and not all of very large or many ones.
_VALUES = 2**23
_LEAST, _MOST = 256, 20_000


class Startable(Protocol):
    """What is needed of a model to start it."""

    adapted: bool
    encoder: keras.Model
    decoder: keras.Model
    num_classes: int | None
    likelihood_family: Likelihood

    @property
    def event_spec(self) -> EventSpec:
        """What an event is."""

    def unpack(self, data: Data) -> Batch:
        """Tell apart what a batch holds."""


def count_at_hand(events: int, event_shape: tuple[int, ...]) -> int:
    """Return how many of some events are looked at."""
    wanted = _VALUES // max(1, math.prod(event_shape))
    return min(events, max(_LEAST, min(wanted, _MOST)))


def start(model: Startable, x: np.ndarray, target: np.ndarray) -> None:
    """Set a model to what events tell, as the module says.

    Args:
        model: built.
        x: events `[N, *event_shape]` that the encoder takes, NaN where a value is missing.
        target: what p(x|z) is of, in the likelihood's support; most often x.
    """
    if not model.adapted:
        _start_encoder(model, x)
    _start_decoder(model, target)


def _start_encoder(model: Startable, x: np.ndarray) -> None:
    """Let the encoder's first layer take values that spread over more than 1 as if over 1."""
    spec = model.event_spec
    layer: Any = first_layer(model.encoder) if spec.encoding is None else None
    spread = np.maximum(spread_of_channels(x), 1.0)
    if layer is None or (spread == 1).all():
        return
    # Beside the values of a place stand those of the mask, and what a label becomes.
    labels = 0 if model.num_classes is None else 1 if spec.rank > 1 else model.num_classes
    beside = len(spread) * spec.missing + labels
    spread = np.concatenate([spread, np.ones(beside)])
    mean = np.concatenate([pooled_mean(x, by_channel=True), np.zeros(beside)])
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    places = kernel.shape[-2] // len(spread)
    if places * len(spread) != kernel.shape[-2] or places not in (1, math.prod(x.shape[1:-1])):
        return
    kernel = kernel / np.tile(spread, places)[:, None]
    shift = (kernel * np.tile(mean, places)[:, None]).sum(axis=tuple(range(kernel.ndim - 1)))
    layer.kernel.assign(kernel)
    layer.bias.assign(layer.bias - shift)


def _start_decoder(model: Startable, x: np.ndarray) -> None:
    """Set what p(x|z) is made of to what events of its support tell."""
    family = model.likelihood_family
    bias = _bias(model)
    if bias is None:
        return
    size = math.prod(bias.shape)
    by_value = size == math.prod(x.shape[1:-1]) * family.parameter_channels
    if not by_value and size != family.parameter_channels:
        return
    seen = x if by_value else x.reshape(-1, x.shape[-1])
    found = family.starting_parameters(seen)
    if found is None:
        return
    value = found["raw"]
    layer: Any = family.head
    if layer is None:
        layer = last_layer(model.decoder)
        activation = layer.activation
        if family.meaning == "mean" and activation is keras.activations.sigmoid:
            value = logit(smoothed_share(np.clip(seen, 0, 1)))
        elif activation is not keras.activations.linear:
            return
        elif family.meaning == "mean":
            value = observed_mean(seen)
        if not model.adapted:
            layer.kernel.assign(HEAD_SCALE * layer.kernel)
    spread = family.starting_spread(seen)
    width = getattr(layer, "units", None) or getattr(layer, "filters", None)
    # The kernel of a transposed convolution of one's own has its channels elsewhere.
    if spread is not None and not model.adapted and layer.kernel.shape[-1] == width:
        layer.kernel.assign(layer.kernel * np.tile(spread, width // len(spread)))
    bias.assign(value.reshape(bias.shape))
    family.start_at(found)


def is_as_made(model: Startable) -> bool:
    """Whether nothing has set or trained the biases from which p(x|z) is made."""
    bias = _bias(model)
    return bias is None or not keras.ops.convert_to_numpy(bias).any()


def _bias(model: Startable) -> keras.Variable | None:
    """Return the bias of the layer that puts out the likelihood's parameters, None without."""
    family = model.likelihood_family
    if family.head is None:
        return getattr(last_layer(model.decoder), "bias", None)
    return family.head.bias if family.offset is None else family.offset


def rows_at_hand(x: Any, event_shape: tuple[int, ...]) -> np.ndarray:
    """Return rows from all over an array, float32: those of one class may stand together."""
    count = count_at_hand(len(x), event_shape)
    rows = np.unique(np.linspace(0, len(x) - 1, count).round().astype(np.int64))
    if len(rows) == len(x):
        return np.asarray(x, np.float32)
    return np.asarray(tf.gather(x, rows) if tf.is_tensor(x) else x[rows], np.float32)


def first_batch(data: Any) -> tuple[Any, Any]:
    """Return the first batch of a source that gives batches, and a source that gives all of them.

    The batch is None where it cannot be had without taking it away from the training.
    """
    if isinstance(data, tf.data.Dataset):
        return next(iter(data), None), data
    if isinstance(data, keras.utils.PyDataset):
        return data[0], data
    if isinstance(data, GeneratorType):
        batch = next(data, None)
        return batch, data if batch is None else _again(batch, data)
    return None, data


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
