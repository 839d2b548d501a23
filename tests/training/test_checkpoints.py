"""Checkpoints that are damaged, foreign, or cannot be written."""

import os
import resource
import signal
import subprocess

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf

import tfvae
from tfvae.training import train
from tfvae.training.checkpoints import Checkpoints, pack, unpack

SHAPE = (8, 8, 1)


@pytest.fixture
def whole(tmp_path):
    """A directory with two checkpoints, and what is in them, the newest first."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    states = [state_of(step) for step in (2, 1)]
    checkpoints.write(1, states[1])
    checkpoints.write(2, states[0])
    return checkpoints, states


def state_of(step):
    rng = np.random.default_rng(step)
    return pack({"step": step}, {"a": rng.normal(size=(30, 7)), "b": rng.integers(0, 9, 5)})


def test_content_comes_back():
    arrays = {"float": np.array([1.5, np.nan, -np.inf]), "scalar": np.uint32(2**32 - 1)}
    meta = {"history": {"loss": [float("inf"), 0.1]}, "numpy": np.float32(0.5), "none": None}
    facts, values = unpack(pack(meta, arrays))
    assert facts == {"history": {"loss": [float("inf"), 0.1]}, "numpy": 0.5, "none": None}
    for name, array in arrays.items():
        assert values[name].dtype == array.dtype
        np.testing.assert_array_equal(values[name], array)


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    assert checkpoints.read() is None
    for step in (1, 5, 9, 10, 11):
        checkpoints.write(step, state_of(step))
    assert [int(path.name[5:14]) for path in checkpoints.files()] == [11, 10, 9]
    assert checkpoints.read() == state_of(11)


def test_any_change_of_the_newest_is_noticed(whole, capsys):
    checkpoints, (newest, before) = whole
    (file, _) = checkpoints.files()
    rng = np.random.default_rng(0)
    # All bytes of the first header and the directory at the end of the archive, and some between.
    places = {
        *range(100),
        *range(len(newest) - 100, len(newest)),
        *rng.integers(len(newest), size=300),
    }
    damages = [newest[:length] for length in (0, 1, len(newest) // 2, len(newest) - 1)]
    damages += [newest + b"\0", b"\0" * len(newest)]
    for place in places:
        flipped = bytearray(newest)
        flipped[place] ^= 1 << int(rng.integers(8))
        damages.append(bytes(flipped))
    for damage in damages:
        file.write_bytes(damage)
        assert checkpoints.read() == before
        (line,) = capsys.readouterr().err.splitlines()
        assert f"the checkpoint {file} is damaged" in line
        # It was put aside, and would not be looked at again.
        assert not file.exists()
        file.with_suffix(".damaged").unlink()
        assert len(checkpoints.files()) == 1


def test_where_all_are_damaged_nothing_is_deleted(whole):
    checkpoints, _ = whole
    for file in checkpoints.files():
        file.write_bytes(file.read_bytes()[:-1])
    files = {file: file.read_bytes() for file in checkpoints.directory.iterdir()}
    with pytest.raises(tfvae.InputError, match=r"all checkpoints in \S+ are damaged: train anew"):
        checkpoints.read()
    assert {file: file.read_bytes() for file in checkpoints.directory.iterdir()} == files


def test_a_step_that_is_written_again_after_damage_is_the_one_read(whole):
    checkpoints, (newest, _) = whole
    checkpoints.files()[0].write_bytes(newest[:-1])
    checkpoints.read()
    other = pack({"step": 2, "another": "try"}, {})
    checkpoints.write(2, other)
    assert checkpoints.read() == other


def test_what_is_not_complete_is_left_aside(whole):
    checkpoints, (newest, _) = whole
    partial = checkpoints.directory / ".partial"
    partial.write_bytes(b"half")
    (checkpoints.directory / "step-3.npz").write_bytes(b"another file")
    assert checkpoints.read() == newest
    checkpoints.write(3, state_of(3))
    assert not partial.exists()
    assert checkpoints.read() == state_of(3)


# --- trainings that meet them ---------------------------------------------------------------------


@pytest.fixture
def data(rng):
    x = (rng.random((32, *SHAPE)) < 0.3).astype("float32")
    return tf.data.Dataset.from_tensor_slices(x).batch(16)


def compiled(optimizer="adam", latent_dim=2):
    vae = tfvae.VAE.for_images(SHAPE, latent_dim=latent_dim, network="dense", seed=0)
    vae.compile(optimizer)
    return vae


def values_of(vae):
    variables = [*vae.variables, *vae.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


@pytest.mark.exhaustive
def test_a_damaged_newest_is_passed_over_and_trained_again(data, tmp_path, capsys):
    options = {"checkpoint_dir": tmp_path, "steps_per_call": 1, "progress": False}
    once, again = compiled(), compiled()
    train(once, data, epochs=2, checkpoint_seconds=0, **options)
    files = Checkpoints(tmp_path).files()
    files[0].write_bytes(files[0].read_bytes()[:1000])
    train(again, data, epochs=2, **options)
    assert f"the checkpoint {files[0]} is damaged" in capsys.readouterr().err
    for one, other in zip(values_of(once), values_of(again), strict=True):
        # One step is taken again, its sums in another order of threads; see test_training.
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_checkpoint_of_another_model_is_refused(data, tmp_path):
    options = {"checkpoint_dir": tmp_path, "progress": False}
    train(compiled(), data, **options)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    early = keras.callbacks.EarlyStopping("loss")
    for other, callbacks in (
        (compiled(latent_dim=3), []),
        (compiled("sgd"), []),
        (compiled(), [early]),
    ):
        before = values_of(other)
        with pytest.raises(tfvae.InputError, match="the checkpoint is of another training") as info:
            train(other, data, callbacks=callbacks, **options)
        assert "\n" not in str(info.value)
        for one, value in zip(values_of(other), before, strict=True):
            np.testing.assert_array_equal(one, value)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files


# --- disks that are full or cannot be written -----------------------------------------------------


class FullDisk(keras.callbacks.Callback):
    """From a step on no file grows beyond some bytes, as on a disk that is full."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def train_on_a_full_disk(directory):
    data = tf.data.Dataset.from_tensors(np.zeros((8, *SHAPE), "float32")).repeat(5)
    with pytest.raises(OSError, match="File too large"):
        train(
            compiled(),
            data,
            callbacks=[FullDisk()],
            checkpoint_dir=directory,
            checkpoint_seconds=0,
            steps_per_call=1,
            progress=False,
        )


