"""The operators as PyTorch sees them: opcheck, torch.compile, arguments, and the quantizer against plain torch."""

from __future__ import annotations

import math

import pytest
import torch
from distributions import bell, outliers
from torch.library import opcheck

import torch_ans
from torch_ans import errors, ops

O = torch.ops.ans  # noqa: E741


def weight(rows: int = 48, columns: int = 100, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=g) * (torch.rand(rows, 1, generator=g) + 0.1)).to(dtype)


def coded(chunk_symbols: int = 1500):
    q = ops.quantize(weight(), 6, 4.5)
    table = ops.build_table(ops.histogram(q.symbols)[0], torch.int8)
    return q, table, ops.encode(q.symbols, table, chunk_symbols)


def samples() -> list[tuple[str, tuple]]:
    q, table, encoded = coded()
    counts = ops.histogram(q.symbols)[0]
    stream = torch_ans.encode_stream(q.symbols, 1500)
    contexts = (torch.arange(q.symbols.numel()) % 3).to(torch.uint8).view(q.symbols.shape)
    scales = ops.row_scale(weight(), 6, 4.5)
    gram = ops.matrix_gram(q.symbols, 20)
    predictor = ops.fit_predictor([gram]).predictor
    header = ops.fit_matrix(q.symbols, 20, predictors=[predictor]).header
    matrix = ops.encode_matrix(q.symbols, header, [predictor])
    return [
        ("matrix_gram", (q.symbols, 20, False)),
        ("fit_predictor", ([gram, gram],)),
        ("predictor_gains", ([gram], [predictor, predictor])),
        ("reference_gain", (q.symbols, 20, False, q.symbols, True)),
        ("fit_matrix", (q.symbols, 20, True, [predictor])),
        ("encode_matrix", (q.symbols, header, [predictor])),
        ("decode_matrix", (matrix, q.symbols.numel(), torch.int8, [predictor])),
        ("decode_matrices_out", ([matrix, matrix], [predictor, predictor], [1, 1], [], [-1, -1], [torch.empty_like(q.symbols), torch.empty_like(q.symbols)])),
        ("matrix_directory", (matrix, q.symbols.numel(), torch.int8, [predictor])),
        ("matrix_needs", (matrix, q.symbols.numel(), torch.int8)),
        ("quantize_trellis", (weight(), scales, torch.zeros(1, 4, 128, dtype=torch.int32), 8)),
        ("quantize_feedback", (weight(), scales, torch.zeros(1, 4, 128, dtype=torch.int32), 8, torch.zeros(weight().shape[-1], weight().shape[-1]), torch.ones(weight().shape[-1]))),
        ("trellis_costs", (torch.ones(2, 4, 128, dtype=torch.int64), 0.3)),
        ("row_scale", (weight(), 6, 12.85)),
        ("row_scale", (weight(dtype=torch.bfloat16), 4)),
        ("pack_scale", (scales,)),
        ("quantize_rows", (weight(), q.scale, q.exponent, 6)),
        ("quantize", (weight().view(4, 12, 100), 5, 4.5)),
        ("quantize", (weight(dtype=torch.float16),)),
        ("dequantize", (q.symbols, q.scale, q.exponent, torch.bfloat16)),
        ("histogram", (q.symbols,)),
        ("histogram", (q.symbols, contexts, 3)),
        ("histogram", (q.symbols.to(torch.int16),)),
        ("build_table", (counts, torch.int8)),
        ("table_frequencies", (table, torch.int8)),
        ("encode", (q.symbols, table, 1500)),
        ("decode", (encoded.payload, encoded.directory, table, q.symbols.numel(), 1500, torch.int8)),
        (
            "decode_dequantize",
            (encoded.payload, encoded.directory, table, q.scale, q.exponent, list(q.symbols.shape), 1500, torch.int8, torch.bfloat16),
        ),
        ("decode_out", (encoded.payload, encoded.directory, table, 1500, torch.empty_like(q.symbols))),
        (
            "decode_dequantize_out",
            (encoded.payload, encoded.directory, table, q.scale, q.exponent, 1500, torch.int8, torch.empty(q.symbols.shape)),
        ),
        ("stream_prefix", (counts, torch.int8, 1500)),
        ("encode_stream", (q.symbols, 1500)),
        ("decode_stream", (stream, q.symbols.numel(), torch.int8)),
        ("decode_stream_out", (stream, torch.empty_like(q.symbols))),
        ("decode_streams_out", ([stream, stream], [torch.empty_like(q.symbols), torch.empty_like(q.symbols)])),
        (
            "decode_streams_dequantize_out",
            ([stream, stream], [q.scale] * 2, [q.exponent] * 2, torch.int8, [torch.empty(q.symbols.shape), torch.empty(q.symbols.shape).bfloat16()], [torch.rand(q.symbols.shape[-1]), torch.empty(0)]),
        ),
        ("row_scale_many", ([weight(), weight(5, 7)], 6, 4.5)),
        ("pack_scale_many", ([scales, scales[:3]],)),
        ("quantize_rows_many", ([weight(), weight()], [q.scale] * 2, [q.exponent] * 2, 6)),
        ("quantize_many", ([weight(), weight(5, 7, torch.bfloat16)], 5)),
        ("histogram_many", ([q.symbols, q.symbols[:3]],)),
        ("encode_many", ([q.symbols, q.symbols[:30]], [table] * 2, [1500, 900])),
        ("encode_streams", ([q.symbols, q.symbols[:3]], [1500, 900])),
        ("plan_decode", ([stream, stream], [], [], torch.int8, [torch.empty_like(q.symbols), torch.empty_like(q.symbols)])),
        ("run_decode", (*O.plan_decode([stream], [], [], torch.int8, [torch.empty_like(q.symbols)]), [stream], [], [], [torch.empty_like(q.symbols)])),
        ("check_decoded", (torch.zeros(3, dtype=torch.int32),)),
        ("pack_directory", (encoded.directory,)),
        ("stream_layout", (stream, q.symbols.numel(), torch.int8)),
    ]


