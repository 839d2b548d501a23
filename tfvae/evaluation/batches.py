"""What the estimators share: events in, checked, a batch at a time, and a bar of their progress."""

import functools
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, Self, TypeAlias, TypeVar

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvae.checks import checked_count
from tfvae.datasets.batches import Batches, Split, input_errors
from tfvae.datasets.dataset import Dataset
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.models import LatentVariableModel
from tfvae.models.batch import events_and_labels
from tfvae.models.sources import without_autotuning
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.typing import ArrayLike, Tensor

T = TypeVar("T")
# What `event_batches` takes.
EventData: TypeAlias = (
    "Split | Batches | ArrayLike | Mapping[str, ArrayLike] | Iterable[object] "
    "| keras.utils.PyDataset"
)

# Events of a batch, where data comes in none.
BATCH_SIZE = 256

# Draws decoded at a time: on a CPU more are no faster; an accelerator wants many.
_CPU_CHUNK = 256
_ACCELERATOR_CHUNK = 16384
# The most numbers that a decoder puts out at a time: 64 MiB in float32.
_MOST_NUMBERS = 2**24


def default_chunk(vae: VAE) -> int:
    """Return how many latent vectors are best decoded at a time on this machine."""
    chunk = _ACCELERATOR_CHUNK if tf.config.list_logical_devices("GPU") else _CPU_CHUNK
    numbers = int(np.prod(vae.event_shape)) * vae.likelihood_family.parameters_per_value
    return max(1, min(chunk, _MOST_NUMBERS // numbers))


# AutoGraph reads the source of all that a graph calls, which takes longer than to trace it. What
# has no loop or condition on a tensor does without.
unconverted = tf.autograph.experimental.do_not_convert


def compiled(function: Callable[..., Any]) -> Any:
    """Return a graph of a function that belongs to one model.

    Not kept from one estimate to the next: the model may have changed. TensorFlow warns where the
    same code is traced again and again, but does not know a partial by its code.
    """
    return tf.function(functools.partial(function), reduce_retracing=True)


def check_vae(vae: Any) -> None:
    """Check that log p(x) of a model can be estimated.

    Raises:
        InputError: if it is no built `VAE`, or its posterior has no density.
    """
    if isinstance(vae, VQVAE):
        raise InputError(
            "expected a VAE, whose q(z|x) has a density; received a VQVAE: its codes are certain, "
            "and tfvae.evaluation.bound is what is known of its log p(x)"
        )
    if not isinstance(vae, VAE):
        raise InputError(f"expected a VAE, which has a p(x); received a {type(vae).__name__}")
    if not vae.built:
        raise InputError("the model does not know its event shape yet: call it on events first")
    label = None if vae.num_classes is None else [0]
    spec = vae.event_spec
    posterior = vae.encode(spec.blank(1), label)
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


class EventBatches:
    """Batches of events, checked, with their labels where the model takes them.

    Iterating gives pairs of events `[B, *event_shape]`, float32, and labels `[B]` or None; batches
    of no events are left out. `len` counts the batches, and raises TypeError where nothing tells.

    Args:
        model: a `VAE` or an `Autoencoder`.
        batches: batches of ``x`` or ``(x, label)``.
    """

    def __init__(self, model: LatentVariableModel, batches: Iterable[Any]):
        self._model = model
        self._batches = batches

    def __len__(self) -> int:
        # TypeError where they do not tell.
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        with input_errors():
            for batch in self._batches:
                parts = self._model.unpack(batch)
                if parts.target is not None:
                    raise InputError(
                        "expected batches of x or (x, label); received pairs with a target of the "
                        "shape of x, and p(x) has none: data.map(lambda x, target: x)"
                    )
                x, label = self._model.checked(parts.x, parts.label)
                if len(x):
                    yield x, label


def event_batches(
    model: LatentVariableModel, data: EventData, *, batch_size: int = BATCH_SIZE
) -> EventBatches:
    """Return the events of data in batches, checked, in their order.

    Whatever takes data to evaluate takes it in these forms.

    Args:
        model: a `VAE` or an `Autoencoder`.
        data: a split of a data set, such as ``data.test``; an array `[N, *event_shape]`, a pair
            ``(x, labels)`` of arrays or a dictionary of them; or a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a list or another iterable of batches, each ``x`` or
            ``(x, label)`` as `fit` takes it. Labels are left aside by a model that takes none,
            and sample weights by all: every event counts the same.
        batch_size: events of a batch, where `data` does not come in batches.

    Raises:
        InputError: if it is none of these, or an array does not fit. A batch that does not fit is
            found while iterating.
    """
    checked_count("batch_size", batch_size)
    if isinstance(data, Dataset):
        raise InputError(
            f"{data.name} has three splits; pass one of them: data.train, data.validation or "
            "data.test"
        )
    if isinstance(data, Split):
        data = data.batches(batch_size, epoch=0)
    elif isinstance(data, Batches):
        data = data.dataset(0)
    elif isinstance(data, keras.utils.PyDataset):
        data = _OfPyDataset(data)
    elif _is_array(data):
        data = _OfArrays(model, data, None, batch_size)
    elif isinstance(data, Mapping) or (
        isinstance(data, tuple) and len(data) == 2 and _is_array(data[0])
    ):
        data = _of_structure(model, data, batch_size)
    elif isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise InputError(
            "expected a split of a data set, an array of events, a pair (x, labels), or batches; "
            f"received {type(data).__name__}"
        )
    if isinstance(data, tf.data.Dataset):
        data = _finite(model, data)
    return EventBatches(model, data)


def _is_array(data: Any) -> bool:
    return hasattr(data, "shape") and hasattr(data, "__array__")


def _of_structure(model: LatentVariableModel, data: Any, batch_size: int) -> "_OfArrays":
    """Return the batches of a pair or a dictionary of arrays."""
    if isinstance(data, tuple):
        x, label = data
        if _is_array(label) and model.unpack((x, label)).target is not None:
            raise InputError(
                "expected a pair (x, labels); received two arrays of events: pass one of them, or "
                "a list of batches"
            )
    else:
        x, label = events_and_labels(data, model.num_classes)
    return _OfArrays(model, x, label, batch_size)


class _OfArrays:
    """Batches of arrays: some rows after others."""

    def __init__(self, model: LatentVariableModel, x: Any, label: Any, batch_size: int):
        # A frame has rows too, but no slices of them.
        self._x = x if hasattr(x, "dtype") else np.asarray(x)
        self._label = None if label is None or model.num_classes is None else np.asarray(label)
        self._batch_size = batch_size
        if model.built:
            model.event_spec.check_shape(tuple(self._x.shape))
        if self._label is not None and len(self._label) != len(self._x):
            raise InputError(
                f"expected one label for each event; received {len(self._label)} for {len(self._x)}"
            )

    def __len__(self) -> int:
        return math.ceil(len(self._x) / self._batch_size)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self._x), self._batch_size):
            rows = slice(start, start + self._batch_size)
            x = self._x[rows]
            yield x if self._label is None else (x, self._label[rows])


