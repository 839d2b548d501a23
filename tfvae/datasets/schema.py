"""What the columns of a table are, and the way from its rows to events and back."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a table."""

    def summary(self) -> str:
        """Return what was read in one line."""
        return ""
