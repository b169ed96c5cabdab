"""The ISO standard 15938-17 as PyPI's nncodec implements it, with dependent (trellis-coded) quantization."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Mapping

import torch
from torch import Tensor

# Quantization parameters: steps halve every 8 (about).
_COARSE, _FINE = -8, -48


def encoded(model: Mapping[str, Tensor], qp: int) -> bytes:
    from nncodec.nn import encode

    # It leaves a copy of the stream in `results`, by default where one stands.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return encode({name: w.float().numpy() for name, w in model.items()}, args={"qp": qp, "use_dq": True, "verbose": False, "results": folder})


def decoded(stream: bytes) -> dict[str, Tensor]:
    from nncodec.nn import decode

    with contextlib.redirect_stdout(io.StringIO()):
        return {name: torch.from_numpy(array) for name, array in decode(stream).items()}


def at_bits(weights: Mapping[str, Tensor], bits: float) -> tuple[int, dict[str, Tensor], dict[str, float]]:
    """Bytes, decoded weights, seconds: at the parameter whose rate is nearest to so many bits per weight."""
    count = sum(w.numel() for w in weights.values())
    low, high = _FINE, _COARSE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if 8 * len(encoded(weights, middle)) / count > bits else (low, middle)
    qp = min((low, high), key=lambda q: abs(8 * len(encoded(weights, q)) / count - bits))
    begin = time.perf_counter()
    stream = encoded(weights, qp)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    found = decoded(stream)
    decode_seconds = time.perf_counter() - begin
    return len(stream), {name: found[name] for name in weights}, {"seconds": seconds, "decode_seconds": decode_seconds}
