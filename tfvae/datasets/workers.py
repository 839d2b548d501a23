"""Processes that read one data set together, each the files of its share.

What all of them must agree on, such as the shape of an event or the columns of a table, they find
by telling each other what each has seen of its own files.
"""

import dataclasses
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tfvae.errors import InputError

T = TypeVar("T")


class _ToldError(InputError):
    """What another worker has found wrong; that it is known to all already."""


@dataclasses.dataclass(frozen=True)
class _Failure:
    message: str


@dataclasses.dataclass(frozen=True, eq=False)
class Workers:
    """The processes that read a data set together, and this one among them.

    Attributes:
        index: the number of this process, from 0.
        count: how many there are.
        gather: gives every process what each of them has, in the order of their numbers; all
            must call it.
    """

    index: int = 0
    count: int = 1
    gather: Callable[[bytes], list[bytes]] = lambda data: [data]

    def deal(self, files: Sequence[T]) -> list[T]:
        """Return the files of this worker: dealt out in turn, file i to worker i mod `count`."""
        return list(files[self.index :: self.count])

    def agree(self, facts: T) -> list[T]:
        """Give every worker what each has to say; all must call it.

        Args:
            facts: of this worker.

        Raises:
            InputError: if one of them has failed.
        """
        if self.count == 1:
            return [facts]
        # Pickled, as they come from the same program on machines that trust each other.
        found: list[Any] = [pickle.loads(data) for data in self.gather(pickle.dumps(facts))]
        failed = next((one for one in found if isinstance(one, _Failure)), None)
        if failed is not None:
            raise _ToldError(failed.message)
        return found

    def together(self, read: Callable[[], T]) -> T:
        """Read, and fail where another worker fails, instead of waiting for it.

        Args:
            read: reads the files of this worker; it may call `agree`.

        Raises:
            InputError: if this worker or another cannot read its files.
        """
        try:
            found = read()
        except _ToldError:
            raise
        except InputError as error:
            if self.count > 1:
                self.gather(pickle.dumps(_Failure(str(error))))
            raise
        self.agree(None)
        return found


ALONE = Workers()


@dataclasses.dataclass(frozen=True, eq=False)
class FileShares:
    """Whose the rows of a source of many files are.

    Attributes:
        workers: the processes, of which each reads the files that `Workers.deal` gives it.
        starts: the first row of each file, and at the end the number of rows, `[files + 1]`.
    """

    workers: Workers
    starts: np.ndarray

    def owner(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of the worker that each row belongs to."""
        return self.file_of(rows) % self.workers.count

    def first_row(self) -> np.ndarray:
        """Return the first row of this worker's files, `[1]`."""
        own = np.arange(self.workers.index, len(self.starts) - 1, self.workers.count)
        filled = own[np.diff(self.starts)[own] > 0]
        return self.starts[filled[:1]]

    def file_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the place of the file that each row lies in."""
        return np.searchsorted(self.starts, rows, side="right") - 1
