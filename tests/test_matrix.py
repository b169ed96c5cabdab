"""Prediction models: operators, levels and files against the second decoder, and damage."""

from __future__ import annotations

import dataclasses
import io
import os
import random
from collections.abc import Iterator

import matrix_forge
import pytest
import reference_matrix
import torch
from reference_codec import Corrupted
from torch import Tensor

import torch_ans
from torch_ans import batches, errors, ops, predicted, prediction
from torch_ans.entries import Kind

TYPES = {torch.int8: "i8", torch.uint8: "u8", torch.int16: "i16"}


def correlated(lines: int, columns: int, seed: int, deviation: float = 4, dtype: torch.dtype = torch.int8) -> Tensor:
    """A matrix with all that the models look for: columns that depend on each other, lines that are like others, scales that differ."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.eye(columns) + 0.5 * torch.randn(columns, columns, generator=g) / columns**0.5
    x = torch.randn(lines, columns, generator=g) @ mixing.T
    twins = torch.arange(lines) % 3 == 2
    x[twins] = 0.8 * x[torch.arange(lines)[twins] - 1] + 0.5 * x[twins]
    x *= torch.exp2(torch.randn(columns, generator=g) / 2) * torch.exp2(torch.randn(lines, 1, generator=g) / 3)
    x = (x * deviation).round()
    return x.clamp(-120, 120).to(dtype) if dtype == torch.int8 else (x + 100).clamp(0, 255).to(dtype)


def trellis(x: Tensor, states: int) -> Tensor:
    """Symbols (int16) of rows like these."""
    return ops.quantize_trellis(x.float(), torch.full((x.shape[0],), 0.6), states).symbols


def cases() -> Iterator[tuple[str, Tensor, dict]]:
    plain = correlated(70, 24, 1)
    yield "scales", plain, {"columns": 24, "means": False}
    yield "means", correlated(70, 24, 2, dtype=torch.uint8), {"columns": 24}
    yield "transposed", plain, {"columns": 70, "transposed": True}
    yield "blocks", plain, {"columns": 24, "predictors": [ops.fit_predictor([ops.matrix_gram(plain, 8)]).predictor]}
    predictor = ops.fit_predictor([ops.matrix_gram(correlated(400, 24, 1), 24)]).predictor
    yield "a predictor of its own", plain, {"columns": 24, "predictors": [predictor], "own_predictors": True}
    yield "references", plain, {"columns": 24, "predictors": [predictor], "levels": 3}
    yield "a given matrix", plain, {"columns": 24, "predictors": [predictor], "reference": correlated(24, 70, 1).reshape(-1), "reference_transposed": True}
    several = ops.fit_predictors([correlated(200, 24, 1), correlated(200, 24, 3)], 24, [False, False], 3)
    yield "parts", torch.cat([correlated(100, 24, 1), correlated(100, 24, 3)]), {"columns": 24, "predictors": [*several, predictor], "levels": 2}
    yield "wide tables", correlated(40, 40, 5, deviation=40), {"columns": 40}
    yield "narrow chunks", plain, {"columns": 24, "predictors": [predictor], "chunk_symbols": 100}
    yield "one line", correlated(1, 1500, 6), {"columns": 1500, "means": False}
    wild = plain.short()
    wild[::9, ::7] *= 150
    yield "outliers", wild, {"columns": 24, "predictors": [predictor], "levels": 2}
    for states in (4, 8, 32):
        yield f"a trellis of {states}", trellis(plain, states).to(torch.int8), {"columns": 24, "trellis": states, "chunk_symbols": 1000}
    yield "a predicted trellis", trellis(plain, 8).to(torch.int8), {"columns": 24, "predictors": [predictor], "levels": 3, "trellis": 8}
    yield "a trellis with outliers", trellis(wild, 8), {"columns": 24, "predictors": [predictor], "trellis": 8}
    yield "a trellis with a given matrix", trellis(wild, 32), {"columns": 24, "reference": (3 * plain.short()).reshape(-1), "trellis": 32}
    yield "a trellis of few columns", trellis(correlated(400, 3, 8), 8), {"columns": 3, "trellis": 8}
    yield "constant", torch.full((9, 16), 3, dtype=torch.int8), {"columns": 16}


CASES = {name: (symbols, options) for name, symbols, options in cases()}


def stream_of(name: str) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
    """Symbols, stream, and what decoding it needs."""
    symbols, options = CASES[name]
    fitted = ops.fit_matrix(symbols, **options)
    predictors = [] if options.get("own_predictors") else options.get("predictors", [])
    reference = options.get("reference")
    stream = ops.encode_matrix(symbols, fitted.header, predictors, reference)
    if name not in ("narrow chunks", "constant") and symbols.dtype != torch.int16:  # where nearly all is in tails; fits see outliers limited to 8 bits
        chunks = ops.matrix_directory(stream, symbols.numel(), symbols.dtype, predictors).shape[0]
        assert abs(stream.numel() * 8 - fitted.bits) <= 0.0005 * fitted.bits + 30 * chunks
    return symbols, stream, predictors, reference


@pytest.mark.parametrize("name", CASES)
def test_streams_come_back(name: str, every_backend: list[str]) -> None:
    symbols, stream, predictors, reference = stream_of(name)
    for backend in every_backend:
        ops.cpu_backend(backend)
        assert torch.equal(ops.decode_matrix(stream, symbols.numel(), symbols.dtype, predictors, reference).view(symbols.shape), symbols)
        fitted = ops.fit_matrix(symbols, **CASES[name][1])
        assert torch.equal(ops.encode_matrix(symbols, fitted.header, predictors, reference), stream), backend


@pytest.mark.parametrize("name", CASES)
def test_the_second_decoder_agrees(name: str) -> None:
    symbols, stream, predictors, reference = stream_of(name)
    given = None if reference is None else reference.tolist()
    decoded = reference_matrix.decode_matrix(stream.numpy().tobytes(), symbols.numel(), TYPES[symbols.dtype], [p.numpy().tobytes() for p in predictors], given)
    assert decoded == symbols.reshape(-1).tolist()


@pytest.mark.parametrize("name", ["scales", "a predictor of its own", "references", "parts", "narrow chunks", "a trellis of 8", "a predicted trellis", "a trellis with outliers"])
def test_damage_is_damage_for_both_decoders(name: str) -> None:
    symbols, stream, predictors, reference = stream_of(name)
    rng = random.Random(name)
    whole = stream.numpy().tobytes()
    given = [p.numpy().tobytes() for p in predictors]
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 4 == 0:
            del damaged[rng.randrange(1, len(damaged)) :]
        else:  # mostly in the header
            damaged[rng.randrange(1, len(damaged) if trial % 4 == 1 else min(len(damaged), 120))] ^= 1 << rng.randrange(8)
        try:
            expected: list[int] | str = reference_matrix.decode_matrix(bytes(damaged), symbols.numel(), TYPES[symbols.dtype], given)
        except Corrupted as error:
            expected = error.name
        try:
            found: list[int] | str = ops.decode_matrix(torch.frombuffer(damaged, dtype=torch.uint8), symbols.numel(), symbols.dtype, predictors).tolist()
        except errors.CorruptError as error:
            found = type(error).__name__.removesuffix("Error")
        # A stream with several faults may be refused by any of their names.
        assert isinstance(found, str) == isinstance(expected, str) and (isinstance(found, str) or found == expected), (trial, found, expected)


@pytest.mark.parametrize("case", matrix_forge.ILLEGAL)
def test_illegal_headers_are_named(case: str) -> None:
    stream, symbol_type = matrix_forge.ILLEGAL[case]
    dtype = {"i8": torch.int8, "u8": torch.uint8, "i16": torch.int16}[symbol_type]
    with pytest.raises(errors.BY_NAME[case.split(":")[0]]):
        ops.decode_stream(torch.frombuffer(bytearray(stream), dtype=torch.uint8), matrix_forge.NUMEL, dtype)


def test_wrong_arguments() -> None:
    symbols, options = CASES["a given matrix"]
    fitted = ops.fit_matrix(symbols, **options)
    with pytest.raises(errors.ReferenceMissingError):
        ops.encode_matrix(symbols, fitted.header, [], options["reference"])
    with pytest.raises(errors.InvalidArgumentError, match="needs a reference"):
        ops.encode_matrix(symbols, fitted.header, options["predictors"])
    stream = ops.encode_matrix(symbols, fitted.header, options["predictors"], options["reference"])
    assert ops.matrix_needs(stream, symbols.numel(), torch.int8) == (1, True)
    with pytest.raises(errors.ReferenceMissingError):
        ops.decode_matrix(stream, symbols.numel(), torch.int8, options["predictors"])
    with pytest.raises(errors.ReferenceMissingError):
        ops.decode_stream(stream, symbols.numel(), torch.int8)
    with pytest.raises(errors.InvalidArgumentError, match="as many symbols"):
        ops.decode_matrix(stream, symbols.numel(), torch.int8, options["predictors"], options["reference"][1:])
    with pytest.raises(errors.InvalidArgumentError, match="no matrix of"):
        ops.fit_matrix(symbols, 23)
    with pytest.raises(errors.InvalidArgumentError, match="int8, uint8"):
        ops.fit_matrix(symbols.int(), 24)
    with pytest.raises(errors.InvalidArgumentError, match="trellis"):
        ops.fit_matrix(symbols, 24, trellis=16)
    path, options_ = CASES["a trellis of 8"]
    header = ops.fit_matrix(path, **options_).header
    for i in (0, 5, 69):
        broken = path.clone()
        broken[i, 11] ^= 1
        with pytest.raises(errors.NoTrellisPathError):
            ops.encode_matrix(broken, header)
    with pytest.raises(errors.InvalidArgumentError, match="does not divide"):
        ops.fit_matrix(symbols, 70, True, options["predictors"])
    with pytest.raises(errors.InvalidArgumentError, match="levels"):
        ops.fit_matrix(symbols, 24, levels=300)
    with pytest.raises(errors.CorruptError):
        ops.fit_matrix(symbols, 24, predictors=[torch.zeros(3, dtype=torch.uint8)])
    with pytest.raises(errors.InvalidArgumentError, match="none of a matrix"):
        ops.decode_matrix(ops.encode_stream(symbols), symbols.numel(), torch.int8)
    with pytest.raises(errors.InvalidArgumentError, match="level"):
        torch_ans.dumps({}, level="worst")


# ---- files ----


def network() -> dict[str, Tensor]:
    """Tensors that predict each other, and some that do not."""
    g = torch.Generator().manual_seed(9)
    mixing = 0.4 * torch.eye(64) + torch.randn(64, 64, generator=g) / 8
    state = {}
    for layer in range(3):
        up = torch.randn(400, 64, generator=g) @ mixing.T
        state[f"{layer}.up"] = up
        state[f"{layer}.down"] = (0.7 * up + 0.5 * torch.randn(400, 64, generator=g) @ mixing.T).T.contiguous()
        state[f"{layer}.bias"] = torch.randn(400, generator=g)
    state["conv"] = torch.randn(32, 16, 3, 3, generator=g)
    return state


def mixed_file() -> bytes:
    """Quantized matrices, matrices of integers and others, predicted from each other where that pays."""
    state = network()
    state |= {f"{name}.q": (tensor * 4).round().to(torch.int8) for name, tensor in state.items() if tensor.dim() > 1}
    state |= {"ids": torch.arange(300, dtype=torch.int16), "w.q": correlated(128, 64, 4), "w.scale": torch.rand(128).half()}
    return torch_ans.dumps(state, bits=6, min_quantized_numel=1000, ties=(".q", ".scale"), level="best")


def assert_loads(file: torch_ans.AnsFile, expected: dict[str, Tensor]) -> None:
    for name, tensor in file.tree().items():
        assert torch.equal(tensor.cpu(), expected[name]), name
    for name in file.keys():
        assert torch.equal(file.get_tensor(name).cpu(), expected[name]), name


@pytest.mark.parametrize("level", prediction.LEVELS)
@pytest.mark.parametrize("quantized", [True, False])
def test_levels(level: str, quantized: bool) -> None:
    state = network()
    if not quantized:
        state = {name: (tensor * 4).round().clamp(-127, 127).to(torch.int8) if tensor.dim() > 1 else tensor for name, tensor in state.items()}
    options = {"bits": 6 if quantized else None, "min_quantized_numel": 1000}
    model = torch_ans.compress_model(state, level=level, **options)
    data = model.to_bytes()
    fast = torch_ans.compress_model(state, level="fast", **options)
    assert len(data) <= fast.file_bytes
    assert (len(data) < 0.97 * fast.file_bytes) == (level != "fast")
    for name, tensor in torch_ans.loads(data).items():
        assert torch.equal(tensor, torch_ans.loads(fast.to_bytes())[name]), name
    with torch_ans.open(data) as file, torch_ans.open(fast) as other:  # one at a time, the last first
        for name in reversed(file.keys()):
            assert torch.equal(file.get_tensor(name), other.get_tensor(name))
            if quantized and state[name].dim() > 1:
                assert torch.equal(file.get_quantized(name).symbols, other.get_quantized(name).symbols)
        file.verify()
    assert level != "best" or any(entry.refers for entry in model.index.entries)


@pytest.mark.parametrize("batch_bytes", [1, 100_000, 1 << 28])
def test_matrix_streams_among_tensors_that_are_decoded_together(batch_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a GPU: all tensors of a batch in a few calls."""
    data = mixed_file()
    expected = torch_ans.loads(data)
    with torch_ans.open(data) as file:
        quantized = {name: file.get_quantized(name) for name in file.keys() if file.entry(name).kind == Kind.QUANTIZED}
        tied = file.dequantize("w.q")
    monkeypatch.setattr(batches, "decodes_on", lambda device: True)
    monkeypatch.setattr(batches, "BATCH_BYTES", batch_bytes)
    with torch_ans.open(data) as file:
        assert_loads(file, expected)
        for name, parts in quantized.items():
            assert all(map(torch.equal, file.get_quantized(name), parts))
        assert torch.equal(file.dequantize("w.q"), tied)
        file.verify()
    for tensor in (loaded := torch_ans.loads(data)).values():
        tensor.zero_()
    assert not any(tensor.any() for tensor in loaded.values())


