"""Weights as integers on a grid of steps, and what they stand for. `compress_model` and `save` take them in place of tensors, however they were made (see grid.py, gptq.py)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import ops
from .entries import QUANTIZED_DTYPES
from .errors import InvalidArgumentError

#: States of the trellis by the name of a quantizer; 0: each weight is rounded for itself.
QUANTIZERS = {"uniform": 0, "trellis4": 4, "trellis8": 8, "trellis32": 32}

#: Columns of matrix streams, at most (BITSTREAM.md, section 7).
MAX_COLUMNS = 1 << 16
#: A row of a quantized tensor has at least this many weights where its shape allows: a 3x3 kernel is too short for a scale.
MIN_COLUMNS = 64

# round(2^15 * 2^(i / 16)): exact in float32, so that column scales are the same everywhere (BITSTREAM.md, section 7).
_OCTAVE = [32768, 34219, 35734, 37316, 38968, 40693, 42495, 44376, 46341, 48393, 50535, 52773, 55109, 57549, 60097, 62757]
_MAX_SYMBOL = 32700
# How far a trellis goes for fewer bits, in steps: two points of a coset, 4 apart, are looked at.
_TRELLIS_REACH = 4.1

def row_columns(shape: Sequence[int]) -> int:
    """Weights per row scale: the product of the trailing dimensions, taken from the right until it reaches MIN_COLUMNS or only
    the first dimension is left. A convolution [O, I, 3, 3] has rows of I * 9, experts [E, R, C] rows of C, a vector is one
    row."""
    if len(shape) < 2:
        return math.prod(shape)
    columns = shape[-1]
    for size in reversed(shape[1:-1]):
        if columns >= MIN_COLUMNS:
            break
        columns *= size
    return columns


def grid_columns(shape: Sequence[int]) -> int:
    """`row_columns` of a weight whose rows are to be matrix streams: longer ones (a transposed embedding) are cut into equal parts. Raises InvalidArgumentError where there are none that are
    not too short for a scale."""
    columns = row_columns(shape)
    if columns <= MAX_COLUMNS:
        return columns
    for parts in range(-(-columns // MAX_COLUMNS), columns // MIN_COLUMNS + 1):
        if columns % parts == 0:
            return columns // parts
    raise InvalidArgumentError(f"rows of {columns} weights cannot be cut into equal parts of {MIN_COLUMNS} to {MAX_COLUMNS}")


def memory_key(tensor: Tensor) -> object:
    """Equal for tensors that are the same memory, seen the same way; of an empty tensor its own."""
    if not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg()


def leading_shape(shape: Sequence[int], columns: int) -> tuple[int, ...]:
    """Shape of the row scales: the dimensions that rows of `columns` leave over, or just the number of rows if a row cuts a
    dimension."""
    for kept in range(max(0, len(shape) - 1), -1, -1):
        if math.prod(shape[kept:]) == columns:
            return tuple(shape[:kept])
    return (math.prod(shape) // columns,)


def column_factor(column_scale: Tensor) -> Tensor:
    """float32 [C]: what columns are multiplied by, `2^(column_scale / 16)` for int8 sixteenths of an octave."""
    c = column_scale.to(torch.int32)
    octave = torch.tensor(_OCTAVE, dtype=torch.float32, device=c.device)
    return torch.ldexp(octave[(c & 15).long()], (c >> 4) - 15)


@dataclasses.dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight as integers: element (r, j) of its rows is `symbols[r, j] * scale[r] * 2^exponent * 2^(column_scale[j] / 16)`.

    symbols int8 or int16 [R, C]; scale float16 [R]; column_scale int8 [C] or None. `trellis`: the states of the machine of which the rows are paths (4, 8, 32;
    see `ops.quantize_trellis`), or 0. `shape` and `dtype` are those of the weight."""

    symbols: Tensor
    scale: Tensor
    exponent: int
    column_scale: Tensor | None
    trellis: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __post_init__(self) -> None:
        rows, columns = self.symbols.shape if self.symbols.dim() == 2 else (-1, -1)
        checks = [
            (self.symbols.dtype in (torch.int8, torch.int16) and rows >= 0, "symbols are not int8 or int16 [R, C]"),
            (rows * columns == math.prod(self.shape), f"{rows} x {columns} symbols are no weight of shape {tuple(self.shape)}"),
            (self.scale.dtype == torch.float16 and self.scale.shape == (rows,), f"scale is not float16 [{rows}]"),
            (self.column_scale is None or (self.column_scale.dtype == torch.int8 and self.column_scale.shape == (columns,)), f"column_scale is not int8 [{columns}]"),
            (self.trellis in QUANTIZERS.values(), f"trellis is {self.trellis!r}, not 0, 4, 8 or 32"),
            (self.trellis == 0 or columns <= MAX_COLUMNS, f"rows of a trellis have {columns} columns, more than {MAX_COLUMNS}"),
            (isinstance(self.exponent, int) and abs(self.exponent) <= 1023, f"exponent is {self.exponent!r}, not in -1023 ... 1023"),
            (str(self.dtype).removeprefix("torch.") in QUANTIZED_DTYPES, f"dtype is {self.dtype}, not one of {', '.join(QUANTIZED_DTYPES)}"),
        ]
        for holds, message in checks:
            if not holds:
                raise InvalidArgumentError(message)

    def numel(self) -> int:
        return self.symbols.numel()

    def dim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Of the weight."""
        return self.numel() * self.dtype.itemsize

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weight, in its own dtype or another: what a file gives back."""
        exponent = torch.tensor(self.exponent, dtype=torch.int32, device=self.scale.device)
        return dequantize(self.symbols, self.scale, exponent, self.column_scale, dtype or self.dtype).view(self.shape)


