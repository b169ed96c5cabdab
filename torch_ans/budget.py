"""A model in so many bytes: `fit` finds how finely each weight may be quantized such that the file keeps within a budget and all weights together err least.

fitted = torch_ans.fit(model.state_dict(), 16_000_000 - code_bytes)
fitted.model.write("model.ans")                                # within the budget, and 0.05 % below it at most
print(fitted.table())

The error of a tensor is relative: squared, in parts of what it would be if all were zero, with each row over its variance, or weighted by a Hessian. A tensor counts by its number of
weights, times the `weight` of its group. So at small steps all tensors have steps that are the same part of their rows' deviation; what differs from that is where distributions do.
"""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist
from torch import Tensor

from . import allocation, gptq, grid, tree, weights
from .allocation import Choice, Curve, Point
from .distributed import GroupExchange
from .entries import QUANTIZED_DTYPES, dtype_name
from .errors import BudgetError, InvalidArgumentError
from .fitted import Fitted, FittedTensor, Setting
from .model import CompressedModel, compress, compress_model, is_leaf
from .pipeline import Options
from .quantizing import Called, Clipped, Quantize, Quantizing, Searched, checked, relative_error
from .sharing import share
from .weights import QUANTIZERS, QuantizedWeight

T = TypeVar("T")

#: A file is at least this part of its budget, where ranges allow.
CLOSE = 1 - 5e-4
# How far below the budget is aimed, in parts of it; twice as far with every file that was too large, as sizes of small files jump. And: how near a file has to come
# so that no nearer one is looked for, which is done so many times (with Hessians or at slow levels: once).
_BELOW, _MOST_BELOW = 2e-5, 2.5e-4
_CLOSER, _FURTHER = 1 - 5e-5, 4
_ROUNDS = 48
# How far slopes are apart then, and how often a size that no setting has is looked for.
_SPREAD, _GAPS = 0.03, 6
# Steps that differ between tensors must promise so many times less error than one step for all: curves are traced on samples, and noise promises a little, too.
_WORTHWHILE = 1 - 1e-3
# Curves are traced at steps that differ by this factor.
_FACTOR = 2 ** (2 / 3)


@dataclass(frozen=True)
class Group:
    """Tensors whose names match a pattern, or one of several, and how they may be quantized.

    quantizers: one or more of "uniform", "trellis4", "trellis8", "trellis32", "clip"; each tensor gets the one that serves best. step_sigmas: the smallest and the largest step, in
    standard deviations of rows. bits, clip_sigmas: of "clip", one or more bits (2 ... 8), and the smallest and the largest clipping. weight: what the errors of these tensors count."""

    names: str | Sequence[str] = "*"
    quantizers: str | Sequence[str] = "trellis8"
    step_sigmas: tuple[float, float] = (0.01, 2.5)
    bits: int | Sequence[int] = 6
    clip_sigmas: tuple[float, float] = (2.0, 16.0)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.ways():
            raise InvalidArgumentError("a group has no quantizer")
        for quantizer, bits, (least, most) in self.ways():
            if quantizer not in (*QUANTIZERS, "clip"):
                raise InvalidArgumentError(f"quantizer is {quantizer!r}, not one of {', '.join(map(repr, (*QUANTIZERS, 'clip')))}")
            if bits is not None and (not isinstance(bits, int) or not 2 <= bits <= 8):
                raise InvalidArgumentError(f"bits is {bits!r}, not in 2 ... 8")
            if not 0 < least <= most <= 100:
                raise InvalidArgumentError(f"the steps of {quantizer!r} are {least:g} to {most:g} standard deviations: not a range of positive numbers up to 100")
        if not 0 < self.weight < math.inf:
            raise InvalidArgumentError(f"weight is {self.weight!r}, not a positive number")

    def ways(self) -> list[tuple[str, int | None, tuple[float, float]]]:
        """Quantizers, bits if they have some, and the range of their steps."""
        found: list[tuple[str, int | None, tuple[float, float]]] = []
        for quantizer in [self.quantizers] if isinstance(self.quantizers, str) else self.quantizers:
            if quantizer != "clip":
                found.append((quantizer, None, self.step_sigmas))
            for bits in ([self.bits] if isinstance(self.bits, int) else self.bits) if quantizer == "clip" else ():
                most = max(1, (1 << bits - 1) - 1) if isinstance(bits, int) and 2 <= bits <= 8 else 1
                found.append((quantizer, bits, (self.clip_sigmas[0] / most, self.clip_sigmas[1] / most)))
        return found

    def matches(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in ([self.names] if isinstance(self.names, str) else self.names))


