"""Two processes that train together over loopback, one of which may be killed."""

import json
import socket

import numpy as np
import processes
import pytest
from workers_job import job


def free_ports(count):
    """Give ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def train_together(directory, **of_worker):
    """Run both workers; say how they ended, and give what they wrote of facts."""
    ports = free_ports(2)
    running = [
        processes.start(job, index, ports, directory, **of_worker.get(f"worker_{index}", {}))
        for index in range(2)
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
    alone = result(tmp_path, 0)
    for index in range(2):
        of_two = result(directory, index)
        assert len(of_two) == len(alone)
        for (name, value), other in zip(alone.items(), of_two.values(), strict=True):
            # Sums in another order, nine updates long, in float32.
            np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_all_hear_the_chief_and_each_other(together):
    _, facts = together
    for index in range(2):
        assert facts[index]["told"]
        assert facts[index]["nothing"]
        assert facts[index]["gathered"]
        assert facts[index]["any"] == [True, True, False]


def test_only_the_chief_writes(together):
    _, facts = together
    assert len(facts[0]["files"]) == 2
    assert facts[1]["files"] == []


@pytest.mark.exhaustive
def test_a_worker_that_is_killed_ends_the_other_and_both_go_on(together, tmp_path):
    for killed, at in ((1, (1, 0)), (0, (2, 1))):
        ends, facts = train_together(tmp_path, **{f"worker_{killed}": {"at": at}})
        left = 1 - killed
        assert ends[killed] == "killed"
        assert ends[left] == "done"
        message = facts[left]["error"]
        assert message.startswith("another worker is gone, seen at step")
        assert "start all workers again" in message
        assert "\n" not in message
    ends, facts = train_together(tmp_path)
    assert ends == ["done", "done"]
    for index in range(2):
        for (name, value), other in zip(
            result(together[0], index).items(), result(tmp_path, index).values(), strict=True
        ):
            np.testing.assert_array_equal(other, value, err_msg=name)


@pytest.mark.exhaustive
def test_all_stop_where_one_is_to_stop(together, tmp_path):
    ends, facts = train_together(tmp_path, worker_1={"stop_at": 2})
    assert ends == ["done", "done"]
    assert facts[0]["steps"] == facts[1]["steps"] == 2
    assert len(facts[0]["files"]) == 2
