"""Options that several commands take. This module loads no TensorFlow."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tfvae.checks import MOST_SEED
from tfvae.saving.config import whole

Model = Annotated[
    Path,
    Parameter(
        help="A run directory of tfvae train, a model.keras file, a SavedModel, or hf://OWNER/NAME."
    ),
]
Out = Annotated[
    Path,
    Parameter(
        help="Picture to write (.png, .jpg, .pdf, .svg); or the numbers of it (.npy, .npz, and "
        ".csv for vectors)."
    ),
]
Overwrite = Annotated[bool, Parameter(help="Replace what is at --out.", negative=())]
AsJson = Annotated[bool, Parameter(name="--json", help="Print JSON.", negative=())]
Seed = Annotated[int, whole("Seed of the draws.", least=0, most=MOST_SEED)]
# What a data set's events are called by its splits.
BatchSize = Annotated[int, whole("Events encoded at a time.", least=1)]
