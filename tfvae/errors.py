"""Errors whose message is one line for the user."""

import re

# Characters of a message.
_MOST = 1000


class InputError(ValueError):
    """Something given from outside does not fit.

    Its message is one line: what was expected, what came, and what to do. The command line prints
    it and exits with status 2.
    """

    # Raised while a layer is called or a function is traced, it comes out as it is: Keras would
    # append the layer's arguments, and AutoGraph the traced lines, in many lines both.
    _keras_call_info_injected = True
    ag_pass_through = True

    def __init__(self, message: object = ""):
        # What came may be an array, whose text has many lines.
        text = re.sub(r"\s*[\r\n]+\s*", " ", str(message))
        super().__init__(text if len(text) <= _MOST else f"{text[:_MOST]} ...")


def missing_extra(what: str, package: str, extra: str) -> InputError:
    """Return the error of a part of the library whose packages are not installed.

    Args:
        what: what needs them, with its verb: "the page needs".
        package: what is missing.
        extra: the extra of this package that brings it.
    """
    return InputError(f"{what} {package}: pip install 'tfvae[{extra}]'")


class DivergenceError(ArithmeticError):
    """A training whose loss or gradient is not finite any more.

    Its message says at which step, which term it was, and what to do.
    """


class WorkerError(RuntimeError):
    """A training whose other processes are not there any more.

    Its message says at which step, and how to go on.
    """
