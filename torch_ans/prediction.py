"""The smallest stream for each matrix of a model: which view, which predictors, which references. docs/models.md tells what was measured.

Everything is decided by bits: of fits on the matrices themselves, headers and coefficients paid for, and at last by the size of the streams. Names play no part.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import ops
from .errors import InvalidArgumentError

#: Symbols below which a matrix is left to order-0 coding: headers cost more than they save.
MIN_SYMBOLS = 4096
_MIN_COLUMNS, _MAX_COLUMNS = 8, 1 << 16
_MIN_LINES = 8


@dataclass(frozen=True)
class Effort:
    """How hard to look. `predictors`: at most so many for the lines of one group of matrices; `levels`: depth of references between lines; `references`: so many earlier
    matrices are looked at as references, and `tried` so many; `period`: the longest predictor; `own_lines`: a matrix may have a predictor of its own if it has so many lines
    per column; `seeds`: where groups of matrices that share predictors may begin; `adaptations`, `sample`: as `adaptations` and
    `sample_symbols` of `ops.fit_matrix`."""

    predictors: int
    levels: int
    references: int
    tried: int
    period: int
    own_lines: float
    seeds: int
    adaptations: int
    sample: int


#: By name of the level; None: order-0 coding alone.
LEVELS: dict[str, Effort | None] = {
    "fast": None,
    "default": Effort(predictors=1, levels=0, references=3, tried=1, period=1024, own_lines=1.5, seeds=4, adaptations=2, sample=1 << 17),
    "best": Effort(predictors=3, levels=4, references=12, tried=2, period=2048, own_lines=0.5, seeds=12, adaptations=6, sample=1 << 20),
}


def effort_of(level: str) -> Effort | None:
    """Raises InvalidArgumentError for a level that there is not."""
    if level not in LEVELS:
        raise InvalidArgumentError(f"level is {level!r}, not one of {', '.join(map(repr, LEVELS))}")
    return LEVELS[level]


@dataclass
class Matrix:
    """A tensor of symbols (int8, uint8 or int16, flat, on the CPU) that may be predicted. `best_bytes`: of its stream so far. `trellis`: states of the machine that its rows
    are paths of, or 0."""

    number: int
    symbols: Tensor
    shape: tuple[int, ...]
    best_bytes: int
    trellis: int = 0


@dataclass
class Stream:
    """A smaller stream for a matrix. It needs the predictors that the stream of matrix `predictors_of` carries, and the symbols of matrix `reference` (numbers, or None)."""

    stream: Tensor
    predictors_of: int | None = None
    reference: int | None = None


@dataclass(frozen=True)
class View:
    """A matrix cut into lines."""

    matrix: int  # position in the list of matrices
    columns: int
    transposed: bool


@dataclass
class _Pool:
    """Predictors that several matrices share, or one has for itself."""

    predictors: list[Tensor]
    members: list[View]
    worth: float  # bits that one predictor saves


@dataclass
class _Choice:
    """How a matrix is best written, as far as is known: with a fitted header, and what it takes in bytes."""

    bytes: float
    header: Tensor | None = None
    view: View | None = None
    pool: _Pool | None = None
    reference: View | None = None
    levels: int = 0

    @property
    def predictors(self) -> list[Tensor]:
        return [] if self.pool is None else self.pool.predictors


def views_of(position: int, matrix: Matrix) -> Iterator[View]:
    """All ways to cut a tensor into lines between two of its dimensions, and each transposed; of a trellis, only its rows."""
    seen = set()
    for kept in range(1, len(matrix.shape)):
        columns = math.prod(matrix.shape[kept:])
        if columns == 0:
            continue
        lines = matrix.symbols.numel() // columns
        for view in (View(position, columns, False), View(position, lines, True))[: 1 if matrix.trellis else 2]:
            across = matrix.symbols.numel() // view.columns
            if _MIN_COLUMNS <= view.columns <= _MAX_COLUMNS and across >= _MIN_LINES and (view.columns, view.transposed) not in seen:
                seen.add((view.columns, view.transposed))
                yield view


_LEAST_REFERENCE_GAIN = 32 * 8  # bits
# In so many ways to write a matrix lines like others are looked for, if there are enough lines.
_SEARCHED, _SEARCHED_LINES = 2, 256


class Planner:
    """Finds streams for matrices; `done` is called with the number of each that is finished."""

    def __init__(self, matrices: Sequence[Matrix], effort: Effort, chunk_symbols: int, done: Callable[[int], None] | None = None) -> None:
        self.matrices = list(matrices)
        self.effort = effort
        self.chunk_symbols = chunk_symbols
        self.done = done
        self.choices = [_Choice(matrix.best_bytes) for matrix in self.matrices]
        self.alone = list(self.choices)  # the best that need no predictors of another stream
        self.views = [list(views_of(i, matrix)) for i, matrix in enumerate(self.matrices)]
        self.sizes: dict[View, float] = {}  # without predictors
        self.references: dict[View, list[View]] = {}

    def run(self) -> dict[int, Stream]:
        """Streams by number of the matrix, for those that are smaller than before."""
        for view in itertools.chain.from_iterable(self.views):
            self.sizes[view] = self._consider(view)
        pools_of: dict[int, list[tuple[View, _Pool]]] = {}
        for pool in self._pools():
            for view in pool.members:
                pools_of.setdefault(view.matrix, []).append((view, pool))
        for position, views in enumerate(self.views):
            candidates = [(self.sizes[view], view, None) for view in views] if self.effort.levels else []
            candidates += [(self._consider(view, pool), view, pool) for view, pool in pools_of.get(position, [])]
            alone = [candidate for candidate in candidates if candidate[2] is not None and len(candidate[2].members) == 1]
            if alone:  # the best of these may be better with several predictors
                _, view, pool = min(alone, key=lambda candidate: candidate[0])
                assert pool is not None
                if (several := self.predictors_for([view], pool.worth)) is not None:
                    pool = _Pool(several, [view], pool.worth)
                    candidates.append((self._consider(view, pool), view, pool))
            self._consider_references(candidates)
            if self.done is not None:
                self.done(self.matrices[position].number)
        return self._streams()

    def _fit(self, view: View, predictors: Sequence[Tensor] = (), **options) -> ops.FittedMatrix:
        symbols = self.matrices[view.matrix].symbols
        return ops.fit_matrix(symbols, view.columns, view.transposed, predictors, chunk_symbols=self.chunk_symbols, adaptations=self.effort.adaptations, sample_symbols=self.effort.sample, trellis=self.matrices[view.matrix].trellis, **options)

    def _consider(self, view: View, pool: _Pool | None = None, reference: View | None = None, levels: int = 0) -> float:
        """Fits a matrix in one way, and keeps it if it is the best so far. Returns its bytes."""
        own = pool is not None and len(pool.members) == 1
        predictors = [] if pool is None else pool.predictors
        fitted = self._fit(view, predictors, own_predictors=own, levels=levels, **self._other(reference))
        size = fitted.bits / 8
        for choices in (self.choices, self.alone) if pool is None or own else (self.choices,):
            if size < choices[view.matrix].bytes:
                choices[view.matrix] = _Choice(size, fitted.header, view, pool, reference, levels)
        return size

    def _consider_references(self, candidates: list[tuple[float, View, _Pool | None]]) -> None:
        """Lines of earlier matrices as references for each of these ways to write a matrix, which take so many bytes without; and for the best of all these, lines of the same matrix."""
        with_other: list[tuple[float, View, _Pool | None, View | None]] = []
        for plain, view, pool in candidates:
            sizes = {other: self._consider(view, pool, other) for other in self._possible_references(view)}
            best = min(sizes, key=sizes.__getitem__, default=None)
            if best is not None and sizes[best] < plain:
                with_other.append((sizes[best], view, pool, best))
            else:
                with_other.append((plain, view, pool, None))
        for _, view, pool, other in sorted(with_other, key=lambda candidate: candidate[0])[: _SEARCHED if self.effort.levels else 0]:
            if self.matrices[view.matrix].symbols.numel() // view.columns >= _SEARCHED_LINES:
                self._consider(view, pool, other, self.effort.levels)

    def _possible_references(self, view: View) -> list[View]:
        """Of the nearest earlier matrices, in views of the same shape, those that promise most."""
        if view in self.references:
            return self.references[view]
        symbols = self.matrices[view.matrix].symbols
        found = []
        for position in range(view.matrix - 1, -1, -1):
            other = self.matrices[position].symbols
            if other.numel() == symbols.numel() and other.dtype == symbols.dtype:
                found += [v for v in self.views[position] if v.columns == view.columns]
        found = found[: self.effort.references]
        gain = {v: ops.reference_gain(symbols, view.columns, view.transposed, self.matrices[v.matrix].symbols, v.transposed) for v in found}
        promising = sorted((v for v in found if gain[v] > _LEAST_REFERENCE_GAIN), key=lambda v: -gain[v])
        self.references[view] = promising[: self.effort.tried]
        return self.references[view]

    # ---- predictors ----

    def _pools(self) -> list[_Pool]:
        if not self.effort.predictors:
            return []
        by_columns: dict[int, list[View]] = {}
        for view in itertools.chain.from_iterable(self.views):
            if view.columns <= self.effort.period:
                by_columns.setdefault(view.columns, []).append(view)
        return [pool for columns, views in sorted(by_columns.items()) for pool in _Grouping(self, columns, views).pools()]

    def predictors_for(self, members: Sequence[View], worth: float) -> list[Tensor] | None:
        """Several predictors for the lines of these matrices, where so much is saved by one that more coefficients may pay; otherwise None."""
        columns = members[0].columns
        most = min(self.effort.predictors, _MAX_COEFFICIENTS // (columns * columns // 2))
        if most <= 1 or worth < _WORTH_SEVERAL:
            return None
        symbols = [self.matrices[view.matrix].symbols for view in members]
        return ops.fit_predictors(symbols, columns, [view.transposed for view in members], most)

    # ---- streams ----

    def _streams(self) -> dict[int, Stream]:
        made: dict[int, Stream] = {}  # by position
        carriers = self._carriers()
        for position, choice in enumerate(self.choices):
            carrier = None if choice.pool is None else carriers.get(id(choice.pool))
            if choice.header is not None:
                made[position] = self._stream(position, choice, None if carrier in (None, position) else self.matrices[carrier].number)
        # Estimates are not sizes. A shared predictor is paid for by what its users really save.
        for pool, carrier in carriers.items():
            users = [position for position in made if position != carrier and id(self.choices[position].pool) == pool]
            saved = {position: min(self.alone[position].bytes, self.matrices[position].best_bytes) - made[position].stream.numel() for position in [carrier, *users]}
            not_worth = [position for position in users if saved[position] <= 0]
            if saved[carrier] + sum(saved[position] for position in users if saved[position] > 0) <= 0:
                not_worth = [carrier, *users]
            for position in not_worth:
                del made[position]
                if self.alone[position].header is not None:
                    made[position] = self._stream(position, self.alone[position])
        carrying = {stream.predictors_of for stream in made.values()}
        streams = {self.matrices[position].number: stream for position, stream in made.items() if stream.stream.numel() < self.matrices[position].best_bytes or self.matrices[position].number in carrying}
        return dict(sorted(streams.items()))

    def _stream(self, position: int, choice: _Choice, predictors_of: int | None = None) -> Stream:
        assert choice.header is not None
        reference = None if choice.reference is None else self.matrices[choice.reference.matrix]
        predictors = [] if predictors_of is None else choice.predictors
        stream = ops.encode_matrix(self.matrices[position].symbols, choice.header, predictors, None if reference is None else reference.symbols)
        return Stream(stream, predictors_of, None if reference is None else reference.number)

    def _carriers(self) -> dict[int, int]:
        """By id of each pool that several matrices use: the one, the first of the largest, whose stream carries the predictors. Its header now has them.

        So entries never refer to each other in a circle: a reference is an earlier matrix of the same size, a carrier is at least as large as its users, so all in a circle were of
        one size, and then each carrier came before its users."""
        users: dict[int, list[int]] = {}
        for position, choice in enumerate(self.choices):
            if choice.pool is not None and len(choice.pool.members) > 1:
                users.setdefault(id(choice.pool), []).append(position)
        carriers = {}
        for pool, positions in users.items():
            carrier = max(positions, key=lambda i: (self.matrices[i].symbols.numel(), -i))
            choice = self.choices[carrier]
            assert choice.view is not None
            header = self._fit(choice.view, choice.predictors, own_predictors=True, levels=choice.levels, **self._other(choice.reference)).header
            saved = sum(self.alone[i].bytes - self.choices[i].bytes for i in positions) - sum(p.numel() for p in choice.predictors)
            if saved > 0 and header.numel() < self.matrices[carrier].symbols.numel():
                carriers[pool] = carrier
                self.choices[carrier] = dataclasses.replace(choice, header=header)
            else:  # as it turned out, the predictors are not worth their bytes
                for i in positions:
                    self.choices[i] = self.alone[i]
        return carriers

    def _other(self, reference: View | None) -> dict[str, object]:
        return {} if reference is None else {"reference": self.matrices[reference.matrix].symbols, "reference_transposed": reference.transposed}

# Own predictors of a stream can not have many more.
_MAX_COEFFICIENTS = 1 << 22
# Memory for the Gram matrices of one group.
GRAM_BYTES = 1 << 30
# Bits that one predictor must save before several are looked at.
_WORTH_SEVERAL = 16 * 1024 * 8
# A pool in the making keeps a matrix that would save this part of what it saves alone; when it stands, it must save more.
_GROWING = 0.3
_LEAST_GAIN = 30 * 8  # bits
_ROUNDS = 8
# Small matrices are looked at in so many parts; of narrow ones, and so many of them, because that is quick.
_BLOCK_COUNTS = (2, 3, 4)
_BLOCK_COLUMNS, _BLOCK_SYMBOLS, _BLOCK_VIEWS = 256, 1 << 18, 32
# Every so many columns tell enough of what a predictor saves, where groups are found.
_STRIDE = 4


class _Grouping:
    """Which views of the same columns share predictors.

    A predictor of a matrix that gains from its own gathers those that gain from it too; the predictor of all these gathers again, until nothing changes. Each matrix is in
    one pool at most, in the view that gains most there, and has besides, where that pays, a predictor of its own."""

    def __init__(self, planner: Planner, columns: int, views: Sequence[View]) -> None:
        self.planner = planner
        self.matrices = planner.matrices
        self.columns = columns
        self.stride = _STRIDE if columns >= 128 else 1
        lines = {view: self.matrices[view.matrix].symbols.numel() // columns for view in views}
        # What cannot pay for coefficients, even if all variance were explained, need not be looked at.
        found = [view for view in views if lines[view] >= planner.effort.own_lines * columns or len(views) > 1]
        # Gram matrices of many wide matrices take much memory: groups are found among the largest matrices, and offered to the others.
        kept = max(2, GRAM_BYTES // (8 * columns * columns))
        found.sort(key=lambda view: (-self.matrices[view.matrix].symbols.numel(), view.matrix))
        self.views, self.others = sorted(found[:kept], key=lambda view: (view.matrix, view.transposed)), found[kept:]
        self.grams = {view: ops.matrix_gram(self.matrices[view.matrix].symbols, columns, view.transposed) for view in self.views}
        self.own = {view: ops.fit_predictor([self.grams[view]]) for view in self.views if lines[view] >= planner.effort.own_lines * columns}
        self.net = {view: max(0.0, fitted.gain_bits - fitted.coefficient_bits) for view, fitted in self.own.items()}
        self.best_net: dict[int, float] = {}
        for view, net in self.net.items():
            self.best_net[view.matrix] = max(net, self.best_net.get(view.matrix, 0))

    def pools(self) -> list[_Pool]:
        pools = [_Pool([self.own[view].predictor], [view], net) for view, net in self.net.items() if net > _LEAST_GAIN]
        if self.planner.effort.predictors > 1 and self.columns <= _BLOCK_COLUMNS:
            small = [view for view in self.own if self.matrices[view.matrix].symbols.numel() <= _BLOCK_SYMBOLS][:_BLOCK_VIEWS]
            pools += [pool for view in small for pool in self._of_blocks(view)]
        free = {view.matrix for view in self.views}
        planner = self.planner
        seeds = sorted((view for view in self.own if self.net[view] > 0), key=lambda view: -self.net[view])[: planner.effort.seeds]
        cross = dict(zip(seeds, self._gains([self.own[seed].predictor for seed in seeds])))
        while len(free) > 1 and seeds:
            gathered = [(seed, self._gather(cross[seed], free, _GROWING)) for seed in seeds if seed.matrix in free]
            values = [sum(cross[seed][view] for view in members if view.matrix != seed.matrix) for seed, members in gathered]
            if not values or max(values) <= 0:
                break
            seed, members = gathered[values.index(max(values))]
            seeds.remove(seed)
            members, worth = self._grow(members, free)
            if worth > 0 and len(members) > 1:
                predictors = planner.predictors_for(members, worth) or [ops.fit_predictor([self.grams[view] for view in members]).predictor]
                pools.append(_Pool(predictors, members + self.others, worth))
                free -= {view.matrix for view in members}
        return pools

    def _of_blocks(self, view: View) -> Iterator[_Pool]:
        """Predictors for equal parts of the lines of a matrix (gates, or sines and cosines), where they save more than one for all lines."""
        lines = self.matrices[view.matrix].symbols.view(self.columns, -1).T if view.transposed else self.matrices[view.matrix].symbols.view(-1, self.columns)
        for count in _BLOCK_COUNTS:
            blocks = [block.contiguous() for block in lines.tensor_split(count) if len(block) > 1]
            fitted = [ops.fit_predictor([ops.matrix_gram(block, self.columns)]) for block in blocks]
            net = sum(max(0.0, predictor.gain_bits - predictor.coefficient_bits) for predictor in fitted)
            if net <= self.net[view] + _LEAST_GAIN:
                return
            yield _Pool([predictor.predictor for predictor in fitted], [view], net)

    def _gains(self, predictors: Sequence[Tensor]) -> list[dict[View, float]]:
        """What each predictor saves in each view, in bits."""
        if not predictors:
            return []
        table = ops.predictor_gains([self.grams[view] for view in self.views], predictors, self.stride)
        return [dict(zip(self.views, column)) for column in table.T.tolist()]

    def _gather(self, gains: dict[View, float], free: set[int], part: float) -> list[View]:
        """Of each matrix the view that gains most, if it gains enough."""
        best: dict[int, View] = {}
        for view in self.views:
            if view.matrix in free and (view.matrix not in best or gains[view] > gains[best[view.matrix]]):
                best[view.matrix] = view
        return [view for matrix, view in sorted(best.items()) if gains[view] > max(_LEAST_GAIN, part * self.best_net.get(matrix, 0))]

    def _grow(self, members: list[View], free: set[int]) -> tuple[list[View], float]:
        part, worth = _GROWING, 0.0
        for _ in range(_ROUNDS):
            if not members:
                return [], 0.0
            fitted = ops.fit_predictor([self.grams[view] for view in members])
            [gains] = self._gains([fitted.predictor])
            worth = sum(gains[view] - self.best_net.get(view.matrix, 0) for view in members) - fitted.coefficient_bits
            gathered = self._gather(gains, free, part)
            if gathered == members and part == 1:
                break
            if gathered == members:
                part = 1.0
                gathered = self._gather(gains, free, part)
                if gathered == members:
                    break
            members = gathered
        return members, worth
