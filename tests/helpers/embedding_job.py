"""Encodings that may be killed or measured, run as processes by `test_embedding`."""

import os
import resource
import signal
from pathlib import Path

import keras

import tfvae
from tfvae.datasets import load
from tfvae.serving import embedding

# Parts of four images, ten of each split.
SMALL = {"batch_size": 4, "part_events": 4, "limit": 40}


def digits():
    return load("digits", binarize="dynamic", seed=3)


def model(**kwargs):
    return tfvae.VAE.for_images(
        (8, 8, 1), **{"latent_dim": 3, "network": "dense", "seed": 0, **kwargs}
    )


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def counted(function, number, *, before=None, after=None):
    """Let something else be done around the call of a number, from 1."""
    calls = 0

    def patched(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == number and before is not None:
            before(*args)
        result = function(*args, **kwargs)
        if calls == number and after is not None:
            after(*args)
        return result

    return patched


def die_at(moment):
    """Let the process be killed at a moment of its work."""
    import pyarrow.parquet

    def half(path, content):
        path.open("wb").write(memoryview(content)[: len(content) // 2])
        die()

    def published(_, target):
        if target.suffix == ".parquet" and not target.parent.name.startswith("."):
            die()

    writer = pyarrow.parquet.ParquetWriter
    true_replace = Path.replace

    def replace(path, target):
        result = true_replace(path, target)
        published(path, Path(target))
        return result

    match moment:
        case "a part half written":
            Path.write_bytes = counted(Path.write_bytes, 15, before=half)
        case "a part renamed":
            Path.replace = counted(Path.replace, 15, after=lambda *_: die())
        case "the file half written":
            writer.write_table = counted(writer.write_table, 2, after=lambda *_: die())
        case "the file renamed":
            Path.replace = replace
        case _:
            raise ValueError(moment)


def job(out, moment):
    """Encode, and be killed at a moment."""
    die_at(moment)
    embedding.encode(model(), digits(), out, **SMALL)


def peak():
    """Give the most MiB that the process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def stay_small(folder):
    """Encode a few images of a set that is drawn as it is read, and then ten times as many."""
    embedding._GROUP_EVENTS = 512
    latent_dim, few = 512, 1024
    images, z = keras.Input((64, 64, 1)), keras.Input((latent_dim,))
    pooled = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(images))
    vae = tfvae.VAE(
        keras.Model(images, pooled), keras.Model(z, keras.layers.Dense(2)(z)), latent_dim, seed=0
    )
    # The first ones make what is made once, the pools of allocators among it.
    used = []
    for index, limit in enumerate((few, few, few, 10 * few)):
        embedding.encode(
            vae,
            load("shapes"),
            Path(folder) / f"{index}.parquet",
            splits="train",
            limit=limit,
            batch_size=64,
            part_events=256,
        )
        used.append(peak())
    # Code and scale of 9,216 more images are 36 MiB, and the images themselves 144 MiB.
    print(f"grown by {used[-1] - used[-2]:.1f} MiB", flush=True)
    assert used[-1] - used[-2] < 20
