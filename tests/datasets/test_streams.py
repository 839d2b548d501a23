"""Data that end early, cannot be read, or go on for very long."""

import gc
import resource
from pathlib import Path

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf

import tfvae
from tfvae.datasets import Batches, load
from tfvae.training import train

SHAPE = (8, 8, 1)
SPEC = tf.TensorSpec((None, *SHAPE))


def compiled():
    vae = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense:hidden=8", seed=0)
    vae.compile("adam")
    return vae


def generated(batches, error=None):
    def generator():
        yield from (np.zeros((4, *SHAPE), "float32") for _ in range(batches))
        if error is not None:
            raise error

    return tf.data.Dataset.from_generator(generator, output_signature=SPEC)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            generated(3).apply(tf.data.experimental.assert_cardinality(5)),
            "the data end after 3 batches; expected 5",
        ),
        (
            generated(3, OSError(5, "Input/output error", "x.npy")),
            r"the data cannot be read at step \d of epoch 1: OSError: .* 'x.npy'",
        ),
        (
            generated(3, tfvae.InputError("x.npy holds no images")),
            "^x.npy holds no images$",
        ),
    ],
)
def test_a_source_that_fails_is_one_line(data, message, tmp_path):
    vae = compiled()
    with pytest.raises(tfvae.InputError, match=message) as info:
        train(vae, data, steps_per_call=2, checkpoint_dir=tmp_path, progress=False)
    assert "\n" not in str(info.value)


class Memory(keras.callbacks.Callback):
    """Keeps the MiB that the process uses at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.used = []

    def on_epoch_end(self, epoch, logs=None):
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.used.append(pages * resource.getpagesize() / 2**20)


def stay_small():
    """Train for a thousand steps, and for many epochs that each open a pipeline."""
    # A leak of a batch a step, 64 KiB, would be 30 MiB.
    stream = tf.data.Dataset.from_tensors(np.zeros((256, *SHAPE), "float32")).repeat(250)
    read = Batches(load("digits", memory_limit=0).train, 500, shuffle=True)
    for data, epochs in ((stream, 4), (read, 10)):
        memory = Memory()
        train(
            compiled(),
            data,
            epochs=epochs,
            validation_data=data.take(3) if data is stream else read,
            callbacks=[memory],
            steps_per_call=50,
            progress=False,
        )
        # After two epochs all is made that is made once.
        grown = memory.used[-1] - memory.used[1]
        print(f"grown by {grown:.1f} MiB", flush=True)
        assert grown < 10


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_steps():
    assert processes.run(stay_small) == "done"