@pytest.mark.parametrize("name,arguments", samples(), ids=lambda v: v if isinstance(v, str) else "")
def test_opcheck(name: str, arguments: tuple) -> None:
    opcheck(getattr(O, name).default, arguments)


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_whole_path_compiles(dynamic: bool) -> None:
    @torch.compile(fullgraph=True, dynamic=dynamic, backend="aot_eager")
    def path(w: torch.Tensor):
        symbols, scale, exponent = O.quantize(w, 6, 4.5)
        table = O.build_table(O.histogram(symbols)[0], torch.int8)
        payload, directory = O.encode(symbols, table, 2048)
        same = O.decode(payload, directory, table, symbols.numel(), 2048, torch.int8).view(symbols.shape)
        out = O.decode_dequantize(payload, directory, table, scale, exponent, list(symbols.shape), 2048, torch.int8, torch.float32)
        return symbols, same, out, O.dequantize(symbols, scale, exponent, torch.float32)

    for rows in (48, 30):
        symbols, same, out, expected = path(weight(rows))
        assert torch.equal(symbols, same) and torch.equal(out, expected)
        assert torch.equal(symbols, ops.quantize(weight(rows), 6, 4.5).symbols)


# ---- quantizer


def reference_quantize(w: torch.Tensor, bits: int, clip_sigmas: float | None):
    """The rule in plain torch; row sums in another order, so scales may differ in the last place of fp16."""
    limit = 2 ** (bits - 1) - 1
    x = w.double()
    scale = (x.abs().amax(-1) if clip_sigmas is None else clip_sigmas * x.std(-1)) / limit
    half = scale.float().half()
    symbols = (w.float() / half.float()[..., None]).round().clamp(-limit, limit).to(torch.int8)
    return symbols, half


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", range(2, 9))
def test_quantize_follows_its_rule(dtype: torch.dtype, bits: int, every_backend: list[str]) -> None:
    for clip in (None, 2.5, 12.85):
        w = weight(64, 129, dtype, seed=bits)
        expected, half = reference_quantize(w, bits, clip)
        for name in every_backend:
            ops.cpu_backend(name)
            q = ops.quantize(w, bits, clip)
            assert q.exponent.item() == 0
            same = q.scale == half
            assert same.float().mean() > 0.98
            assert torch.equal(q.symbols[same], expected[same])
            limit = 2 ** (bits - 1) - 1
            assert q.symbols.min() >= -limit and q.symbols.max() <= limit


