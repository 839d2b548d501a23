"""Text for messages and for order: one line of many, and numbers in names."""

import re


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return what sorts names with numbers in them by their numbers: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def in_a_line(text: object) -> str:
    """Return names and values of others as they stand in a message: in one line, and short."""
    words = " ".join(str(text).split()) or "(nameless)"
    return words if len(words) <= 40 else f"{words[:37]}..."


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().split("\n")[0] or type(error).__name__
