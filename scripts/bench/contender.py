"""One coder in the benchmark, and how all of them are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from .weights import Matrix

PIECE_SYMBOLS = 1 << 20  # what one thread of a peer takes at a time, where several run


class Unavailable(Exception):
    """This contender cannot run here; the text says what is missing and how to get it."""


class Contender:
    """A coder under test. A subclass sets the attributes, prepares its buffers in `load`, and fills `operations`."""

    name: str
    what: str  # what a timed call includes, in one line
    slow = False  # measured once, on a part of the data
    ours = False

    def __init__(self) -> None:
        self.operations: dict[str, Callable[[int], object]] = {}  # each works on the piece with the given number
        self.operations_on_all: dict[str, Callable[[], object]] = {}  # each works on all pieces in one call
        self.sizes: list[int] = []  # symbols of every piece

    def load(self, matrices: Sequence[Matrix], threads: int) -> None:
        """Take the data. What happens here is not timed."""
        raise NotImplementedError

    def activate(self) -> None:
        """Called before every timed run: select a backend, for instance."""

    def coded_bytes(self) -> int:
        """Size of everything coded, after `operations["encode"]` ran on every piece."""
        raise NotImplementedError

    def check(self) -> bool:
        """Whether what was decoded last is what was loaded."""
        raise NotImplementedError

    def unload(self) -> None:
        """Give back the memory that `load` took."""
        self.operations, self.operations_on_all, self.sizes = {}, {}, []

    def close(self) -> None:
        """Called once, at the end."""

    def run(self, operation: str, threads: int) -> float:
        """Seconds of one operation on all pieces."""
        if operation in self.operations_on_all:
            begin = time.perf_counter()
            self.operations_on_all[operation]()
            return time.perf_counter() - begin
        work, pieces = self.operations[operation], range(len(self.sizes))
        if threads == 1:
            begin = time.perf_counter()
            for piece in pieces:
                work(piece)
            return time.perf_counter() - begin
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: None, range(threads)))  # threads exist before the clock runs
            begin = time.perf_counter()
            list(pool.map(work, pieces))
            return time.perf_counter() - begin

    @property
    def symbols(self) -> int:
        return sum(self.sizes)


def cut(matrices: Sequence[Matrix], threads: int) -> list[torch.Tensor]:
    """The symbols that a peer's calls take, flat: one call per matrix, or per PIECE_SYMBOLS where several threads share the work."""
    flat = [matrix.symbols.reshape(-1) for matrix in matrices]
    return flat if threads == 1 else [piece for symbols in flat for piece in symbols.split(PIECE_SYMBOLS)]


def measure(
    contenders: Sequence[Contender], threads: int, rounds: int, budget: float, progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Best seconds of every operation of every contender. The rounds are interleaved, so that whatever else the machine does hits all
    alike; who has used up `budget` seconds, or is slow, sits out the remaining rounds."""
    torch.set_num_threads(threads)
    best: dict[str, dict[str, float]] = {contender.name: {} for contender in contenders}
    spent = {contender.name: 0.0 for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            if number and (contender.slow or spent[contender.name] > budget):
                continue
            progress(f"round {number + 1} of {rounds}, {threads} thread{'s' * (threads > 1)}: {contender.name}")
            contender.activate()
            for operation in (*contender.operations, *contender.operations_on_all):
                seconds = contender.run(operation, threads)
                spent[contender.name] += seconds
                best[contender.name][operation] = min(seconds, best[contender.name].get(operation, seconds))
    return best
