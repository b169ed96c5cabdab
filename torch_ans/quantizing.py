"""The ways in which `fit` may quantize a tensor: each measures bits and error at a step, fast, and quantizes all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from . import grid, ops, weights
from .errors import InvalidArgumentError
from .fitted import Setting
from .weights import QuantizedWeight

#: Quantizes a tensor of this name as a setting says.
Quantize = Callable[[str, Tensor, Setting], QuantizedWeight]
# Weights of a tensor by which its curve is traced.
TRACED = 1 << 16


class Quantizing(Protocol):
    """A tensor, quantized in one way."""

    def measure(self, sigmas: float) -> tuple[float, float]:
        """Bits per weight, and relative error, of a sample of its rows."""

    def quantized(self, sigmas: float) -> QuantizedWeight: ...


class Searched:
    """By our own searches."""

    def __init__(self, search: grid.Search, numel: int) -> None:
        self._search = search
        self._stride = max(1, numel // TRACED)

    def measure(self, sigmas: float) -> tuple[float, float]:
        found = self._search.run(sigmas, self._stride)
        return found.bits, found.error

    def quantized(self, sigmas: float) -> QuantizedWeight:
        return self._search.quantized(sigmas)


class Clipped:
    """To so many bits."""

    def __init__(self, weight: Tensor, bits: int, hessian: Tensor | None) -> None:
        self._weight, self._bits, self._hessian = weight, bits, hessian
        self._sample = weight.detach().reshape(-1, weights.row_columns(tuple(weight.shape)))[:: max(1, weight.numel() // TRACED)]

    def measure(self, sigmas: float) -> tuple[float, float]:
        q = clipped(self._sample, self._bits, sigmas * ((1 << self._bits - 1) - 1))
        return weights.entropy_bits(q.symbols) / q.numel(), relative_error(self._sample, q, self._hessian)

    def quantized(self, sigmas: float) -> QuantizedWeight:
        return clipped(self._weight, self._bits, sigmas * ((1 << self._bits - 1) - 1))


class Called:
    """By a function that knows whole tensors only."""

    def __init__(self, quantize: Callable[[float], QuantizedWeight], weight: Tensor, hessian: Tensor | None) -> None:
        self._quantize, self._weight, self._hessian = quantize, weight, hessian
        self._last: tuple[float, QuantizedWeight] | None = None

    def measure(self, sigmas: float) -> tuple[float, float]:
        q = self.quantized(sigmas)
        bits = weights.entropy_bits(q.symbols) - (weights.entropy_bits(q.symbols & 1) if q.trellis else 0.0)  # a trellis knows the parity
        return bits / max(1, q.numel()), relative_error(self._weight, q, self._hessian)

    def quantized(self, sigmas: float) -> QuantizedWeight:
        if self._last is None or self._last[0] != sigmas:
            self._last = sigmas, self._quantize(sigmas)
        return self._last[1]


def clipped(weight: Tensor, bits: int, clip_sigmas: float) -> QuantizedWeight:
    """`ops.quantize` as a QuantizedWeight."""
    rows = weight.detach().reshape(-1, weights.row_columns(tuple(weight.shape)))
    q = ops.quantize(rows.float() if rows.dtype == torch.float64 else rows, bits, clip_sigmas)
    return QuantizedWeight(q.symbols, q.scale, int(q.exponent), None, 0, tuple(weight.shape), weight.dtype)


def relative_error(weight: Tensor, quantized: QuantizedWeight, hessian: Tensor | None = None) -> float:
    """Squared error in parts of what it is if all is zero: of rows over their variance, on average; with a Hessian [C, C] of the layer's output."""
    rows = weight.detach().reshape(quantized.symbols.shape).double()
    deviation = weights.deviations(rows)[:, None]
    rows = rows / deviation
    off = rows - quantized.dequantize(torch.float32).view(rows.shape).double() / deviation
    h = None if hessian is None else hessian.to(rows.device, torch.float64)

    def size(of: Tensor) -> float:
        return float(of.square().sum() if h is None else ((of @ h) * of).sum())

    return size(off) / max(size(rows), 1e-300)


def checked(quantized: Any, tensor: Tensor) -> QuantizedWeight:
    """What a function of the caller's gave, if it fits."""
    if not isinstance(quantized, QuantizedWeight):
        raise InvalidArgumentError(f"quantize() gives a {type(quantized).__name__}, not a QuantizedWeight")
    if tuple(quantized.shape) != tuple(tensor.shape):
        raise InvalidArgumentError(f"quantize() gives a weight of shape {tuple(quantized.shape)} for one of {tuple(tensor.shape)}")
    return replace(quantized, dtype=tensor.dtype)
