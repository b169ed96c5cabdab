"""Quantizers made for entropy coding: nothing is clipped, and how fine the grid is follows from the bits that a weight may take.

A `Search` gives the symbols of a weight for any step; `quantize_weight` and `gptq.quantize_weight` solve for the step, `fit` for those of a whole model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from . import ops
from .errors import InvalidArgumentError
from .weights import QUANTIZERS, QuantizedWeight, entropy_bits, grid_columns, in_steps, narrowed, round_to_steps, step_of

# Weights on which the step is looked for before it is refined on all.
_SAMPLE = 1 << 18
# A rate is met if it is missed by no more than so many bits per weight.
_CLOSE = 0.002
_TRIES = 8


class Steps(NamedTuple):
    """Steps of rows as they are stored, and as quantizers take them (float32 [R])."""

    scale: Tensor
    exponent: Tensor
    step: Tensor


def row_steps(rows: Tensor, sigmas: float) -> Steps:
    """Steps of `sigmas` standard deviations of each row of a matrix, rounded to float16 and a common exponent."""
    scale, exponent = ops.pack_scale(ops.row_scale(rows, 8, 127 * sigmas))
    return Steps(scale, exponent, step_of(scale, exponent))


class Found(NamedTuple):
    """Steps and symbols (int16 [R, C]) of rows; bits per weight; error: what rows err (squared, weighted by the Hessian if there is one) in parts of what they would err if all were
    zero, on average."""

    steps: Steps
    symbols: Tensor
    bits: float
    error: float


class Search(ABC):
    """The symbols of one weight for any step. stride: of rows that are enough to find a step."""

    states: int
    stride: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    column_scale: Tensor | None

    @abstractmethod
    def run(self, sigmas: float, stride: int = 1) -> Found:
        """For steps of so many standard deviations of each row; of every `stride`-th row."""

    def quantized(self, sigmas: float) -> QuantizedWeight:
        found = self.run(sigmas)
        return QuantizedWeight(narrowed(found.symbols), found.steps.scale, int(found.steps.exponent), self.column_scale, self.states, self.shape, self.dtype)


class GridSearch(Search):
    """Each row for itself."""

    column_scale = None

    def __init__(self, weight: Tensor, quantizer: str) -> None:
        self.states, self.shape, self.dtype = QUANTIZERS[quantizer], tuple(weight.shape), weight.dtype
        columns = grid_columns(self.shape)
        rows = weight.detach().reshape(-1, columns) if weight.numel() else weight.detach().reshape(0, max(1, columns))
        self.rows = rows.float() if rows.dtype == torch.float64 else rows
        self.stride = max(1, rows.numel() // _SAMPLE)

    def run(self, sigmas: float, stride: int = 1) -> Found:
        rows = self.rows[::stride]
        steps, count = row_steps(rows, sigmas), max(1, rows.numel())
        if self.states == 0:
            symbols = round_to_steps(rows, steps.step)
            squares = (in_steps(rows, steps.step[:, None]) - symbols).square().sum()
            return Found(steps, symbols, entropy_bits(symbols) / count, float(squares) / count * sigmas**2)
        q = ops.quantize_trellis(rows.masked_fill(steps.step[:, None] == 0, 0), steps.step, self.states)  # rows too small for any scale
        return Found(steps, q.symbols, q.bits / count, q.error * sigmas**2)


def quantize_weight(weight: Tensor, quantizer: str = "trellis8", *, bits_per_weight: float | None = None, step_sigmas: float | None = None) -> QuantizedWeight:
    """Quantizes a weight [..., C] (float32, bfloat16, float16, float64) without clipping, in steps that are the same fraction of the standard deviation of each row.

    quantizer: "uniform" (each weight to the nearest step) or "trellis4", "trellis8", "trellis32" (`ops.quantize_trellis`: 0.17 to 0.2 bits less at the same error).
    bits_per_weight: the steps are such that the symbols, coded each for itself, take so many bits; scales are not counted. step_sigmas: or that many standard deviations.
    Raises InvalidArgumentError, and NotFiniteError for NaN and infinity."""
    check_grid(quantizer, bits_per_weight, step_sigmas)
    search = GridSearch(weight, quantizer)
    return search.quantized(float(step_sigmas) if step_sigmas is not None else solve(search, bits_per_weight))


def quantize(
    weight: Tensor, bits: int = 6, clip_sigmas: float | str | None = None, *, mode: str = "clip", bits_per_weight: float | None = None, step_sigmas: float | None = None
) -> ops.Quantized:
    """Integers of a weight [..., C] with a scale for each row of C: symbols [..., C], scale float16 [...], exponent.

    mode: "clip": `ops.quantize` to `bits` bits (int8), clipped at `clip_sigmas`. "uniform", "trellis4", "trellis8", "trellis32": `quantize_weight` of these rows, where nothing is clipped: symbols
    are int16 where int8 does not hold them, and either bits_per_weight or step_sigmas is given. Raises InvalidArgumentError, and NotFiniteError for NaN and infinity."""
    if mode == "clip":
        if bits_per_weight is not None or step_sigmas is not None:
            raise InvalidArgumentError("bits_per_weight and step_sigmas belong to modes that clip nothing: " + ", ".join(map(repr, QUANTIZERS)))
        return ops.quantize(weight, bits, clip_sigmas)
    if clip_sigmas is not None:
        raise InvalidArgumentError(f"mode {mode!r} clips nothing, so it has no clip_sigmas")
    check_grid(mode, bits_per_weight, step_sigmas)
    if weight.dim() == 0:
        raise InvalidArgumentError("the weight has no dimension of columns")
    rows = weight.reshape(-1, weight.shape[-1]) if weight.numel() else weight.reshape(math.prod(weight.shape[:-1]), weight.shape[-1])
    q = quantize_weight(rows, mode, bits_per_weight=bits_per_weight, step_sigmas=step_sigmas)
    return ops.Quantized(q.symbols.view(weight.shape), q.scale.view(weight.shape[:-1]), torch.tensor(q.exponent, dtype=torch.int32, device=weight.device))


def check_grid(quantizer: str, bits_per_weight: float | None, step_sigmas: float | None) -> None:
    """Raises InvalidArgumentError unless one of the numbers is given."""
    if quantizer not in QUANTIZERS:
        raise InvalidArgumentError(f"quantizer is {quantizer!r}, not one of {', '.join(map(repr, QUANTIZERS))}")
    if (bits_per_weight is None) == (step_sigmas is None):
        raise InvalidArgumentError("either bits_per_weight or step_sigmas has to be given")
    for name, value, most in (("bits_per_weight", bits_per_weight, 12.0), ("step_sigmas", step_sigmas, 100.0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most):
            raise InvalidArgumentError(f"{name} is {value!r}, not a number above 0 and up to {most:g}")


def first_step(states: int, bits: float) -> float:
    """About what step, in standard deviations, makes symbols of so many bits: where `solve_step` starts.

    A normal variable of deviation 1 in steps s has about log2(4.13 / s) bits; a trellis's symbols have one less, and its grid pays for some of that."""
    return (4.13 if states == 0 else 2.35) * 2.0**-bits


def solve(search: Search, bits_per_weight: float, start: float | None = None) -> float:
    """The step, in standard deviations, at which the symbols take so many bits: on some rows, then on all."""
    sigmas = first_step(search.states, bits_per_weight) if start is None else start
    for stride in sorted({search.stride, 1}, reverse=True):
        sigmas = solve_step(lambda s, stride=stride: search.run(s, stride).bits, bits_per_weight, sigmas)
    return sigmas


def solve_step(bits_of: Callable[[float], float], target: float, start: float) -> float:
    """The step at which `bits_of(step)` per weight is the target, nearly. Bits fall by one where steps double, as long as steps are small."""
    step, low, high = start, start / 64, start * 64
    for _ in range(_TRIES):
        missed = bits_of(step) - target
        if abs(missed) <= _CLOSE:
            break
        step = min(high, max(low, step * 2.0 ** max(-2.0, min(2.0, missed))))
    return step