def fit(
    state: Any,
    budget: int,
    *,
    groups: Group | Sequence[Group] | None = None,
    hessians: Mapping[str, Tensor] | None = None,
    quantize: Quantize | None = None,
    level: str = "fast",
    min_quantized_numel: int = 65536,
    scale_columns: bool | None = None,
    survivors: int = 1,
    group: dist.ProcessGroup | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Fitted:
    """Quantizes a model (tensors in any nesting, as `compress_model` takes them) such that its file has at most `budget` bytes, and its weights err least (see the head of this module).

    groups: how tensors may be quantized; the first that matches a name counts, and what none matches is kept exactly, as are tensors of one dimension or fewer than
    `min_quantized_numel` elements. Default: all by "trellis8". hessians: by name (see `gptq.collect_hessians`); these weights are quantized by `gptq.quantize_weight`, with its
    `scale_columns` and `survivors`. quantize: a function that quantizes a tensor for a setting instead of ours, `quantize(name, weight, setting) -> QuantizedWeight`.
    level, options (chunk_symbols, ties, metadata): as of `compress_model`. In a process group, whose ranks must all have the same weights and Hessians, each quantizes its share, and
    all get the same result, as one process alone would.

    The result is within the budget, and no less than 0.9995 of it unless all steps are at the lower end of their range (`is_limited`), or nothing in between errs less (ranges of few
    tensors with gaps between them), or sizes jump, as those of a `quantize` may that does not follow its setting: then it is the largest file found that fits. Raises BudgetError, which names the smallest file that
    was found, if that is larger; InvalidArgumentError; NotFiniteError for NaN and infinity."""
    begin = time.perf_counter()
    tell = progress or (lambda text: None)
    if isinstance(budget, bool) or not isinstance(budget, int) or budget <= 0:
        raise InvalidArgumentError(f"budget is {budget!r}, not a positive number of bytes")
    several = [Group()] if groups is None else [groups] if isinstance(groups, Group) else list(groups)
    job = _Job(state, several, hessians or {}, quantize, min_quantized_numel, {"scale_columns": scale_columns, "survivors": survivors}, {"level": level, **options}, group)
    tell(f"tracing {len(job.subjects)} tensors")
    job.trace()
    return job.solve(budget, tell, begin)


@dataclass
class _Subject:
    """A tensor that is to be quantized."""

    name: str
    tensor: Tensor
    group: Group
    hessian: Tensor | None
    by: dict[tuple[str, int | None], Quantizing] = field(default_factory=dict)
    curves: list[Curve[tuple[str, int | None]]] = field(default_factory=list)
    known: dict[tuple[str, int | None], int] = field(default_factory=dict)

    def learn(self, choice: Choice[tuple[str, int | None]], bits: float) -> None:
        """That a choice took so many bits: what its curve, of a sample, is off by. Later half of it, since sizes jump."""
        times = self.known[choice.way] = self.known.get(choice.way, 0) + 1
        off = (bits - choice.point.bits) / (1 if times < 4 else 2)
        self.curves = [curve.shifted(off) if curve.way == choice.way else curve for curve in self.curves]


class _Encoded(NamedTuple):
    """A file (elsewhere than on rank 0: None), its size, and those of its records."""

    model: CompressedModel | None
    file_bytes: int
    record_bytes: Mapping[str, int]


class _Job:
    def __init__(
        self,
        state: Any,
        groups: Sequence[Group],
        hessians: Mapping[str, Tensor],
        quantize: Quantize | None,
        least: int,
        gptq_options: dict[str, Any],
        options: dict[str, Any],
        group: dist.ProcessGroup | None,
    ) -> None:
        self._flat = tree.flatten(state, is_leaf)
        self._options, self._quantize, self._gptq_options, self._group = options, quantize, gptq_options, group
        names = list(self._flat.names)
        for name in hessians:
            if name not in names:
                raise InvalidArgumentError(f"there is no weight {name!r}")
        self.subjects: list[_Subject] = []
        self._by_step = False
        self._spread = 0.0, 0  # of slopes, which are dealt out in another way for every number
        seen: dict[Any, str] = {}
        for name, tensor in zip(names, self._flat.tensors):
            if not isinstance(tensor, Tensor) or tensor.dim() < 2 or tensor.numel() < max(1, least) or dtype_name(tensor.dtype) not in QUANTIZED_DTYPES:
                continue
            group = next((group for group in groups if group.matches(name)), None)
            if group is not None and seen.setdefault(weights.memory_key(tensor), name) == name:
                self.subjects.append(_Subject(name, tensor, group, hessians.get(name)))
        if not self.subjects:
            raise InvalidArgumentError("there is no tensor to quantize: none matches a group, has two dimensions and enough elements")

    def _shared(self, work: Callable[[_Subject], T]) -> list[T]:
        """Of every tensor, each worked on by one rank, on all ranks."""
        costs = [s.tensor.numel() * (1 if s.hessian is None else s.tensor.shape[-1]) for s in self.subjects]
        return share([s.name for s in self.subjects], costs, [s.tensor.device for s in self.subjects], lambda i: work(self.subjects[i]), self._group)

    # ---- curves ----

    def trace(self) -> None:
        for subject, curves in zip(self.subjects, self._shared(self._trace)):
            subject.curves = curves

    def _trace(self, subject: _Subject) -> list[Curve[tuple[str, int | None]]]:
        numel, curves = subject.tensor.numel(), []
        for quantizer, bits, (least, most) in subject.group.ways():
            by = subject.by[quantizer, bits] = self._quantizing(subject, quantizer, bits)
            count = 1 + max(0, math.ceil(math.log(most / least) / math.log(_FACTOR) - 1e-9))
            points = []
            for i in range(count):
                step = least * (most / least) ** (i / max(1, count - 1))
                rate, error = by.measure(step)
                points.append(Point(math.log2(step), rate * numel, subject.group.weight * error * numel))
            curves.append(Curve((quantizer, bits), points))
        return curves

    def _quantizing(self, subject: _Subject, quantizer: str, bits: int | None) -> Quantizing:
        tensor = subject.tensor
        if self._quantize is not None:
            given = self._quantize
            return Called(lambda step: checked(given(subject.name, tensor, Setting(quantizer, step, bits)), tensor), tensor, subject.hessian)
        if bits is not None:
            return Clipped(tensor, bits, subject.hessian)
        if subject.hessian is None:
            return Searched(grid.GridSearch(tensor, quantizer), tensor.numel())
        search = gptq.HessianSearch(tensor, subject.hessian, quantizer, **self._gptq_options)
        search.decide_columns(grid.first_step(search.states, 3.0))
        return Searched(search, tensor.numel())

    # ---- the budget ----

    def solve(self, budget: int, tell: Callable[[str], None], begin: float) -> Fitted:
        """Real files of as many predicted bytes as come nearer to the budget: what curves predict is off by an amount that hardly changes."""
        other = sum({weights.memory_key(t): t.nbytes for t in self._flat.tensors}.values()) - sum(s.tensor.nbytes for s in self.subjects)
        beside = 0.9 * other + 2.0 * sum(s.tensor.numel() // weights.row_columns(tuple(s.tensor.shape)) for s in self.subjects)
        best: tuple[_Encoded, dict[str, QuantizedWeight], list[Choice[tuple[str, int | None]]], bool] | None = None
        smallest = math.inf
        most_further = _FURTHER if self._options.get("level", "fast") == "fast" and all(subject.hessian is None for subject in self.subjects) else 1
        too_large, further, gaps = 0, -1, 0  # files that were; rounds since one was close; rounds whose size no setting has
        for number in range(1, _ROUNDS + 1):
            if number <= 2:
                self._decide(budget - beside)
            below = min(_BELOW * 2**too_large, _MOST_BELOW)
            if below == _MOST_BELOW:  # sizes jump by more than that: all over what counts as close
                below = (1 - CLOSE) * (number * 0.618 % 1)
                self._spread = _SPREAD, number  # and the jump of one tensor is met by the steps of others
            least, most = self._limits()
            wanted = min(most, max(least, (1 - below) * budget - beside))
            choices = self._choices(wanted)
            quantized = self._quantized(choices)
            encoded = self._encoded(quantized)
            size = encoded.file_bytes
            tell(f"round {number}: {size:,} of {budget:,} bytes")
            smallest = min(smallest, size)
            gaps += allocation.total_bits(choices) / 8 < CLOSE * wanted
            beside = size - sum(encoded.record_bytes[subject.name] for subject in self.subjects)
            for subject, choice in zip(self.subjects, choices):
                subject.learn(choice, 8 * encoded.record_bytes[subject.name])
            if size <= budget:
                if best is None or size > best[0].file_bytes:
                    best = encoded, quantized, choices, wanted >= most
                if size >= _CLOSER * budget or wanted >= most:
                    break
            else:
                if wanted <= least:
                    raise BudgetError(f"no setting fits in {budget:,} bytes: the smallest file found has {smallest:,}", int(smallest))
                too_large += 1
            if best is not None and best[0].file_bytes >= CLOSE * budget:
                further += 1
            if best is not None and (further >= most_further or gaps >= _GAPS):
                break
        if best is None:
            raise BudgetError(f"no setting was found that fits in {budget:,} bytes: the smallest file found has {int(smallest):,}", int(smallest))
        encoded, quantized, choices, is_limited = best
        tensors = self._tensors(encoded, quantized, choices)
        return Fitted(encoded.model, encoded.file_bytes, quantized, tensors, budget, is_limited, number, time.perf_counter() - begin)

    def _encoded(self, quantized: Mapping[str, QuantizedWeight]) -> _Encoded:
        """By all ranks together."""
        state = self._replaced(quantized)
        parallel = dist.is_available() and dist.is_initialized()
        if parallel:
            options = dict(self._options)
            metadata = options.pop("metadata", None)
            model = compress(state, Options(**options), metadata, None, GroupExchange(self._group))
        else:
            model = compress_model(state, None, **self._options)
        told: list[Any] = [None if model is None else (model.file_bytes, {entry.name: entry.record_bytes for entry in model.index.entries})]
        if parallel:
            dist.broadcast_object_list(told, group=self._group, group_src=0)
        return _Encoded(model, *told[0])

    def _replaced(self, quantized: Mapping[str, QuantizedWeight]) -> Any:
        """The same nesting with these leaves instead, also where a tensor is there once more under another name."""
        flat = self._flat
        named = weights.under_all_names(quantized, dict(zip(flat.names, flat.tensors)))
        return tree.unflatten(flat.structure, flat.names, [named.get(name, leaf) for name, leaf in zip(flat.names, flat.tensors)])

    def _limits(self) -> tuple[float, float]:
        """Predicted bytes with all steps at the upper and at the lower end of their ranges."""
        least, most = (allocation.total_bits(self._at(slope)) / 8 for slope in (allocation.COARSEST, allocation.FINEST))
        return least, most

    def _choices(self, size: float) -> list[Choice[tuple[str, int | None]]]:
        """Of least error and so many predicted bytes, within limits."""
        return allocation.fill(self._at, [subject.curves for subject in self.subjects], 8 * size)

    def _at(self, slope: float) -> list[Choice[tuple[str, int | None]]]:
        spread, number = self._spread
        slopes = [slope + spread * ((i + 1) * number * 0.618 % 1 - 0.5) for i in range(len(self.subjects))]
        if self._by_step:
            return [allocation.choose_by_step(subject.curves[0], slope, subject.group.weight) for subject, slope in zip(self.subjects, slopes)]
        return [allocation.choose(subject.curves, slope) for subject, slope in zip(self.subjects, slopes)]

    def _decide(self, size: float) -> None:
        """Whether one step for all tensors is as good as curves can tell; so it is where all steps are small."""
        if any(subject.hessian is not None or len(subject.curves) > 1 for subject in self.subjects):
            return
        errors = []
        for self._by_step in (True, False):
            errors.append(sum(choice.point.error for choice in self._choices(size)))
        self._by_step = errors[1] > _WORTHWHILE * errors[0]

    def _quantized(self, choices: Sequence[Choice[tuple[str, int | None]]]) -> dict[str, QuantizedWeight]:
        of = dict(zip((subject.name for subject in self.subjects), choices))
        found = self._shared(lambda subject: subject.by[of[subject.name].way].quantized(2.0 ** of[subject.name].point.step))
        return {subject.name: q for subject, q in zip(self.subjects, found)}

    def _tensors(self, encoded: _Encoded, quantized: Mapping[str, QuantizedWeight], choices: Sequence[Choice[tuple[str, int | None]]]) -> list[FittedTensor]:
        found = []
        errors = self._shared(lambda subject: relative_error(subject.tensor, quantized[subject.name], subject.hessian))
        for subject, choice, error in zip(self.subjects, choices, errors):
            (quantizer, bits), numel = choice.way, subject.tensor.numel()
            curves = {
                curve.way[0] + (f" {curve.way[1]}" if curve.way[1] else ""): [(2.0**p.step, max(0.0, p.bits) / numel, p.error / numel / subject.group.weight) for p in curve.points]
                for curve in subject.curves
            }
            found.append(FittedTensor(subject.name, Setting(quantizer, 2.0**choice.point.step, bits), numel, encoded.record_bytes[subject.name], error, curves))
        return found
