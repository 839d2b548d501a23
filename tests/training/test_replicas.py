"""One update on several devices is that on one, for every kind of model; batches shared out."""

import json

import numpy as np
import processes
import pytest
import tensorflow as tf
from replicas_job import CASES, QUICK, REFUSED, SHAPE, job, refusals, seeds_of_fit

import tfvae
from tfvae import posteriors
from tfvae.share import share, share_of_device
from tfvae.training import replicas, train

OTHERS = tuple(name for name in CASES if name not in QUICK)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A directory of what came of the quick cases."""
    directory = tmp_path_factory.mktemp("replicas")
    assert processes.run(job, directory, QUICK, seeds_of_fit) == "done"
    return directory


@pytest.fixture(scope="module")
def all_results(tmp_path_factory):
    """A directory of what came of all other cases."""
    directory = tmp_path_factory.mktemp("all_replicas")
    assert processes.run(job, directory, OTHERS, refusals) == "done"
    return directory


def result(directory, name, devices):
    with np.load(directory / f"{name} {devices}.npz") as content:
        return dict(content)


def assert_two_are_one(directory, name, validated):
    one, two = (result(directory, name, devices) for devices in (1, 2))
    assert len(one) == len(two)
    # The names of variables count the layers that a process has made.
    for (key, value), other in zip(one.items(), two.values(), strict=True):
        if value.dtype.kind == "f":
            # Sums in another order, six updates long: some units in float32's last place, 6e-8.
            np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-6, err_msg=key)
        else:
            np.testing.assert_array_equal(other, value, err_msg=key)
    assert any(key.startswith("history val_") for key in one) == validated
    # It has moved its weights.
    assert one["history loss"][0] != one["history loss"][1]


@pytest.mark.parametrize("name", QUICK)
def test_two_devices_train_as_one_does(results, name):
    assert_two_are_one(results, name, validated=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", OTHERS)
def test_two_devices_train_every_other_kind_as_one_does(all_results, name):
    assert_two_are_one(all_results, name, validated=name in ("digits", "codes"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", REFUSED)
def test_what_couples_batch_is_refused_in_one_line(all_results, name):
    message = json.loads((all_results / "refusals.json").read_text())[name]
    assert "2 devices" in message
    assert "one device" in message
    assert "\n" not in message


def test_devices_draw_noise_of_their_own_in_fit_as_well(results):
    seeds = json.loads((results / "seeds_of_fit.json").read_text())
    # Two steps on two devices.
    assert len(seeds) == len({tuple(seed) for seed in seeds}) == 4


def test_training_within_the_scope_is_refused():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope(), pytest.raises(tfvae.InputError, match="call train after the with block"):
        vae = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense")
        vae.compile("adam")
        train(vae, tf.data.Dataset.from_tensors(np.zeros((2, *SHAPE), "float32")))


# --- shares ---------------------------------------------------------------------------------------


def test_shares_cover_each_row_once_and_differ_by_one_at_most():
    for takers in range(1, 9):
        for total in range(1, 3 * takers + 2):
            shares = [share(total, index, takers) for index in range(takers)]
            counting = [rows for rows in shares if float(rows.counts)]
            covered = [row for rows in counting for row in range(rows.start, int(rows.stop))]
            assert covered == list(range(total))
            sizes = [int(rows.stop - rows.start) * int(rows.counts) for rows in shares]
            assert max(sizes) - min(sizes) <= 1
            for rows in shares:
                assert 0 <= rows.start < int(rows.stop) <= total == rows.total
                assert float(rows.counts) or int(rows.stop) == rows.start + 1


def test_the_devices_of_workers_share_out_all_rows():
    for workers in range(1, 5):
        for devices in range(1, 4):
            for total in range(1, 3 * workers * devices + 2):
                covered, sizes = [], []
                for worker in range(workers):
                    held = share(total, worker, workers)
                    for device in range(devices):
                        begin, rows = share_of_device(held, device, devices)
                        assert held.start + begin == rows.start
                        assert 0 <= rows.start < int(rows.stop) <= int(held.stop)
                        assert rows.total == total
                        own = list(range(rows.start, int(rows.stop))) if rows.counts else []
                        covered += own
                        sizes.append(len(own))
                assert covered == list(range(total))
                assert max(sizes) - min(sizes) <= 1


@pytest.mark.few(1)
@pytest.mark.parametrize("name", posteriors.BY_NAME)
def test_shares_draw_as_the_whole_batch_does(name, rng):
    of_classes = name == "relaxed_categorical"
    options = {"latent_dim": 10, "prior": name} if of_classes else {"latent_dim": 2}
    vae = tfvae.VAE.for_images(SHAPE, network="dense", posterior=name, seed=0, **options)
    # The same image many times: what differs is the noise.
    x = np.repeat((rng.random((1, *SHAPE)) < 0.3).astype("float32"), 7, axis=0)
    seed = tf.constant([3, 4])
    encoded = vae.posterior_parameters(x)
    if of_classes:
        # As they train: exact draws are often the same.
        encoded = vae.posterior_family.relaxed(encoded, 0.5)
    whole = vae.posterior_family.distribution(encoded).experimental_sample_and_log_prob(
        3, seed=seed
    )
    parts = []
    for index in range(4):
        rows = share(7, index, 4)
        own = {key: value[rows.start : rows.stop] for key, value in encoded.items()}
        parts.append(vae.posterior_family.sample_share(own, 3, seed, rows))
    for value, *shares in zip(whole, *parts, strict=True):
        np.testing.assert_allclose(np.concatenate(shares, axis=1), value, rtol=1e-5, atol=1e-6)
    z = whole[0].numpy().reshape(-1, vae.latent_dim)
    assert len(np.unique(z, axis=0)) == len(z)


# --- the environment ------------------------------------------------------------------------------


def test_without_a_cluster_there_is_one_worker(monkeypatch):
    for text in (None, "", "{}", '{"cluster": {"worker": ["localhost:1"]}}'):
        if text is None:
            monkeypatch.delenv("TF_CONFIG", raising=False)
        else:
            monkeypatch.setenv("TF_CONFIG", text)
        assert replicas.workers_of_environment() == 1
    strategy = replicas.strategy_of_environment()
    assert replicas.worker_of(strategy) == (0, 1)
    assert replicas.broadcast(strategy, b"state") == b"state"
    assert replicas.gather(strategy, b"mine") == [b"mine"]
    assert replicas.any_of(strategy, True)
    assert not replicas.any_of(strategy, False)


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}', '{"cluster": {"worker": 5}}'])
def test_a_cluster_that_cannot_be_read_is_one_line(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(tfvae.InputError, match="TF_CONFIG is JSON such as") as info:
        replicas.strategy_of_environment()
    assert "\n" not in str(info.value)


def test_tasks_that_do_not_train_are_refused(monkeypatch):
    cluster = {"cluster": {"ps": ["localhost:1"], "worker": ["localhost:2"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(tfvae.InputError, match="TF_CONFIG names tasks ps; expected workers alone"):
        replicas.workers_of_environment()
