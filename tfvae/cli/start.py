"""Loading a model, which takes seconds, after all that can be checked before."""

from pathlib import Path
from typing import TYPE_CHECKING

from tfvae.quiet import load_for_command

if TYPE_CHECKING:
    from tfvae.saving.run import TrainedModel


def open_model(model: Path) -> "TrainedModel":
    """Read a model.

    Raises:
        InputError: if there is none.
    """
    from tfvae.saving.files import find_model

    find_model(model)  # a wrong path shows at once, not when TensorFlow has loaded
    load_for_command()
    from tfvae.saving.run import TrainedModel

    return TrainedModel.open(model)
