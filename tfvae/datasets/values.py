"""The range that whole numbers are scaled from: what the data say, or what the user does."""

import numpy as np

from tfvae.errors import InputError

ValueRange = tuple[float, float]

# Whole numbers of so many bits whose largest is no more than this fill so little of their type
# that they are likely to have fewer bits: 0 to 16 in bytes, or 12 bits in 16.
_LARGEST_IN_DOUBT = {8: 31, 16: 16_383}


def parse_range(value_range: str | ValueRange | None) -> ValueRange | None:
    """Return the lowest and highest value of a range as users write it: "0,4095" or (0, 4095).

    Raises:
        InputError: if it is no such range.
    """
    if value_range is None:
        return None
    parts = value_range.split(",") if isinstance(value_range, str) else value_range
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(
            "a value range is the lowest and the highest value that can occur, like 0,4095; "
            f"received {value_range!r}"
        )
    return low, high


def settled(largest: float, bits: int) -> bool:
    """Return whether values this large settle that whole numbers use all bits of their type."""
    return largest > _LARGEST_IN_DOUBT[bits]


def inferred_range(described: str, largest: float, bits: int) -> ValueRange:
    """Return the range of unsigned whole numbers, which their largest value tells.

    Zeros and ones alone are from 0 to 1. Others are from 0 to the largest number of their type,
    unless they stay far below it.

    Args:
        described: the data, for the message.
        largest: the largest value of all.
        bits: of the type, 8 or 16.

    Raises:
        InputError: if the values may as well have fewer bits than their type.
    """
    top = 2**bits - 1
    if largest == 1:
        return 0, 1
    if largest == 0 or settled(largest, bits):
        return 0, top
    # In 16 bits, cameras and scanners hold 8, 10, 12 or 14.
    likely = int(largest) if bits == 8 else 2 ** max(8, int(largest).bit_length()) - 1
    raise InputError(
        f"{described}: expected whole numbers from 0 to {top}, but the largest is "
        f"{int(largest)}: give value_range=(0, {likely}) to scale these, or "
        f"value_range=(0, {top}) if they are meant to be dark"
    )


def scaled_to_bytes(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Return bytes for numbers: the range becomes 0 to 255, rounded; what is outside is clipped.

    Whole numbers are scaled in whole numbers, half a level rounded up, so that a graph can do the
    same exactly.
    """
    low, high = value_range
    if values.dtype.kind in "iub" and float(low).is_integer() and float(high).is_integer():
        whole = np.clip(values.astype(np.int64), int(low), int(high)) - int(low)
        width = int(high) - int(low)
        return ((whole * 510 + width) // (2 * width)).astype(np.uint8)
    scaled = (np.asarray(values, np.float64) - low) * (255 / (high - low))
    return np.floor(np.clip(scaled, 0, 255) + 0.5).astype(np.uint8)
