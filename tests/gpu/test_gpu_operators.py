"""The operators of a GPU give what those of the CPU give, bit for bit, in both directions: what one encodes, the other decodes."""

from __future__ import annotations

import pytest
import torch
from distributions import bell, outliers

from torch_ans import ops

C = torch.ops.ans
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def same(a, b) -> None:
    """Results of an operator, or of two, are equal in every bit; nested as they are."""
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    else:
        a, b = a.cpu(), b.cpu()
        assert a.shape == b.shape and a.dtype == b.dtype
        assert torch.equal(a, b) or torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def matrices(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Weights of many shapes: short, long, odd and aligned rows, none, and one that is not contiguous."""
    g = torch.Generator().manual_seed(3)
    shapes = [(48, 96), (3, 1000), (130, 33), (1, 5), (70, 1), (5, 2048), (2, 3, 40), (0, 8), (4, 0), (300,)]
    weights = [torch.randn(shape, generator=g) * 10.0 ** (i % 5 - 2) for i, shape in enumerate(shapes)]
    weights[0][7] = 0  # a row without a scale
    weights.append(torch.randn(64, 50, generator=g).t())
    return [w.to(dtype) for w in weights]


def arrays() -> list[torch.Tensor]:
    """Symbols of every type and model, and sizes around what is special."""
    arrays = [bell(n, 3.0 + n % 7, torch.int8, n) for n in (1, 31, 1023, 1024, 1025, 1056, 3000, 9001)]
    arrays += [outliers(5000, 3.0, torch.int8, 1), outliers(4000, 9.0, torch.uint8, 2), bell(6000, 300.0, torch.int16, 3), bell(2500, 20000.0, torch.int16, 4)]
    arrays += [bell(3000, 40.0, torch.int8, 5), bell(2000, 0.3, torch.int8, 6), torch.randint(0, 256, (3333,), dtype=torch.uint8)]
    arrays += [torch.full((5000,), -7, dtype=torch.int8), torch.full((77,), 300, dtype=torch.int16), torch.empty(0, dtype=torch.int8)]
    arrays += [bell(4000, 4.0, torch.int8, 7).view(50, 80).t()]
    return arrays


def chunk_sizes(count: int) -> list[int]:
    return [(81920, 2048, 1500, 1100, 600, 4096)[i % 6] for i in range(count)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bits, sigmas", [(2, None), (6, 12.85), (8, 4.5)])
def test_quantizing(gpu, dtype: torch.dtype, bits: int, sigmas: float | None) -> None:
    weights = matrices(dtype)
    expected = C.quantize_many(weights, bits, sigmas)
    same(gpu.ops.quantize_many(gpu.to(weights), bits, sigmas), expected)
    scales = C.row_scale_many(weights, bits, sigmas)
    same(gpu.ops.row_scale_many(gpu.to(weights), bits, sigmas), scales)
    same(gpu.ops.pack_scale_many(gpu.to(scales)), C.pack_scale_many(scales))
    same(gpu.ops.quantize_rows_many(gpu.to(weights), gpu.to(expected[1]), gpu.to(expected[2]), bits), expected[0])
    for i in (0, 2, 5, 7):
        one = gpu.to(weights[i])
        same(gpu.ops.quantize(one, bits, sigmas), [part[i] for part in expected])
        same(gpu.ops.row_scale(one, bits, sigmas), scales[i])
        same(gpu.ops.quantize_rows(one, gpu.to(expected[1][i]), gpu.to(expected[2][i]), bits), expected[0][i])
        same(gpu.ops.pack_scale(gpu.to(scales[i])), [part[i] for part in expected[1:]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_dequantizing(gpu, dtype: torch.dtype) -> None:
    for weight in matrices():
        symbols, scale, exponent = C.quantize(weight, 6, 4.5)
        for symbol_dtype in (torch.int8, torch.int16):
            typed = symbols.to(symbol_dtype)
            same(gpu.ops.dequantize(*gpu.to([typed, scale, exponent]), dtype), C.dequantize(typed, scale, exponent, dtype))
    unaligned = torch.arange(-60, 65, dtype=torch.int8)[5:]  # an address that is no multiple of 8
    scale, exponent = torch.tensor([0.25, 3.0, 1e-5]).half(), torch.tensor(-3, dtype=torch.int32)
    symbols = unaligned.view(3, 40)
    moved = gpu.to(torch.arange(-60, 65, dtype=torch.int8))[5:].view(3, 40)
    same(gpu.ops.dequantize(moved, *gpu.to([scale, exponent]), dtype), C.dequantize(symbols, scale, exponent, dtype))


def test_tiny_and_huge_rows(gpu) -> None:
    weights = [torch.tensor([[1e-38, -3e-39], [0.0, 0.0]]), torch.tensor([[3e38, -1e38, 1.0]]), torch.tensor([[1e-30], [1e30]]), torch.full((3, 4), 2.0)]
    for sigmas in (None, 4.5):
        same(gpu.ops.quantize_many(gpu.to(weights), 6, sigmas), C.quantize_many(weights, 6, sigmas))


def test_counting(gpu) -> None:
    for symbols in arrays():
        same(gpu.ops.histogram(gpu.to(symbols)), C.histogram(symbols))
        contexts = (torch.arange(symbols.numel()) % 5).to(torch.uint8).view(symbols.shape)
        same(gpu.ops.histogram(gpu.to(symbols), gpu.to(contexts), 9), C.histogram(symbols, contexts, 9))
    for dtype in (torch.int8, torch.uint8, torch.int16):
        alike = [a for a in arrays() if a.dtype == dtype]
        same(gpu.ops.histogram_many(gpu.to(alike)), C.histogram_many(alike))
    many = bell(200, 3.0, torch.int16, 1)
    contexts = torch.randint(0, 256, many.shape, dtype=torch.uint8)
    same(gpu.ops.histogram(gpu.to(many), gpu.to(contexts), 256), C.histogram(many, contexts, 256))


def test_tables_prefixes_and_directories(gpu) -> None:
    for symbols in arrays():
        counts = C.histogram(symbols)[0]
        dtype = symbols.dtype
        same(gpu.ops.stream_prefix(gpu.to(counts), dtype, 1000), C.stream_prefix(counts, dtype, 1000))
        stream = C.encode_stream(symbols, 1000)
        same(gpu.ops.stream_layout(gpu.to(stream), symbols.numel(), dtype), C.stream_layout(stream, symbols.numel(), dtype))
        if symbols.numel():
            table = C.build_table(counts, dtype)
            same(gpu.ops.build_table(gpu.to(counts), dtype), table)
            same(gpu.ops.table_frequencies(gpu.to(table), dtype), C.table_frequencies(table, dtype))
            directory = C.encode(symbols, table, 700)[1]
            same(gpu.ops.pack_directory(gpu.to(directory)), C.pack_directory(directory))


def test_encoding_streams(gpu) -> None:
    symbols = arrays()
    sizes = chunk_sizes(len(symbols))
    expected = C.encode_streams(symbols, sizes)
    same(gpu.ops.encode_streams(gpu.to(symbols), sizes), expected)
    for one, size, stream in zip(symbols, sizes, expected):
        same(gpu.ops.encode_stream(gpu.to(one), size), stream)


def test_encoding_with_given_tables(gpu) -> None:
    """Also with tables that were made for other symbols, with many escapes, and on either device."""
    symbols = [a for a in arrays() if a.dtype == torch.int8 and a.numel() > 0]
    sizes = chunk_sizes(len(symbols))
    foreign = C.build_table(C.histogram(outliers(9000, 2.0, torch.int8, 11))[0], torch.int8)
    tables = [foreign if i % 2 else C.build_table(C.histogram(s)[0], torch.int8) for i, s in enumerate(symbols)]
    expected = C.encode_many(symbols, tables, sizes)
    same(gpu.ops.encode_many(gpu.to(symbols), gpu.to(tables), sizes), expected)
    same(gpu.ops.encode_many(gpu.to(symbols), tables, sizes), expected)
    same(gpu.ops.encode(gpu.to(symbols[6]), gpu.to(tables[6]), 2000), C.encode(symbols[6], tables[6], 2000))
    wide = bell(5000, 9000.0, torch.int16, 5)
    table = C.build_table(C.histogram(bell(5000, 30.0, torch.int16, 6))[0] + C.histogram(wide)[0], torch.int16)
    assert ops.table_frequencies(table, torch.int16).has_escape
    same(gpu.ops.encode(gpu.to(wide), gpu.to(table), 2000), C.encode(wide, table, 2000))


@pytest.mark.parametrize("chunk", [1, 40, 1024])
def test_encoding_small_chunks(gpu, chunk: int) -> None:
    symbols = outliers(2500 if chunk > 1 else 300, 5.0, torch.int8, chunk)
    same(gpu.ops.encode_stream(gpu.to(symbols), chunk), C.encode_stream(symbols, chunk))
    table = C.build_table(C.histogram(symbols)[0], torch.int8)
    same(gpu.ops.encode(gpu.to(symbols), gpu.to(table), chunk), C.encode(symbols, table, chunk))


def test_extreme_frequencies(gpu) -> None:
    """Lanes that cost nearly nothing, or 12 bits a symbol, or only escapes: what a chunk needs of memory is bounded whatever its symbols."""
    mostly = torch.zeros(20000, dtype=torch.int8)
    mostly[::997] = 1
    dear = torch.ones(3000, dtype=torch.int8)
    counts = torch.zeros(256, dtype=torch.int64)
    counts[128], counts[129], counts[130] = 4093_000, 1000, 1000
    table = C.build_table(counts, torch.int8)
    for symbols in (mostly, dear, torch.cat([mostly[:2000], dear])):
        same(gpu.ops.encode(gpu.to(symbols), gpu.to(table), 2048), C.encode(symbols, table, 2048))
        same(gpu.ops.encode(gpu.to(symbols), gpu.to(table), 1 << 20), C.encode(symbols, table, 1 << 20))
    escaping = C.build_table(C.histogram(torch.cat([outliers(8000, 2.0, torch.int16, 1), torch.tensor([-32768, 32767], dtype=torch.int16)]))[0], torch.int16)
    assert ops.table_frequencies(escaping, torch.int16).raw_bits == 16
    only_escapes = torch.randint(-30000, -20000, (4000,), dtype=torch.int16)
    same(gpu.ops.encode(gpu.to(only_escapes), gpu.to(escaping), 1500), C.encode(only_escapes, escaping, 1500))


def test_decoding(gpu) -> None:
    symbols = [a.contiguous() for a in arrays()]
    streams = C.encode_streams(symbols, chunk_sizes(len(symbols)))
    for where in (gpu.to(streams), streams):  # on the device, or still on the host
        out = [torch.full_like(s, 99) for s in gpu.to(symbols)]
        gpu.ops.decode_streams_out(where, out)
        same(out, symbols)
    for s, stream in zip(symbols, streams):
        same(gpu.ops.decode_stream(gpu.to(stream), s.numel(), s.dtype), s.view(-1))
        out = gpu.to(torch.full_like(s, 99))
        gpu.ops.decode_stream_out(gpu.to(stream), out)
        same(out, s)
    for s in symbols[5:9]:
        table = C.build_table(C.histogram(s)[0], s.dtype)
        payload, directory = C.encode(s, table, 1400)
        same(gpu.ops.decode(*gpu.to([payload, directory, table]), s.numel(), 1400, s.dtype), s.view(-1))
        out = gpu.to(torch.full_like(s, 99))
        gpu.ops.decode_out(*gpu.to([payload, directory, table]), 1400, out)
        same(out, s)


@pytest.mark.parametrize("dtype", FLOATS)
def test_decoding_to_weights(gpu, dtype: torch.dtype) -> None:
    weights = [w.contiguous() for w in matrices() if w.dim() > 1] + [torch.full((40, 50), -3.0), torch.rand(30, 40)]
    symbols, scales, exponents = C.quantize_many(weights, 6, 4.5)
    symbols[-1] = torch.randint(-128, 128, symbols[-1].shape, dtype=torch.int8)  # a raw stream
    streams = C.encode_streams(symbols, chunk_sizes(len(symbols)))
    expected = [C.dequantize(*parts, dtype) for parts in zip(symbols, scales, exponents)]
    for where in (gpu.to(streams), streams):
        out = gpu.to([torch.full(w.shape, 99, dtype=dtype) for w in weights])
        gpu.ops.decode_streams_dequantize_out(where, gpu.to(scales), gpu.to(exponents), torch.int8, out, [])
        same(out, expected)
    s, scale, exponent = symbols[0], scales[0], exponents[0]
    table = C.build_table(C.histogram(s)[0], s.dtype)
    pieces = gpu.to([*C.encode(s, table, 1400), table, scale, exponent])
    same(gpu.ops.decode_dequantize(*pieces, list(s.shape), 1400, s.dtype, dtype), expected[0])
    out = gpu.to(torch.full(s.shape, 99, dtype=dtype))
    gpu.ops.decode_dequantize_out(*pieces, 1400, s.dtype, out)
    same(out, expected[0])


def test_a_plan_is_run_again_and_again(gpu) -> None:
    symbols = [a.contiguous() for a in arrays()]
    streams = gpu.to(C.encode_streams(symbols, chunk_sizes(len(symbols))))
    out = gpu.to([torch.full_like(s, 99) for s in symbols])
    plan = gpu.ops.plan_decode(streams, [], [], torch.int8, out)
    for _ in range(2):
        for o in out:
            o.fill_(99)
        gpu.ops.check_decoded(gpu.ops.run_decode(*plan, streams, [], [], out))
        same(out, symbols)
    weights = [w.contiguous() for w in matrices() if w.dim() > 1]
    quantized = C.quantize_many(weights, 6, 4.5)
    streams = gpu.to(C.encode_streams(quantized[0], chunk_sizes(len(weights))))
    scales, exponents = gpu.to(quantized[1]), gpu.to(quantized[2])
    out = gpu.to([torch.full(w.shape, 99, dtype=torch.bfloat16) for w in weights])
    plan = gpu.ops.plan_decode(streams, scales, exponents, torch.int8, out)
    gpu.ops.check_decoded(gpu.ops.run_decode(*plan, streams, scales, exponents, out))
    same(out, [C.dequantize(*parts, torch.bfloat16) for parts in zip(*quantized)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_columns_may_have_factors(gpu, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    scale, exponent, factor = torch.rand(40, generator=g).half(), torch.tensor(-3, dtype=torch.int32), torch.rand(90, generator=g)
    for symbols in (torch.randint(-9, 9, (40, 90), generator=g, dtype=torch.int8), torch.randint(-900, 900, (40, 90), generator=g, dtype=torch.int16)):
        expected = C.dequantize(symbols, scale, exponent, dtype, factor)
        there = gpu.to([symbols, scale, exponent, factor])
        same(gpu.ops.dequantize(*there[:3], dtype, there[3]), expected)
        header = ops.fit_matrix(symbols, 90).header
        streams = [C.encode_stream(symbols, 1000), C.encode_matrix(symbols, header, [])]
        for factors, wanted in (([there[3], there[3].new_empty(0)], [expected, C.dequantize(symbols, scale, exponent, dtype)]), ([], [C.dequantize(symbols, scale, exponent, dtype)] * 2)):
            outs = [gpu.to(torch.empty(40, 90, dtype=dtype)) for _ in streams]
            gpu.ops.decode_streams_dequantize_out(gpu.to(streams), [there[1]] * 2, [there[2]] * 2, symbols.dtype, outs, factors)
            for out, w in zip(outs, wanted):
                same(out, w)
