"""Run directories that are damaged, prepared by somebody else, or cannot be written."""

import dataclasses
import json
import math
import resource
import signal

import keras
import numpy as np
import processes
import pytest
from command_line import bare_trainings, refused, within

from tfvae.cli import job
from tfvae.errors import InputError
from tfvae.evaluation import ELBOEstimate
from tfvae.saving.config import TrainConfig
from tfvae.saving.run import check_place, default_run_dir

QUICK = {
    "network": "dense:hidden=4",
    "likelihood": "bernoulli",
    "latent_dim": 2,
    "epochs": 2,
    "batch_size": 20,
    "precision": "float32",
}


@pytest.fixture
def config(tmp_path):
    """A training of seconds, on a few vectors of bits."""
    x = (np.random.default_rng(0).random((60, 4)) < 0.3).astype("float32")
    np.save(tmp_path / "x.npy", x)
    return TrainConfig(
        dataset=str(tmp_path / "x.npy"), kind="table", run_dir=tmp_path / "run", **QUICK
    )


@pytest.fixture
def bare():
    with bare_trainings():
        yield


@pytest.mark.exhaustive
def test_a_score_that_is_no_number_is_one_line_and_the_run_has_its_pictures(
    config, monkeypatch, capsys
):
    nan = ELBOEstimate(math.nan, math.nan, math.nan, math.nan, 10)
    monkeypatch.setattr(job, "elbo", lambda *args, **kwargs: nan)
    with bare_trainings(pictures=True):
        done = job.start(config)
    assert math.isnan(done.score.elbo)
    said = [line for line in capsys.readouterr().err.splitlines() if "is not finite" in line]
    assert len(said) == 1
    assert json.loads((done.run_dir / "test.json").read_text())["elbo"] is None
    for name in ("samples", "reconstructions", "latent", "curves"):
        assert (done.run_dir / f"{name}.png").stat().st_size > 1000


@pytest.mark.exhaustive
def test_damaged_metrics_and_a_file_at_tensorboard_are_no_matter(config, bare, capsys):
    run = config.run_dir
    job.start(config, until=1)
    whole = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(whole[:-9])
    (run / "tensorboard").rename(run / "before")
    (run / "tensorboard").write_text("a file")
    job.resume(run)
    rows = (run / "metrics.csv").read_text().splitlines()
    assert rows[:2] == whole.splitlines()
    assert len(rows) == 3
    assert (run / "tensorboard.aside").read_text() == "a file"
    assert "tensorboard is no directory: it is now tensorboard.aside" in capsys.readouterr().err
    # And with nothing left to train, they are written anew all the same.
    (run / "metrics.csv").write_text("")
    job.resume(run)
    assert (run / "metrics.csv").read_text().splitlines() == rows


def test_weight_decay_shortens_kernels_and_nothing_else(config, bare):
    rate, decay = 0.1, 2.0

    def weights(weight_decay):
        changed = {
            "run_dir": config.run_dir / str(weight_decay),
            "prior": "mixture:components=2",
            # One step, of all events.
            "batch_size": 100,
            "epochs": 1,
            "learning_rate": rate,
            "weight_decay": weight_decay,
        }
        done = job.start(dataclasses.replace(config, **changed))
        model = keras.models.load_model(done.run_dir / "model.keras")
        return [(weight.name, weight.numpy()) for weight in model.trainable_variables]

    plain = weights(None)
    assert {name for name, _ in plain} >= {"kernel", "bias", "loc", "log_var"}
    for (name, weight), (_, decayed) in zip(plain, weights(decay), strict=True):
        if name == "kernel":
            # It was shortened by rate · decay of what it started at, from where Adam's first step
            # is as long as its step size.
            start = (weight - decayed) / (rate * decay)
            step = np.abs(weight - start)
            np.testing.assert_allclose(step[step > 1e-4], rate, rtol=1e-2)
            assert np.mean(step > 1e-4) > 0.4
        else:
            np.testing.assert_allclose(decayed, weight, rtol=1e-6)


