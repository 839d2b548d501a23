"""How picture files are read."""

import dataclasses

from tfvae.datasets.values import ValueRange

BACKGROUND = "white"


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """How picture files are read.

    Attributes:
        background: the colour under transparent pictures: "white", "black" or "#rrggbb".
        value_range: the values that become black and white, for pictures whose whole numbers have
            fewer bits than their type, or that hold floating point; by default what the data say.
        skip_damaged: whether to leave out files that cannot be read instead of refusing them; each
            file is decoded once as the folder is opened.
        folder_labels: whether folders are classes; otherwise pictures have no labels.
    """

    background: str = BACKGROUND
    value_range: ValueRange | None = None
    skip_damaged: bool = False
    folder_labels: bool = True
