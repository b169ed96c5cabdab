"""Matrix streams on a GPU: what the CPU encodes is decoded there to the same symbols, alone and many at once."""

from __future__ import annotations

import random

import pytest
import torch
from test_gpu_errors import name_of_error
from test_gpu_operators import same
from test_matrix import CASES, assert_loads, correlated, mixed_file, stream_of

import torch_ans
from torch_ans import batches, ops

C = torch.ops.ans


@pytest.mark.parametrize("name", CASES)
def test_streams_are_decoded(gpu, name: str) -> None:
    symbols, stream, predictors, reference = stream_of(name)
    given = None if reference is None else gpu.to(reference)
    same(gpu.ops.decode_matrix(gpu.to(stream), symbols.numel(), symbols.dtype, predictors, given), symbols.view(-1))
    if not predictors and reference is None:  # like any other stream
        same(gpu.ops.decode_stream(gpu.to(stream), symbols.numel(), symbols.dtype), symbols.view(-1))
        for where in (stream, gpu.to(stream)):
            out = gpu.to(torch.full_like(symbols, 99))
            gpu.ops.decode_streams_out([C.encode_stream(symbols, 300), where], [out.clone(), out])
            same(out, symbols)


@pytest.mark.parametrize("name", CASES)
def test_streams_are_encoded(gpu, name: str) -> None:
    symbols, stream, predictors, reference = stream_of(name)
    header = ops.fit_matrix(symbols, **CASES[name][1]).header
    given = None if reference is None else gpu.to(reference)
    same(gpu.ops.encode_matrix(gpu.to(symbols), header, predictors, given), stream)
    foreign = correlated(*symbols.view(symbols.shape[0], -1).shape, seed=99, deviation=9, dtype=symbols.dtype)  # under the same header: many escapes
    try:
        expected = C.encode_matrix(foreign, header, predictors, reference)
    except RuntimeError as error:
        name_of_it = "NoTrellisPath" if "trellis" in CASES[name][1] else "SymbolNotInTable"
        assert name_of_it in str(error)
        assert name_of_error(lambda: gpu.ops.encode_matrix(gpu.to(foreign), header, predictors, given)) == name_of_it
    else:
        same(gpu.ops.encode_matrix(gpu.to(foreign), header, predictors, given), expected)


def test_what_cannot_be_encoded(gpu) -> None:
    symbols, _, predictors, reference = stream_of("a given matrix")
    assert reference is not None
    header = ops.fit_matrix(symbols, **CASES["a given matrix"][1]).header
    symbols, reference = gpu.to(symbols), gpu.to(reference)
    calls = [
        lambda: gpu.ops.encode_matrix(symbols.to(torch.int16), header, predictors, reference),
        lambda: gpu.ops.encode_matrix(symbols, header, predictors, None),
        lambda: gpu.ops.encode_matrix(symbols, header, predictors, reference[1:]),
        lambda: gpu.ops.encode_matrix(symbols, header, predictors, reference.to(torch.uint8)),
        lambda: gpu.ops.encode_matrix(symbols, torch.cat([header, header[:1]]), predictors, reference),
        lambda: gpu.ops.encode_matrix(symbols, header.view(1, -1), predictors, reference),
    ]
    for i, call in enumerate(calls):
        assert name_of_error(call) == "InvalidArgument", i
    assert name_of_error(lambda: gpu.ops.encode_matrix(symbols, header, [], reference)) == "ReferenceMissing"
    assert name_of_error(lambda: gpu.ops.encode_matrix(symbols, header[:10], predictors, reference)) == "StreamTruncated"


def linked() -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], list[int], list[int], torch.Tensor]:
    """Matrices that refer to each other in a chain, some by way of predictors that they share."""
    predictors = ops.fit_predictors([correlated(300, 24, 1), correlated(200, 24, 3)], 24, [False, False], 2)
    given = correlated(90, 24, 7)
    matrices = [given]
    for i in range(4):
        matrices.append((matrices[-1] + correlated(90, 24, 10 + i, deviation=1.5)).clamp(-120, 120).to(torch.int8))
    streams, counts, references = [], [], []
    for i, symbols in enumerate(matrices[1:]):
        own = predictors if i != 2 else []
        options = {"levels": 2} if i % 2 else {}
        header = ops.fit_matrix(symbols, 24, False, own, reference=matrices[i], chunk_symbols=24 * 40, **options).header
        streams.append(ops.encode_matrix(symbols, header, own, matrices[i]))
        assert ops.matrix_needs(streams[-1], symbols.numel(), torch.int8)[1]
        counts.append(len(own))
        references.append(len(matrices) - 1 if i == 0 else i - 1)
    # One in another view, which refers to none.
    header = ops.fit_matrix(given, 90, True).header
    streams.append(ops.encode_matrix(given, header))
    counts.append(0)
    references.append(-1)
    references[0] += 1
    flat = [p for count in counts if count for p in predictors]
    return [*matrices[1:], given], streams, flat, counts, references, given


