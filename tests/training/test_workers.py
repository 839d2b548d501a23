"""Two processes that train together over loopback, one of which may be killed."""

import json
import socket

import numpy as np
import parts_job
import processes
import pytest
from reading_together import seen_by
from workers_job import job

from tfvae.datasets.workers import Workers


def free_ports(count):
    """Give ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start_one(*args, **kwargs):
    return processes.start(job, *args, **kwargs)


def train_together(directory, start=start_one, **of_worker):
    """Run both workers; say how they ended, and give what they wrote of facts."""
    ports = free_ports(2)
    running = [
        start(index, ports, directory, **of_worker.get(f"worker_{index}", {})) for index in range(2)
    ]
    ends = processes.finish(*running)
    facts = {}
    for index in range(2):
        file = directory / f"facts-{index}.json"
        if file.exists():
            facts[index] = json.loads(file.read_text())
            file.unlink()
    return ends, facts


def result(directory, index):
    with np.load(directory / f"result-{index}.npz") as content:
        return dict(content)


def assert_both_are_as_one(directory, alone):
    one = result(alone, 0)
    assert "history val_loss" in one
    for index in range(2):
        of_two = result(directory, index)
        assert len(of_two) == len(one)
        for (name, value), other in zip(one.items(), of_two.values(), strict=True):
            # Sums in another order, nine updates long at most, in float32.
            np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-6, err_msg=name)


def assert_told_that_the_other_is_gone(facts):
    message = facts["error"]
    assert message.startswith("another worker is gone, seen at step")
    assert "start all workers again" in message
    assert "\n" not in message


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The directory of a training of two workers that nothing happened to, and their facts."""
    directory = tmp_path_factory.mktemp("together")
    ends, facts = train_together(directory)
    assert ends == ["done", "done"]
    return directory, facts


@pytest.mark.exhaustive
def test_two_processes_train_as_one_does(together, tmp_path):
    directory, _ = together
    assert processes.run(job, 0, (), tmp_path) == "done"
    assert_both_are_as_one(directory, tmp_path)


@pytest.mark.exhaustive
def test_all_hear_the_chief_and_each_other(together):
    _, facts = together
    for index in range(2):
        assert facts[index]["told"]
        assert facts[index]["nothing"]
        assert facts[index]["gathered"]
        assert facts[index]["any"] == [True, True, False]


@pytest.mark.exhaustive
def test_only_the_chief_writes(together):
    _, facts = together
    assert len(facts[0]["files"]) == 2
    assert facts[1]["files"] == []


@pytest.mark.exhaustive
def test_both_go_on_after_one_was_to_stop_and_after_the_chief_was_killed(together, tmp_path):
    ends, facts = train_together(tmp_path, worker_1={"stop_at": 2})
    assert ends == ["done", "done"]
    assert facts[0]["steps"] == facts[1]["steps"] == 2
    assert len(facts[0]["files"]) == 2
    ends, facts = train_together(tmp_path, worker_0={"at": (2, 1)})
    assert ends == ["killed", "done"]
    assert_told_that_the_other_is_gone(facts[1])
    ends, _ = train_together(tmp_path)
    assert ends == ["done", "done"]
    for index in range(2):
        for (name, value), other in zip(
            result(together[0], index).items(), result(tmp_path, index).values(), strict=True
        ):
            np.testing.assert_array_equal(other, value, err_msg=name)


# --- files that workers share ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of all files, and of each worker the one where it sees its own alone."""
    folder = tmp_path_factory.mktemp("data") / "parts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, size in enumerate((30, 11, 25, 20, 14)):
        # Each file is another kind of image, so that one worker's are not like all.
        x = np.clip(rng.normal(0.2 * part, 0.1, (size, 6, 5)), 0, 1).astype("float32")
        np.savez(folder / f"{part}.npz", x=x)
    return folder, [seen_by(Workers(index, 2), folder, 2) for index in range(2)]


@pytest.mark.exhaustive
def test_workers_with_their_own_files_train_as_one_with_all(files, tmp_path):
    """Though one of them is killed on the way, and they go on."""

    def start(index, ports, directory, **options):
        folder = files[1][index] if ports else files[0]
        return processes.start(parts_job.job, index, ports, folder, directory, **options)

    ends, facts = train_together(tmp_path, start, worker_1={"at": (1, 0)})
    assert ends == ["done", "killed"]
    assert_told_that_the_other_is_gone(facts[0])
    ends, facts = train_together(tmp_path, start)
    assert ends == ["done", "done"]
    assert "each of 2 workers reads its own of 5 files" in facts[1]["summary"]
    (alone := tmp_path / "alone").mkdir()
    assert processes.finish(start(0, (), alone)) == "done"
    assert_both_are_as_one(tmp_path, alone)
    # One process goes on with what two have begun, and has all files then.
    assert processes.finish(start(0, (), tmp_path)) == "done"
