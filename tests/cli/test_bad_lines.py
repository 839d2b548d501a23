"""Generated command lines: whatever is wrong with one, it ends in one line and never a traceback.

They are made from the commands' own declarations, so that an option that is new is among them. All
run in this process, on a tiny model; what a line would train is built, not trained.
"""

import contextlib
import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tfvae
from tfvae import datasets
from tfvae.cli import job
from tfvae.cli import main as cli
from tfvae.saving import run as runs

COMMANDS = [name for name in cli.app if not name.startswith("-")]
NUMBERS = [
    *("0", "1", "2", "7", "-1", "+3", "3.5", "1e3", "0x10", "1_000", "٣", "", " ", "nan", "inf"),
    *("-inf", "1e400", "0.1", "1e-400", str(2**31 - 1), str(2**31), str(2**53), str(2**63)),
    *(str(10**30), "9" * 5000, "[1]", "1,2", "true", "None"),
]
TEXTS = [
    *("", " ", "x", "-", "--", "é", "a" * 300, "a=b", "=", "age=count", "=count", "0,1", "1,0"),
    *("nan,inf", "0,4095", "28x28", "0x0", "-3x4", "9999999999x2", "64", "white", "#12345", "#fff"),
    *("digits", "minst", "shapes:x", "normal", "normal:scale=0", "normal:scale=nan", "normal:"),
    *("normal:scale=learned", "bernoulli", "bernoulli:", "categorical:levels=-1", "iaf:flows=0"),
    *("iaf:flows=1e9", "realnvp", "mixture:components=0", "elbo:beta=inf", "elbo:beta=-1", "iwae"),
    *("elbo:beta=linear(steps=0)", "iwae:num_samples=0", "dense:hidden=0", "dense:hidden=8x8"),
    *(
        "dense:hidden=99999999999",
        "conv",
        "conv:filters=x",
        "residual:blocks=-1",
        "vamp",
        "capacity",
    ),
    *("gaussian_mixture", "gaussian_mixture:components=0", "0", "99", "::", "a:b:c", "a(b", "[]"),
    *("free_bits:groups=0", "negative_binomial", "student_t:df=0", "columns", "class_normal"),
]
PATHS = [
    *("model.keras", "run", "nothing", "x.npy", "text.txt", "folder", "broken.toml", "wrong.toml"),
    *("bytes.toml", "folder/deeper/out.png", "out.png", "out.csv", "out.npy", "out.parquet", "."),
    *("text.txt/x.png", "a" * 300, "~", "", "damaged.keras", "nan.npy", "empty.npy", "objects.npy"),
    *("out.PNG", "out.xyz", "/proc/self/mem", "/dev/null/x.png", "table.csv", "link"),
]
VALUES = st.one_of(*map(st.sampled_from, (NUMBERS, TEXTS, PATHS)))


def described(command):
    """Give the names of a command's options, each with values that may go with it."""
    found = []
    for argument in cli.app[command].assemble_argument_collection():
        names = [name for name in argument.names if name.startswith("--")]
        hint = str(argument.hint)
        if not names or "--host" in names:
            continue
        if "bool" in hint:
            values = st.none()
        elif "int" in hint or "float" in hint:
            values = st.sampled_from(NUMBERS)
        elif "Path" in hint:
            values = st.sampled_from(PATHS)
        else:
            values = st.sampled_from(TEXTS)
        found.append((names[0], st.one_of(values, values, values, VALUES)))
    return found


OPTIONS = {command: described(command) for command in COMMANDS}


