"""Operators on many streams in one call give what the streams give alone."""

from __future__ import annotations

import pytest
import torch
from distributions import bell, outliers

import torch_ans
from torch_ans import errors, ops, streams


def many_streams() -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Matrices of symbols of all kinds, their streams, and row scales."""
    symbols = [bell(96 * 70 * k, 2.0 + k, torch.int8, k).view(-1, 96) for k in range(1, 7)]
    symbols += [outliers(64 * 150, 3.0, torch.int8, 8).view(-1, 64), bell(100 * 37, 40.0, torch.int8, 9).view(37, 100), bell(600, 4.0, torch.int8, 10).view(6, 100)]
    symbols += [torch.full((40, 33), -3, dtype=torch.int8), torch.randint(-128, 128, (20, 50), dtype=torch.int8), torch.empty(0, 7, dtype=torch.int8)]
    encoded = [torch_ans.encode_stream(s, 96 * (1 + 11 * i)) for i, s in enumerate(symbols)]
    assert {streams.stream_model(e) for e in encoded} == set(streams.Model) - {streams.Model.MATRIX}
    return symbols, encoded, [torch.logspace(-3, 2, s.shape[0]).half() for s in symbols]


@pytest.mark.parametrize("threads", [1, 2])
def test_many_streams_at_once_give_what_they_give_alone(threads: int, every_backend: list[str]) -> None:
    symbols, encoded, scales = many_streams()
    exponents = [torch.tensor(i - 5, dtype=torch.int32) for i in range(len(symbols))]
    dtypes = [(torch.float32, torch.bfloat16, torch.float16)[i % 3] for i in range(len(symbols))]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for name in every_backend:
            ops.cpu_backend(name)
            out = ops.decode_streams_out(encoded, [torch.full_like(s, 99) for s in symbols])
            assert all(torch.equal(o, s) for o, s in zip(out, symbols)), name
            for dtype in (torch.float32, torch.bfloat16, torch.float16, None):
                weights = [torch.full(s.shape, 99, dtype=dtype or d) for s, d in zip(symbols, dtypes)]
                ops.decode_streams_dequantize_out(encoded, scales, exponents, torch.int8, weights)
                for w, s, scale, exponent in zip(weights, symbols, scales, exponents):
                    assert torch.equal(w, ops.dequantize(s, scale, exponent, w.dtype)), (name, dtype)
    finally:
        torch.set_num_threads(before)


def test_streams_of_other_symbol_types_at_once(every_backend: list[str]) -> None:
    symbols = [bell(5000, 3.0, torch.uint8, 1), bell(9000, 300.0, torch.int16, 2), bell(7000, 5.0, torch.int8, 3), bell(8000, 9.0, torch.int16, 4)]
    encoded = [torch_ans.encode_stream(s, 2000) for s in symbols]
    for name in every_backend:
        ops.cpu_backend(name)
        assert all(torch.equal(o, s) for o, s in zip(ops.decode_streams_out(encoded, [torch.empty_like(s) for s in symbols]), symbols)), name
    assert ops.decode_streams_out([], []) == []


def test_of_many_streams_the_damaged_one_is_named() -> None:
    symbols, encoded, scales = many_streams()
    exponents = [torch.zeros((), dtype=torch.int32)] * len(symbols)
    damaged = [e.clone() for e in encoded]
    damaged[4][-40] ^= 1
    with pytest.raises(errors.CorruptError, match="stream 4"):
        ops.decode_streams_out(damaged, [torch.empty_like(s) for s in symbols])
    with pytest.raises(errors.CorruptError, match="stream 4"):
        ops.decode_streams_dequantize_out(damaged, scales, exponents, torch.int8, [torch.empty(s.shape) for s in symbols])
    damaged[1] = damaged[1][:7]  # found before anything is decoded
    with pytest.raises(errors.CorruptError, match="stream 1"):
        ops.decode_streams_out(damaged, [torch.empty_like(s) for s in symbols])
