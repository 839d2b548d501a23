"""Trainings killed with SIGKILL at any moment go on to the same state, bit for bit.

Each is a process of its own, with deterministic operations; see `resuming_job`.
"""

import os
import random
import time

import numpy as np
import processes
import pytest
from resuming_job import job, state_of, write_three

from tfvae.training.checkpoints import Checkpoints

# More of them: TFVAE_RANDOM_KILLS=50 pytest tests/training/test_resuming.py -k random
RANDOM_KILLS = int(os.environ.get("TFVAE_RANDOM_KILLS", "1"))


def finish(directory, **options):
    """Let the training come to its end; give all of its state then."""
    assert processes.run(job, directory, **options) == "done"
    with np.load(directory / "result.npz") as result:
        return dict(result)


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    different = [
        name
        for name, value in state.items()
        if value.dtype != expected[name].dtype or not np.array_equal(value, expected[name])
    ]
    assert not different


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The state at the end of a training that was never killed."""
    state = finish(tmp_path_factory.mktemp("reference"))
    # Else the tests below would not see all that there is to restore.
    assert state["EarlyStopping stopped_epoch"] == 4
    assert list(state["history epochs"]) == [0, 1, 2, 3, 4]
    assert state["history learning_rate"][0] > state["history learning_rate"][-1]
    for kind in ("seed_generator_state", "average", "gradient_accumulator", "velocity", "total"):
        assert any(value.any() for name, value in state.items() if kind in name), kind
    return state


@pytest.mark.exhaustive
def test_a_killed_training_goes_on_to_the_same_state(reference, tmp_path):
    assert processes.run(job, tmp_path, at=("on_train_batch_end", 1, 1)) == "killed"
    assert_same(finish(tmp_path), reference)


@pytest.mark.exhaustive
def test_killed_around_the_end_of_an_epoch_and_while_a_checkpoint_is_written(reference, tmp_path):
    assert processes.run(job, tmp_path, writing=(2, "half")) == "killed"
    for event in (
        ("on_train_batch_end", 0, 4),
        ("on_test_batch_end", 0, 0),
        ("on_epoch_end", 0, None),
        ("on_train_batch_begin", 1, 0),
    ):
        assert processes.run(job, tmp_path, at=event) == "killed", event
    # As one does who wants more epochs then.
    assert len(finish(tmp_path, epochs=2)["history loss"]) == 2
    state = finish(tmp_path)
    assert_same(state, reference)
    # A training that is over stays as it is.
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("step-*.npz")}
    assert_same(finish(tmp_path), state)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.glob("step-*.npz")}


@pytest.mark.exhaustive
def test_steps_without_a_checkpoint_are_taken_again(reference, tmp_path):
    assert processes.run(job, tmp_path, at=("on_train_batch_end", 1, 2)) == "killed"
    seldom = {"steps_per_call": 3, "checkpoint_seconds": 1e9}
    assert processes.run(job, tmp_path, at=("on_test_batch_end", 4, 1), **seldom) == "killed"
    (newest, _) = sorted(tmp_path.glob("step-*.npz"), reverse=True)
    assert newest.name.startswith("step-000000007-")
    assert_same(finish(tmp_path, steps_per_call=100), reference)


@pytest.mark.parametrize(
    ("moment", "newest"),
    [
        ("opened", 2),
        ("half", 2),
        ("before fsync", 2),
        ("after fsync", 2),
        ("after rename", 3),
        ("after removal", 3),
    ],
)
def test_killed_while_a_checkpoint_is_written(tmp_path, capsys, moment, newest):
    assert processes.run(write_three, tmp_path, moment) == "killed"
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.read() == state_of(newest)
    checkpoints.write(4, state_of(4))
    assert [int(path.name[5:14]) for path in checkpoints.files()] == [4, newest]
    assert len(list(tmp_path.iterdir())) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.exhaustive
def test_killed_at_random_moments(reference, tmp_path):
    kills, trainings = 0, 0
    while kills < RANDOM_KILLS:
        directory = tmp_path / str(trainings)
        while kills < RANDOM_KILLS:
            begun = processes.event()
            process = processes.start(job, directory, begun=begun)
            begun.wait(60)
            # From the first step on a training lasts about as long.
            time.sleep(random.uniform(0.0, 0.5))
            process.kill()
            if processes.finish(process) == "done":
                break
            kills += 1
        assert_same(finish(directory), reference)
        trainings += 1
    print(f"{kills} kills of {trainings} trainings")
