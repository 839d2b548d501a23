"""The stack of bits that everything is pushed on and popped from."""

import hashlib
import importlib
from typing import Any

import numpy as np

from tfvae.errors import InputError

# Probabilities of the coder are whole numbers of 2^-24.
PRECISION = 24
# What lies at the bottom of every stack: bits that both sides know, and that look random.
_LABEL = b"tfvae bits-back"


def entropy_coder() -> Any:
    """Return the package that codes.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module("constriction")
    except ImportError:
        raise InputError("compression needs constriction: pip install 'tfvae[compress]'") from None


def known_words(count: int) -> np.ndarray:
    """Return `count` words that look random and are always the same, the last one not 0."""
    digest = hashlib.shake_256(_LABEL).digest(4 * count)
    words = np.frombuffer(digest, "<u4").astype(np.uint32)
    words[-1] |= 1  # a stack does not keep words of zeros at its top
    return words


class Stack:
    """A stack of bits by asymmetric numeral systems (Duda 2013, arXiv:1311.2540).

    To pop a value under a distribution and to push it again under the same one leaves the stack as
    it was. A push makes it longer by −log2 p(value) bits, a pop shorter; so a pop from bits that
    are there is a draw from the distribution, and pays for itself when it is pushed.

    Args:
        words: what it holds at first, uint32, the top last.

    Attributes:
        low: so many of the words at the bottom have never been touched.
        dip: the shortest that it has been, in bits, since it was last set.
    """

    def __init__(self, words: np.ndarray):
        package = entropy_coder()
        self._coder = package.stream.stack.AnsCoder(np.ascontiguousarray(words, np.uint32))
        self._models = package.stream.model
        self._gaussians: dict[int, Any] = {}
        self.low = len(words)
        self.dip = self.bits()

    def words(self) -> np.ndarray:
        """Return what it holds, uint32."""
        return self._coder.get_compressed()

    def bits(self) -> int:
        """Return how long it is."""
        return int(self._coder.num_valid_bits())

    def _push(self, symbols: np.ndarray, model: Any, *parameters: np.ndarray) -> None:
        if len(symbols):
            self._touch()
            self._coder.encode_reverse(np.ascontiguousarray(symbols, np.int32), model, *parameters)

    def _touch(self) -> None:
        # The coder's own state holds the top two words.
        self.low = min(self.low, max(0, int(self._coder.num_words()) - 2))

    def _pop(self, count: int, model: Any, *parameters: np.ndarray) -> np.ndarray:
        if count == 0:
            return np.zeros(0, np.int64)
        symbols = self._coder.decode(model, *parameters)
        self._touch()
        self.dip = min(self.dip, self.bits())
        return np.asarray(symbols, np.int64)

    def push_uniform(self, values: np.ndarray, sizes: np.ndarray) -> None:
        """Push values `[n]`, each uniform on 0, ..., sizes − 1, where sizes is from 2 to 2^23."""
        self._push(values, self._models.Uniform(), np.ascontiguousarray(sizes, np.int32))

    def pop_uniform(self, sizes: np.ndarray) -> np.ndarray:
        """Pop what `push_uniform` pushed, int64 `[n]`."""
        sizes = np.ascontiguousarray(sizes, np.int32)
        return self._pop(len(sizes), self._models.Uniform(), sizes)

    def _gaussian(self, most: int) -> Any:
        if most not in self._gaussians:
            self._gaussians[most] = self._models.QuantizedGaussian(-most, most)
        return self._gaussians[most]

    def push_gaussian(
        self, values: np.ndarray, mean: np.ndarray, std: np.ndarray, most: int
    ) -> None:
        """Push whole numbers `[n]` from −most to most: those that a normal variable rounds to.

        Args:
            values: `[n]`.
            mean: float64 `[n]`.
            std: float64 `[n]`, above 0.
            most: bound of the values.
        """
        self._push(values, self._gaussian(most), *_floats(mean, std))

    def pop_gaussian(self, mean: np.ndarray, std: np.ndarray, most: int) -> np.ndarray:
        """Pop what `push_gaussian` pushed, int64 `[n]`."""
        return self._pop(len(mean), self._gaussian(most), *_floats(mean, std))

    def push_choice(self, values: np.ndarray, probabilities: np.ndarray) -> None:
        """Push whole numbers `[n]` from 0 to K − 1.

        Args:
            values: `[n]`.
            probabilities: float32 `[n, K]`, K from 2; those of one value need not sum to 1.
        """
        self._push(values, *self._choice(probabilities))

    def pop_choice(self, probabilities: np.ndarray) -> np.ndarray:
        """Pop what `push_choice` pushed, int64 `[n]`."""
        return self._pop(len(probabilities), *self._choice(probabilities))

    def _choice(self, probabilities: np.ndarray) -> tuple[Any, np.ndarray]:
        probabilities = np.ascontiguousarray(probabilities, np.float32)
        if probabilities.shape[1] > 2:
            return self._models.Categorical(perfect=False), probabilities
        total = probabilities.sum(axis=1)
        return self._models.Bernoulli(perfect=False), probabilities[:, 1] / total


def _floats(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(array, np.float64) for array in arrays)
