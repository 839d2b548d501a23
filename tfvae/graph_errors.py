"""Errors raised inside graphs, with the words that they have outside of them.

TensorFlow wraps what Python code raises within a graph or a `tf.data` pipeline into an error of its
own, of some thirty lines. A check says what is wrong by `refuse_unless`, and whoever runs the graph
does so within `one_line_errors`, which raises the error that the check has raised.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import tensorflow as tf

from tfvae.errors import DivergenceError, InputError
from tfvae.typing import Tensor

_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (InputError, DivergenceError)
}


def refuse_unless(
    condition: Tensor, complain: Callable[..., NoReturn], tensors: Sequence[Tensor]
) -> tf.Operation:
    """Build the operation that fails in a graph unless a condition holds.

    XLA cannot compile it: check batches before a function that XLA compiles.

    Args:
        condition: a scalar boolean tensor.
        complain: raises the error; it is called with the values of `tensors`, eagerly.
        tensors: what `complain` looks at.

    Returns:
        The operation, for `tf.control_dependencies`: TensorFlow orders nothing else after it.
    """

    def fail() -> Tensor:
        tf.py_function(complain, list(tensors), [])
        return tf.constant(False)

    return tf.cond(condition, lambda: tf.constant(True), fail)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Raise the library's own error where TensorFlow has wrapped one."""
    try:
        yield
    except tf.errors.OpError as error:
        found = own_error(error)
        if found is None:
            raise
        raise found from None


def own_error(error: tf.errors.OpError) -> Exception | None:
    """Return the library's error that TensorFlow has wrapped, None if it has wrapped none."""
    found = re.search(rf"\b({'|'.join(_ERRORS)}): (.*)", error.message)
    return None if found is None else _ERRORS[found[1]](found[2])
