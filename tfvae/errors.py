"""The one error that is the caller's to mend."""


class InputError(ValueError):
    """Something given from outside does not fit.

    Its message is one line: what was expected, what came, and what to do. The command line prints
    it and exits with status 2.
    """

    def __init__(self, message: str):
        # With a constructor of its own the exception passes through `tf.function` tracing as it
        # is; AutoGraph rewrites the message of those that take Python's.
        super().__init__(message)
