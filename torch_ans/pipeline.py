"""From named tensors to the entries and records of a file, on one rank or on several: the same bytes either way.

What is to be done follows from names, shapes, dtypes and options (`plan`), so every rank knows it. The work is divided by its
cost; only tensors that are large beside a rank's share are cut, and only these need an exchange between the steps (see
records.py). All other tensors are finished one after another, each on one rank, so that their intermediate results never add
up; on a GPU some at a time (see batches.py), because a call for a small tensor costs more than its work.
"""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from . import batches, grid, ops, prediction, records, weights
from .container import record_checksum
from .entries import DTYPE_NUMBERS, DTYPES, QUANTIZED_DTYPES, SYMBOL_TYPES, Entry, Kind, dtype_name
from .errors import InvalidArgumentError, NotFiniteError, UnsupportedDtypeError
from .index import MAX_REFERENCES
from .records import EncodedPiece, EntrySpec, Form
from .weights import QuantizedWeight

T = TypeVar("T")

#: What a model consists of.
Leaf = Tensor | QuantizedWeight

#: Which tensors to quantize: `select(name, tensor)`, or patterns of names.
Select = Callable[[str, Tensor], bool | float | None] | str | Sequence[str]
#: Which scale belongs to which symbols: names of scales by names of symbols, a pair of suffixes, or `ties(name of symbols)`.
Ties = Mapping[str, str] | tuple[str, str] | Callable[[str], str | None]
#: Called with the name and the bytes of every tensor that is done.
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Options:
    """How tensors are written; `compress_model` documents each."""

    bits: int | None = None
    clip_sigmas: float | str | None = None
    select: Select | None = None
    min_quantized_numel: int = 65536
    chunk_symbols: int = ops.DEFAULT_CHUNK_SYMBOLS
    ties: Ties | None = None
    level: str = "fast"
    quantizer: str = "clip"
    bits_per_weight: float | None = None
    step_sigmas: float | None = None

    def __post_init__(self) -> None:
        if self.on_grid:
            grid.check_grid(self.quantizer, self.bits_per_weight, self.step_sigmas)
            if self.bits is not None or self.clip_sigmas is not None:
                raise InvalidArgumentError(f"bits and clip_sigmas belong to the quantizer 'clip', not to {self.quantizer!r}")
        elif self.bits_per_weight is not None or self.step_sigmas is not None:
            raise InvalidArgumentError("bits_per_weight and step_sigmas belong to the quantizers of a grid: " + ", ".join(map(repr, weights.QUANTIZERS)))
        elif self.bits is not None:
            _check_bits(self.bits, "")
        if not _is_int(self.chunk_symbols) or not 1 <= self.chunk_symbols <= ops.MAX_CHUNK_SYMBOLS:
            raise InvalidArgumentError(f"chunk_symbols is {self.chunk_symbols!r}, not in 1 ... {ops.MAX_CHUNK_SYMBOLS}")
        clip = self.clip_sigmas
        if (isinstance(clip, str) and clip != "absmax") or not isinstance(clip, str | int | float | None):
            raise InvalidArgumentError(f'clip_sigmas is {clip!r}, neither a number nor "absmax" nor None')
        if not isinstance(clip, str | None) and not 0 < clip < math.inf:
            raise InvalidArgumentError(f"clip_sigmas is {clip!r}, not a positive number")
        patterns = self.patterns
        if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
            raise InvalidArgumentError(f"select is {self.select!r}, neither a function nor a pattern nor a sequence of patterns")
        prediction.effort_of(self.level)
        if not _is_int(self.min_quantized_numel):
            raise InvalidArgumentError(f"min_quantized_numel is {self.min_quantized_numel!r}, not an integer")

    @property
    def patterns(self) -> Sequence[str]:
        """The patterns that `select` consists of; none if it is a function or not given."""
        if self.select is None or callable(self.select):
            return ()
        return [self.select] if isinstance(self.select, str) else self.select

    @property
    def on_grid(self) -> bool:
        """Whether weights are quantized by grid.py."""
        return self.quantizer != "clip"

    @property
    def clip(self) -> float | None:
        """As the operators take it: None means absmax."""
        if self.clip_sigmas is None:
            return ops.DEFAULT_CLIP_SIGMAS
        return None if isinstance(self.clip_sigmas, str) else float(self.clip_sigmas)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_bits(bits: object, where: str) -> int:
    if not isinstance(bits, int) or not _is_int(bits) or not 2 <= bits <= 8:
        raise InvalidArgumentError(f"{where}bits is {bits!r}, not in 2 ... 8")
    return bits


