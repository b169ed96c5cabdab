"""The ISO standard 15938-17 as PyPI's nncodec implements it, with dependent (trellis-coded) quantization."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Mapping

import torch
from torch import Tensor

# Quantization parameters: steps halve every 8 (about).
_COARSE, _FINE = -8, -48


def at_bits(weights: Mapping[str, Tensor], bits: float) -> tuple[int, dict[str, Tensor], dict[str, float]]:
    """Bytes, decoded weights, seconds: at the parameter whose rate is nearest to so many bits per weight."""
    from nncodec.nn import decode, encode

    arrays = {name: w.float().numpy() for name, w in weights.items()}
    count = sum(a.size for a in arrays.values())

    def coded(qp: int) -> bytes:
        with contextlib.redirect_stdout(io.StringIO()):
            return encode(dict(arrays), args={"qp": qp, "use_dq": True, "verbose": False})

    low, high = _FINE, _COARSE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if 8 * len(coded(middle)) / count > bits else (low, middle)
    qp = min((low, high), key=lambda q: abs(8 * len(coded(q)) / count - bits))
    begin = time.perf_counter()
    stream = coded(qp)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        decoded = decode(stream)
    decode_seconds = time.perf_counter() - begin
    return len(stream), {name: torch.from_numpy(decoded[name]) for name in weights}, {"seconds": seconds, "decode_seconds": decode_seconds}
