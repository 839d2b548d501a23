"""Splits whose files workers share: each event once an epoch, and one start for all of them."""

import numpy as np
import pytest
from reading_together import together

import tfvae
from tfvae.datasets import Batches, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of unequal lengths; each event has its number as its values."""
    folder = tmp_path_factory.mktemp("parts")
    first = 0
    for part, size in enumerate((60, 20, 50, 12, 80)):
        x = np.repeat(np.arange(first, first + size, dtype="float32")[:, None], 3, axis=1) / 300
        np.savez(folder / f"{part}.npz", x=x, y=np.arange(size) % 3)
        first += size
    return folder


def splits(folder, count, **options):
    return together(count, lambda w: load(str(folder / "*.npz"), workers=w, **options))


def numbers(events):
    return np.rint(np.asarray(events)[:, 0] * 300).astype(int).tolist()


@pytest.mark.each_once
@pytest.mark.parametrize("memory_limit", [2**30, 0])
@pytest.mark.parametrize("count", [2, 3])
def test_each_event_is_used_once_an_epoch(folder, count, memory_limit):
    found = splits(folder, count, memory_limit=memory_limit)
    whole = load(str(folder / "*.npz"))
    for split in ("train", "validation"):
        expected = sorted(numbers(getattr(whole, split).arrays()[0]))
        batches = [Batches(getattr(data, split), 16, shuffle=True) for data in found]
        steps = {len(one) for one in batches}
        assert steps == {-(-len(expected) // 16)}
        orders = []
        for epoch in (0, 1):
            order = []
            epochs = [
                list(one.dataset(epoch, worker=worker, workers=count))
                for worker, one in enumerate(batches)
            ]
            for step in range(*steps):
                own, ends = [], [0]
                for worker, one in enumerate(batches):
                    held = one.held(step, worker, count)
                    events, labels = epochs[worker][step]
                    assert len(events) == len(labels) == held.stop - held.start
                    assert held.total == min(16, len(expected) - 16 * step)
                    if float(held.counts):
                        assert held.start == ends[-1]
                        ends.append(int(held.stop))
                        own += numbers(events)
                assert ends[-1] == held.total == len(own)
                order += own
            assert sorted(order) == expected
            orders.append(order)
        assert orders[0] != orders[1]


def test_workers_take_in_proportion_to_what_they_have(folder):
    found = splits(folder, 4)
    count, total = int(found[0].train.counts[0]), len(found[0].train)
    for size in (1, 5, 32):
        batches = Batches(found[0].train, size)
        taken = 0
        for step in range(len(batches)):
            held = batches.held(step, 0, 4)
            taken += int(held.stop - held.start) * int(held.counts)
            assert abs(taken - count * min((step + 1) * size, total) / total) <= 0.5
        assert taken == count


def test_a_worker_without_events_of_a_split_counts_for_nothing(folder):
    found = splits(folder, 2, validation=1)
    batches = [Batches(data.validation, 4) for data in found]
    held = [one.held(0, worker, 2) for worker, one in enumerate(batches)]
    assert sorted(float(one.counts) for one in held) == [0, 1]
    whole = load(str(folder / "*.npz"), validation=1).validation.arrays()[0]
    for worker, one in enumerate(batches):
        events, _ = one.at(0, 0, worker, 2)
        assert events.shape == (1, 3)
        assert bool((events.numpy() == whole).all()) == bool(held[worker].counts)


@pytest.mark.parametrize("draws", [{"binarize": "static"}, {"binarize": "dynamic"}])
def test_what_is_drawn_is_as_for_one_process(folder, draws):
    whole = load(str(folder / "*.npz"), seed=3, **draws)
    for data in splits(folder, 2, seed=3, **draws):
        for split in ("train", "validation", "test"):
            one, other = getattr(whole, split), getattr(data, split)
            np.testing.assert_array_equal(one.arrays()[0], other.arrays()[0])
            np.testing.assert_array_equal(one.subset(5).rows, other.subset(5).rows)
            assert one.digest() == other.digest()
        own = data.train.fetch(np.arange(len(data.train.rows)))
        if draws["binarize"] == "static":
            places = np.searchsorted(whole.train.rows, data.train.rows)
            for a, b in zip(own, whole.train.fetch(places), strict=True):
                np.testing.assert_array_equal(a, b)


def test_models_start_at_the_same_events(folder):
    weights = []
    whole = load(str(folder / "*.npz"))
    for data in (whole, *splits(folder, 2)):
        vae = tfvae.VAE.for_events((3,), latent_dim=2, likelihood="normal:scale=learned", seed=0)
        vae.adapt(data.train)
        weights.append(vae.get_weights())
    for others in weights[1:]:
        for one, other in zip(weights[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_some_events_are_common_where_there_are_many(folder, monkeypatch):
    monkeypatch.setattr("tfvae.datasets.shared.count_at_hand", lambda events, shape: 20)
    whole = load(str(folder / "*.npz"))
    for data in splits(folder, 2):
        assert len(data.train) == len(whole.train)
        assert len(data.train.common) == 20
        np.testing.assert_array_equal(data.train.arrays()[0], whole.train.subset(20).arrays()[0])
        assert data.train.digest() == whole.train.digest()


# --- refusals -------------------------------------------------------------------------------------


def test_batches_of_other_workers_are_refused(folder):
    train = splits(folder, 2)[1].train
    with pytest.raises(tfvae.InputError, match=r"those of worker 1 of 2, and .* worker 0 of 1"):
        Batches(train, 8).at(0, 0)
    with pytest.raises(tfvae.InputError, match=r"train on tfvae\.datasets\.Batches"):
        train.batches(8, shuffle=True)