def test_many_matrices_in_one_call() -> None:
    given = correlated(90, 24, 7)
    matrices = [given]
    for i in range(3):
        matrices.append((matrices[-1] + correlated(90, 24, 10 + i, deviation=1.5)).clamp(-120, 120).to(torch.int8))
    streams = [ops.encode_matrix(x, ops.fit_matrix(x, 24, reference=before).header, (), before) for before, x in zip(matrices, matrices[1:])]
    out = ops.decode_matrices_out(streams, [torch.empty_like(given) for _ in streams], [[]] * 3, [given, 0, 1])
    assert all(map(torch.equal, out, matrices[1:]))
    assert all(map(torch.equal, ops.decode_matrices_out(streams[1:], [torch.empty_like(given) for _ in streams[1:]], [[]] * 2, [matrices[1], matrices[2]]), matrices[2:]))
    assert ops.decode_matrices_out([], [], [], []) == []
    with pytest.raises(errors.ReferenceMissingError, match="stream 1"):
        ops.decode_matrices_out(streams, out, [[]] * 3, [given, None, 1])
    with pytest.raises(errors.InvalidArgumentError, match="no earlier stream"):
        ops.decode_matrices_out(streams, out, [[]] * 3, [given, 2, 1])
    with pytest.raises(errors.InvalidArgumentError, match="requires grad"):
        ops.decode_matrices_out(streams, [torch.empty(90, 24, requires_grad=True)] * 3, [[]] * 3, [given, 0, 1])