# ---- plan ----


def plan(names: Sequence[str], tensors: Sequence[Leaf], options: Options) -> list[EntrySpec]:
    """One spec per tensor. Raises InvalidArgumentError or UnsupportedDtypeError, with the tensor's name, for what cannot be
    saved as asked."""
    dtypes = [_checked_dtype(name, tensor) for name, tensor in zip(names, tensors)]
    for pattern in options.patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise InvalidArgumentError(f"select: no tensor has a name like {pattern!r}")
    aliases = _find_aliases(tensors)
    tied = _find_ties(names, tensors, dtypes, aliases, options.ties)
    scaled = {target for targets in tied.values() for target in targets}
    specs = []
    for number, (name, tensor, dtype) in enumerate(zip(names, tensors, dtypes)):
        shape = tuple(tensor.shape)
        if number in aliases:
            specs.append(EntrySpec(name, dtype, shape, refers=(aliases[number],)))
            continue
        if isinstance(tensor, QuantizedWeight):
            form = Form(Kind.QUANTIZED, columns=tensor.symbols.shape[1], quantizer="given")
            specs.append(EntrySpec(name, dtype, shape, (form,), options.chunk_symbols))
            continue
        bits = None if number in tied or dtype not in QUANTIZED_DTYPES or not tensor.numel() else _bits_of(name, tensor, options)
        columns = weights.row_columns(shape)
        if bits is not None and options.on_grid:
            target = (options.bits_per_weight, options.step_sigmas) if bits is True else (float(bits), None)
            try:
                columns = weights.grid_columns(shape)
            except InvalidArgumentError as cause:
                raise InvalidArgumentError(f"{name!r}: {cause}") from cause
            form = Form(Kind.QUANTIZED, columns=columns, quantizer=options.quantizer, bits_per_weight=target[0], step_sigmas=target[1])
            specs.append(EntrySpec(name, dtype, shape, (form,), options.chunk_symbols))
            continue
        forms = records.lossless_forms(dtype)
        if number in scaled or not tensor.numel():
            forms = forms[:1]  # symbols, if they are to be found by their scale; and of nothing there is one form
        if bits is not None:
            forms = (Form(Kind.QUANTIZED, 0, columns, bits, options.clip),)
        in_rows = bits is not None or (tensor.dim() >= 2 and any(form.kind == Kind.SYMBOLS for form in forms))
        components = tensor.numel() * DTYPES[DTYPE_NUMBERS[dtype]].components
        chunk = records.chunk_length(components, columns if in_rows else 1, options.chunk_symbols)
        specs.append(EntrySpec(name, dtype, shape, forms, chunk, tied.get(number, ())))
    return specs


def _checked_dtype(name: str, tensor: Leaf) -> str:
    if isinstance(tensor, QuantizedWeight):
        if not tensor.numel():
            raise InvalidArgumentError(f"{name!r} is a quantized weight of no elements")
        return dtype_name(tensor.dtype)
    # Subclasses that only carry attributes are as good as tensors; those that intercept operators hold no plain memory.
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise InvalidArgumentError(
            f"{name!r} is a {type(tensor).__name__}; only plain tensors can be saved (full_tensor() makes one of a DTensor)"
        )
    if tensor.is_quantized:
        raise UnsupportedDtypeError(f"{name!r} has the dtype {tensor.dtype}; save int_repr() and its scales instead")
    if tensor.layout != torch.strided or tensor.is_nested:
        raise InvalidArgumentError(f"{name!r} is not dense ({tensor.layout}); save its parts, or to_dense()")
    if tensor.is_meta:
        raise InvalidArgumentError(f"{name!r} is on the meta device: it has no data")
    if batches.on_gpu(tensor) and not batches.has_cuda_kernels():
        raise InvalidArgumentError(f"{name!r} is on a GPU, but this installation was built without CUDA; cpu() makes a copy that can be saved")
    try:
        return dtype_name(tensor.dtype)
    except UnsupportedDtypeError as cause:
        raise UnsupportedDtypeError(f"{name!r}: {cause}") from cause


