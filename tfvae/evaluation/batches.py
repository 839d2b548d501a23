"""What the estimators share: images in, checked, a few at a time, with a bar that shows how far."""

import functools
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.models.vae import VAE

# Draws decoded at a time: on a CPU more are no faster; an accelerator wants many.
_CPU_CHUNK = 256
_ACCELERATOR_CHUNK = 16384
# The most numbers that a decoder puts out at a time: 64 MiB in float32.
_MOST_NUMBERS = 2**24


def default_chunk(vae: VAE) -> int:
    """Give how many latent vectors are best decoded at a time on this machine."""
    chunk = _ACCELERATOR_CHUNK if tf.config.list_logical_devices("GPU") else _CPU_CHUNK
    numbers = int(np.prod(vae.event_shape)) * vae.likelihood_family.parameters_per_value
    return max(1, min(chunk, _MOST_NUMBERS // numbers))


def compiled(function: Callable[..., Any]) -> Any:
    """Make a graph of a function that belongs to one model.

    Not kept from one estimate to the next: the model may have changed. TensorFlow warns where the
    same code is traced again and again, but does not know a partial by its code.
    """
    return tf.function(functools.partial(function), reduce_retracing=True)


def check_vae(vae: Any) -> None:
    """Check that log p(x) of a model can be estimated.

    Raises:
        InputError: if it is no built `VAE`, or its posterior has no density.
    """
    if not isinstance(vae, VAE):
        raise InputError(f"expected a VAE, which has a p(x); received a {type(vae).__name__}")
    if not vae.built:
        raise InputError("the model does not know its image shape yet: call it on images first")
    label = None if vae.num_classes is None else [0]
    posterior = vae.encode(tf.zeros((1, *vae.event_shape)), label)
    complaint = f"log p(x) needs a posterior with a density; {type(posterior).__name__} has none"
    atoms = (tfd.Deterministic, tfd.VectorDeterministic)
    if isinstance(posterior, atoms) or (
        isinstance(posterior, tfd.Independent) and isinstance(posterior.distribution, atoms)
    ):
        raise InputError(complaint)
    try:
        posterior.experimental_sample_and_log_prob(seed=(0, 0))
    except NotImplementedError:
        raise InputError(complaint) from None


def image_batches(vae: VAE, data: Any) -> Iterator[tuple[tf.Tensor, tf.Tensor | None]]:
    """Give the images of batches, checked, and their labels where the model takes them."""
    if isinstance(data, tf.data.Dataset):
        # Its autotuning looks at ever longer intervals, and the end may wait for the next look: an
        # evaluation would take up to twice its time. Reading is next to nothing of it.
        options = tf.data.Options()
        options.autotune.enabled = False
        data = data.with_options(options)
    for batch in data:
        x, label = vae.checked_batch(batch)
        if len(x):
            yield x, label


def until_interrupted(parts: Iterable[np.ndarray], keep_partial: bool) -> tuple[np.ndarray, bool]:
    """Join the figures of images as they come, up to a Ctrl-C if what there is may be kept.

    Args:
        parts: of some images after another, each `[F, n]`.
        keep_partial: whether an interrupt after the first part ends it; else it goes on up.

    Returns:
        All of them, `[F, N]`; and whether no interrupt came.

    Raises:
        InputError: if there is none.
    """
    found, complete = [], True
    try:
        for part in parts:
            found.append(part)
    except KeyboardInterrupt:
        if not (keep_partial and found):
            raise
        complete = False
    if not found:
        raise InputError("expected at least one image; the data set is empty")
    return np.concatenate(found, axis=1), complete


def rows_of(tensors: Any, rows: slice) -> Any:
    """Give some rows of each of the tensors of a structure."""
    return tf.nest.map_structure(lambda tensor: tensor[rows], tensors)


class Progress:
    """A bar on standard error, in batches, with the time that is left and the mean so far.

    While it is there, Ctrl-C is held back until `advance` is called next: raised inside of
    TensorFlow's calls it may come out as another error, or end the process. A second one comes at
    once.

    Args:
        data: batches; a bar without an end is shown if they do not tell how many they are.
        shown: whether to show it.
    """

    def __init__(self, data: Any, shown: bool):
        try:
            total = len(data)
        except TypeError:
            total = None
        # Parts of a batch are counted: one image alone may take a while.
        numbers = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(
            total=total,
            leave=False,
            disable=not shown,
            bar_format=numbers if total else None,
        )
        self._count, self._sum, self._square_sum = 0, 0.0, 0.0
        self._holds = self._held = False

    def __enter__(self) -> Self:
        # Handlers belong to the main thread, and one that is not Python's own to the user.
        self._holds = threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._holds:
            signal.signal(signal.SIGINT, self._hold)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._bar.close()
        if kind is None:
            self._release()

    def _hold(self, *_: object) -> None:
        self._held = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _release(self) -> None:
        if self._held:
            self._held = False
            raise KeyboardInterrupt

    def advance(self, part: float, log_probs: np.ndarray | None = None) -> None:
        """Go on by a part of a batch, and show the mean of log p(x) over the images so far.

        Args:
            part: of a batch.
            log_probs: those of more images.

        Raises:
            KeyboardInterrupt: if Ctrl-C came since the last call.
        """
        self._release()
        if self._bar.disable:
            return
        self._bar.update(part)
        if log_probs is None:
            return
        # Sums, as the mean of all of them anew for each few images would take ever longer.
        self._count += len(log_probs)
        self._sum += log_probs.sum()
        self._square_sum += np.square(log_probs).sum()
        mean = self._sum / self._count
        variance = max(self._square_sum - self._count * mean**2, 0) / max(self._count - 1, 1)
        error = math.sqrt(variance / self._count) if self._count > 1 else math.nan
        self._bar.set_postfix_str(f"log_prob={mean:.2f} ± {error:.2f}", refresh=False)
