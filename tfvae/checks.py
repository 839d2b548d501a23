"""Checks of options that are numbers.

Nothing is loaded here but Python, so that modules without Keras may check like all others.
"""

import math
import numbers
from typing import Any

from tfvae.errors import InputError

# What TensorFlow counts shapes and steps up to.
MOST = 2**31 - 1
# Units, channels and parts of a network; more would not fit into memory.
MOST_UNITS = 2**16
# Seeds that every file and language has exactly, JSON's numbers of 53 bits among them.
MOST_SEED = 2**53 - 1


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python or NumPy; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number, of Python or NumPy, from `least`."""
    return isinstance(value, numbers.Integral) and is_number(value) and int(value) >= least


def checked_count(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """Return the value of an option that is a whole number from `least` to `most`.

    Raises:
        InputError: if it is none.
    """
    if not is_whole(value, least):
        raise InputError(f"{name} is a whole number from {least}; received {value!r}")
    if value > most:
        raise InputError(f"{name} is a whole number up to {most}; received {value!r}")
    return int(value)


def checked_seed(name: str, value: Any) -> int:
    """Return a seed, a whole number from 0 that JSON has exactly.

    Raises:
        InputError: if it is none.
    """
    return checked_count(name, value, least=0, most=MOST_SEED)


def checked_weight(name: str, value: Any) -> float:
    """Return the value of an option that is a finite number of at least 0.

    Raises:
        InputError: if it is none.
    """
    if not (is_number(value) and 0 <= value < math.inf):
        raise InputError(f"{name} is a number of at least 0; received {value!r}")
    return float(value)


def checked_flag(name: str, value: Any) -> bool:
    """Return the value of an option that is True or False, of Python or NumPy.

    Raises:
        InputError: if it is neither.
    """
    if type(value).__name__ not in ("bool", "bool_"):
        raise InputError(f"{name} is True or False; received {value!r}")
    return bool(value)
