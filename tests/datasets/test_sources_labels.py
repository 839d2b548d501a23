"""How many labels the arrays of a file have."""

import numpy as np
import pytest

from tfvae.datasets.open import open_source


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 6, 5), np.uint8)


@pytest.mark.parametrize("memory_limit", [0, 2**20])
@pytest.mark.parametrize(
    ("train", "test", "num_classes"),
    [
        ([0, 1, 2], [2, 1, 0], 3),
        # Neither split need have every label.
        ([0, 4, 1], [0, 1, 1], 5),
        ([0, 1, 1], [6, 0, 1], 7),
        ([0, 0, 0], [0, 0, 0], 1),
        ([-1, -1, -1], [-1, -1, -1], 0),
        ([-1, 2, 0], [-1, -1, -1], 3),
        ([0, 1, 2], None, None),
    ],
)
def test_the_number_of_classes(tmp_path, images, memory_limit, train, test, num_classes):
    arrays = {"x_train": images[:3], "y_train": np.array(train), "x_test": images[3:6]}
    if test is not None:
        arrays["y_test"] = np.array(test)
    np.savez(tmp_path / "x.npz", **arrays)
    source = open_source(tmp_path / "x.npz", memory_limit=memory_limit)
    assert source.num_classes == num_classes
    assert source.has_labels == (num_classes is not None)
    labels = source.read(np.arange(source.count))[1]
    assert (labels is None) if test is None else (labels.tolist() == [*train, *test])


@pytest.mark.parametrize(
    ("labels", "num_classes"), [(np.array([False, True] * 6), 2), (np.full(12, 200, "u1"), 201)]
)
def test_the_number_of_classes_of_other_types(tmp_path, images, labels, num_classes):
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    assert open_source(tmp_path / "x.npz").num_classes == num_classes
