"""Compare the outputs of two runs of a notebook.

Another processor rounds otherwise, and a training carries that on, so that figures come out a
little different. What is tolerated: texts are equal but for their numbers, and numbers differ by at
most `RELATIVE` of themselves or `ABSOLUTE` of the largest number in their output, whichever is
more. Pictures have equal sizes, and their grey values, from 0 to 255, differ by at most `PIXELS` on
average. In cells with the tag "timing" numbers are those of the machine, and not compared.
"""

import base64
import io
import re

import numpy as np
from nbformat import NotebookNode
from PIL import Image

RELATIVE = 0.1
ABSOLUTE = 0.02
PIXELS = 12.0
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def numbers(text: str) -> tuple[str, np.ndarray]:
    """Split a text into what is left without its numbers and spaces, and the numbers."""
    found = [float(one.replace(",", "").replace("−", "-")) for one in NUMBER.findall(text)]
    # Where a sign comes or goes, or a column gets wider, the text is the same.
    return re.sub(r"[\s-]+", "", NUMBER.sub("#", text)), np.array(found)


def grey(data: str) -> np.ndarray:
    """Decode a picture in base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    return np.asarray(picture.convert("L"), dtype="float64")


def text_differs(before: str, after: str, timing: bool) -> str:
    """Say how two texts differ, in a few words, or nothing."""
    (words, values), (other_words, others) = numbers(before), numbers(after)
    if words != other_words:
        return f"other text: {after[:80]!r} for {before[:80]!r}"
    if timing or not len(values):
        return ""
    allowed = np.maximum(RELATIVE * np.abs(values), ABSOLUTE * np.abs(values).max())
    far = np.flatnonzero(~(np.abs(values - others) <= allowed))
    return f"{others[far[0]]} for {values[far[0]]}, and {len(far) - 1} more" if len(far) else ""


def picture_differs(before: str, after: str) -> str:
    """Say how two pictures differ, in a few words, or nothing."""
    one, other = grey(before), grey(after)
    # A tight frame moves by a pixel where a label has another width.
    if np.abs(np.subtract(one.shape, other.shape)).max() > 8:
        return f"a picture of {other.shape} pixels for one of {one.shape}"
    height, width = np.minimum(one.shape, other.shape)
    distance = np.abs(one[:height, :width] - other[:height, :width]).mean()
    return f"a picture {distance:.1f} grey values away" if distance > PIXELS else ""


def differences(before: NotebookNode, after: NotebookNode) -> list[str]:
    """List what is in the outputs of one run and not in another's.

    Args:
        before: a notebook with outputs.
        after: the same notebook with those of another run.

    Returns:
        A line for each output that differs by more than is tolerated.
    """
    found = []
    for cell, other in zip(before.cells, after.cells, strict=True):
        if cell.cell_type != "code":
            continue
        timing = "timing" in other.metadata.get("tags", ())
        if len(cell.outputs) != len(other.outputs):
            found.append(f"{cell.id}: {len(other.outputs)} outputs for {len(cell.outputs)}")
            continue
        for one, two in zip(cell.outputs, other.outputs, strict=True):
            shown, shown_now = one.get("data", {}), two.get("data", {})
            text = one.get("text", shown.get("text/plain", ""))
            text_now = two.get("text", shown_now.get("text/plain", ""))
            said = text_differs(text, text_now, timing)
            if not said and "image/png" in shown and "image/png" in shown_now:
                said = picture_differs(shown["image/png"], shown_now["image/png"])
            if said:
                found.append(f"{cell.id}: {said}")
    return found
