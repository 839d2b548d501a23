"""Files for commands to read, and a look at all that is in a folder."""

import numpy as np
from PIL import Image


def snapshot(folder):
    """Give the content of each file."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def write_images(folder, count=12, corrupt=None):
    """Write PNG files of noise, one of them cut off."""
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype="uint8")).save(path)
        if index == corrupt:
            path.write_bytes(path.read_bytes()[:40])
