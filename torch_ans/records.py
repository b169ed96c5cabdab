"""How a tensor becomes streams of symbols, and how it comes back. docs/CONTAINER.md, section 3, describes the kinds.

A tensor is encoded in *pieces*: runs of whole chunks, which may be on different ranks. Between a piece's three steps
(`scale_bounds`, `count`, `encode`) stands what all pieces of the tensor have to agree on: the range of the row scales, and the
counts of the symbols. Everything else follows from these, so that the bytes do not depend on how a tensor was cut.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import grid, ops, streams, weights
from .entries import DELTA_DTYPES, DTYPE_NUMBERS, DTYPES, SYMBOL_TYPES, Entry, Kind, QuantizedMeta, Transform, torch_dtype
from .planes import component_bytes, count_cut, count_planes, cut_planes, flat, join_planes
from .streams import Model
from .weights import QuantizedWeight, leading_shape

# Up to this many components the planes of all forms are kept between counting and encoding.
_SMALL = 1 << 17
# Symbols from which scales of columns are looked at, and what they must save: such streams take longer to decode.
_TRIED_BY_ROWS, _WORTH_ROWS = 4096, 0.99
# Weights of a float64 tensor that are rounded to float32 at a time.
_BLOCK = 1 << 17
_SIGNED_FLOATS = {"float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"}
_SIGNED_FLOATS |= {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}


class Form(NamedTuple):
    """One way to write a tensor. `transform` belongs to planes, the others to quantized: either `bits` and `clip_sigmas` (None means absmax) are given, or a `quantizer` of grid.py
    with one of `bits_per_weight` and `step_sigmas`, or with none of these for what is a QuantizedWeight already."""

    kind: Kind
    transform: int = Transform.NONE
    columns: int = 0
    bits: int = 0
    clip_sigmas: float | None = None
    quantizer: str = ""
    bits_per_weight: float | None = None
    step_sigmas: float | None = None


@dataclass(frozen=True)
class EntrySpec:
    """What is known of an entry before any data is looked at: the same on all ranks. `forms` are the ways to write it, of which
    the smallest is taken; an alias has none. `chunk_symbols` holds for every stream but those of row scales."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    forms: tuple[Form, ...] = ()
    chunk_symbols: int = 1
    refers: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def components(self) -> int:
        """Numbers in the tensor, and symbols in each stream but those of row scales."""
        return self.numel * DTYPES[DTYPE_NUMBERS[self.dtype]].components

    @property
    def chunks(self) -> int:
        """Into which a tensor can be cut for several ranks."""
        return 1 if self.on_grid else -(-self.components // self.chunk_symbols)

    @property
    def on_grid(self) -> bool:
        """Whether it is written by a GridPiece."""
        return bool(self.forms) and bool(self.forms[0].quantizer)


class EncodedPiece(NamedTuple):
    """What a piece contributes to the record of its tensor. `form` is an index into the forms of the spec, `scale` holds the
    fp16 scales of the rows that begin in the piece (quantized only). A piece that is the whole tensor may be its record
    instead: complete streams (see batches.py), and nothing else but form and exponent."""

    form: int
    exponent: int
    prefixes: list[Tensor]
    streams: list[ops.Encoded]
    scale: Tensor | None
    record: list[Tensor] | None = None
    meta: QuantizedMeta | None = None  # of a GridPiece, which only sees it when it has quantized


# ---- shapes ----


def chunk_length(numel: int, columns: int, target: int) -> int:
    """Symbols per chunk of a stream of `numel` symbols in rows of `columns` (1 or 0: no rows), close to `target`: chunks of
    equal size, because several are decoded side by side; whole rows if a row fits, otherwise a multiple of the 32 lanes."""
    chunks = max(1, -(-numel // target))
    if 1 < columns <= target:
        rows = -(-numel // columns)
        return columns * max(1, min(-(-rows // chunks), ops.MAX_CHUNK_SYMBOLS // columns))
    return min(ops.MAX_CHUNK_SYMBOLS, max(32, -(-numel // (chunks * 32)) * 32))


def lossless_forms(dtype: str) -> tuple[Form, ...]:
    """The ways to keep a tensor of this dtype exactly."""
    if dtype in ("int8", "uint8"):
        return (Form(Kind.SYMBOLS),)
    symbols = (Form(Kind.SYMBOLS),) if dtype in SYMBOL_TYPES else ()
    rotated = (Form(Kind.PLANES, Transform.ROTATE),) if dtype in _SIGNED_FLOATS else ()
    differences = (Form(Kind.PLANES, Transform.DELTA),) if dtype in DELTA_DTYPES else ()
    return (*symbols, Form(Kind.PLANES), *rotated, *differences)


# ---- the choice between forms ----

_FRACTION_BITS = 16
_CORE = 255  # values that a table reaches beside an escape
# About what a stream takes in bits beside the code of its symbols: for each value that occurs (and half the logarithm of its
# count), for each value in a gap between these, and, in the table or around it, always; what the 32 lanes of a long chunk take at
# least. Over 577 tensors (small ones of MiniLM as float32, float16 and bfloat16, random ones) the forms chosen are 440 of
# 1,807,647 bytes larger than the smallest ones; a choice by the tables themselves, with which small tensors take 40 % more
# time, would leave 200.
_VALUE_BITS, _HALF_GAP_BITS, _FIXED_BITS, _LANES_BITS = 2, 1, 24, 1024
_LANES_SYMBOLS = 1024


@functools.cache
def _mantissa_logs() -> np.ndarray:
    return np.array([round(math.log2(m / 4096) * (1 << _FRACTION_BITS)) for m in range(4096, 8192)], dtype=np.int64)


def _log2(values: np.ndarray) -> np.ndarray:
    """log2 * 2^16 of positive integers. In integers, because log2 itself differs between machines; 0 gives something."""
    mantissa, exponent = np.frexp(values)
    return (exponent.astype(np.int64) - 1 << _FRACTION_BITS) + _mantissa_logs()[(mantissa * 8192).astype(np.int64) - 4096]


def estimated_bytes(counts: Tensor) -> np.ndarray:
    """About the size of each stream with these counts (int64 [streams, bins]; 256 bins, or 65536 for int16): code and table, or
    raw. int64 [streams]."""
    values = counts.numpy()
    total = values.sum(1)
    raw_bits, symbol_bytes = 8, 1
    if values.shape[1] > _CORE + 1:
        occurring = np.flatnonzero(values.any(0))
        raw_bits, symbol_bytes = int(occurring[-1] - occurring[0]).bit_length() if len(occurring) else 0, 2
        reach = np.pad(np.cumsum(values, 1), ((0, 0), (1, 0)))
        first = int((reach[:, _CORE:] - reach[:, :-_CORE]).sum(0).argmax())
        values = values[:, first : first + _CORE]
    escaped = total - values.sum(1)
    present = values > 0
    distinct = present.sum(1)
    gaps = values.shape[1] - present.argmax(1) - present[:, ::-1].argmax(1) - distinct
    logs = _log2(values)
    code = total * _log2(total) - (values * logs).sum(1) - escaped * _log2(escaped) >> _FRACTION_BITS
    code = np.maximum(code + escaped * raw_bits, _LANES_BITS * (total > _LANES_SYMBOLS))
    table = _FIXED_BITS + _VALUE_BITS * distinct + ((logs * present).sum(1) >> 1 + _FRACTION_BITS) + (_HALF_GAP_BITS * gaps >> 1)
    return np.where(values.max(1) == total, 1 + symbol_bytes, np.minimum(code + table >> 3, 1 + total * symbol_bytes))


def choose(spec: EntrySpec, totals: Sequence[Tensor]) -> int:
    """The form (a number) that is smallest for these counts."""
    if len(spec.forms) == 1:
        return 0
    sizes: list[int] = []
    for _, group in itertools.groupby(totals, key=Tensor.size):  # forms whose streams are alike are estimated in one go
        forms = list(group)
        sizes += estimated_bytes(torch.cat(forms)).reshape(len(forms), -1).sum(1).tolist()
    return sizes.index(min(sizes))


def _symbol_dtype(spec: EntrySpec, form: Form) -> torch.dtype:
    if form.kind == Kind.SYMBOLS:
        return torch_dtype(spec.dtype)
    return torch.int8 if form.kind == Kind.QUANTIZED else torch.uint8


def _prefixes(spec: EntrySpec, form: Form, counts: Tensor) -> list[Tensor]:
    return [ops.stream_prefix(stream, _symbol_dtype(spec, form), spec.chunk_symbols) for stream in counts.unbind()]


# ---- pieces ----


class PlainPiece:
    """A run of components of a tensor that is kept exactly."""

    def __init__(self, spec: EntrySpec, tensor: Tensor, begin: int, end: int) -> None:
        self.spec = spec
        self.components = component_bytes(tensor, spec.dtype)  # of the whole tensor: a difference needs the one before
        self.begin, self.end = begin, end
        self.planes: dict[Form, list[Tensor]] = {}

    def scale_bounds(self) -> Tensor:
        return torch.zeros(2)

    def count(self, bounds: Tensor) -> list[Tensor]:
        return [self._count(form).cpu() for form in self.spec.forms]

    def _count(self, form: Form) -> Tensor:
        if form.kind == Kind.SYMBOLS:
            return ops.histogram(self._symbols())
        if self.end - self.begin > _SMALL:
            return count_planes(self.components, form.transform, self.begin, self.end)
        self.planes[form] = self._planes(form)  # small: kept for `encode`
        return count_cut(self.planes[form])

    def encode(self, totals: Sequence[Tensor]) -> EncodedPiece:
        number = choose(self.spec, totals)
        form = self.spec.forms[number]
        prefixes = _prefixes(self.spec, form, totals[number])
        if form.kind == Kind.SYMBOLS:
            encoded = _encode_piece(self._symbols(), prefixes[0], self.spec.chunk_symbols)
            if streams.stream_model(prefixes[0]) is Model.RAW and encoded.payload.numel():
                # What is raw would be the caller's memory, in which the weights may change before they are written.
                encoded = encoded._replace(payload=encoded.payload.clone())
            return EncodedPiece(number, 0, prefixes, [encoded], None)
        planes = self.planes.pop(form, None) or self._planes(form)
        planes.reverse()
        encoded_planes = [_encode_piece(planes.pop(), prefix, self.spec.chunk_symbols) for prefix in prefixes]
        return EncodedPiece(number, 0, prefixes, encoded_planes, None)

    def _planes(self, form: Form) -> list[Tensor]:
        return cut_planes(self.components, form.transform, self.begin, self.end)

    def _symbols(self) -> Tensor:
        return self.components[self.begin : self.end].view(torch_dtype(self.spec.dtype)).view(-1)


class QuantizedPiece:
    """A run of weights of a tensor that is quantized. Rows that reach beyond the piece are quantized whole, by every piece that
    has a part."""

    def __init__(self, spec: EntrySpec, tensor: Tensor, begin: int, end: int) -> None:
        self.spec = spec
        self.form = spec.forms[0]
        columns = self.form.columns
        first, last = begin // columns, -(-end // columns)
        self.rows = flat(tensor)[first * columns : last * columns].view(last - first, columns)
        self.inside = slice(begin - first * columns, end - first * columns)
        self.own_rows = slice(-(-begin // columns) - first, last - first)  # those that begin here

    def scale_bounds(self) -> Tensor:
        """float32 [2]: the smallest nonzero row scale (infinity if there is none) and the largest."""
        self.row_scale = self._by_rows(lambda rows: ops.row_scale(rows, self.form.bits, self.form.clip_sigmas))
        if self.row_scale.numel() == 0:
            return torch.tensor([math.inf, 0.0])
        smallest = torch.where(self.row_scale > 0, self.row_scale, math.inf).amin()
        return torch.stack([smallest, self.row_scale.amax()]).cpu()

    def count(self, bounds: Tensor) -> list[Tensor]:
        # With the bounds of the whole tensor among them, the scales of a piece are packed as those of the whole tensor.
        bounds = bounds.masked_fill(bounds.isinf(), 0).to(self.row_scale.device)
        scale, exponent = ops.pack_scale(torch.cat([self.row_scale, bounds]))
        scale = scale[:-2]
        symbols = self._by_rows(lambda rows, scale: ops.quantize_rows(rows, scale, exponent, self.form.bits), scale)
        self.symbols: Tensor | None = symbols.view(-1)[self.inside]
        self.scale, self.exponent = scale[self.own_rows].cpu(), int(exponent)
        return [ops.histogram(self.symbols).cpu()]

    def encode(self, totals: Sequence[Tensor]) -> EncodedPiece:
        prefixes = _prefixes(self.spec, self.form, totals[0])
        symbols, self.symbols = self.symbols, None
        assert symbols is not None
        encoded = _encode_piece(symbols, prefixes[0], self.spec.chunk_symbols)
        return EncodedPiece(0, self.exponent, prefixes, [encoded], self.scale)

    def _by_rows(self, function: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
        """The operators take no float64: those weights are rounded to float32 first, a block at a time."""
        if self.rows.dtype != torch.float64:
            return function(self.rows, *per_row)
        rows = max(1, _BLOCK // self.form.columns)
        blocks = zip(self.rows.split(rows), *(values.split(rows) for values in per_row))
        return torch.cat([function(block.float(), *values) for block, *values in blocks])


class GridPiece:
    """A whole tensor, as integers on a grid that the data decide (weights.py), or a QuantizedWeight."""

    def __init__(self, spec: EntrySpec, tensor: Tensor | QuantizedWeight) -> None:
        self.spec = spec
        self.tensor = tensor

    def scale_bounds(self) -> Tensor:
        return torch.zeros(2)

    def count(self, bounds: Tensor) -> list[Tensor]:
        return []

    def encode(self, totals: Sequence[Tensor]) -> EncodedPiece:
        form, tensor = self.spec.forms[0], self.tensor
        if isinstance(tensor, Tensor):
            tensor = grid.quantize_weight(tensor, form.quantizer, bits_per_weight=form.bits_per_weight, step_sigmas=form.step_sigmas)
        chunk = self.spec.chunk_symbols
        symbols = tensor.symbols
        record = [self._symbols_stream(symbols, tensor.trellis)]
        if tensor.column_scale is not None:
            record.append(streams.encode_stream(tensor.column_scale))
        scale = tensor.scale.cpu()
        record += [streams.encode_stream(plane, chunk_length(plane.numel(), 1, chunk)) for plane in cut_planes(component_bytes(scale, "float16"), Transform.NONE)]
        meta = QuantizedMeta(form.columns, weights.bits_needed(symbols), tensor.exponent, int(tensor.column_scale is not None))
        return EncodedPiece(0, tensor.exponent, [], [], None, [stream.cpu() for stream in record], meta)

    def _symbols_stream(self, symbols: Tensor, trellis: int) -> Tensor:
        chunk = self.spec.chunk_symbols
        if trellis:
            return streams.encode_rows(symbols, trellis, chunk)
        plain = streams.encode_stream(symbols, chunk_length(symbols.numel(), symbols.shape[1], chunk))
        if symbols.numel() < _TRIED_BY_ROWS or symbols.shape[1] > weights.MAX_COLUMNS:
            return plain
        by_rows = streams.encode_rows(symbols, 0, chunk)
        return by_rows if by_rows.numel() < _WORTH_ROWS * plain.numel() else plain


def plane_count(spec: EntrySpec) -> int:
    """Planes of a tensor, and streams, if it is kept as planes."""
    _, item_bytes, components = DTYPES[DTYPE_NUMBERS[spec.dtype]]
    return item_bytes // components


def make_piece(spec: EntrySpec, tensor: Tensor | QuantizedWeight, first_chunk: int, last_chunk: int) -> PlainPiece | QuantizedPiece | GridPiece:
    """The piece of these chunks (from the first up to, not including, the last)."""
    if spec.on_grid:
        return GridPiece(spec, tensor)
    assert isinstance(tensor, Tensor)
    begin, end = (min(spec.components, chunk * spec.chunk_symbols) for chunk in (first_chunk, last_chunk))
    if begin == end and tensor.dim() > 0:
        tensor = tensor[:0]  # a rank without a part need not make a tensor contiguous
    kind = QuantizedPiece if spec.forms[0].kind == Kind.QUANTIZED else PlainPiece
    return kind(spec, tensor, begin, end)


def _encode_piece(symbols: Tensor, prefix: Tensor, chunk_symbols: int) -> ops.Encoded:
    """Encodes where the symbols are, and leaves the payload there."""
    encoded = streams.encode_piece(symbols, prefix, chunk_symbols)
    return encoded._replace(directory=encoded.directory.cpu())


def to_host(pieces: Sequence[EncodedPiece]) -> list[EncodedPiece]:
    """Pieces whose payloads are on the host. Those of a GPU come there in one copy, to pinned memory, of which the results are views."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for piece in pieces:
        for part in (*(stream.payload for stream in piece.streams), *(piece.record or ())):
            if part.is_cuda:
                by_device.setdefault(part.device, []).append(part)
    here = {device: iter(bytes_to_host(parts)) for device, parts in by_device.items()}

    def move(part: Tensor) -> Tensor:
        return next(here[part.device]) if part.is_cuda else part

    moved = []
    for piece in pieces:
        encoded = [stream._replace(payload=move(stream.payload)) for stream in piece.streams]
        moved.append(piece._replace(streams=encoded, record=piece.record and [move(stream) for stream in piece.record]))
    return moved


def bytes_to_host(parts: Sequence[Tensor]) -> list[Tensor]:
    """uint8 tensors [n] of one GPU on the host, in pinned memory."""
    if not parts:
        return []
    joined = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    there = torch.empty(joined.shape, dtype=torch.uint8, pin_memory=True)
    there.copy_(joined, non_blocking=True)
    torch.cuda.current_stream(joined.device).synchronize()
    return list(there.split([part.numel() for part in parts]))


# ---- records ----


def _plain_meta(form: Form) -> tuple[int, ...]:
    return (form.transform,) if form.kind == Kind.PLANES else ()


def join_pieces(
    spec: EntrySpec, pieces: Sequence[EncodedPiece], chunk_target: int
) -> tuple[Form, tuple[int, ...], list[list[Tensor]]]:
    """Form, meta and streams (each a list of uint8 tensors, to be written one after another) of an entry, from all its pieces
    in order."""
    first = pieces[0]
    form = spec.forms[first.form]
    if first.record is not None:
        meta = QuantizedMeta(form.columns, form.bits, first.exponent) if form.kind == Kind.QUANTIZED else _plain_meta(form)
        return form, first.meta or meta, [[stream] for stream in first.record]
    numbers = range(len(first.prefixes))
    parts = [streams.assemble_stream(first.prefixes[i], [piece.streams[i] for piece in pieces]) for i in numbers]
    if form.kind != Kind.QUANTIZED:
        return form, _plain_meta(form), parts
    scale = torch.cat([piece.scale for piece in pieces if piece.scale is not None])
    chunk = chunk_length(scale.numel(), 1, chunk_target)
    parts += [[streams.encode_stream(plane, chunk)] for plane in cut_planes(component_bytes(scale, "float16"), Transform.NONE)]
    return form, QuantizedMeta(form.columns, form.bits, first.exponent), parts


def stream_tensor(stream: Any) -> Tensor:
    """uint8 tensor of the bytes of a stream; a copy if they are not to be written to, as torch knows no tensors that cannot
    be."""
    if memoryview(stream).readonly:
        tensor = torch.empty(len(stream), dtype=torch.uint8)
        tensor.numpy()[:] = np.frombuffer(stream, dtype=np.uint8)
        return tensor
    return torch.frombuffer(stream, dtype=torch.uint8)


def decode_exact(entry: Entry, record: Sequence[Tensor]) -> Tensor:
    """The tensor of an entry of kind planes or symbols, from its streams."""
    dtype = torch_dtype(entry.dtype)
    if entry.kind == Kind.SYMBOLS:
        return streams.decode_stream(record[0], entry.numel, dtype).view(entry.shape)
    size, components = len(record), entry.streams[0].numel
    joined = join_planes(lambda i: streams.decode_stream(record[i], components, torch.uint8), components, size, entry.meta[0])
    return joined.view(-1).view(dtype).view(entry.shape)


def decode_scale(entry: Entry, record: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Row scales (float16, shape `leading_shape`) and exponent (int32 []) of a quantized entry."""
    meta = QuantizedMeta(*entry.meta)
    rows = entry.numel // meta.columns
    joined = join_planes(lambda i: streams.decode_stream(record[i - 2], rows, torch.uint8), rows, 2, Transform.NONE)
    scale = joined.view(-1).view(torch.float16).view(leading_shape(entry.shape, meta.columns))
    return scale, torch.tensor(meta.exponent, dtype=torch.int32)


def decode_column_scale(entry: Entry, record: Sequence[Tensor]) -> Tensor | None:
    """Column scales (int8 [columns]) of a quantized entry, if it has them."""
    meta = QuantizedMeta(*entry.meta)
    return streams.decode_stream(record[1], meta.columns, torch.int8) if meta.column_scaled else None