def test_no_level_is_larger_than_the_one_below_fast() -> None:
    """Small matrices whose shared predictor looks better than it is."""
    for seed in range(16, 24):
        x = torch.randn(100, 64, generator=torch.Generator().manual_seed(seed))
        sizes = [len(torch_ans.dumps({"a": x, "b": x.clone()}, level=level, bits=3, min_quantized_numel=0)) for level in prediction.LEVELS]
        assert max(sizes) == sizes[0], seed


@pytest.mark.parametrize("part", [0.0, 0.002, 0.01, 0.03, 0.1, 0.3])
def test_estimates_of_chunks_with_few_bits(part: float) -> None:
    """States take 128 bytes whatever they hold."""
    x = (torch.rand(100, 64, generator=torch.Generator().manual_seed(0)) < part).to(torch.int8)
    fitted = ops.fit_matrix(x, 64)
    assert abs(fitted.bits / 8 - ops.encode_matrix(x, fitted.header).numel()) < 24


def test_groups_found_among_some_matrices_are_offered_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {name: tensor for name, tensor in network().items() if "up" in name}
    usual = torch_ans.compress_model(state, bits=6, min_quantized_numel=1000, level="default")
    monkeypatch.setattr(prediction, "GRAM_BYTES", 2 * 8 * 64 * 64)
    model = torch_ans.compress_model(state, bits=6, min_quantized_numel=1000, level="default")
    assert sum(len(entry.refers) > 0 for entry in model.index.entries) == sum(len(entry.refers) > 0 for entry in usual.index.entries) == 2
    for name, tensor in torch_ans.decompress_model(model).items():
        assert torch.equal(tensor, torch_ans.decompress_model(usual)[name])


