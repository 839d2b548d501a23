"""Generated calls of the library with what does not fit: one line that says so, and nothing else.

Each door is a call with one argument left open. What comes through it is drawn from values of all
kinds. A call may take the value for good; else it raises `InputError`, in one line.
"""

import datetime
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tfvae
from tfvae import datasets, evaluation, plotting, training
from tfvae.training import loop

SHAPE = (8, 8, 1)
JUNK = {
    "None": None,
    "True": True,
    "0": 0,
    "1": 1,
    "-1": -1,
    "1.5": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "2**31": 2**31,
    "2**70": 2**70,
    "x": "x",
    "no text": "",
    "bytes": b"x",
    "[]": [],
    "()": (),
    "{}": {},
    "dict": {"a": 1},
    "set": {1},
    "ragged": [[1], [2, 3]],
    "object": object(),
    "date": datetime.date(1979, 5, 27),
    "function": len,
    "type": int,
    "no array": np.zeros((0,), np.float32),
    "no images": np.zeros((0, *SHAPE), np.float32),
    "a row": np.zeros((3,), np.float32),
    "a table": np.zeros((2, 3), np.float32),
    "images": np.ones((3, *SHAPE), np.float32),
    "nan images": np.full((3, *SHAPE), np.nan, np.float32),
    "large images": np.full((3, *SHAPE), 255, np.int64),
    "words": np.array(["a", "b"]),
    "objects": np.array([{}, 1], object),
    "complex": np.zeros((3, *SHAPE), np.complex64),
    "tensor": tf.zeros((3, 2)),
    "data set": tf.data.Dataset.from_tensors(np.zeros((2, 3), np.float32)),
    "model": keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
}
OF_A_MODEL = [
    *("latent_dim", "likelihood", "posterior", "prior", "objective", "network", "num_classes"),
    *("missing", "seed"),
]
OF_DATA = ["seed", "validation", "test", "binarize", "dequantize", "kind", "value_range", "missing"]
OF_DATA += ["image_size", "columns", "label", "drop", "background", "memory_limit", "manual_dir"]


def doors_of(folder):
    """Give the calls by name, each a function of the value that is left open."""
    x = (np.random.default_rng(0).random((12, *SHAPE)) < 0.3).astype("float32")
    z = np.zeros((12, 2), np.float32)
    np.save(folder / "x.npy", x)
    file = str(folder / "x.npy")
    split = datasets.load(file).train
    batches = datasets.Batches(split, 4)
    network = {"network": "dense:hidden=4"}

    def make(**options):
        return tfvae.VAE.for_images(SHAPE, **{**network, "latent_dim": 2, "seed": 0, **options})

    vae = make()
    vae.compile("adam")
    found = {
        "for_events": lambda one: tfvae.VAE.for_events(one, **network),
        "for_images": lambda one: tfvae.VAE.for_images(one, **network),
        "compile": lambda one: make().compile(one),
        "encode": vae.encode,
        "code": vae.code,
        "reconstruct": vae.reconstruct,
        "decode": vae.decode,
        "log_likelihood": lambda one: vae.log_likelihood(x, one),
        "log_likelihood of": lambda one: vae.log_likelihood(one, z),
        "elbo": vae.elbo,
        "elbo num_samples": lambda one: vae.elbo(x, num_samples=one),
        "elbo seed": lambda one: vae.elbo(x, seed=one),
        "elbo label": lambda one: vae.elbo(x, one),
        "sample": lambda one: vae.sample(_few(one)),
        "sample seed": lambda one: vae.sample(2, seed=one),
        "sample label": lambda one: vae.sample(2, label=one),
        "interpolate": lambda one: vae.interpolate(x[:1], one),
        "interpolate steps": lambda one: vae.interpolate(x[:1], x[1:2], steps=one),
        "fit": vae.fit,
        "fit y": lambda one: vae.fit(x, one),
        "fit batch_size": lambda one: vae.fit(x, batch_size=one),
        "fit epochs": lambda one: vae.fit(x, epochs=one),
        "fit sample_weight": lambda one: vae.fit(x, sample_weight=one),
        "fit validation_data": lambda one: vae.fit(x, validation_data=one),
        "train model": lambda one: training.train(one, batches),
        "train": lambda one: training.train(vae, one),
        "train validation": lambda one: training.train(vae, batches, validation_data=one),
        "train epochs": lambda one: training.train(vae, batches, epochs=one),
        "train steps": lambda one: training.train(vae, batches, steps_per_call=one),
        "train seconds": lambda one: training.train(vae, batches, checkpoint_seconds=one),
        "train callback": lambda one: training.train(vae, batches, callbacks=[one]),
        "image_grid": plotting.image_grid,
        "event_grid": plotting.event_grid,
        "reconstructions": lambda one: plotting.reconstructions(one, one),
        "reconstructions of": lambda one: plotting.reconstructions(x, one),
        "event_rows": plotting.event_rows,
        "curves": plotting.curves,
        "latent_map": plotting.latent_map,
        "load": datasets.load,
        "Batches": lambda one: datasets.Batches(one, 3),
        "Batches size": lambda one: datasets.Batches(split, one),
        "batches": split.batches,
        "arrays": lambda one: split.arrays(limit=one),
        "subset": split.subset,
        "tfvae.load": tfvae.load,
        "log_prob": lambda one: evaluation.log_prob(vae, one, num_samples=2),
        "log_prob model": lambda one: evaluation.log_prob(one, x, num_samples=2),
        "log_prob samples": lambda one: evaluation.log_prob(vae, x, num_samples=_few(one)),
        "log_prob seed": lambda one: evaluation.log_prob(vae, x, num_samples=2, seed=one),
        "log_prob chunk": lambda one: evaluation.log_prob(vae, x, num_samples=2, chunk_size=one),
        "log_prob batch": lambda one: evaluation.log_prob(vae, x, num_samples=2, batch_size=one),
        "log_prob levels": lambda one: evaluation.log_prob(vae, x, num_samples=2, levels=one),
    }
    for name in OF_A_MODEL:
        found[f"model {name}"] = lambda one, name=name: make(**{name: one})
    for name in OF_DATA:
        found[f"load {name}"] = lambda one, name=name: datasets.load(file, **{name: one})
    return found


def _few(value):
    # What fits would take all memory.
    return 3 if type(value) is int and 2**16 < value < 2**31 else value


def name_of_problem(call, value):
    """Give what is wrong with how a call meets a value, None where nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(value)
    except tfvae.InputError as error:
        return f"{error}" if "\n" in str(error) else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """The calls, none of which trains."""
    with pytest.MonkeyPatch.context() as patched:
        yield prepare(tmp_path_factory.mktemp("calls"), patched)


def prepare(folder, patched):
    """Give the calls, and let what trains be done by stand-ins."""
    patched.setattr(keras.Model, "fit", lambda *args, **kwargs: None)
    patched.setattr(loop._Training, "run", lambda self: None)
    return doors_of(folder)


@settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_what_does_not_fit_is_said_in_one_line(doors, data):
    door = data.draw(st.sampled_from(sorted(doors)))
    value = data.draw(st.sampled_from(sorted(JUNK)))
    assert name_of_problem(doors[door], JUNK[value]) is None


@pytest.mark.exhaustive
def test_no_value_of_any_kind_comes_through_any_door(doors):
    found = {
        (door, name): problem
        for door, call in doors.items()
        for name, value in JUNK.items()
        if (problem := name_of_problem(call, value))
    }
    assert not found