def dequantize(symbols: Tensor, scale: Tensor, exponent: Tensor, column_scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`ops.dequantize` with scales of columns, to any float dtype."""
    narrow = torch.float32 if dtype == torch.float64 else dtype
    return ops.dequantize(symbols, scale, exponent, narrow, None if column_scale is None else column_factor(column_scale)).to(dtype)


def decode(stream: Tensor, symbol_dtype: torch.dtype, scale: Tensor, exponent: Tensor, column_scale: Tensor | None, columns: int, dtype: torch.dtype) -> Tensor:
    """Weights [R, columns] of a stream that needs nothing else, on the device of the scales."""
    narrow = torch.float32 if dtype == torch.float64 else dtype
    out = torch.empty(scale.numel(), columns, dtype=narrow, device=scale.device)
    ops.decode_streams_dequantize_out([stream], [scale.view(-1)], [exponent], symbol_dtype, [out], [None if column_scale is None else column_factor(column_scale)])
    return out.to(dtype)


def step_of(scale: Tensor, exponent: Tensor) -> Tensor:
    """float32 [R]: steps of rows, of float16 scales and their common exponent."""
    return torch.ldexp(scale.float(), exponent)


def in_steps(rows: Tensor, steps: Tensor) -> Tensor:
    """float32 [R, C]: weights over their steps (broadcast); 0 where a step is 0."""
    return torch.where(steps > 0, rows.float() / steps, 0)


def round_to_steps(rows: Tensor, step: Tensor, column_step: Tensor | None = None) -> Tensor:
    """int16: each weight over its step, rounded to the nearest integer (halves to even)."""
    steps = step[:, None] if column_step is None else step[:, None] * column_step
    v = in_steps(rows, steps).round_()
    if v.numel() and v.abs().amax() > _MAX_SYMBOL:
        raise InvalidArgumentError("a weight is too many steps large: symbols have 16 bits")
    return v.to(torch.int16)


def narrowed(symbols: Tensor) -> Tensor:
    """int16 symbols as int8 if these hold them."""
    low, high = torch.aminmax(symbols) if symbols.numel() else (torch.zeros(()), torch.zeros(()))
    return symbols.to(torch.int8) if low >= -127 and high <= 127 else symbols


def same(a: QuantizedWeight, b: QuantizedWeight) -> bool:
    """Whether two weights are the same integers and scales, wherever they are."""

    def equal(x: Tensor | None, y: Tensor | None) -> bool:
        return torch.equal(x.cpu(), y.cpu()) if x is not None and y is not None else x is y

    parts = equal(a.symbols, b.symbols) and equal(a.scale, b.scale) and equal(a.column_scale, b.column_scale)
    return parts and (a.exponent, a.trellis, tuple(a.shape), a.dtype) == (b.exponent, b.trellis, tuple(b.shape), b.dtype)


def are_integers_of(weight: Tensor, quantized: QuantizedWeight, bits: int) -> bool:
    """Whether a weight may have been quantized to these integers: it was rounded to them, or a trellis has no nearer ones."""
    rows = weight.reshape(quantized.symbols.shape)
    rows = rows.float() if rows.dtype == torch.float64 else rows
    exponent = torch.tensor(quantized.exponent, dtype=torch.int32)
    if quantized.trellis == 0 and bits <= 8:
        return torch.equal(ops.quantize_rows(rows, quantized.scale, exponent, bits), quantized.symbols)
    step = step_of(quantized.scale, exponent)
    if quantized.trellis == 0:
        return torch.equal(round_to_steps(rows, step), quantized.symbols)
    distance = (in_steps(rows, step[:, None]) - quantized.symbols).abs()
    return bool((distance <= _TRELLIS_REACH).all())


def bits_needed(symbols: Tensor) -> int:
    """Bits of the integers (QuantizedMeta.bits): those of a symbol type, so that the type follows from it."""
    return 8 if symbols.dtype == torch.int8 else 16


def clipping_waste(weight: Tensor, quantized: QuantizedWeight, bits: int) -> tuple[float, float]:
    """What it costs that integers of `bits` bits were clipped: bits per weight beyond those that the unclipped grid takes which errs as much, and the share of weights that were clipped.

    The unclipped integers of the same steps take more bits and err less; at high rate half the squared error costs half a bit, so their grid may be coarser by that."""
    rows = weight.reshape(quantized.symbols.shape)
    step = step_of(quantized.scale, torch.tensor(quantized.exponent, dtype=torch.int32))
    ratio = in_steps(rows, step[:, None])
    most = (1 << bits - 1) - 1
    clipped = float((ratio.abs() > most + 0.5).double().mean()) if ratio.numel() else 0.0
    if clipped == 0.0:
        return 0.0, 0.0
    free = ratio.clamp(-_MAX_SYMBOL, _MAX_SYMBOL).round()
    # Steps are the same part of a row's deviation, so errors in steps are what errors relative to rows are.
    errors = [float((ratio - integers).double().square().mean()) for integers in (quantized.symbols, free)]
    rates = [entropy_bits(integers.to(torch.int16)) / rows.numel() for integers in (quantized.symbols, free)]
    return max(0.0, rates[0] - rates[1] + 0.5 * math.log2(errors[0] / max(errors[1], 1e-30))), clipped


def entropy_bits(symbols: Tensor) -> float:
    """Bits of symbols at their order-0 entropy, from exact counts."""
    counts = ops.histogram(symbols).view(-1).cpu().double()
    counts = counts[counts > 0]
    return float((counts * (counts.sum() / counts).log2()).sum())


def deviations(rows: Tensor) -> Tensor:
    """float64 [R]: root mean squares of rows."""
    return rows.double().square().mean(1).sqrt().clamp_min(1e-300)


def under_all_names(quantized: Mapping[str, QuantizedWeight], state: Mapping[str, Any]) -> dict[str, QuantizedWeight]:
    """Weights that others share (a tied embedding) under all their names: a file has them once."""
    by_memory = {memory_key(state[name]): q for name, q in quantized.items()}
    return dict(quantized) | {name: by_memory[key] for name, tensor in state.items() if isinstance(tensor, Tensor) and (key := memory_key(tensor)) in by_memory and name not in quantized}
