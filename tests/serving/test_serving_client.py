"""The client of TensorFlow Serving's two interfaces, against servers of their formats."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from exported_model import inputs_for, seeds, shared_path
from model_server import model_server

import tfvae
from tfvae.serving.client import Client


@pytest.fixture(scope="module")
def signatures():
    return tf.saved_model.load(str(shared_path())).signatures


@pytest.fixture(scope="module")
def addresses(signatures):
    with model_server(shared_path(), signatures) as found:
        yield dict(zip(("rest", "grpc"), found, strict=True))


@pytest.fixture(scope="module")
def in_python(signatures):
    """What every signature gives in Python, with its inputs."""
    found = {}
    for name, signature in signatures.items():
        inputs = inputs_for(name.replace("serving_default", "reconstruct"), 3)
        found[name] = inputs, signature(**{key: tf.constant(one) for key, one in inputs.items()})
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_every_signature_gives_what_it_gives_in_python(in_python, addresses, protocol):
    client = Client(addresses[protocol])
    # What a server says itself is what there is.
    assert set(client.signatures) == set(in_python)
    for name, (inputs, expected) in in_python.items():
        found = client(name, **inputs)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key].shape == value.shape, (name, key)
            if value.dtype == tf.string:
                assert found[key].tolist() == value.numpy().tolist()
            else:
                assert found[key].dtype == value.dtype.as_numpy_dtype
                np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)


def test_lists_will_do(addresses):
    draws = [Client(address)("sample", seed=[[5, 0], [5, 1]]) for address in addresses.values()]
    np.testing.assert_array_equal(draws[0]["images"], draws[1]["images"])
    whole = Client(addresses["grpc"])("sample", seed=seeds(3))["images"]
    np.testing.assert_allclose(draws[0]["images"], whole[:2], atol=1e-6)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_mistakes_are_told_in_one_line(addresses, protocol):
    client = Client(addresses[protocol])
    with pytest.raises(tfvae.InputError, match=r"no signature 'invert': expected one of .*encode"):
        client("invert", images=[0])
    with pytest.raises(tfvae.InputError, match="sample takes seed; received z"):
        client("sample", z=[0])
    with pytest.raises(tfvae.InputError, match=r"seed is of int32; received float64: convert it"):
        client("sample", seed=[[0.5, 1.0]])
    with pytest.raises(tfvae.InputError, match=r"says: .*expected PNG or JPEG files"):
        client("encode_png", image_bytes=[b"text"])
    with pytest.raises(tfvae.InputError, match="says: Servable not found"):
        Client(addresses[protocol], "another")("sample", seed=[[0, 1]])


def test_where_nobody_listens():
    for scheme in ("http", "grpc"):
        with pytest.raises(OSError):
            Client(f"{scheme}://127.0.0.1:9")("sample", seed=[[0, 1]])
    for address in ("localhost:8501", "ftp://localhost", "http://", ""):
        with pytest.raises(tfvae.InputError, match="an address is one of http://HOST:PORT"):
            Client(address)


WITHOUT_TENSORFLOW = """
import sys
from tfvae.serving.client import Client
client = Client(sys.argv[1])
assert client("sample", seed=[[5, 0]])["images"].shape[0] == 1
assert client.signatures["sample"].inputs["seed"].dtype == "int32"
loaded = [name for name in ("tensorflow", "keras", "tensorflow_probability") if name in sys.modules]
assert not loaded, loaded
"""


def test_rest_needs_no_tensorflow(addresses):
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, addresses["rest"]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_protocols_tell_the_same_of_a_model(addresses):
    rest, grpc = (Client(address).signatures for address in addresses.values())
    assert rest == grpc