def _find_aliases(tensors: Sequence[Leaf]) -> dict[int, int]:
    """Number -> the first tensor that is the same memory, seen the same way; or the first mention of a quantized weight."""
    first: dict[Any, int] = {}
    aliases = {}
    for number, tensor in enumerate(tensors):
        if tensor.numel():
            key = weights.memory_key(tensor) if isinstance(tensor, Tensor) else id(tensor)
            if (target := first.setdefault(key, number)) != number:
                aliases[number] = target
    return aliases


def _find_ties(
    names: Sequence[str], tensors: Sequence[Leaf], dtypes: Sequence[str], aliases: Mapping[int, int], ties: Ties | None
) -> dict[int, tuple[int, ...]]:
    """Number of a scale -> numbers of the symbols that it belongs to."""
    number_of = {name: number for number, name in enumerate(names)}
    scale_of: dict[int, int] = {}
    for symbols, scale in _tied_names(names, dtypes, ties).items():
        for name in (symbols, scale):
            if name not in number_of:
                raise InvalidArgumentError(f"ties: there is no tensor {name!r}")
        if dtypes[number_of[symbols]] not in SYMBOL_TYPES:
            raise InvalidArgumentError(
                f"ties: {symbols!r} is {dtypes[number_of[symbols]]}; int8, uint8 or int16 can have a tied scale"
            )
        if dtypes[number_of[scale]] not in QUANTIZED_DTYPES:
            raise InvalidArgumentError(f"ties: {scale!r} is {dtypes[number_of[scale]]}; scales are floats")
        numel, rows = tensors[number_of[symbols]].numel(), tensors[number_of[scale]].numel()
        if rows == 0 or numel % rows:
            raise InvalidArgumentError(
                f"ties: {scale!r} has {rows} scales, which do not divide the {numel} symbols of {symbols!r}"
            )
        target, source = (aliases.get(number_of[name], number_of[name]) for name in (symbols, scale))
        if scale_of.setdefault(target, source) != source:
            raise InvalidArgumentError(f"ties: {names[target]!r} has two scales, {names[scale_of[target]]!r} and {scale!r}")
    tied: dict[int, tuple[int, ...]] = {}
    for target, source in sorted(scale_of.items()):
        tied[source] = (*tied.get(source, ()), target)
        if len(tied[source]) > MAX_REFERENCES:
            raise InvalidArgumentError(f"ties: {names[source]!r} is the scale of more than {MAX_REFERENCES} tensors")
    return tied


def _tied_names(names: Sequence[str], dtypes: Sequence[str], ties: Ties | None) -> Mapping[str, str]:
    if ties is None or isinstance(ties, Mapping):
        return ties or {}
    if callable(ties):
        return {name: scale for name in names if (scale := ties(name)) is not None}
    if not isinstance(ties, tuple) or len(ties) != 2 or not all(isinstance(suffix, str) for suffix in ties) or not ties[0]:
        raise InvalidArgumentError(f"ties is {ties!r}, neither a mapping of names, nor a pair of suffixes, nor callable")
    suffix, scale_suffix = ties
    dtype_of = dict(zip(names, dtypes))
    pairs = {name: name.removesuffix(suffix) + scale_suffix for name in names if name.endswith(suffix)}
    return {
        name: scale for name, scale in pairs.items() if dtype_of[name] in SYMBOL_TYPES and dtype_of.get(scale) in QUANTIZED_DTYPES
    }


def _bits_of(name: str, tensor: Tensor, options: Options) -> float | bool | None:
    """Bits to quantize a float tensor to (True: on a grid as fine as the options say), or None to keep it."""
    select = options.select
    usual = True if options.on_grid else options.bits
    if select is None or callable(select):
        answer = None if select is None else select(name, tensor)
        if answer is None:
            return usual if tensor.dim() >= 2 and tensor.numel() >= options.min_quantized_numel else None
    else:
        answer = any(fnmatch.fnmatchcase(name, pattern) for pattern in options.patterns)
    if answer is False:
        return None
    if answer is True and usual is None:
        raise InvalidArgumentError(f"select picks {name!r}, but bits is not given")
    if answer is True:
        return usual
    if options.on_grid:
        grid.check_grid(options.quantizer, answer, None)
        return answer
    return _check_bits(answer, f"select({name!r}): ")


def digest(specs: Sequence[EntrySpec]) -> bytes:
    """32 bytes that are equal on two ranks if and only if their plans are."""
    return hashlib.blake2b(repr(list(specs)).encode(), digest_size=32).digest()


# ---- who does what ----

