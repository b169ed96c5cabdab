"""All weights of a model in multiples of one step, as the ISO standard has them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import torch_ans
from torch_ans import grid, weights
from torch_ans.weights import QUANTIZERS, QuantizedWeight

_EXPONENT = torch.tensor(-8, dtype=torch.int32)


def at_step(model: Mapping[str, Tensor], quantizer: str, step: float) -> tuple[dict[str, QuantizedWeight], float]:
    """The quantized weights, and the bits of their symbols."""
    if quantizer not in QUANTIZERS:
        raise torch_ans.InvalidArgumentError(f"there is no quantizer {quantizer + '-flat'!r}")
    states, found, total = QUANTIZERS[quantizer], {}, 0.0
    for name, w in model.items():
        scale = torch.full((w.shape[0],), step * 256).half()
        steps = weights.step_of(scale, _EXPONENT)
        if states:
            q = torch_ans.ops.quantize_trellis(w.float(), steps, states)
            symbols, bits = q.symbols, q.bits
        else:
            symbols = weights.round_to_steps(w.float(), steps)
            bits = weights.entropy_bits(symbols)
        total += bits
        found[name] = QuantizedWeight(weights.narrowed(symbols), scale, int(_EXPONENT), None, states, tuple(w.shape), w.dtype)
    return found, total


def at_bits(model: Mapping[str, Tensor], quantizer: str, bits: float) -> dict[str, QuantizedWeight]:
    """Those whose symbols take so many bits per weight."""
    count, found = _count(model), {}

    def rate(step: float) -> float:
        found["last"], total = at_step(model, quantizer, step)
        return total / count

    grid.solve_step(rate, bits, grid.first_step(QUANTIZERS.get(quantizer, 0), bits) * math.sqrt(_squares(model) / count))
    return found["last"]


def at_error(model: Mapping[str, Tensor], quantizer: str, wanted: float) -> dict[str, QuantizedWeight]:
    """Those whose `error` is the largest up to `wanted`, nearly: errors grow with the square of the step."""
    step = math.sqrt(12 * wanted * _squares(model) / _count(model)) / 2
    for _ in range(8):
        found, _ = at_step(model, quantizer, step)
        ratio = error(model, {name: q.dequantize() for name, q in found.items()}) / wanted
        if 0.998 < ratio <= 1:
            break
        step *= math.sqrt(0.9992 / ratio)
    return found


def error(model: Mapping[str, Tensor], decoded: Mapping[str, Tensor]) -> float:
    """Mean squared error, relative to the mean square of all weights."""
    return sum(float((w.double() - decoded[name].double()).square().sum()) for name, w in model.items()) / _squares(model)


def _count(model: Mapping[str, Tensor]) -> int:
    return sum(w.numel() for w in model.values())


def _squares(model: Mapping[str, Tensor]) -> float:
    return sum(float(w.double().square().sum()) for w in model.values())