def test_streams_that_refer_to_each_other(gpu) -> None:
    matrices, streams, predictors, counts, references, given = linked()
    out = [torch.full_like(m, 99) for m in matrices]
    C.decode_matrices_out(streams, predictors, counts, [given], references, out)
    same(out, matrices)
    for where in (streams, gpu.to(streams)):
        out = gpu.to([torch.full_like(m, 99) for m in matrices])
        gpu.ops.decode_matrices_out(where, predictors, counts, gpu.to([given]), references, out)
        same(out, matrices)


def test_wrong_links(gpu) -> None:
    matrices, streams, predictors, counts, references, given = linked()
    empty = [torch.empty_like(m) for m in matrices]
    for ops_, out, given in ((C, empty, given), (gpu.ops, gpu.to(empty), gpu.to(given))):
        calls = [
            lambda: ops_.decode_matrices_out(streams, predictors[1:], counts, [given], references, out),
            lambda: ops_.decode_matrices_out(streams, [*predictors, predictors[0]], counts, [given], references, out),
            lambda: ops_.decode_matrices_out(streams, predictors, counts[1:], [given], references, out),
            lambda: ops_.decode_matrices_out(streams, predictors, counts, [], references, out),
            lambda: ops_.decode_matrices_out(streams, predictors, counts, [given], [*references[:2], 3, *references[3:]], out),
            lambda: ops_.decode_matrices_out(streams, predictors, counts, [given], [*references[:2], 2, *references[3:]], out),
            lambda: ops_.decode_matrices_out(streams, predictors, counts, [given[:50]], references, out),
            lambda: ops_.decode_matrices_out(streams, predictors, counts, [given.to(torch.uint8)], references, out),
            lambda: ops_.decode_matrices_out([s.to(torch.int8) for s in streams], predictors, counts, [given], references, out),
            lambda: ops_.decode_matrices_out([C.encode_stream(matrices[0].cpu(), 500), *streams[1:]], predictors, counts, [given], references, out),
            lambda: ops_.decode_matrices_out(streams, predictors, counts, [given], references, [out[0].t().contiguous().t(), *out[1:]]),
            lambda: ops_.decode_matrices_out(streams, predictors, counts, [given], references, [out[0].to(torch.int16), *out[1:]]),
        ]
        for i, call in enumerate(calls):
            assert name_of_error(call) == "InvalidArgument", i
        assert name_of_error(lambda: ops_.decode_matrices_out(streams, predictors, counts, [given], [-1, *references[1:]], out)) == "ReferenceMissing"


def test_the_damaged_stream_is_named(gpu) -> None:
    symbols, stream, _, _ = stream_of("scales")
    damaged = stream.clone()
    damaged[-40] ^= 4
    plain = C.encode_stream(symbols, 300)
    for ops_, to in ((C, lambda t: t), (gpu.ops, gpu.to)):
        for streams in ([plain, damaged], [plain, stream, damaged], [plain, plain, damaged, stream]):
            with pytest.raises(RuntimeError, match=rf"\] stream {min(len(streams) - 1, 2)}: the payload is damaged"):
                ops_.decode_streams_out(to(streams), to([torch.empty_like(symbols) for _ in streams]))


def test_a_file_is_loaded(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed_file()
    expected = torch_ans.loads(data)
    if gpu.name == "emulated":
        monkeypatch.setattr(batches, "decodes_on", lambda device: True)
        for name in ("decode_matrices_out", "decode_streams_out", "decode_streams_dequantize_out", "dequantize"):
            monkeypatch.setattr(torch.ops.ans, name, gpu.operator(name))
    with torch_ans.open(data, device=gpu.device) as file:
        assert any(file.entry(name).refers for name in file.keys())
        assert_loads(file, expected)


@pytest.mark.parametrize("name", ["scales", "a predictor of its own", "references", "parts", "narrow chunks", "wide tables"])
def test_damage_is_found(gpu, name: str) -> None:
    """The CPU's verdict, though it may be another name where words and raw values run out in another order; and nothing is written elsewhere."""
    symbols, stream, predictors, reference = stream_of(name)
    rng = random.Random(name)
    kinds = 0
    for trial in range(40):
        damaged = stream.clone()
        if trial % 4 == 0:
            damaged = damaged[: rng.randrange(1, damaged.numel())]
        else:
            damaged[rng.randrange(1, damaged.numel() if trial % 2 else min(damaged.numel(), 120))] ^= 1 << rng.randrange(8)
        memory = gpu.to(torch.full((symbols.numel() + 512,), 77, dtype=symbols.dtype))
        out = memory[256:-256]
        calls = (lambda: C.decode_matrix(damaged, symbols.numel(), symbols.dtype, predictors), lambda: gpu.ops.decode_matrices_out([gpu.to(damaged)], predictors, [len(predictors)], [], [-1], [out]))
        expected, found = (name_of_error(call) for call in calls)
        assert (expected is None) == (found is None), (expected, found)
        assert found is None or found == expected or {found, expected} <= {"WordsExhausted", "WordsLeft", "NonzeroPadding", "TailStateMismatch", "TailEmpty"}, (expected, found)
        if found is None:
            same(out, C.decode_matrix(damaged, symbols.numel(), symbols.dtype, predictors))
        assert bool((memory[:256] == 77).all() and (memory[-256:] == 77).all())
        kinds += found is not None
    assert kinds > 20