@st.composite
def lines(draw):
    """Draw a command line: a command, what it is about, and some of its options."""
    command = draw(st.sampled_from([*COMMANDS, *COMMANDS, "explain", ""]))
    known = OPTIONS.get(command, OPTIONS["train"])
    words = [command]
    if command not in ("train", "explain", ""):
        subject = [*("model.keras",) * 12, *PATHS]
        words.append(
            draw(st.sampled_from(["digits", "x.npy", *PATHS] if command == "data" else subject))
        )
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 2, 2, 3]))):
        name, values = draw(st.sampled_from(known))
        value = draw(values)
        words += [name] if value is None else [name, value]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(VALUES))
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with what the lines name, and commands that take no time."""
    with pytest.MonkeyPatch.context() as patched:
        place = prepare(tmp_path_factory.mktemp("lines"), patched)
        patched.chdir(place)
        yield place


def prepare(folder, patched):
    """Write what the lines name, and let what takes long be done by stand-ins."""
    rng = np.random.default_rng(0)
    x = (rng.random((40, 4)) < 0.3).astype("float32")
    vae = tfvae.VAE.for_events((4,), latent_dim=2, network="dense:hidden=4", seed=0)
    vae.build((None, 4))
    vae.save(folder / "model.keras")
    (folder / "run").mkdir()
    (folder / "run" / "config.toml").write_text('dataset = "nowhere.npy"\n')
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("gone")
    (folder / "text.txt").write_text("some text\n")
    (folder / "table.csv").write_text("a,b\n1,2\n3,x\n,4\n")
    (folder / "broken.toml").write_text("latent_dim = [")
    (folder / "wrong.toml").write_text('batch_size = "many"\nseed = 1979-05-27\n')
    (folder / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    (folder / "damaged.keras").write_bytes(b"PK\x03\x04 but no more")
    np.save(folder / "x.npy", x)
    np.save(folder / "nan.npy", np.where(x > 0, np.nan, x))
    np.save(folder / "empty.npy", x[:0])
    np.save(folder / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    small = datasets.load(str(folder / "x.npy"), kind="table")
    opened, load_data = runs.TrainedModel.open, runs.load_data
    trained = opened(folder / "model.keras")

    def quick_data(options, *args, **kwargs):
        # Digits and the like take longer to read than all the rest.
        quick = options.dataset in ("digits", "shapes")
        return small if quick else load_data(options, *args, **kwargs)

    def one_model(path):
        return trained if str(path) == "model.keras" else opened(path)

    patched.setattr(runs.TrainedModel, "open", one_model)
    patched.setattr(runs, "load_data", quick_data)
    patched.setattr(job, "load_data", quick_data)
    patched.setattr(job._Job, "run", lambda self, until=None: job.Done(self.run_dir, None))
    patched.setattr("tfvae.app.explorer.explore", lambda *args, **kwargs: None)
    patched.setattr("tfvae.serving.export.publish_saved_model", lambda *args, **kwargs: ("", []))
    patched.setattr("tfvae.serving.runtimes.export_onnx", _refused)
    patched.setattr("tfvae.serving.runtimes.export_litert", _refused)
    # Else a test may be of a picture of thousands of events.
    patched.setattr("tfvae.plotting.save", lambda figure, file: None)
    return folder


def _refused(*args, **kwargs):
    raise RuntimeError("a stand-in")


def check(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(words)
            status = 0
        except SystemExit as end:
            status = end.code or 0
    lines = [line for line in err.getvalue().splitlines() if line.startswith("tfvae: error: ")]
    assert status in (0, 1, 2, 130), words
    assert len(lines) == (status != 0), (words, err.getvalue())
    assert "Traceback" not in err.getvalue()


@pytest.mark.few(15)
@pytest.mark.parametrize(
    "line",
    [
        *("train --clip-norm inf", "train --checkpoint-seconds inf", "train --config folder"),
        *("train --config wrong.toml", "train --config bytes.toml", "train --clip-norm -1.0"),
        *(
            "train --batch-size 2147483648",
            "train --latent-dim 99999999999",
            "train --validation nan",
        ),
        *(
            "train --accumulate 9223372036854775808",
            "train --patience 1000000000000000000000000000",
        ),
        *("train --seed 9007199254740992", "sample model.keras --seed 9223372036854775808"),
        *("sample model.keras --n 2000000000", "traverse model.keras --extent inf"),
        *("evaluate model.keras --seed 9007199254740992", "explore model.keras --port 99999"),
        *("interpolate model.keras --steps 1000000000", "train --network dense:hidden=99999999"),
    ],
)
def test_lines_that_once_ended_otherwise(folder, line):
    words = line.split()
    check(words)
    with pytest.raises(SystemExit):
        cli.main(words)


@pytest.mark.exhaustive
@settings(
    max_examples=int(os.environ.get("TFVAE_TEST_LINES", "1000")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(words=lines())
def test_no_line_of_a_thousand_ends_in_a_traceback(folder, words):
    check(words)
