"""The SavedModel by TensorFlow's C API, which is what servers load it with; no Python there."""

import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from exported_model import inputs_for, png, shared_path
from scripts import ROOT

pytestmark = pytest.mark.exhaustive

SOURCE = ROOT / "docs" / "serving" / "client.c"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The README's program, built as its head says."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    program = tmp_path_factory.mktemp("client") / "client"
    head = SOURCE.read_text().partition("*/")[0]
    lines = head.partition("gcc")[2].replace(" *", " ").replace("\\\n", " ").split()
    library = tf.sysconfig.get_lib()
    arguments = [word.replace("$TF", library).replace('"', "") for word in lines]
    arguments[arguments.index("client")] = str(program)
    arguments[arguments.index("client.c")] = str(SOURCE)
    done = subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def exported():
    return shared_path()


def run(client, *arguments, status=0):
    done = subprocess.run(
        [client, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr[-2000:]
    return done


def request(folder, inputs):
    """Write inputs to files, and give the program's arguments."""
    folder.mkdir(parents=True)
    arguments = []
    for name, value in inputs.items():
        if value.dtype == object:
            files = [folder / f"{name}-{index}.in" for index in range(len(value))]
            for file, content in zip(files, value, strict=True):
                file.write_bytes(content)
            arguments.append(f"{name}={','.join(map(str, files))}")
        else:
            np.save(folder / f"{name}.in.npy", value)
            arguments.append(f"{name}={folder / f'{name}.in.npy'}")
    return [*arguments, "--out", folder]


# Of every type in and out. The C library takes a second to prepare each for its first run.
SIGNATURES = ("serving_default", "interpolate", "elbo_uint8", "reconstruct_png", "anomaly_score")


def test_signatures_give_what_they_give_in_python(client, exported, tmp_path):
    arguments, expected, batch = [], {}, 3
    served = tf.saved_model.load(str(exported)).signatures
    for name in SIGNATURES:
        inputs = inputs_for(name.replace("serving_default", "reconstruct"), batch)
        arguments += ["--", name, *request(tmp_path / name, inputs)]
        expected[name] = served[name](**{key: tf.constant(one) for key, one in inputs.items()})
    # One run of the program for all of them.
    run(client, exported, *arguments[1:])
    for name, outputs in expected.items():
        for key, value in outputs.items():
            place = tmp_path / name / key
            if value.dtype == tf.string:
                files = [place.with_name(f"{key}-{index}") for index in range(batch)]
                assert [file.read_bytes() for file in files] == value.numpy().tolist()
            else:
                found = np.load(f"{place}.npy")
                assert found.dtype == value.dtype.as_numpy_dtype
                np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5)


def test_mistakes_end_in_a_line(client, exported, tmp_path):
    good = request(tmp_path / "good", inputs_for("encode", 2))
    for arguments, says in [
        (["nowhere", "encode"], "nowhere: "),
        ([exported, "invert", *good], "invert: the model has no such signature"),
        ([exported, "encode", f"images={SOURCE}"], "is no .npy file"),
        ([exported, "encode_uint8", good[0]], "holds values of another type than the input"),
    ]:
        last = run(client, *arguments, status=1).stderr.splitlines()
        assert [line for line in last if line.startswith("client: error: ") and says in line]


@pytest.mark.parametrize("damage", ["flipped", "huge"])
def test_a_bad_file_is_an_error_and_no_crash(client, exported, tmp_path, damage):
    good = png(np.zeros((9, 7, 1), np.uint8))
    content = {
        "flipped": good[:45] + bytes(b ^ 255 for b in good[45:]),
        # 2 billion pixels, says its header.
        "huge": good[:16] + (50_000).to_bytes(4, "big") * 2 + good[24:],
    }[damage]
    file = tmp_path / "file"
    file.write_bytes(content)
    arguments = ["anomaly_score_png", f"image_bytes={file}", "--out", tmp_path]
    assert (
        "client: error: anomaly_score_png: " in run(client, exported, *arguments, status=1).stderr
    )
