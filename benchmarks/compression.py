"""How small images become by bits-back coding, beside gzip, xz, PNG and WebP.

    python benchmarks/compression.py
    python benchmarks/compression.py --mnist FOLDER --fashion-mnist FOLDER

compresses the default test images, and those of other sets, with the shipped models, decompresses
and compares them. Images of 0 and 1 are given to gzip and xz as bits and to PNG as pictures of one
bit, bytes as bytes. PNG and WebP (lossless, slowest setting) are tried on each image alone and on
one picture with all images side by side. The table of docs/compression.md is what it prints at its
end and writes to benchmarks/compression.json, or at once with --table.
"""

import gzip
import io
import json
import lzma
import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
from cyclopts import Parameter
from machine import machine
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = Path(__file__).with_suffix(".json")
MODELS = Path(__file__).parents[1] / "saved_models"


def picture_bytes(image: np.ndarray, form: str, is_binary: bool) -> int:
    """Return the size of a file of an image `[H, W]` of bytes."""
    picture = Image.fromarray(image)
    if is_binary and form == "png":
        picture = picture.convert("1", dither=Image.Dither.NONE)
    file = io.BytesIO()
    if form == "png":
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "WEBP", lossless=True, quality=100, method=6)
    return len(file.getvalue())


def tiled(images: np.ndarray) -> np.ndarray:
    """Return images `[N, H, W]` side by side in a picture that is about square."""
    count, height, width = images.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    padded = np.zeros((across * down, height, width), images.dtype)
    padded[:count] = images
    rows = padded.reshape(down, across, height, width)
    return rows.transpose(0, 2, 1, 3).reshape(down * height, across * width)


def others(images: np.ndarray, is_binary: bool) -> dict[str, int]:
    """Return how many bytes other programs make of images `[N, H, W]` of bytes."""
    content = (np.packbits(images > 0) if is_binary else images).tobytes()
    found = {
        "gzip": len(gzip.compress(content, 9)),
        "xz": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)),
    }
    for form in ("png", "webp"):
        found[f"{form}, each"] = sum(picture_bytes(one, form, is_binary) for one in images)
        found[f"{form}, tiled"] = picture_bytes(tiled(images), form, is_binary)
    return found


def measured(model: Path, x: np.ndarray) -> dict[str, Any]:
    """Compress events, bring them back and compare."""
    import tfvae
    from tfvae.compression import compress_events, decompress
    from tfvae.evaluation import elbo

    vae = tfvae.load(model)
    start = time.perf_counter()
    done = compress_events(vae, x, progress=True)
    middle = time.perf_counter()
    if not np.array_equal(decompress(vae, done.data, progress=True), x):
        raise RuntimeError("what came back is something else")
    end = time.perf_counter()
    images = np.rint(255 * x[..., 0]).astype(np.uint8)
    is_binary = bool(np.isin(images, (0, 255)).all())
    bound = -elbo(vae, x, seed=1).elbo * len(x) / math.log(2) / 8
    return {
        "events": len(x),
        "is_binary": is_binary,
        "raw": images.size // 8 if is_binary else images.size,
        "bytes": len(done.data),
        "start_up": done.start_up_bits / 8,
        "header": done.header_bits / 8,
        "negative_elbo": bound,
        "compress_seconds": middle - start,
        "decompress_seconds": end - middle,
        **others(images, is_binary),
    }


def table(found: dict[str, Any]) -> str:
    """Return the results as a table of Markdown."""
    order = ("default images", "MNIST, binarised", "Fashion-MNIST")
    names = [name for name in order if name in found]
    rows = [("", [f"{name}: {found[name]['events']:,}" for name in names])]
    label = {
        "raw": "as they are (bits or bytes)",
        "negative_elbo": "negative ELBO",
        "bytes": "**tfvae compress**",
    }
    for key in ("raw", "gzip", "xz", "png, each", "png, tiled", "webp, each", "webp, tiled"):
        rows.append((label.get(key, key), [f"{found[name][key]:,}" for name in names]))
    for key in ("negative_elbo", "bytes"):
        rows.append((label[key], [f"{found[name][key]:,.0f}" for name in names]))
    over = [found[name]["bytes"] / found[name]["negative_elbo"] - 1 for name in names]
    rows.append(("over the ELBO", [f"{value:+.2%}" for value in over]))
    bits = [8 * found[name]["bytes"] / found[name]["events"] / 784 for name in names]
    rows.append(("bits per pixel", [f"{value:.4f}" for value in bits]))
    for key, what in (("compress_seconds", "compress"), ("decompress_seconds", "decompress")):
        rate = [f"{found[name]['events'] / found[name][key]:,.0f}" for name in names]
        rows.append((f"images a second, {what}", rate))
    lines = [f"| {title} | {' | '.join(cells)} |" for title, cells in rows]
    return "\n".join([lines[0], f"| --- |{' ---: |' * len(names)}", *lines[1:]])


def main(
    *,
    default: Annotated[
        Path | None, Parameter(help="A run of tfvae train on the default images.")
    ] = None,
    mnist: Annotated[Path | None, Parameter(help="Folder of MNIST's IDX files.")] = None,
    fashion_mnist: Annotated[Path | None, Parameter(help="Folder of those of Fashion.")] = None,
    limit: Annotated[int | None, Parameter(help="Take so many images, the first.")] = None,
    out: Path = RESULTS,
    show: Annotated[bool, Parameter(name="--table", help="Print what was found before.")] = False,
) -> None:
    """Measure what data are at hand for, add it to the results, and print them."""
    found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    if not show:
        from tfvae import datasets

        found["machine"] = machine()
        if default or not (mnist or fashion_mnist):
            x, _ = datasets.load("mnist-small").test.arrays(limit=limit)
            found["default images"] = measured(default or MODELS / "mnist", x)
        if mnist is not None:
            x, _ = datasets.load(str(mnist), binarize="static").test.arrays(limit=limit)
            found["MNIST, binarised"] = measured(MODELS / "mnist", x)
        if fashion_mnist is not None:
            x, _ = datasets.load(str(fashion_mnist)).test.arrays(limit=limit)
            found["Fashion-MNIST"] = measured(MODELS / "fashion-mnist", x)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"On {found['machine']}:\n\n{table(found)}", file=sys.stdout)


if __name__ == "__main__":
    cyclopts.run(main)
