"""The command line as a process, the way a user meets it; and within one, where that is slow."""

import json
import re
import subprocess
import sys
import time
import tomllib

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import QUICK, refused, tfvae_command, within
from PIL import Image

import tfvae
from tfvae import cli, datasets, expost, job, likelihoods, objectives, posteriors, priors, runs
from tfvae.config import TrainConfig

PICTURES = ("samples.png", "reconstructions.png", "latent.png", "curves.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory, from the main job with few epochs."""
    folder = tmp_path_factory.mktemp("cli")
    done = tfvae_command("train", "--run-dir", "run", *QUICK, "--seed", "3", "--json", cwd=folder)
    return folder / "run", json.loads(done.stdout)


def snapshot(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_main_job_with_no_option(tmp_path):
    done = tfvae_command("train", cwd=tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("digits-")
    for name in (*PICTURES, "model.keras", "saved_model", "metrics.csv", "config.toml"):
        assert (run / name).exists()
        assert name in done.stdout
    assert list((run / "tensorboard").rglob("events*"))
    for text in ("elbo=", "log_likelihood=", "kl=", "1437 training, 180 validation"):
        assert text in done.stderr
    assert f"tfvae sample runs/{run.name}" in done.stdout
    # -28.5 is what the best independent pixels reach on these images.
    data = datasets.load("digits")
    mean = data.train.arrays()[0].mean(axis=0)
    images = data.test.arrays()[0]
    margin = np.clip(mean, 1e-3, 1 - 1e-3)
    independent = np.mean(
        np.sum(images * np.log(margin) + (1 - images) * np.log(1 - margin), axis=(1, 2, 3))
    )
    score = json.loads((run / "test.json").read_text())
    assert score["images"] == 180
    assert score["elbo"] > independent + 2
    # The commands that it says to try next work as they are printed.
    for line in done.stdout.splitlines():
        if "tfvae " in line:
            words = line[line.index("tfvae ") :].split()
            tfvae_command(*words[1:], cwd=tmp_path)


def test_a_run_directory_repeats_and_describes_the_run(run):
    folder, score = run
    assert score["run_dir"] == "run"
    options = tomllib.loads((folder / "config.toml").read_text())
    assert options["seed"] == 3
    assert options["epochs"] == 2
    assert TrainConfig.read(folder / "config.toml").latent_dim == 2
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    assert {"elbo", "log_likelihood", "kl", "val_elbo"} <= set(rows[0].split(","))
    for name in PICTURES:
        with Image.open(folder / name) as image:
            assert min(image.size) > 100
            assert len(image.convert("L").getcolors(256)) > 10
    # The same options give the same weights.
    again = tfvae_command(
        "train", "--config", folder / "config.toml", "--run-dir", "again", "--json",
        cwd=folder.parent,
    )  # fmt: skip
    assert json.loads(again.stdout)["elbo"] == pytest.approx(score["elbo"], abs=1e-3)


def test_model_and_export_of_a_run_agree(run):
    folder, score = run
    vae = keras.models.load_model(folder / "model.keras")
    x, _ = datasets.load("digits", seed=3).test.arrays()
    signatures = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures
    np.testing.assert_allclose(
        signatures["reconstruct"](images=tf.constant(x))["images"], vae.reconstruct(x), atol=1e-5
    )
    np.testing.assert_allclose(np.mean(vae.elbo(x).kl), score["kl"], rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["sample", "RUN", "--n", "5", "--seed", "1"], {"n": 5, "seed": 1}),
        (["sample", "RUN/model.keras", "--n", "2"], {"n": 2}),
        (["reconstruct", "RUN", "--n", "4"], {"n": 4}),
        (["interpolate", "RUN", "--pairs", "2", "--steps", "5"], {"pairs": 2, "steps": 5}),
        (["traverse", "RUN", "--dimensions", "1", "0"], {"dimensions": [1, 0]}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_write_pictures_where_told(run, tmp_path, arguments, facts):
    arguments = [argument.replace("RUN", str(run[0])) for argument in arguments]
    done = tfvae_command(*arguments, "--out", "new/picture.png", "--json", cwd=tmp_path)
    printed = json.loads(done.stdout)
    assert printed["out"] == "new/picture.png"
    assert facts.items() <= printed.items()
    with Image.open(tmp_path / "new" / "picture.png") as image:
        assert min(image.size) > 50
    before = snapshot(tmp_path)
    refused = tfvae_command(*arguments, "--out", "new/picture.png", cwd=tmp_path, status=2)
    assert "picture.png exists: choose another --out or give --overwrite" in refused.stderr
    assert snapshot(tmp_path) == before


def test_export_writes_the_next_version_of_a_model(run, tmp_path):
    done = tfvae_command(
        "export", run[0], "--out", "served", "--num-samples", "7", "--json", cwd=tmp_path
    )
    facts = json.loads(done.stdout)
    assert facts["out"] == "served/1"
    signatures = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures
    assert set(facts["signatures"]) == set(signatures) - {"serving_default"}
    assert "7 draws" in (tmp_path / "served" / "1" / "README.md").read_text()
    within("export", tmp_path / "served", "--out", tmp_path / "served", "--data-licence", "mine")
    card = json.loads((tmp_path / "served" / "2" / "card.json").read_text())
    assert card["data"]["licence"] == "mine"
    # A model is read from it as from the run.
    arguments = ["--n", "3", "--seed", "2", "--out"]
    within("sample", tmp_path / "served", *arguments, tmp_path / "a.png")
    within("sample", run[0], *arguments, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    line = refused("export", run[0], "--out", run[0])
    assert "expected a directory of versions NAME/1, NAME/2" in line


def test_the_card_of_a_run_tells_all_but_where_it_was(run):
    folder, score = run
    text = (folder / "saved_model" / "1" / "card.json").read_text()
    card = json.loads(text)
    assert card["metrics"]["elbo"] == pytest.approx(score["elbo"])
    assert card["metrics"]["standard_error"] == pytest.approx(score["standard_error"])
    assert card["data"]["name"] == "digits"
    assert "CC BY 4.0" in card["data"]["licence"]
    assert sum(card["data"]["images"].values()) == 1797
    assert card["training"]["seed"] == 3
    assert card["preprocessing"]["binarize"] == "none"
    assert str(folder.parent) not in text
    # A threshold that is right for the validation images that it was made from.
    validation = datasets.load("digits", seed=3).validation
    signature = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures["anomaly_score"]
    found = signature(images=tf.constant(validation.arrays()[0]))
    above = np.mean(found["is_anomaly"])
    assert above == pytest.approx(card["anomaly"]["rate"], abs=1 / len(validation))


def test_a_model_without_its_run_needs_to_be_told_the_images(run, tmp_path):
    lone = tmp_path / "lone.keras"
    lone.write_bytes((run[0] / "model.keras").read_bytes())
    done = tfvae_command("evaluate", lone, cwd=tmp_path, status=2)
    assert "no config.toml beside" in done.stderr
    assert "give --dataset" in done.stderr
    done = tfvae_command("evaluate", lone, "--dataset", "digits", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["images"] == 180


def test_help_answers_before_tensorflow_could_load():
    code = (
        "import sys, tfvae.cli\n"
        "try: tfvae.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "loaded = {'tensorflow', 'keras', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    for arguments in (["--help"], ["train", "--help"], ["sample", "--help"], ["--version"], []):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "sage" in done.stdout or tfvae.__version__ in done.stdout
    for command in ("train", "evaluate", "sample", "reconstruct", "interpolate", "traverse"):
        assert command in tfvae_command("--help", cwd=".").stdout


# --- labels, and other families than the default ones ---------------------------------------------


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A run of a conditional model with other families than the default ones."""
    folder = tmp_path_factory.mktemp("conditional") / "run"
    out, err = within(
        "train", "--run-dir", folder, *QUICK, "--conditional", "--likelihood", "normal:scale=0.3",
        "--posterior", "full_normal", "--prior", "class_normal",
        "--objective", "elbo:beta=linear(steps=10)", "--json",
    )  # fmt: skip
    return folder, json.loads(out), err


def test_a_run_keeps_the_families_it_was_given(conditional):
    folder, score, err = conditional
    assert np.isfinite(score["elbo"])
    assert "KL in closed form" in err
    for name in PICTURES:
        assert (folder / name).exists()
    options = TrainConfig.read(folder / "config.toml")
    assert options.conditional
    assert options.objective == "elbo:beta=linear(steps=10)"
    vae = keras.models.load_model(folder / "model.keras")
    assert vae.num_classes == 10
    assert type(vae.posterior_family) is posteriors.FullNormal
    assert type(vae.prior_family) is priors.ClassNormal
    assert vae.likelihood_family.scale == 0.3
    assert type(vae.objective.beta).__name__ == "Linear"
    signatures = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures
    assert "label" in signatures["sample"].structured_input_signature[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], np.repeat(np.arange(10), 2)),
        (["--label", "3"], np.full(20, 3)),
        (["--ex-post", "gaussian_mixture:components=3"], np.repeat(np.arange(10), 2)),
        (["--ex-post", "gaussian_mixture:components=3", "--label", "0"], np.zeros(20)),
    ],
    ids=["each", "label", "ex-post", "ex-post-label"],
)
def test_sample_takes_labels(conditional, tmp_path, monkeypatch, arguments, expected):
    seen = []
    sample = tfvae.VAE.sample

    def spy(vae, n, *, label, seed):
        seen.append((np.broadcast_to(label, n), type(vae.prior_family)))
        return sample(vae, n, label=label, seed=seed)

    monkeypatch.setattr(tfvae.VAE, "sample", spy)
    within("sample", conditional[0], "--n", 20, "--out", tmp_path / "x.png", *arguments)
    ((labels, prior),) = seen
    np.testing.assert_array_equal(labels, expected)
    assert prior is (priors.Fixed if "--ex-post" in arguments else priors.ClassNormal)
    assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize("n", [1, 3, 10, 64])
def test_a_grid_has_about_as_many_of_each_label(conditional, n):
    vae = keras.models.load_model(conditional[0] / "model.keras")
    labels = runs.grid_labels(vae, n)
    assert labels.shape == (n,)
    assert np.all(np.diff(labels) >= 0)
    assert labels.max() < 10
    counts = np.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1


def test_the_other_commands_take_a_conditional_model(conditional, tmp_path, monkeypatch):
    folder, score, _ = conditional
    data = datasets.load("digits")
    images, labels = data.test.arrays()
    seen = {}
    for name in ("reconstruct", "interpolate", "traverse"):
        method = getattr(tfvae.VAE, name)

        def spy(vae, *args, name=name, method=method):
            seen.setdefault(name, args)
            return method(vae, *args)

        monkeypatch.setattr(tfvae.VAE, name, spy)

    within("reconstruct", folder, "--n", 4, "--out", tmp_path / "r.png")
    np.testing.assert_array_equal(seen["reconstruct"][1], labels[:4])
    out, _ = within("interpolate", folder, "--pairs", 12, "--steps", 3, "--json",
                    "--out", tmp_path / "i.png")  # fmt: skip
    assert json.loads(out)["pairs"] == 12
    first, second, steps, given = seen["interpolate"]
    assert steps == 3
    np.testing.assert_array_equal(given, [*range(10), 0, 1])
    for ends in (first, second):
        for image, label in zip(ends, given, strict=True):
            (row,) = np.flatnonzero((images == image).all(axis=(1, 2, 3)))
            assert labels[row] == label
    assert np.all((first != second).any(axis=(1, 2, 3)))
    within("traverse", folder, "--image", 5, "--steps", 3, "--out", tmp_path / "t.png")
    assert seen["traverse"][3] == labels[5]
    for name in "rit":
        assert (tmp_path / f"{name}.png").exists()

    out, _ = within("evaluate", folder, "--json")
    assert json.loads(out)["kl"] == pytest.approx(score["kl"], rel=1e-4)
    within("export", folder, "--out", tmp_path / "served")
    assert (tmp_path / "served" / "1" / "saved_model.pb").exists()


def test_lines_run_between_images_of_one_label():
    labels = np.array([1, 0, 1, 1, 0, 1, 2, 1])
    first, second = cli._pairs_of_a_label(labels, 10)
    assert first.tolist() == [1, 0, 3]
    assert second.tolist() == [4, 2, 5]
    assert cli._pairs_of_a_label(labels, 2)[0].tolist() == [1, 0]
    assert [len(rows) for rows in cli._pairs_of_a_label(np.arange(5), 2)] == [0, 0]


def test_labels_that_do_not_fit_end_in_one_line(conditional, run, tmp_path):
    folder, (unconditional, _) = conditional[0], run
    out = ("--out", tmp_path / "x.png")
    assert "expected labels below 10, from 0; received labels from 10 to 10" in refused(
        "sample", folder, "--label", 10, *out
    )
    assert "the model takes no labels" in refused("sample", unconditional, "--label", 3, *out)
    assert "unknown density 'kde': expected one of gaussian_mixture, realnvp, maf" in refused(
        "sample", folder, "--ex-post", "kde", *out
    )
    assert "components is a whole number from 1" in refused(
        "sample", unconditional, "--ex-post", "gaussian_mixture:components=0", *out
    )
    images = np.random.default_rng(0).random((10, 8, 8)).astype("float32")
    np.save(tmp_path / "bare.npy", images)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(10))
    np.savez(tmp_path / "many.npz", images=images, labels=np.arange(10, 20))
    for command in ("reconstruct", "interpolate", "traverse"):
        line = refused(command, folder, "--dataset", tmp_path / "bare.npy", *out)
        assert re.search(r"the model is conditional, and .*bare\.npy has no labels", line)
    assert "expected labels below 10" in refused(
        "reconstruct", folder, "--dataset", tmp_path / "many.npz", *out
    )
    assert "expected at least two test images of one label" in refused(
        "interpolate", folder, "--dataset", tmp_path / "few.npz", *out
    )
    assert "bare.npy has no labels for a conditional model" in refused(
        "train", "--conditional", "--dataset", tmp_path / "bare.npy", "--run-dir", tmp_path / "run"
    )
    assert not (tmp_path / "x.png").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--posterior", "gauss"], "unknown posterior 'gauss': expected one of normal, full_"),
        (["--prior", "gauss"], "unknown prior 'gauss': expected one of standard_normal, mixture"),
        (["--objective", "gauss"], "unknown objective 'gauss': expected one of elbo, stl, free_"),
        (["--objective", "elbo:beta=ramp(steps=3)"], "or one of constant, linear, cyclical"),
        (["--objective", "elbo:gamma=3"], "unknown option 'gamma' of objective 'elbo'"),
        (["--posterior", "iaf:flows=0"], "flows is a whole number from 1; received 0"),
        (["--prior", "class_normal"], "needs a conditional model"),
        (["--prior", "vamp", "--conditional"], "choose the prior"),
        (["--prior", "vamp:pseudo_inputs=1438"], "expected 1438 images or more"),
        (["--prior", "realnvp", "--latent-dim", "1"], "needs a latent dimension from 2"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_families_that_do_not_fit_end_in_one_line(tmp_path, arguments, message):
    line = refused("train", "--run-dir", tmp_path / "run", "--network", "dense", *arguments)
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def untrained(monkeypatch, tmp_path):
    """Give the model that a command would train, just before it does."""

    def start(*arguments):
        seen = []

        def stop(vae, *_, **__):
            seen.append(vae)
            raise tfvae.InputError("stopped")

        monkeypatch.setattr(job, "train", stop)
        assert "stopped" in refused(
            "train", "--run-dir", tmp_path / "run", "--network", "dense", *arguments
        )
        return seen[0]

    return start


def test_an_objective_learns_the_size_of_the_data_set(untrained):
    vae = untrained("--objective", "beta_tc:beta=2")
    assert vae.objective.dataset_size == len(datasets.load("digits").train) == 1437
    assert untrained("--objective", "beta_tc:dataset_size=9").objective.dataset_size == 9


def test_pseudo_inputs_start_as_training_images(untrained):
    vae = untrained("--prior", "vamp:pseudo_inputs=7", "--binarize", "threshold", "--seed", "3")
    images, _ = datasets.load("digits", binarize="threshold", seed=3).train.arrays(limit=7)
    np.testing.assert_allclose(vae.prior_family.images, np.clip(images, 0.01, 0.99), atol=1e-5)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("likelihood", likelihoods.KNOWN),
        ("posterior", posteriors.KNOWN),
        ("prior", priors.KNOWN),
        ("objective", objectives.KNOWN),
        ("ex-post", expost.KNOWN),
    ],
)
def test_help_names_every_choice(option, known):
    command = "sample" if option == "ex-post" else "train"
    text = " ".join(within(command, "--help")[0].split())
    assert "--conditional" in text or command == "sample"
    assert "--label" in text or command == "train"
    described = text[text.index(f"--{option} ") :]
    names = re.split(r", with options|\. ", described)[0]
    assert set(re.findall(r"\w+", names)) >= set(known)


def write_images(folder, count=12, corrupt=None):
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype="uint8")).save(path)
        if index == corrupt:
            path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "many"], "Invalid value for --epochs"),
        (["train", "--latent-dim", "2.5"], "expected a whole number, received 2.5"),
        (["train", "--latent-dim", "0"], "Must be >= 1"),
        (["train", "--beta", "4"], "Unknown option: --beta"),
        (["sample", "taken", "--label", "-1"], "Must be >= 0"),
        (["train", "--binarize", "fully"], "Choose from"),
        (["train", "--dimension", "3"], "Unknown option"),
        (["train", "--config", "missing.toml"], "missing.toml: No such file"),
        (["train", "--config", "broken.toml"], "TOML"),
        (["train", "--config", "unknown.toml"], 'Unknown option: "[latent]"'),
        (["train", "--config", "fraction.toml"], "expected a whole number, received 3.5"),
        (["train", "--run-dir", "taken"], "taken exists: choose another --run-dir"),
        (["sample"], "requires an argument"),
        (["sample", "nothing"], "there is nothing at nothing"),
        (["sample", "taken"], "taken is a directory that holds none"),
        (["sample", "broken.toml"], "expected a run directory of tfvae train"),
        (["sample", "foreign.keras", "--out", "x.bmp"], "--out is a .png"),
        (["explain"], "Unknown command"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_show_at_once_in_one_line(tmp_path, arguments, message):
    (tmp_path / "broken.toml").write_text("latent_dim = [")
    (tmp_path / "unknown.toml").write_text("latent = 3")
    (tmp_path / "fraction.toml").write_text("latent_dim = 3.5")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("keep")
    before = snapshot(tmp_path)
    start = time.perf_counter()
    done = tfvae_command(*arguments, cwd=tmp_path, status=2)
    elapsed = time.perf_counter() - start
    assert done.stderr.startswith("tfvae: error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert snapshot(tmp_path) == before
    # Loading TensorFlow alone takes several times as long, on any machine it runs on.
    assert elapsed < 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--dataset", "minst"], "unknown data set 'minst': expected digits, "),
        (["train", "--dataset", "bytes.npy"], "Bernoulli expects values in [0, 1]; received"),
        (["train", "--dataset", "nan.npy"], "remove or replace NaN"),
        (["train", "--dataset", "flat.npy"], "flat.npy"),
        (["train", "--dataset", "empty.npy"], "empty.npy"),
        (["train", "--dataset", "corrupt"], "7.png"),
        (["train", "--likelihood", "poison"], "unknown likelihood 'poison': expected one of"),
        (["train", "--run-dir", "file.txt/run", *QUICK], "cannot use file.txt/run: Not a dir"),
        (["sample", "foreign.keras"], "expected a tfvae.VAE in foreign.keras; it holds a Func"),
        (["sample", "damaged.keras"], "damaged.keras holds no model that can be read"),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_does_not_fit_ends_in_one_line_and_leaves_nothing(tmp_path, arguments, message):
    rng = np.random.default_rng(0)
    images = rng.random((30, 8, 8)).astype("float32")
    np.save(tmp_path / "bytes.npy", images * 255)
    np.save(tmp_path / "nan.npy", np.where(images > 0.9, np.nan, images))
    np.save(tmp_path / "flat.npy", images.reshape(30, 64))
    np.save(tmp_path / "empty.npy", images[:0])
    (tmp_path / "file.txt").write_text("keep")
    (tmp_path / "damaged.keras").write_bytes(b"PK\x03\x04 but no more")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "s.keras")
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "foreign.keras")
    write_images(tmp_path / "corrupt", corrupt=7)
    before = snapshot(tmp_path)
    done = tfvae_command(*arguments, cwd=tmp_path, status=2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tfvae: error: ")
    assert message in last
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "runs").exists()


def test_images_in_a_folder_train(tmp_path):
    write_images(tmp_path / "pictures" / "deep" / "er", count=20)
    tfvae_command(
        "train", "--dataset", "pictures", "--image-size", "10x6", "--run-dir", "run", *QUICK,
        "--likelihood", "laplace:scale=learned", "--objective", "elbo:beta=0.5",
        "--precision", "mixed_bfloat16", cwd=tmp_path,
    )  # fmt: skip
    vae = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert vae.image_shape == (10, 6, 1)
    assert vae.objective.beta(0) == 0.5
    assert vae.likelihood_family.scale == "learned"


def test_real_mnist(test_data, tmp_path):
    done = tfvae_command(
        "train", "--dataset", test_data / "mnist", "--binarize", "dynamic", "--network", "dense",
        "--epochs", "1", "--run-dir", "run", "--json", cwd=tmp_path,
    )  # fmt: skip
    score = json.loads(done.stdout)
    assert score["images"] == 10_000
    # Independent pixels reach -206 nats; one pass over MNIST goes far beyond.
    assert score["elbo"] > -140
    assert score["standard_error"] < 0.5


def test_encode_writes_codes_and_goes_on(run, tmp_path):
    import pyarrow.parquet

    done = tfvae_command("encode", run[0], "--limit", "300", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert facts["images"] == 300 + 180 + 180
    table = pyarrow.parquet.read_table(tmp_path / "embeddings.parquet")
    vae = keras.models.load_model(run[0] / "model.keras")
    x, labels = datasets.load("digits", seed=3).test.arrays()
    of_test = table.filter(pyarrow.compute.equal(table["split"].cast("string"), "test"))
    np.testing.assert_allclose(of_test["code"].to_pylist(), vae.code(x), atol=1e-5)
    np.testing.assert_array_equal(of_test["label"], labels)
    before = snapshot(tmp_path)
    again = tfvae_command("encode", run[0], cwd=tmp_path, status=2)
    assert "embeddings.parquet exists: choose another --out or give --overwrite" in again.stderr
    assert snapshot(tmp_path) == before
    within("encode", run[0], "--split", "test", "--out", tmp_path / "t.parquet")
    assert len(pyarrow.parquet.read_table(tmp_path / "t.parquet")) == 180


def test_other_formats_are_checked_before_the_work(run, tmp_path):
    line = refused("export", run[0], "--out", tmp_path / "x", "--quantize")
    assert "--quantize goes with --format litert; received --format savedmodel" in line
    (tmp_path / "taken").mkdir()
    line = refused("export", run[0], "--out", tmp_path / "taken", "--format", "onnx")
    assert "taken exists: choose another --out" in line


def test_a_page_for_others_needs_a_password(run, tmp_path, monkeypatch):
    monkeypatch.delenv("TFVAE_PASSWORD", raising=False)
    line = refused("explore", run[0], "--host", "0.0.0.0")
    assert "needs a password" in line
    (tmp_path / "password").write_text("short\n")
    line = refused("explore", run[0], "--password-file", tmp_path / "password")
    assert "has 5 characters" in line
    assert "short" not in line