@pytest.mark.exhaustive
def test_a_training_on_a_full_disk_ends_with_its_last_checkpoints(tmp_path):
    assert processes.run(train_on_a_full_disk, tmp_path) == "done"
    checkpoints = Checkpoints(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(checkpoints.files())
    assert [int(file.name[5:14]) for file in checkpoints.files()] == [3, 2]
    meta, _ = unpack(checkpoints.read())
    assert meta["position"]["taken"] == 3


def test_a_full_file_system_keeps_what_it_has(tmp_path):
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted")
    try:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.write(1, state_of(1))
        with pytest.raises(OSError, match="No space left on device"):
            checkpoints.write(2, pack({}, {"a": np.zeros(10_000)}))
        assert list(tmp_path.iterdir()) == checkpoints.files()
        assert checkpoints.read() == state_of(1)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def write_without_permission(directory):
    os.chdir(directory)
    if os.getuid() == 0:  # whom no permission stops
        os.setuid(65534)
    checkpoints = Checkpoints(".")
    damaged, before = checkpoints.files()
    assert checkpoints.read() == state_of(1)
    assert {*checkpoints.files()} == {damaged, before}
    with pytest.raises(PermissionError):
        checkpoints.write(3, state_of(3))


@pytest.mark.exhaustive
def test_a_directory_that_cannot_be_written_is_read_all_the_same(whole):
    checkpoints, (newest, _) = whole
    checkpoints.files()[0].write_bytes(newest[:-1])
    files = {file: file.read_bytes() for file in checkpoints.directory.iterdir()}
    checkpoints.directory.chmod(0o555)
    try:
        assert processes.run(write_without_permission, checkpoints.directory) == "done"
    finally:
        checkpoints.directory.chmod(0o755)
    assert {file: file.read_bytes() for file in checkpoints.directory.iterdir()} == files


def test_a_worker_goes_on_without_the_callbacks_that_only_the_first_has(tmp_path):
    data = tf.data.Dataset.from_tensor_slices(np.zeros((8, *SHAPE), "float32")).batch(4)

    def trained(epochs, *writers):
        vae = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense", seed=0)
        vae.compile("adam")
        stopping = keras.callbacks.EarlyStopping("val_elbo", mode="max", patience=9)
        train(
            vae,
            data,
            epochs=epochs,
            validation_data=data,
            callbacks=[stopping, *writers],
            checkpoint_dir=tmp_path,
            progress=False,
        )
        return stopping.best

    best = trained(2, keras.callbacks.Callback())
    # Nothing is left to train: what is remembered comes from the checkpoint.
    assert trained(2) == best
