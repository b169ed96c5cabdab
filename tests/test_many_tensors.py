"""Operators on many tensors in one call, and plans, on the CPU: what one tensor gives alone, and errors that name the tensor. tests/gpu compares those of a GPU with these."""

from __future__ import annotations

import pytest
import torch
from distributions import bell, outliers

from torch_ans import errors, ops


def weights() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=g) * 0.1 for shape in ((30, 64), (5, 7), (0, 4), (2, 3, 40))]


def test_many_give_what_one_gives() -> None:
    quantized = ops.quantize_many(weights(), 6, 4.5)
    for w, q in zip(weights(), quantized, strict=True):
        assert all(map(torch.equal, q, ops.quantize(w, 6, 4.5)))
    scales = ops.row_scale_many(weights(), 6, 4.5)
    assert all(torch.equal(s, ops.row_scale(w, 6, 4.5)) for s, w in zip(scales, weights(), strict=True))
    packed, exponents = ops.pack_scale_many(scales)
    assert all(torch.equal(p, q.scale) and torch.equal(e, q.exponent) for p, e, q in zip(packed, exponents, quantized, strict=True))
    symbols = ops.quantize_rows_many(weights(), packed, exponents, 6)
    assert all(torch.equal(s, q.symbols) for s, q in zip(symbols, quantized, strict=True))
    counts = ops.histogram_many(symbols)
    assert all(torch.equal(c, ops.histogram(s)[0]) for c, s in zip(counts, symbols, strict=True))
    assert all(torch.equal(stream, ops.encode_stream(s, 500)) for stream, s in zip(ops.encode_streams(symbols, 500), symbols, strict=True))
    tables = [ops.build_table(c, torch.int8) for c in counts]
    sizes = [100, 200, 300, 400]
    for encoded, s, table, size in zip(ops.encode_many(symbols, tables, sizes), symbols, tables, sizes, strict=True):
        assert all(map(torch.equal, encoded, ops.encode(s, table, size)))
    assert ops.quantize_many([]) == ops.encode_streams([]) == ops.encode_many([], [], []) == ops.row_scale_many([], 6) == []


def test_errors_name_the_tensor() -> None:
    bad = weights()
    bad[1][3, 3] = float("nan")
    with pytest.raises(errors.NotFiniteError, match="tensor 1: row 3"):
        ops.quantize_many(bad, 6)
    with pytest.raises(errors.NotFiniteError, match="tensor 1: row 3"):
        ops.row_scale_many(bad, 6)
    with pytest.raises(errors.NotFiniteError, match="tensor 2"):
        ops.pack_scale_many([torch.ones(2), torch.ones(1), -torch.ones(3)])
    narrow = bell(3000, 1.0, torch.int8, 1).clamp(-2, 2)
    table = ops.build_table(ops.histogram(narrow)[0], torch.int8)
    with pytest.raises(errors.SymbolNotInTableError, match="tensor 1"):
        ops.encode_many([narrow, outliers(3000, 3.0, torch.int8, 2)], [table, table], [1000, 1000])
    for call in (
        lambda: ops.histogram_many([narrow, narrow.short()]),
        lambda: ops.histogram_many([]),
        lambda: ops.encode_streams([narrow], [100, 200]),
        lambda: ops.encode_many([narrow], [table], []),
        lambda: ops.quantize_rows_many(weights(), [], [], 6),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            call()


def test_plans() -> None:
    symbols = [outliers(5000, 3.0, torch.int8, 1).view(50, 100), bell(700, 5.0, torch.int8, 2).view(7, 100)]
    streams = ops.encode_streams(symbols, 1000)
    out = [torch.empty_like(s) for s in symbols]
    plan = ops.DecodePlan(streams, out)
    plan.check(plan.run())
    assert all(map(torch.equal, out, symbols))
    scales, exponents = [torch.rand(s.shape[0]).half() for s in symbols], [torch.tensor(-2, dtype=torch.int32)] * 2
    weights = [torch.empty(s.shape, dtype=torch.bfloat16) for s in symbols]
    plan = ops.DecodePlan(streams, weights, scales, exponents)
    version = weights[0]._version
    plan.check(plan.run())
    assert all(torch.equal(w, ops.dequantize(*parts, torch.bfloat16)) for w, *parts in zip(weights, symbols, scales, exponents))
    assert weights[0]._version > version
    streams[1][-30:] ^= 255
    with pytest.raises(errors.CorruptError, match="stream 1"):
        plan.run()
    with pytest.raises(errors.InvalidArgumentError):
        ops.DecodePlan([], [])
    with pytest.raises(errors.InvalidArgumentError, match="no_grad"):
        ops.DecodePlan(streams[:1], [torch.empty(50, 100, requires_grad=True)], scales[:1], exponents[:1])
    with pytest.raises(errors.CorruptError, match=r"stream 1.*damaged"):
        plan.check(torch.tensor([0, 22], dtype=torch.int32))
