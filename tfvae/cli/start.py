"""Loading a model, which takes seconds, after all that can be checked before."""

from pathlib import Path
from typing import TYPE_CHECKING

from tfvae.errors import InputError
from tfvae.quiet import load_for_command

if TYPE_CHECKING:
    from tfvae.saving.run import TrainedModel


def open_model(model: Path, *, codes: bool = False) -> "TrainedModel":
    """Read a model.

    Args:
        model: its file or run.
        codes: whether a `VQVAE` will do, too.

    Raises:
        InputError: if there is none, or it is one of codes and these will not do.
    """
    from tfvae.saving import hub
    from tfvae.saving.files import find_model

    if hub.is_address(model):
        model = hub.download(model)
    find_model(model)  # a wrong path shows at once, not when TensorFlow has loaded
    load_for_command()
    from tfvae.saving.run import TrainedModel

    trained = TrainedModel.open(model)
    if trained.has_codes and not codes:
        raise InputError(
            f"this command takes a VAE, and {model} holds a VQVAE, whose z are codes: tfvae "
            "sample, reconstruct, explore, evaluate, score, compress and export take it"
        )
    return trained
