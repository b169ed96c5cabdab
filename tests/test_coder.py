"""The coder: every distribution, every backend against every other, and against the reference decoder."""

from __future__ import annotations

import pytest
import torch
from distributions import KINDS, LENGTHS, bell
from reference_codec import Corrupted, decode_stream as reference_decode
from stream_forge import ILLEGAL, legal_stream

from torch_ans import errors, ops, streams

SYMBOL_TYPE = {torch.int8: "i8", torch.uint8: "u8", torch.int16: "i16"}
DTYPE = {name: dtype for dtype, name in SYMBOL_TYPE.items()}


def as_bytes(t: torch.Tensor) -> bytes:
    return bytes(t.tolist())


def as_tensor(data: bytes) -> torch.Tensor:
    return torch.tensor(list(data), dtype=torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_backend_decodes_what_every_backend_encodes(kind: str, every_backend: list[str]) -> None:
    for n in LENGTHS:
        symbols = KINDS[kind](n, seed := 17 * n + len(kind))
        for chunk_symbols in {1 << 20, 4096, 1500, max(1, n // 7)}:
            encoded = {}
            for name in every_backend:
                ops.cpu_backend(name)
                encoded[name] = streams.encode_stream(symbols, chunk_symbols)
            first = encoded[every_backend[0]]
            assert all(torch.equal(first, e) for e in encoded.values()), (n, chunk_symbols, seed)
            for name in every_backend:
                ops.cpu_backend(name)
                assert torch.equal(streams.decode_stream(first, n, symbols.dtype), symbols), (name, n, chunk_symbols, seed)


def test_the_longest_chunks() -> None:
    symbols = bell((1 << 22) + 100_000, 3.0, torch.int8, 1)
    for chunk_symbols in (1 << 22, (1 << 21) + 32):
        stream = streams.encode_stream(symbols, chunk_symbols)
        assert torch.equal(streams.decode_stream(stream, symbols.numel(), torch.int8), symbols)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_decoder_agrees(kind: str) -> None:
    for n in (0, 1, 33, 1025, 7000):
        symbols = KINDS[kind](n, n)
        for chunk_symbols in (1 << 20, 2000):
            stream = streams.encode_stream(symbols, chunk_symbols)
            assert reference_decode(as_bytes(stream), n, SYMBOL_TYPE[symbols.dtype]) == symbols.tolist(), (n, chunk_symbols)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_bytes(threads: int) -> None:
    symbols = bell(300_000, 6.0, torch.int8, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        stream = streams.encode_stream(symbols, 8192)
        assert torch.equal(streams.decode_stream(stream, symbols.numel(), torch.int8), symbols)
        torch.set_num_threads(3 - threads)
        assert torch.equal(stream, streams.encode_stream(symbols, 8192))
    finally:
        torch.set_num_threads(before)


def test_pieces_give_the_stream_of_the_whole() -> None:
    for kind in ("int6 bell", "int8 outliers", "uint8 uniform", "int8 one"):
        symbols = KINDS[kind](50_000, 5)
        chunk = 3000
        prefix = ops.stream_prefix(ops.histogram(symbols)[0], symbols.dtype, chunk)
        pieces = [streams.encode_piece(piece, prefix, chunk) for piece in (symbols[:9000], symbols[9000:9000], symbols[9000:45_000], symbols[45_000:])]
        assert torch.equal(torch.cat(streams.assemble_stream(prefix, pieces)), streams.encode_stream(symbols, chunk)), kind


def test_streams_stay_close_to_the_entropy() -> None:
    """Bytes above the order-0 entropy: tables, lanes and rounding. Sizes do not vary between machines, so they are asserted."""
    for kind, most in (("int6 bell", 150), ("int4 bell", 120), ("int6 narrow", 120), ("int8 bell", 400), ("int8 99.99 %", 200)):
        symbols = KINDS[kind](1_000_000, 1)
        counts = ops.histogram(symbols)[0].double()
        p = counts[counts > 0] / counts.sum()
        entropy = -(p * torch.log2(p)).sum().item() * symbols.numel() / 8
        rounding = 2.5e-4 * entropy
        above = streams.encode_stream(symbols, 1 << 20).numel() - entropy
        assert above < most + rounding, (kind, above)


def test_a_tiny_stream_takes_a_few_bytes() -> None:
    assert streams.encode_stream(torch.zeros(1 << 20, dtype=torch.int8)).numel() == 2
    assert streams.encode_stream(torch.tensor([], dtype=torch.int8)).numel() == 1
    assert streams.encode_stream(torch.tensor([3, 4, 5], dtype=torch.int8)).numel() <= 4


# ---- damaged streams: the same verdict as the reference decoder


def decode_or_name(data: bytes, numel: int, symbol_type: str) -> list[int] | str:
    try:
        return streams.decode_stream(as_tensor(data), numel, DTYPE[symbol_type]).tolist()
    except errors.CorruptError as error:
        return type(error).__name__.removesuffix("Error")


def reference_decode_or_name(data: bytes, numel: int, symbol_type: str) -> list[int] | str:
    try:
        return reference_decode(data, numel, symbol_type)
    except Corrupted as error:
        return error.name


@pytest.mark.parametrize("case", ILLEGAL)
def test_illegal_streams_raise_the_named_error(case: str, every_backend: list[str]) -> None:
    stream, numel, symbol_type = ILLEGAL[case]()
    for name in every_backend:
        ops.cpu_backend(name)
        assert decode_or_name(stream, numel, symbol_type) == case.split(":")[0], name


def test_forged_streams_decode_to_their_symbols(every_backend: list[str]) -> None:
    for seed in range(150):
        stream, numel, symbol_type, symbols = legal_stream(seed)
        for name in every_backend:
            ops.cpu_backend(name)
            assert decode_or_name(stream, numel, symbol_type) == symbols, (seed, name)


def test_truncated_and_flipped_streams_behave_as_in_the_reference(every_backend: list[str]) -> None:
    """Byte for byte the same outcome: the same symbols or a named error."""
    for seed in range(2000, 2012):
        stream, numel, symbol_type, _ = legal_stream(seed, max_symbols=300)
        damaged = [stream[:size] for size in range(0, len(stream), 1 + len(stream) // 60)]
        damaged += [
            stream[:at] + bytes([stream[at] ^ 1 << bit]) + stream[at + 1 :] for at in range(0, len(stream), 1 + len(stream) // 60) for bit in (0, 3, 7)
        ]
        for data in damaged:
            expected = reference_decode_or_name(data, numel, symbol_type)
            for name in every_backend:
                ops.cpu_backend(name)
                found = decode_or_name(data, numel, symbol_type)
                same = found == expected or (isinstance(found, str) and isinstance(expected, str))
                assert same, (seed, name, data.hex(), found, expected)


@pytest.mark.slow
def test_long_fuzz(every_backend: list[str]) -> None:
    for seed in range(10_000, 11_500):
        stream, numel, symbol_type, symbols = legal_stream(seed, max_symbols=6000)
        for name in every_backend:
            ops.cpu_backend(name)
            assert decode_or_name(stream, numel, symbol_type) == symbols, (seed, name)
        g = torch.Generator().manual_seed(seed)
        for _ in range(40):
            at, value = int(torch.randint(len(stream), (), generator=g)), int(torch.randint(1, 256, (), generator=g))
            data = stream[:at] + bytes([stream[at] ^ value]) + stream[at + 1 :]
            found = []
            for name in every_backend:
                ops.cpu_backend(name)
                found.append(decode_or_name(data, numel, symbol_type))
            assert all(f == found[0] or (isinstance(f, str) and isinstance(found[0], str)) for f in found), (seed, at, value)
