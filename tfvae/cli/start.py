"""Loading TensorFlow and a model, which takes seconds, after all that can be checked before."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfvae.saving.run import TrainedModel


def load_tensorflow(start_devices: bool = True) -> None:
    """Load TensorFlow without its start-up messages, unless the user has set a log level.

    The first of them come before any level is read, straight to the file descriptor: it points
    elsewhere for that long. Should the import fail, they are shown after all.

    Args:
        start_devices: whether to start the devices here as well, which have messages of their own.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
            if start_devices:
                tf.zeros(())  # the devices start with the first operation
        except BaseException:
            messages.seek(0)
            os.write(stderr, messages.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def open_model(model: Path) -> "TrainedModel":
    """Read a model.

    Raises:
        InputError: if there is none.
    """
    from tfvae.saving.files import find_model

    find_model(model)  # a wrong path shows at once, not when TensorFlow has loaded
    load_tensorflow()
    from tfvae.saving.run import TrainedModel

    return TrainedModel.open(model)