def test_what_is_loaded_can_be_written_to() -> None:
    state = {name: (tensor * 4).round().to(torch.int8) for name, tensor in network().items()}
    loaded = torch_ans.loads(torch_ans.dumps(state, level="best"))
    for tensor in loaded.values():
        tensor.zero_()
    assert not any(tensor.any() for tensor in loaded.values())


def test_tied_scales() -> None:
    g = torch.Generator().manual_seed(3)
    state = {"w.q": correlated(128, 64, 4), "w.s": torch.rand(128, generator=g).half()}
    data = torch_ans.dumps(state, ties=(".q", ".s"), level="best")
    assert len(data) < len(torch_ans.dumps(state, ties=(".q", ".s")))
    with torch_ans.open(data) as file:
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            expected = (state["w.q"].double() * state["w.s"].double()[:, None]).float().to(dtype)
            if dtype != torch.float64:
                assert torch.equal(file.dequantize("w.q", dtype), expected)


def test_files_that_lie_about_what_streams_need() -> None:
    model = torch_ans.compress_model(network(), bits=6, min_quantized_numel=1000, level="best")
    numbers = [i for i, entry in enumerate(model.index.entries) if entry.refers]
    assert numbers
    last = numbers[-1]
    bias = next(i for i, entry in enumerate(model.index.entries) if entry.name.endswith("bias"))
    for refers in ((), (0, 1, 3), (bias,) * len(model.index.entries[last].refers)):
        entries = list(model.index.entries)
        entries[last] = dataclasses.replace(entries[last], refers=refers)
        lying = torch_ans.model.CompressedModel(dataclasses.replace(model.index, entries=tuple(entries)), model._parts)
        with torch_ans.open(lying) as file, pytest.raises(errors.CorruptError):
            file.get_tensor(entries[last].name)


def test_the_file_does_not_depend_on_threads() -> None:
    state = network()
    before = torch.get_num_threads()
    files = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            files.append(torch_ans.dumps(state, bits=6, min_quantized_numel=1000, level="best"))
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1] == files[2]


def test_sources_of_files_are_closed() -> None:
    data = torch_ans.dumps(network(), bits=5, min_quantized_numel=1000, level="default")
    with torch_ans.open(io.BytesIO(data)) as file:
        assert file.get_tensor("conv").shape == (32, 16, 3, 3)


def test_a_rank_that_predicts_alone_uses_all_cores() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with predicted.all_cores():
            assert torch.get_num_threads() == len(os.sched_getaffinity(0))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
