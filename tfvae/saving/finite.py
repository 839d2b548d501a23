"""Figures for JSON, which has no NaN and no infinity. Nothing is loaded here but Python."""

import math
from typing import Any


def without_nan(value: Any) -> Any:
    """Put None where there is no number, at any depth of dictionaries and lists."""
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
