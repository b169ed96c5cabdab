"""How a tensor becomes streams of symbols, and how it comes back. docs/CONTAINER.md, section 3, describes the kinds.

A tensor is encoded in *pieces*: runs of whole chunks, which may be on different ranks. Between a piece's three steps (`scale_bounds`,
`count`, `encode`) stands what all pieces of the tensor have to agree on: the range of the row scales, and the counts of the symbols.
Everything else follows from these, so that the bytes do not depend on how a tensor was cut.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import ops, streams
from .entries import DTYPE_NUMBERS, DTYPES, SYMBOL_TYPES, Entry, Kind, QuantizedMeta, torch_dtype
from .streams import Model

#: A row of a quantized tensor has at least this many weights where its shape allows: a 3x3 kernel is too short to pay for a scale.
MIN_COLUMNS = 64
# Components (numbers) that are cut into planes at a time: what is in between stays in the cache, and needs no memory.
_BLOCK = 1 << 17
_INTEGER_OF_BYTES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SIGNED_FLOATS = {"float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"}
_SIGNED_FLOATS |= {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}


class Form(NamedTuple):
    """One way to write a tensor. `rotate` belongs to planes, the others to quantized; `clip_sigmas` None means absmax."""

    kind: Kind
    rotate: int = 0
    columns: int = 0
    bits: int = 0
    clip_sigmas: float | None = None


@dataclass(frozen=True)
class EntrySpec:
    """What is known of an entry before any data is looked at: the same on all ranks. `forms` are the ways to write it, of which the smallest
    is taken; an alias has none. `chunk_symbols` holds for every stream but those of row scales."""

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
        return -(-self.components // self.chunk_symbols)


class EncodedPiece(NamedTuple):
    """What a piece contributes to the record of its tensor. `form` is an index into the forms of the spec, `scale` holds the fp16 scales of the
    rows that begin in the piece (quantized only)."""

    form: int
    exponent: int
    prefixes: list[Tensor]
    streams: list[ops.Encoded]
    scale: Tensor | None


# ---- shapes ----


def row_columns(shape: Sequence[int]) -> int:
    """Weights per row scale: the product of the trailing dimensions, taken from the right until it reaches MIN_COLUMNS or only the first
    dimension is left. A convolution [O, I, 3, 3] has rows of I * 9, experts [E, R, C] rows of C, a vector is one row."""
    if len(shape) < 2:
        return math.prod(shape)
    columns = shape[-1]
    for size in reversed(shape[1:-1]):
        if columns >= MIN_COLUMNS:
            break
        columns *= size
    return columns


def leading_shape(shape: Sequence[int], columns: int) -> tuple[int, ...]:
    """Shape of the row scales: the dimensions that rows of `columns` leave over, or just the number of rows if rows cut a dimension."""
    shape, rest = tuple(shape), columns
    while shape and rest > 1 and rest % shape[-1] == 0:
        shape, rest = shape[:-1], rest // shape[-1]
    while shape and shape[-1] == 1 and rest == 1 and math.prod(shape) != 1:
        shape = shape[:-1]
    return shape


def chunk_length(numel: int, columns: int, target: int) -> int:
    """Symbols per chunk of a stream of `numel` symbols in rows of `columns` (1 or 0: no rows), close to `target`: chunks of equal size, because
    several are decoded side by side; whole rows if a row fits, otherwise a multiple of the 32 lanes."""
    chunks = max(1, -(-numel // target))
    if 1 < columns <= target:
        rows = -(-numel // columns)
        return columns * max(1, min(-(-rows // chunks), ops.MAX_CHUNK_SYMBOLS // columns))
    return min(ops.MAX_CHUNK_SYMBOLS, max(32, -(-numel // (chunks * 32)) * 32))


def lossless_forms(dtype: str, as_symbols: bool = False) -> tuple[Form, ...]:
    """The ways to keep a tensor of this dtype exactly; `as_symbols`: only as symbols if it can be."""
    if dtype in SYMBOL_TYPES:
        symbols = (Form(Kind.SYMBOLS),)
        return symbols if dtype != "int16" or as_symbols else (*symbols, Form(Kind.PLANES))
    return tuple(Form(Kind.PLANES, rotate) for rotate in ((0, 1) if dtype in _SIGNED_FLOATS else (0,)))


# ---- the size of a stream ----

_LENGTH_BITS = 16


@functools.cache
def _code_lengths() -> np.ndarray:
    """Length of a symbol by its frequency of 4096, in bits * 2^16. Integers: all machines have to choose the same form."""
    return np.array([0] + [round((12 - math.log2(f)) * (1 << _LENGTH_BITS)) for f in range(1, 4097)], dtype=np.int64)


def stream_bytes(prefix: Tensor, counts: Tensor, dtype: torch.dtype) -> int:
    """Size of the stream with this prefix and these counts, without what chunks cost."""
    model = streams.stream_model(prefix)
    if model is Model.CONSTANT:
        return prefix.numel()
    total = int(counts.sum())
    if model is Model.RAW:
        return prefix.numel() + total * dtype.itemsize
    info = ops.table_frequencies(streams._order0_table(prefix), dtype)
    frequencies, lengths = info.frequencies.numpy(), _code_lengths()
    first = info.first_value - torch.iinfo(dtype).min
    core = frequencies[: info.core_size]
    inside = np.where(core > 0, counts.numpy()[first : first + info.core_size], 0)
    length = int(inside @ lengths[core])
    if info.has_escape:
        length += (total - int(inside.sum())) * (int(lengths[frequencies[-1]]) + (info.raw_bits << _LENGTH_BITS))
    return prefix.numel() + (length >> _LENGTH_BITS + 3)


def _choose(spec: EntrySpec, totals: Sequence[Tensor]) -> tuple[int, list[Tensor]]:
    """The smallest form for these counts (int64 [streams, bins] per form), and the prefixes of its streams."""
    best: tuple[int, int, list[Tensor]] | None = None
    for number, (form, counts) in enumerate(zip(spec.forms, totals)):
        dtype = _symbol_dtype(spec, form)
        prefixes = [ops.stream_prefix(stream, dtype, spec.chunk_symbols) for stream in counts]
        only = len(spec.forms) == 1
        size = 0 if only else sum(stream_bytes(prefix, stream, dtype) for prefix, stream in zip(prefixes, counts))
        if best is None or size < best[0]:
            best = size, number, prefixes
    assert best is not None
    return best[1:]


def _symbol_dtype(spec: EntrySpec, form: Form) -> torch.dtype:
    if form.kind == Kind.SYMBOLS:
        return torch_dtype(spec.dtype)
    return torch.int8 if form.kind == Kind.QUANTIZED else torch.uint8


# ---- tensor -> bytes -> planes ----


def _flat(tensor: Tensor) -> Tensor:
    """The tensor in row-major order: a view if it is contiguous."""
    return tensor.detach().resolve_conj().resolve_neg().reshape(-1)


def _component_bytes(tensor: Tensor, dtype: str) -> Tensor:
    """uint8 [components, bytes of one], in the byte order of the machine; a view if the tensor is contiguous."""
    _, item_bytes, components = DTYPES[DTYPE_NUMBERS[dtype]]
    return _flat(tensor).view(torch.uint8).view(tensor.numel() * components, item_bytes // components)


def _rotated(block: Tensor) -> Tensor:
    """Components (uint8 [n, bytes]), each rotated left by one bit."""
    x = block.view(_INTEGER_OF_BYTES[block.shape[1]])
    sign = x >> 7 if x.dtype == torch.uint8 else x.lt(0)
    return (x << 1).bitwise_or_(sign).view(torch.uint8)


def _unrotate_(components: Tensor) -> None:
    """Undo `_rotated`, in place."""
    x = components.view(_INTEGER_OF_BYTES[components.shape[1]])
    for block in x.split(_BLOCK):
        top = 8 * x.element_size() - 1
        sign = block << top  # the lowest bit alone, at the top
        block >>= 1
        if x.dtype != torch.uint8:
            block &= torch.iinfo(x.dtype).max  # the shift was arithmetic
        block |= sign


def _blocks(components: Tensor, rotate: int) -> Any:
    for block in components.split(_BLOCK):
        yield _rotated(block) if rotate else block


def _cut_planes(components: Tensor, rotate: int) -> list[Tensor]:
    """The planes (uint8 [n] each, the most significant first), in memory of their own."""
    planes = [components.new_empty(components.shape[0]) for _ in range(components.shape[1])]
    begin = 0
    for block in _blocks(components, rotate):
        end = begin + block.shape[0]
        for plane, column in zip(planes, reversed(block.unbind(1))):
            plane[begin:end] = column
        begin = end
    return planes


def _count_planes(components: Tensor, rotate: int) -> Tensor:
    """int64 [planes, 256], without keeping the planes."""
    counts = torch.zeros(components.shape[1], 256, dtype=torch.int64, device=components.device)
    for block in _blocks(components, rotate):
        for total, column in zip(counts, reversed(block.unbind(1))):
            total += ops.histogram(column.contiguous())[0]
    return counts


def _join_planes(planes: Callable[[int], Tensor], components: int, size: int, rotate: int) -> Tensor:
    """uint8 [components, size] of the planes, each asked for when its turn has come."""
    joined = torch.empty(components, size, dtype=torch.uint8)
    for number in range(size):
        joined[:, size - 1 - number] = planes(number)
    if rotate:
        _unrotate_(joined)
    return joined


# ---- pieces ----


class PlainPiece:
    """A run of components of a tensor that is kept exactly."""

    def __init__(self, spec: EntrySpec, tensor: Tensor, begin: int, end: int) -> None:
        self.spec = spec
        self.components = _component_bytes(tensor, spec.dtype)[begin:end]
        self.planes: dict[Form, list[Tensor]] = {}

    def scale_bounds(self) -> Tensor:
        return torch.zeros(2)

    def count(self, bounds: Tensor) -> list[Tensor]:
        return [self._count(form).cpu() for form in self.spec.forms]

    def _count(self, form: Form) -> Tensor:
        if form.kind == Kind.SYMBOLS:
            return ops.histogram(self._symbols())
        if self.components.shape[0] > _BLOCK:
            return _count_planes(self.components, form.rotate)
        self.planes[form] = _cut_planes(self.components, form.rotate)  # small: kept for `encode`
        return torch.cat([ops.histogram(plane) for plane in self.planes[form]])

    def encode(self, totals: Sequence[Tensor]) -> EncodedPiece:
        number, prefixes = _choose(self.spec, totals)
        form = self.spec.forms[number]
        if form.kind == Kind.SYMBOLS:
            encoded = _encode_piece(self._symbols(), prefixes[0], self.spec.chunk_symbols)
            if streams.stream_model(prefixes[0]) is Model.RAW and encoded.payload.numel():
                # What is raw would be the caller's memory, in which the weights may change before they are written.
                encoded = encoded._replace(payload=encoded.payload.clone())
            return EncodedPiece(number, 0, prefixes, [encoded], None)
        planes = self.planes.pop(form, None) or _cut_planes(self.components, form.rotate)
        planes.reverse()
        encoded_planes = [_encode_piece(planes.pop(), prefix, self.spec.chunk_symbols) for prefix in prefixes]
        return EncodedPiece(number, 0, prefixes, encoded_planes, None)

    def _symbols(self) -> Tensor:
        return self.components.view(torch_dtype(self.spec.dtype)).view(-1)


class QuantizedPiece:
    """A run of weights of a tensor that is quantized. Rows that reach beyond the piece are quantized whole, by every piece that has a part."""

    def __init__(self, spec: EntrySpec, tensor: Tensor, begin: int, end: int) -> None:
        self.spec = spec
        self.form = spec.forms[0]
        columns = self.form.columns
        first, last = begin // columns, -(-end // columns)
        self.rows = _flat(tensor)[first * columns : last * columns].view(last - first, columns)
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
        number, prefixes = _choose(self.spec, totals)
        symbols, self.symbols = self.symbols, None
        assert symbols is not None
        encoded = _encode_piece(symbols, prefixes[0], self.spec.chunk_symbols)
        return EncodedPiece(number, self.exponent, prefixes, [encoded], self.scale)

    def _by_rows(self, function: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
        """The operators take no float64: those weights are rounded to float32 first, a block at a time."""
        if self.rows.dtype != torch.float64:
            return function(self.rows, *per_row)
        rows = max(1, _BLOCK // self.form.columns)
        blocks = zip(self.rows.split(rows), *(values.split(rows) for values in per_row))
        return torch.cat([function(block.float(), *values) for block, *values in blocks])


def make_piece(spec: EntrySpec, tensor: Tensor, first_chunk: int, last_chunk: int) -> PlainPiece | QuantizedPiece:
    """The piece of these chunks (from the first up to, not including, the last)."""
    begin, end = (min(spec.components, chunk * spec.chunk_symbols) for chunk in (first_chunk, last_chunk))
    kind = QuantizedPiece if spec.forms[0].kind == Kind.QUANTIZED else PlainPiece
    return kind(spec, tensor, begin, end)


def _encode_piece(symbols: Tensor, prefix: Tensor, chunk_symbols: int) -> ops.Encoded:
    return streams.encode_piece(symbols.cpu(), prefix, chunk_symbols)


# ---- records ----


def join_pieces(spec: EntrySpec, pieces: Sequence[EncodedPiece], chunk_target: int) -> tuple[Form, tuple[int, ...], list[list[Tensor]]]:
    """Form, meta and streams (each a list of uint8 tensors, to be written one after another) of an entry, from all its pieces in order."""
    first = pieces[0]
    form = spec.forms[first.form]
    numbers = range(len(first.prefixes))
    parts = [streams.assemble_stream(first.prefixes[i], [piece.streams[i] for piece in pieces]) for i in numbers]
    if form.kind != Kind.QUANTIZED:
        return form, (form.rotate,) if form.kind == Kind.PLANES else (), parts
    scale = torch.cat([piece.scale for piece in pieces if piece.scale is not None])
    chunk = chunk_length(scale.numel(), 1, chunk_target)
    parts += [[streams.encode_stream(plane, chunk)] for plane in _cut_planes(_component_bytes(scale, "float16"), rotate=1)]
    return form, QuantizedMeta(form.columns, form.bits, first.exponent), parts


def stream_tensor(stream: Any) -> Tensor:
    """uint8 tensor of the bytes of a stream; a copy if they are not to be written to, as torch knows no tensors that cannot be."""
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
    joined = _join_planes(lambda i: streams.decode_stream(record[i], components, torch.uint8), components, size, entry.meta[0])
    if dtype == torch.bool:
        return joined.ne(0).view(entry.shape)  # a bool of another byte than 0 and 1 would be no legal value
    return joined.view(-1).view(dtype).view(entry.shape)


def decode_scale(entry: Entry, record: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Row scales (float16, shape `leading_shape`) and exponent (int32 []) of a quantized entry."""
    meta = QuantizedMeta(*entry.meta)
    rows = entry.numel // meta.columns
    joined = _join_planes(lambda i: streams.decode_stream(record[1 + i], rows, torch.uint8), rows, 2, rotate=1)
    scale = joined.view(-1).view(torch.float16).view(leading_shape(entry.shape, meta.columns))
    return scale, torch.tensor(meta.exponent, dtype=torch.int32)


def decode_scaled(stream: Tensor, symbol_dtype: torch.dtype, scale: Tensor, exponent: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """Weights [rows, columns] of a stream of symbols and float16 scales [rows], in any float dtype."""
    narrow = torch.float32 if dtype == torch.float64 else dtype
    rows, numel = scale.numel(), scale.numel() * columns
    scale = scale.view(rows)
    layout, directory = ops.stream_layout(stream, numel, symbol_dtype)
    model, chunk_symbols, table_begin, table_end, payload_begin = layout.tolist()
    if model not in (Model.RAW, Model.CONSTANT):
        table, payload = stream[table_begin:table_end], stream[payload_begin:]
        shape = [rows, columns]
        weight = ops.decode_dequantize(payload, directory, table, scale, exponent, shape, chunk_symbols, symbol_dtype, narrow)
    else:
        symbols = streams.decode_stream(stream, numel, symbol_dtype).view(rows, columns)
        weight = ops.dequantize(symbols, scale, exponent, narrow)
    return weight.to(dtype)