def test_quantize_is_the_same_on_every_backend_and_thread_count(every_backend: list[str]) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        w = weight(700, 333, dtype)
        results = []
        for name in every_backend:
            for threads in (1, 2):
                ops.cpu_backend(name)
                torch.set_num_threads(threads)
                results.append(ops.quantize(w, 6, 4.5))
                results.append(ops.quantize(w.t().contiguous().t(), 6, 4.5))  # another memory layout
        torch.set_num_threads(2)
        assert all(all(torch.equal(a, b) for a, b in zip(results[0], r)) for r in results)


def test_scales_out_of_fp16_range_share_an_exponent() -> None:
    w = weight(10, 50) * 1e-12
    q = ops.quantize(w, 8)
    assert q.exponent.item() < 0 and (q.scale > 0).all()
    back = ops.dequantize(*q, torch.float32)
    assert ((back - w).abs() <= 0.51 * (q.scale.float() * 2.0 ** q.exponent.item())[:, None]).all()
    huge = ops.quantize(weight(10, 50) * 1e30, 8)
    assert huge.exponent.item() > 0 and torch.isfinite(huge.scale).all()


def test_special_rows() -> None:
    w = torch.zeros(4, 16)
    w[1] = 0.1  # constant: no deviation
    w[2, 3] = 1.0
    w[3] = -torch.arange(16.0)
    for clip in (None, 4.5):
        q = ops.quantize(w, 6, clip)
        assert q.scale[0] == 0 and (q.symbols[0] == 0).all()
        assert torch.allclose(ops.dequantize(*q)[1], w[1], rtol=2e-3)
    one_column = ops.quantize(torch.tensor([[2.0], [0.0], [-3.0]]), 6, 4.5)
    assert one_column.symbols.flatten().tolist() == [31, 0, -31]
    assert ops.quantize(torch.empty(0, 5)).symbols.shape == (0, 5)
    assert ops.quantize(torch.empty(5, 0)).scale.tolist() == [0.0] * 5