# Nanoseconds per component and plane or per symbol, measured on one Zen 4 core: only ratios matter.
_GRID_COST = 60
_QUANTIZE_COST, _SYMBOL_COST, _PLANE_COST, _COUNT_COST = 3, 2, 2, 1
_FIXED_COST = 30_000  # per stream and form
# A tensor is cut if it costs more than this part of a rank's share.
_CUT_ABOVE = 4


def cost(spec: EntrySpec) -> int:
    """About how many nanoseconds a tensor takes: all its forms are counted, one is encoded (here, the dearest)."""
    if spec.on_grid:
        return _GRID_COST * spec.components
    counting, encoding = 0, 0
    for form in spec.forms:
        planes = DTYPES[DTYPE_NUMBERS[spec.dtype]].item_bytes if form.kind == Kind.PLANES else 1
        per_component = {Kind.PLANES: _PLANE_COST * planes, Kind.QUANTIZED: _QUANTIZE_COST}.get(form.kind, _SYMBOL_COST)
        counting += planes * (_FIXED_COST + _COUNT_COST * spec.components)
        encoding = max(encoding, per_component * spec.components)
    return counting + encoding


@dataclass(frozen=True)
class Share:
    """Chunks of one tensor that one rank encodes."""

    rank: int
    first_chunk: int
    last_chunk: int  # not included


