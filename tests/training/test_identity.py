"""A checkpoint goes on with the model and the data that it began with, and sets nothing else."""

import json
import shutil

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf

import tfvae
from tfvae.datasets import Batches, load
from tfvae.training import train
from tfvae.training.checkpoints import Checkpoints, pack, unpack
from tfvae.training.identity import compare, identity_of

SHAPE = (4,)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Two files of one shape and name: vectors of bits, and the same inverted."""
    folder = tmp_path_factory.mktemp("arrays")
    x = (np.random.default_rng(0).random((40, *SHAPE)) < 0.3).astype("float32")
    for name, values in (("mine", x), ("inverted", 1 - x)):
        (folder / name).mkdir()
        np.save(folder / name / "x.npy", values)
    return folder


def batches(arrays, name="mine", batch_size=8, **options):
    data = load(str(arrays / name / "x.npy"), kind="table", validation=0.2, **options)
    return Batches(data.train, batch_size, shuffle=True)


def compiled(optimizer="adam", **options):
    options = {"likelihood": "bernoulli", "seed": 0, "latent_dim": 2, **options}
    vae = tfvae.VAE.for_events(SHAPE, network="dense:hidden=4", **options)
    vae.compile(optimizer)
    return vae


@pytest.fixture(scope="module")
def begun(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    train(compiled(), batches(arrays), checkpoint_dir=folder, progress=False)
    return folder


def go_on(model, data, folder):
    return train(model, data, epochs=1, checkpoint_dir=folder, progress=False)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "inverted"}, "the events of the data"),
        ({"seed": 3}, "the events of the data, and how batches are made"),
        ({"batch_size": 9}, "how batches are made"),
        ({"likelihood": "normal:scale=0.5"}, r"the model \(network, likelihood"),
        ({"objective": "elbo:beta=2"}, r"the model \(network, likelihood"),
        ({"model_seed": 5}, r"the model \(network, likelihood"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_another_training_is_refused_with_what_differs(begun, arrays, change, said):
    of_data = {
        name: value for name, value in change.items() if name in ("name", "seed", "batch_size")
    }
    of_model = {name: value for name, value in change.items() if name not in of_data}
    if "model_seed" in of_model:
        of_model = {"seed": of_model["model_seed"]}
    files = {file: file.read_bytes() for file in begun.iterdir()}
    with pytest.raises(tfvae.InputError, match=f"what differs is {said}"):
        go_on(compiled(**of_model), batches(arrays, **of_data), begun)
    assert {file: file.read_bytes() for file in begun.iterdir()} == files


def test_layers_named_as_options_are_do_not_make_it_another_training():
    def digests():
        model = tfvae.HierarchicalVAE.for_images(
            (8, 8, 1), network="conv:filters=4,hidden=8", groups="4,3", seed=0
        )
        model.compile("adam")
        return identity_of(model, tf.data.Dataset.from_tensors(np.zeros((2, 8, 8, 1), "float32")))

    keras.utils.clear_session(free_memory=False)
    first = digests()  # has a layer "activation", whose option is that as well
    assert digests() == first  # has "activation_1" and so on


def test_another_number_of_workers_that_share_files_is_said(capsys):
    shared = {"model": "m", "shares": "2"}
    for before, now in ((shared, {"model": "m"}), (shared, shared | {"shares": "3"})):
        compare(before, now)
        assert "the number of workers that share the files" in capsys.readouterr().err
    compare(shared, shared)
    assert not capsys.readouterr().err


def test_what_is_harmless_is_said(begun, arrays, capsys):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = compiled(keras.optimizers.Adam(0.1))
    keras.config.set_dtype_policy("float32")
    go_on(model, batches(arrays), begun)
    said = capsys.readouterr().err
    assert "goes on with the precision changed since its checkpoint" in said
    assert "goes on with the options of the optimizer changed" in said
    go_on(compiled(), batches(arrays), begun)
    assert "changed since" not in capsys.readouterr().err


def train_with_memory(arrays, folder):
    early = keras.callbacks.EarlyStopping("loss")
    train(compiled(), batches(arrays), callbacks=[early], checkpoint_dir=folder, progress=False)


@pytest.fixture(scope="module")
def remembered(arrays, tmp_path_factory):
    """A directory whose checkpoint holds what a callback remembers."""
    folder = tmp_path_factory.mktemp("remembered")
    train_with_memory(arrays, folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda meta: meta["callbacks"][-1].update(model=None), "sets 'model' of EarlyStopping"),
        (lambda meta: meta["callbacks"][-1].update(patience=1), "sets 'patience' of EarlyStopping"),
        (lambda meta: meta["callbacks"][-1].update(state={}), "sets 'state' of EarlyStopping"),
        (lambda meta: meta["position"].update(epoch="x"), "what no training wrote"),
        (lambda meta: meta["position"].update(more=1), "what no training wrote"),
        (lambda meta: meta["position"].update(history=[1]), "what no training wrote"),
        (lambda meta: meta.pop("of"), "what no training wrote"),
        (lambda meta: meta.update(callbacks=3), "what no training wrote"),
    ],
)
def test_a_crafted_checkpoint_sets_nothing_but_what_was_written(
    arrays, remembered, tmp_path, damage, said
):
    shutil.copytree(remembered, tmp_path, dirs_exist_ok=True)
    checkpoints = Checkpoints(tmp_path)
    meta, content = unpack(checkpoints.read())
    damage(meta)
    checkpoints.write(10**6, pack(meta, content))
    with pytest.raises(tfvae.InputError, match=said) as info:
        train_with_memory(arrays, tmp_path)
    assert "\n" not in str(info.value)


class Waiting(keras.callbacks.Callback):
    def __init__(self, begun, go_on):
        super().__init__()
        self._events = begun, go_on

    def on_epoch_end(self, epoch, logs=None):
        begun, go_on = self._events
        begun.set()
        go_on.wait(60)


def train_slowly(arrays, folder, begun, go_on):
    waiting = Waiting(begun, go_on)
    train(compiled(), batches(arrays), checkpoint_dir=folder, callbacks=[waiting], progress=False)


@pytest.mark.exhaustive
def test_two_trainings_do_not_share_a_directory(arrays, tmp_path):
    begun, finish = processes.event(), processes.event()
    first = processes.start(train_slowly, arrays, tmp_path, begun, finish)
    assert begun.wait(120)
    with pytest.raises(tfvae.InputError, match=f"is in use by process {first.pid} "):
        go_on(compiled(), batches(arrays), tmp_path)
    finish.set()
    assert processes.finish(first) == "done"
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


class Removing(keras.callbacks.Callback):
    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    def on_train_batch_end(self, batch, logs=None):
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()


def test_a_directory_removed_while_it_is_trained_in_stays_so(arrays, tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(FileNotFoundError, match="checkpoints"):
        train(
            compiled(),
            batches(arrays),
            checkpoint_dir=folder,
            callbacks=[Removing(folder)],
            progress=False,
        )
    assert not folder.exists()


def test_a_link_at_the_name_of_a_partial_checkpoint_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("keep")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / ".partial").symlink_to(precious)
    Checkpoints(folder).write(1, pack({"step": 1}, {}))
    assert precious.read_text() == "keep"
    assert [path.suffix for path in folder.iterdir()] == [".npz"]


def test_options_of_the_training_are_finite(arrays):
    for options in ({"global_clipnorm": float("inf")}, {"clipnorm": float("nan")}):
        with pytest.raises(tfvae.InputError, match="clipnorm of the optimizer is a finite number"):
            compiled(keras.optimizers.Adam(1e-3, **options))
    for seconds in (float("inf"), float("nan"), -1, "soon"):
        with pytest.raises(tfvae.InputError, match="checkpoint_seconds"):
            train(compiled(), batches(arrays), checkpoint_seconds=seconds)


class Spoilt(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return tf.where(tf.cast(step, tf.int32) < 2, 1e-3, float("nan"))

    def get_config(self):
        return {}


@pytest.mark.few(1)
@pytest.mark.parametrize("loop", ["fit", "train"])
def test_a_step_size_that_is_not_finite_reaches_no_weight(arrays, loop):
    vae = compiled(keras.optimizers.Adam(Spoilt()))
    x = np.load(arrays / "mine" / "x.npy")
    with pytest.raises(tfvae.errors.DivergenceError, match="not finite at step 3"):
        if loop == "fit":
            vae.fit(x, batch_size=8, verbose=0)
        else:
            train(vae, batches(arrays), progress=False)
    for weight in vae.weights:
        assert np.isfinite(keras.ops.convert_to_numpy(weight)).all()


def test_json_of_identity_is_text(begun):
    meta, _ = unpack(Checkpoints(begun).read())
    assert set(meta["of"]) == {"model", "events", "order", "precision", "optimizer"}
    assert json.dumps(meta["of"])