def test_halves_round_to_even() -> None:
    w = torch.tensor([[0.5, 1.5, 2.5, -0.5, -1.5, 31.0]])
    assert ops.quantize(w, 6).symbols.tolist() == [[0, 2, 2, 0, -2, 31]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_non_finite_weights_are_refused_by_name(bad: float, dtype: torch.dtype) -> None:
    w = weight(dtype=dtype)
    q = ops.quantize(w)
    w[7, 99] = bad
    for call in (lambda: ops.quantize(w), lambda: ops.row_scale(w, 6, 4.5), lambda: ops.quantize_rows(w, q.scale, q.exponent, 6)):
        with pytest.raises(errors.NotFiniteError):
            call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("symbol_dtype", [torch.int8, torch.uint8, torch.int16])
def test_dequantize_equals_torch(dtype: torch.dtype, symbol_dtype: torch.dtype, every_backend: list[str]) -> None:
    info = torch.iinfo(symbol_dtype)
    symbols = torch.randint(info.min, info.max + 1, (50, 77)).to(symbol_dtype)
    scale = (torch.rand(50) + 0.01).half()
    exponent = torch.tensor(-3, dtype=torch.int32)
    expected = (symbols.float() * (scale.float() * 0.125)[:, None]).to(dtype)
    for name in every_backend:
        ops.cpu_backend(name)
        assert torch.equal(ops.dequantize(symbols, scale, exponent, dtype), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_decode_dequantize_is_decode_and_dequantize(dtype: torch.dtype, every_backend: list[str]) -> None:
    for shape, chunk in (((37, 211), 1000), ((3, 5, 64), 96), ((1, 5000), 1300), ((4000, 1), 1500), ((0, 8), 64)):
        q = ops.quantize(weight(math.prod(shape), 1).view(shape), 6)
        table = ops.build_table(ops.histogram(q.symbols)[0], torch.int8)
        e = ops.encode(q.symbols, table, chunk)
        for name in every_backend:
            ops.cpu_backend(name)
            out = ops.decode_dequantize(*e, table, q.scale, q.exponent, shape, chunk, torch.int8, dtype)
            assert torch.equal(out, ops.dequantize(*q, dtype)), (shape, name)
            kept = torch.empty(shape, dtype=dtype)
            assert torch.equal(ops.decode_dequantize_out(*e, table, q.scale, q.exponent, chunk, torch.int8, kept), out)
            assert torch.equal(ops.decode_out(*e, table, chunk, torch.empty_like(q.symbols)), q.symbols)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_whole_rows_go_straight_to_weights(dtype: torch.dtype, every_backend: list[str]) -> None:
    """Chunks of whole matrix rows, with and without escapes, tiny and huge scales: what the fused kernels are for."""
    for symbols in (bell(96 * 700, 2.0, torch.int8, 1), outliers(64 * 1500, 3.0, torch.int8, 2), outliers(32 * 4000, 4.0, torch.uint8, 3), bell(384 * 300, 20.0, torch.int8, 4)):
        for columns, rows_per_chunk in ((32, 100), (96, 23), (64, 1000), (384, 7)):
            if symbols.numel() % columns:
                continue
            shape = (symbols.numel() // columns, columns)
            scale = torch.logspace(-7, 4, shape[0]).half()
            exponent = torch.tensor(-2, dtype=torch.int32)
            chunk = rows_per_chunk * columns
            table = ops.build_table(ops.histogram(symbols)[0], symbols.dtype)
            e = ops.encode(symbols, table, chunk)
            expected = ops.dequantize(symbols.view(shape), scale, exponent, dtype)
            for name in every_backend:
                ops.cpu_backend(name)
                out = ops.decode_dequantize(*e, table, scale, exponent, shape, chunk, symbols.dtype, dtype)
                assert torch.equal(out, expected), (shape, chunk, name)
                damaged = e.payload.clone()
                damaged[140] ^= 1  # a word of the lanes, behind the states of the first chunk
                with pytest.raises(errors.CorruptError):
                    ops.decode_dequantize(damaged, e.directory, table, scale, exponent, shape, chunk, symbols.dtype, dtype)


# ---- statistics and tables


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16])
def test_histogram_counts(dtype: torch.dtype) -> None:
    info = torch.iinfo(dtype)
    for n in (0, 1, 7, 1000, 300_001):
        x = torch.randint(info.min, info.max + 1, (n,)).to(dtype)
        expected = torch.bincount(x.long() - info.min, minlength=info.max - info.min + 1)
        assert torch.equal(ops.histogram(x)[0], expected)
        contexts = torch.randint(0, 5, (n,)).to(torch.uint8)
        by_context = ops.histogram(x, contexts, 5)
        assert torch.equal(by_context.sum(0), expected)
        for c in range(5):
            assert torch.equal(by_context[c], ops.histogram(x[contexts == c])[0])
    strided = torch.randint(0, 9, (60, 60)).to(dtype)[::2, ::3]
    assert torch.equal(ops.histogram(strided), ops.histogram(strided.contiguous()))


def code_length(counts: list[int], freq: list[int]) -> float:
    return sum(c * (12 - math.log2(f)) for c, f in zip(counts, freq) if c)


def test_frequencies_are_optimal() -> None:
    """No exchange of a slot between two symbols shortens the code: with a convex sum that is the optimum."""
    for seed in range(30):
        g = torch.Generator().manual_seed(seed)
        n = int(torch.randint(2, 60, (), generator=g))
        counts = torch.zeros(256, dtype=torch.int64)
        counts[100 : 100 + n] = (torch.rand(n, generator=g) ** 3 * 1_000_000).long() + 4000  # many: in the finest unit
        info = ops.table_frequencies(ops.build_table(counts, torch.int8), torch.int8)
        if info.has_escape:
            continue
        freq, c = info.frequencies.tolist(), counts[100 : 100 + n].tolist()
        assert sum(freq) == 4096 and min(freq) >= 1
        best = code_length(c, freq)
        for i in range(n):
            for j in range(n):
                if i != j and freq[j] > 1:
                    other = freq.copy()
                    other[i] += 1
                    other[j] -= 1
                    assert code_length(c, other) >= best - 1e-6, (seed, i, j)


def test_rare_values_are_escaped_where_that_is_shorter() -> None:
    counts = torch.zeros(256, dtype=torch.int64)
    counts[118:139] = 100_000
    counts[60:100] = 1
    info = ops.table_frequencies(ops.build_table(counts, torch.int8), torch.int8)
    assert info.has_escape and info.first_value >= -10 and info.core_size == 21


def test_tables_of_degenerate_counts_are_legal() -> None:
    for dtype, bins in ((torch.int8, 256), (torch.uint8, 256), (torch.int16, 65536)):
        for at in (None, 0, bins - 1):
            counts = torch.zeros(bins, dtype=torch.int64)
            if at is not None:
                counts[at] = 7
            info = ops.table_frequencies(ops.build_table(counts, dtype), dtype)
            assert info.frequencies.sum() == 4096


# ---- arguments


def bad_calls() -> dict[str, tuple]:
    q, table, e = coded()
    n = q.symbols.numel()
    w, i8 = weight(), torch.zeros(4, dtype=torch.int8)
    stream = torch_ans.encode_stream(q.symbols, 1500)
    return {
        "bits 1": (ops.quantize, w, 1),
        "bits 9": (ops.quantize, w, 9),
        "clip 0": (ops.quantize, w, 6, 0.0),
        "clip nan": (ops.quantize, w, 6, math.nan),
        "float64 weight": (ops.quantize, w.double()),
        "integer weight": (ops.quantize, i8.view(2, 2)),
        "scalar weight": (ops.quantize, torch.tensor(1.0)),
        "scale shape": (ops.dequantize, q.symbols, q.scale[:3], q.exponent),
        "scale dtype": (ops.dequantize, q.symbols, q.scale.float(), q.exponent),
        "exponent dtype": (ops.dequantize, q.symbols, q.scale, torch.tensor(0)),
        "dequantize to int": (ops.dequantize, q.symbols, q.scale, q.exponent, torch.int32),
        "negative row scale": (ops.pack_scale, torch.tensor([1.0, -1.0])),
        "histogram of floats": (ops.histogram, w),
        "contexts dtype": (ops.histogram, i8, torch.zeros(4), 2),
        "contexts size": (ops.histogram, i8, torch.zeros(3, dtype=torch.uint8), 2),
        "context too large": (ops.histogram, i8, torch.full((4,), 2, dtype=torch.uint8), 2),
        "num_contexts 0": (ops.histogram, i8, None, 0),
        "counts dtype": (ops.build_table, torch.zeros(256), torch.int8),
        "counts size": (ops.build_table, torch.zeros(255, dtype=torch.int64), torch.int8),
        "counts negative": (ops.build_table, torch.full((256,), -1), torch.int8),
        "counts huge": (ops.build_table, torch.full((256,), 1 << 47), torch.int8),
        "table symbol dtype": (ops.build_table, torch.zeros(256, dtype=torch.int64), torch.int32),
        "encode floats": (ops.encode, w, table),
        "chunk 0": (ops.encode, q.symbols, table, 0),
        "chunk too long": (ops.encode, q.symbols, table, ops.MAX_CHUNK_SYMBOLS + 1),
        "table dtype": (ops.encode, q.symbols, table.float()),
        "table with more": (ops.encode, q.symbols, torch.cat([table, table])),
        "payload dtype": (ops.decode, e.payload.float(), e.directory, table, n, 1500, torch.int8),
        "directory dtype": (ops.decode, e.payload, e.directory.long(), table, n, 1500, torch.int8),
        "directory length": (ops.decode, e.payload, e.directory[:-1], table, n, 1500, torch.int8),
        "numel negative": (ops.decode, e.payload, e.directory, table, -1, 1500, torch.int8),
        "shape negative": (ops.decode_dequantize, *e, table, q.scale, q.exponent, [-48, -100], 1500, torch.int8, torch.float32),
        "shape huge": (ops.decode_dequantize, *e, table, q.scale, q.exponent, [1 << 40, 1 << 40], 1500, torch.int8, torch.float32),
        "shape empty": (ops.decode_dequantize, *e, table, q.scale, q.exponent, [], 1500, torch.int8, torch.float32),
        "out not contiguous": (ops.decode_out, *e, table, 1500, torch.empty(100, 48, dtype=torch.int8).t()),
        "out dtype": (ops.decode_out, *e, table, 1500, torch.empty(48, 100)),
        "out size": (ops.decode_out, *e, table, 1500, torch.empty(47, 10, dtype=torch.int8)),
        "out dtype, dequantized": (ops.decode_dequantize_out, *e, table, q.scale, q.exponent, 1500, torch.int8, torch.empty(48, 100).double()),
        "fewer outs": (ops.decode_streams_out, [stream, stream], [torch.empty_like(q.symbols)]),
        "outs not contiguous": (ops.decode_streams_out, [stream], [torch.empty(100, 48, dtype=torch.int8).t()]),
        "outs dtype": (ops.decode_streams_out, [stream], [torch.empty(48, 100)]),
        "streams dtype": (ops.decode_streams_out, [stream.float()], [torch.empty_like(q.symbols)]),
        "fewer scales": (ops.decode_streams_dequantize_out, [stream] * 2, [q.scale], [q.exponent] * 2, torch.int8, [torch.empty(48, 100)] * 2),
        "scales shape": (ops.decode_streams_dequantize_out, [stream], [q.scale[:5]], [q.exponent], torch.int8, [torch.empty(48, 100)]),
        "weights dtype": (ops.decode_streams_dequantize_out, [stream], [q.scale], [q.exponent], torch.int8, [torch.empty(48, 100).double()]),
        "weights not contiguous": (ops.decode_streams_dequantize_out, [stream], [q.scale], [q.exponent], torch.int8, [torch.empty(100, 48).t()]),
        "backend": (ops.cpu_backend, "mmx"),
    }


@pytest.mark.parametrize("case", bad_calls())
def test_wrong_arguments_are_named(case: str) -> None:
    function, *arguments = bad_calls()[case]
    with pytest.raises(errors.AnsError) as caught:
        function(*arguments)
    assert isinstance(caught.value, (errors.InvalidArgumentError, errors.NotFiniteError))


def test_symbols_outside_the_table_are_refused() -> None:
    counts = torch.zeros(256, dtype=torch.int64)
    counts[128:132] = 100
    table = ops.build_table(counts, torch.int8)
    for n in (5, 2000, 70_000):
        for value, at in ((4, 0), (-1, n - 1), (127, n // 2), (-128, n // 3)):
            symbols = torch.zeros(n, dtype=torch.int8)
            symbols[at] = value
            with pytest.raises(errors.SymbolNotInTableError):
                ops.encode(symbols, table)


def test_a_directory_that_lies_is_refused() -> None:
    q, table, e = coded()
    n = q.symbols.numel()
    with pytest.raises(errors.PayloadTruncatedError):
        ops.decode(e.payload[:-2], e.directory, table, n, 1500, torch.int8)
    with pytest.raises(errors.PayloadTrailingError):
        ops.decode(torch.cat([e.payload, e.payload[:2]]), e.directory, table, n, 1500, torch.int8)
    for words, tail in ((0, 0), (-5, 0), (1 << 30, 0), (63, 3), (100, 1025), (100, -1)):
        directory = e.directory.clone()
        directory[1] = torch.tensor([words, tail])
        with pytest.raises(errors.CorruptError):
            ops.decode(e.payload, directory, table, n, 1500, torch.int8)


def test_sixteen_bit_symbols_beyond_a_full_table_are_refused(every_backend: list[str]) -> None:
    full = torch.arange(256, dtype=torch.int16).repeat(20)
    table = ops.build_table(ops.histogram(full)[0], torch.int16)
    assert ops.table_frequencies(table, torch.int16).core_size == 256
    for name in every_backend:
        ops.cpu_backend(name)
        for n in (3, 3000):
            symbols = full[:n].clone()
            assert torch.equal(ops.decode(*ops.encode(symbols, table), table, n, ops.DEFAULT_CHUNK_SYMBOLS, torch.int16), symbols)
            symbols[n // 2] = 5000
            with pytest.raises(errors.SymbolNotInTableError):
                ops.encode(symbols, table)


def test_autograd_learns_what_happens() -> None:
    q, _, _ = coded()
    stream = torch_ans.encode_stream(q.symbols)
    leaf = torch.ones(q.symbols.shape, requires_grad=True)
    with pytest.raises(errors.InvalidArgumentError, match="no_grad"):
        ops.decode_streams_dequantize_out([stream], [q.scale], [q.exponent], torch.int8, [leaf])
    loss = (leaf * leaf).sum()
    with torch.no_grad():
        ops.decode_streams_dequantize_out([stream], [q.scale], [q.exponent], torch.int8, [leaf])
    assert torch.equal(leaf, ops.dequantize(*q))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    quantized = ops.quantize(torch.randn(4, 64, requires_grad=True), 6, "absmax")
    assert not any(part.requires_grad for part in quantized)


def test_tensors_that_are_not_what_they_seem() -> None:
    q, table, e = coded()
    n, stream = q.symbols.numel(), torch_ans.encode_stream(q.symbols)
    for call in (
        lambda: ops.decode_dequantize(*e, table, q.scale.to("meta"), q.exponent, q.symbols.shape, 1500, torch.int8, torch.float32),
        lambda: ops.decode(e.payload, e.directory.to("meta"), table, n, 1500, torch.int8),
        lambda: ops.dequantize(q.symbols, q.scale, q.exponent.to("meta")),
        lambda: ops.decode_stream_out(stream, q.symbols.to("meta")),
        lambda: ops.decode_streams_out([stream, stream], [torch.empty_like(q.symbols), q.symbols.to("meta")]),
        lambda: ops.decode_dequantize_out(*e, table, q.scale, q.exponent, 1500, torch.int8, torch._neg_view(torch.zeros(q.symbols.shape))),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            call()


def test_results_that_no_memory_holds() -> None:
    constant = torch_ans.encode_stream(torch.full((5000,), 7, dtype=torch.int8))
    for numel in (1 << 50, 1 << 62, (1 << 63) - 1):
        with pytest.raises(errors.OutOfMemoryError):
            ops.decode_stream(constant, numel, torch.int8)
    with pytest.raises(errors.CorruptError):
        ops.stream_layout(torch_ans.encode_stream(coded()[0].symbols, 1500), (1 << 63) - 1, torch.int8)


def test_non_contiguous_inputs() -> None:
    q, table, e = coded()
    transposed = q.symbols.t()
    assert torch.equal(ops.encode(transposed, table).payload, ops.encode(transposed.contiguous(), table).payload)
    wide = torch.stack([e.payload, e.payload], 1)[:, 0]
    assert torch.equal(ops.decode(wide, e.directory, table, q.symbols.numel(), 1500, torch.int8).view(q.symbols.shape), q.symbols)