def divide(specs: Sequence[EntrySpec], world_size: int) -> list[list[Share]]:
    """The shares of every tensor, in order of chunks (an alias has none). All tensors lie on a line, each as long as its cost,
    and rank r has the r-th of `world_size` equal parts of it."""
    costs = [cost(spec) for spec in specs]
    total = sum(costs)
    shares, begin = [], 0
    for spec, length in zip(specs, costs):
        chunks = max(1, spec.chunks)
        if not spec.forms:
            shares.append([])
        elif chunks == 1 or length * world_size * _CUT_ABOVE <= total:
            rank = min(world_size - 1, (begin + length // 2) * world_size // total)
            shares.append([Share(rank, 0, chunks)])
        else:  # the chunk nearest to where each rank's part begins
            edges = [(rank * total - begin * world_size) * 2 * chunks + world_size * length for rank in range(world_size + 1)]
            edges = [min(chunks, max(0, edge // (2 * world_size * length))) for edge in edges]
            shares.append([Share(rank, *cut) for rank, cut in enumerate(itertools.pairwise(edges)) if cut[0] < cut[1]])
        begin += length
    return shares


# ---- doing it ----


class Exchange(Protocol):
    """What ranks tell each other. Every rank calls the same methods in the same order. `device` is where payloads are to be for
    `gather`: on the CPU, or (NCCL) wherever they were encoded."""

    rank: int
    world_size: int
    device: torch.device

    def agree(self, error: Exception | None, same: bytes = b"", about: str = "") -> None:
        """Raises on all ranks if one has an error (a world of one may leave that to its caller), or if not all say the `same`;
        `about` describes that to a reader."""

    def bounds(self, bounds: Tensor) -> Tensor:
        """float32 [n, 2]: for each of n tensors the minimum of all ranks' first and the maximum of their second values."""

    def total(self, counts: Sequence[Tensor]) -> list[Tensor]:
        """The sums of all ranks' counts (int64)."""

    def gather(self, pieces: Mapping[int, EncodedPiece]) -> list[Mapping[int, EncodedPiece]]:
        """The pieces (by number of the tensor) of all ranks on rank 0, in order of ranks; an empty list elsewhere."""


class LocalExchange:
    """A world of one."""

    rank = 0
    world_size = 1
    device = torch.device("cpu")

    def agree(self, error: Exception | None, same: bytes = b"", about: str = "") -> None:
        pass

    def bounds(self, bounds: Tensor) -> Tensor:
        return bounds

    def total(self, counts: Sequence[Tensor]) -> list[Tensor]:
        return list(counts)

    def gather(self, pieces: Mapping[int, EncodedPiece]) -> list[Mapping[int, EncodedPiece]]:
        return [pieces]


def agreed(exchange: Exchange, work: Callable[[], T]) -> T:
    """The result of `work`, once all ranks have done theirs; if any failed, all raise, before the next collective can block."""
    try:
        result = work()
    except Exception as error:
        exchange.agree(error)
        raise
    exchange.agree(None)
    return result


def encode(
    specs: Sequence[EntrySpec], tensors: Sequence[Leaf], exchange: Exchange, progress: Progress | None, chunk_target: int
) -> list[list[EncodedPiece]] | None:
    """The pieces of every tensor on rank 0, None elsewhere. Whole tensors on a GPU are encoded many together."""
    shares = divide(specs, exchange.world_size)
    cut = [number for number, parts in enumerate(shares) if len(parts) > 1]
    mine = {number: part for number, parts in enumerate(shares) for part in parts if part.rank == exchange.rank}
    nothing = Share(exchange.rank, 0, 0)
    cut_pieces = _encode_pieces({number: mine.get(number, nothing) for number in cut}, specs, tensors, exchange) if cut else {}

    done: dict[int, EncodedPiece] = {}

    def kept(pieces: Collection[EncodedPiece]) -> list[EncodedPiece]:
        return records.to_host(list(pieces)) if exchange.device.type == "cpu" else list(pieces)

    def one_by_one(numbers: Sequence[int]) -> None:
        for number in numbers:
            if number not in done:
                [piece] = kept(_encode_pieces({number: mine[number]}, specs, tensors, LocalExchange()).values())
                done[number] = piece
            if progress is not None:
                progress(specs[number].name, tensors[number].nbytes)

    def encode_whole_tensors() -> None:
        done.update(zip(cut_pieces, kept(cut_pieces.values())))
        together = [number for number in mine if number not in done and batches.suits(specs[number], tensors[number])]
        for batch in batches.batched(together, lambda i: tensors[i].nbytes, lambda i: tensors[i].device):
            try:
                pieces = batches.encode_whole([specs[i] for i in batch], [tensors[i] for i in batch], chunk_target)
                done.update(zip(batch, kept(pieces)))
            except NotFiniteError:
                pass  # one by one it is found which
            one_by_one(batch)
        one_by_one([number for number in mine if number not in set(together)])

    agreed(exchange, encode_whole_tensors)
    gathered = exchange.gather({number: done[number] for number in mine})
    if not gathered:
        return None
    return [[gathered[part.rank][number] for part in parts] for number, parts in enumerate(shares)]


def _encode_pieces(
    shares: Mapping[int, Share], specs: Sequence[EntrySpec], tensors: Sequence[Leaf], exchange: Exchange
) -> dict[int, EncodedPiece]:
    """Encodes this rank's share (perhaps no chunk) of each of these tensors."""

    def each(step: Callable[[int], T]) -> dict[int, T]:
        def run() -> dict[int, T]:
            results = {}
            for number in shares:
                try:
                    results[number] = step(number)
                except NotFiniteError as cause:
                    first = shares[number].first_chunk * specs[number].chunk_symbols // specs[number].forms[0].columns
                    counted = f" (rows counted from row {first})" if first else ""
                    raise NotFiniteError(f"{specs[number].name!r} cannot be quantized: {cause}{counted}") from cause
            return results

        return agreed(exchange, run)

    pieces = each(lambda i: records.make_piece(specs[i], tensors[i], shares[i].first_chunk, shares[i].last_chunk))
    bounds = exchange.bounds(torch.stack(list(each(lambda i: pieces[i].scale_bounds()).values())))
    bounds_of = dict(zip(shares, bounds))
    counts = each(lambda i: pieces[i].count(bounds_of[i]))
    totals = iter(exchange.total([of_form for of_piece in counts.values() for of_form in of_piece]))
    total_of = {i: [next(totals) for _ in counts[i]] for i in shares}
    return each(lambda i: pieces[i].encode(total_of[i]))


def assemble(
    specs: Sequence[EntrySpec], pieces: Sequence[Sequence[EncodedPiece]], chunk_target: int
) -> tuple[list[Entry], list[list[Tensor]]]:
    """Entries, and for each its record as a list of uint8 tensors (an alias has an empty one)."""
    entries, parts = [], []
    for spec, of_tensor in zip(specs, pieces):
        if not spec.forms:
            entries.append(Entry(spec.name, Kind.ALIAS, spec.dtype, spec.shape, refers=spec.refers))
            parts.append([])
            continue
        form, meta, streams = records.join_pieces(spec, of_tensor, chunk_target)
        record = [part for stream in streams for part in stream]
        sizes = tuple(sum(part.numel() for part in stream) for stream in streams)
        checksum = record_checksum(part.numpy() for part in record)
        entries.append(Entry(spec.name, form.kind, spec.dtype, spec.shape, tuple(meta), sizes, checksum, spec.refers))
        parts.append(record)
    return entries, parts