def test_a_finished_run_without_checkpoints_is_not_trained_over(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text('dataset = "digits"\n')
    (run / "model.keras").write_bytes(b"trained for a week")
    line = refused("train", "--resume", run)
    assert "no checkpoints to go on from, and would be trained anew" in line
    assert (run / "model.keras").read_bytes() == b"trained for a week"


@pytest.mark.parametrize("name", ["checkpoints", "saved_model", "tensorboard/train"])
def test_links_in_a_run_directory_are_refused(tmp_path, name):
    run = tmp_path / "run"
    (run / name).parent.mkdir(parents=True)
    (run / "config.toml").write_text('dataset = "digits"\n')
    (tmp_path / "mine").mkdir()
    (run / name).symlink_to(tmp_path / "mine")
    assert f"{run / name} is a symbolic link" in refused("train", "--resume", run)
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('batch_size = "128"', "config.toml: option batch_size: expected a valid integer"),
        ("dataset = [1]", "option dataset"),
        ("seed = 1979-05-27", "option seed"),
        ('decay = "foo"', "option decay: expected 'cosine', 'stages' or 'none'; received 'foo'"),
        ("clip_norm = -1.0", "option clip_norm: must be > 0; received -1.0"),
        ("clip_norm = inf", "option clip_norm: expected a finite number; received inf"),
    ],
)
def test_a_damaged_config_is_one_line(tmp_path, text, said):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text(f"{text}\n")
    assert said in refused("train", "--resume", run)


# --- a disk that is full --------------------------------------------------------------------------


def export_on_a_full_disk(folder):
    import tfvae

    vae = tfvae.VAE.for_events((64,), latent_dim=2, network="dense:hidden=64", seed=0)
    vae.build((None, 64))
    vae.save(folder / "model.keras")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    _, err = within("export", folder / "model.keras", "--out", folder / "out", status=2)
    line = err.splitlines()[-1]
    assert line.startswith("tfvae: error: cannot use ")
    assert str(folder / "out" / "1") in line
    assert "File too large" in line
    assert "Traceback" not in err
    # Nor is half a version there for a server to take.
    assert not list((folder / "out").iterdir())


@pytest.mark.exhaustive
def test_an_export_on_a_full_disk_is_one_line(tmp_path):
    assert processes.run(export_on_a_full_disk, tmp_path) == "done"


@pytest.mark.exhaustive
def test_a_training_that_cannot_be_written_can_be_gone_on_with(config, bare, monkeypatch):
    """What the message says to go on with is there, also where no checkpoint could be written."""

    def full(self, step, state):
        raise OSError(28, "No space left on device", str(self.directory / ".partial"))

    with monkeypatch.context() as patched:
        patched.setattr("tfvae.training.checkpoints.Checkpoints.write", full)
        with pytest.raises(job.UnwritableError, match="No space left on device") as info:
            job.start(config)
    message = str(info.value)
    assert message.endswith(f"then go on with tfvae train --resume {config.run_dir}")
    assert message.startswith(f"cannot write {config.run_dir}/checkpoints/.partial: ")
    assert job.resume(config.run_dir).score is not None


@pytest.mark.exhaustive
def test_a_run_directory_removed_while_it_trains_is_said(config, bare, monkeypatch):
    import shutil

    true = job.write_metrics

    def gone(path, history):
        shutil.rmtree(config.run_dir)
        true(path, history)

    monkeypatch.setattr(job, "write_metrics", gone)
    with pytest.raises(job.UnwritableError, match="is gone: it was removed while"):
        job.start(config)
    assert not config.run_dir.exists()


def test_the_run_of_a_pattern_is_named_by_its_folder_and_finds_its_files_again(tmp_path):
    pattern = str(tmp_path / "people" / "*.csv")
    assert default_run_dir(pattern).name.startswith("people-")
    assert default_run_dir("x/people.csv").name.startswith("people.csv-")
    with pytest.raises(InputError, match=r"the run's data are no longer at .*\*\.csv: look"):
        check_place(TrainConfig(dataset=pattern), "look")
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "1.csv").write_text("a,b\n1,2\n")
    check_place(TrainConfig(dataset=pattern), "look")
