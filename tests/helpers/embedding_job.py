"""Encodings that may be killed or measured, run as processes by `test_embedding`."""

import os
import resource
import signal
from pathlib import Path

import keras

import tfvae
from tfvae.datasets import load
from tfvae.serving import embedding, parts

# Parts of four images: more than 400 of them.
SMALL = {"batch_size": 4, "part_events": 4}


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
            Path.write_bytes = counted(Path.write_bytes, 30, before=half)
        case "a part written, not renamed":
            Path.replace = counted(Path.replace, 30, before=lambda *_: die())
        case "a part renamed":
            Path.replace = counted(Path.replace, 30, after=lambda *_: die())
        case "the file half written":
            writer.write_table = counted(writer.write_table, 2, after=lambda *_: die())
        case "the file renamed":
            Path.replace = replace
        case _:
            raise ValueError(moment)


def job(out, *, moment=None, begun=None, **options):
    """Encode; tell when it begins, or be killed at a moment."""
    if moment is not None:
        die_at(moment)
    if begun is not None:
        parts.Parts.write = counted(parts.Parts.write, 1, before=lambda *_: begun.set())
    embedding.encode(model(), digits(), out, **{**SMALL, **options})


def peak():
    """Give the most MiB that the process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def stay_small(folder):
    """Encode a few images of a set that is drawn as it is read, and then ten times as many."""
    embedding._GROUP_EVENTS = 1024
    latent_dim, few = 512, 2048
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
            part_events=512,
        )
        used.append(peak())
    # Code and scale of 18,432 more images are 72 MiB, and the images themselves 288 MiB.
    print(f"grown by {used[-1] - used[-2]:.1f} MiB", flush=True)
    assert used[-1] - used[-2] < 20