class _OfPyDataset:
    """The batches of one epoch; Python's own loop over such an object would not end."""

    def __init__(self, data: keras.utils.PyDataset):
        self._data = data

    def __len__(self) -> int:
        return int(self._data.num_batches or 0)

    def __iter__(self) -> Iterator[Any]:
        return (self._data[number] for number in range(len(self)))


def _finite(model: LatentVariableModel, data: tf.data.Dataset) -> tf.data.Dataset:
    """Check that a data set ends and comes in batches, and let its end not be waited for."""
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "expected a data set that ends; received one that repeats for ever: data.take(STEPS)"
        )
    if model.built:
        x, _ = events_and_labels(
            keras.utils.unpack_x_y_sample_weight(data.element_spec)[0], model.num_classes
        )
        shape = getattr(x, "shape", None)
        if shape is not None and shape.rank == len(model.event_shape):
            raise InputError(
                f"expected batches of {model.event_spec.noun}; received a data set of single ones: "
                f"data.batch({BATCH_SIZE})"
            )
    return without_autotuning(data)


def until_interrupted(parts: Iterable[np.ndarray], keep_partial: bool) -> tuple[np.ndarray, bool]:
    """Join the figures of events as they come, up to a Ctrl-C if what there is may be kept.

    Args:
        parts: F figures of each of the next n events, `[F, n]`.
        keep_partial: whether an interrupt after the first part ends the loop; otherwise it is
            raised.

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
        raise InputError("expected at least one event; the data set is empty")
    return np.concatenate(found, axis=1), complete


def rows_of(tensors: T, rows: slice) -> T:
    """Return some rows of each of the tensors of a structure."""
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

    def __init__(self, data: Iterable[Any], shown: bool):
        try:
            total = len(data) if isinstance(data, Sized) else None
        except TypeError:
            total = None
        # Parts of a batch are counted: one event alone may take a while.
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
        """Go on by a part of a batch, and show the mean of log p(x) over the events so far.

        Args:
            part: how much of a batch has been done since the last call.
            log_probs: log p(x) of the events of that part.

        Raises:
            KeyboardInterrupt: if Ctrl-C came since the last call.
        """
        self._release()
        if self._bar.disable:
            return
        self._bar.update(part)
        if log_probs is None:
            return
        # Running sums: a mean over all values anew at each call would take ever longer.
        self._count += len(log_probs)
        self._sum += log_probs.sum()
        self._square_sum += np.square(log_probs).sum()
        mean = self._sum / self._count
        variance = max(self._square_sum - self._count * mean**2, 0) / max(self._count - 1, 1)
        error = math.sqrt(variance / self._count) if self._count > 1 else math.nan
        self._bar.set_postfix_str(f"log_prob={mean:.2f} ± {error:.2f}", refresh=False)
