"""Picture files that tests write, and what opening them says."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfvae.datasets.open import open_source
from tfvae.errors import InputError


def everything(source):
    return source.read(np.arange(source.count))


def write_images(folder, images, names=None):
    for index, image in enumerate(images):
        path = folder / (names[index] if names else f"{index:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def encoded(pixels, kind="PNG", mode=None, **options):
    image = Image.fromarray(np.asarray(pixels))
    file = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def message(*args, **kwargs):
    """The one line of the InputError that opening and reading raises."""
    with pytest.raises(InputError) as caught:
        everything(open_source(*args, **kwargs))
    assert "\n" not in str(caught.value)
    return str(caught.value)
