"""The reference decoder against forged streams: every legal choice decodes, every illegal one is named."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import matrix_forge
import pytest
from reference_codec import SLOTS, SYMBOL_TYPES, Corrupted, alias_layout, decode_stream, read_table, slot_owners
from stream_forge import ILLEGAL, encode_stream, legal_stream, plain_stream, random_frequencies
from stream_writer import Coder, Escape, Model, NotRepresentable, encode_chunk, tail_bits, write_table

SPECIFICATION = Path(__file__).parent.parent / "BITSTREAM.md"


@pytest.mark.parametrize("seed_block", range(10))
def test_unusual_legal_streams_decode(seed_block: int) -> None:
    for seed in range(40 * seed_block, 40 * seed_block + 40):
        stream, numel, symbol_type, symbols = legal_stream(seed)
        try:
            decoded = decode_stream(stream, numel, symbol_type)
        except Corrupted as error:
            pytest.fail(f"legal_stream({seed}) raises {error.name}")
        assert decoded == symbols, f"legal_stream({seed})"


@pytest.mark.parametrize("symbol_type", SYMBOL_TYPES)
def test_raw_and_constant_streams_decode(symbol_type: str) -> None:
    _, lowest, highest = SYMBOL_TYPES[symbol_type]
    symbols = [lowest, highest, 0, 1, lowest + 1]
    assert decode_stream(plain_stream(0, symbols, symbol_type), 5, symbol_type) == symbols
    assert decode_stream(plain_stream(0, [], symbol_type), 0, symbol_type) == []
    assert decode_stream(plain_stream(1, [lowest], symbol_type), 3, symbol_type) == [lowest] * 3


@pytest.mark.parametrize("tail", [0, 1, 30, 32, 1000, 1024])
@pytest.mark.parametrize("exponent", [16, 31])
def test_extreme_frequencies_decode_with_any_tail(tail: int, exponent: int) -> None:
    model = Model([4095, 1], first_value=-1)
    rng = random.Random(tail)
    for numel in (1, 2, 33, 1024, 1025, 5000):
        symbols = [-int(rng.random() < 0.999) for _ in range(numel)]
        stream = encode_stream(symbols, model, chunk_symbols=2000, tail=tail, exponents=[exponent] * 32)
        assert decode_stream(stream, numel, "i8") == symbols, (numel, tail, exponent)


@pytest.mark.parametrize("raw_bits", range(1, 17))
@pytest.mark.parametrize("escape_frequency", [1, 2048, 4095])
def test_every_raw_width_decodes_in_lanes_and_tail(raw_bits: int, escape_frequency: int) -> None:
    model = Model([SLOTS - escape_frequency], 5, Escape(escape_frequency, raw_bits, -32768))
    rng = random.Random(raw_bits)
    symbols = [rng.choice([5, -32768 + rng.randrange(1 << raw_bits)]) for _ in range(150)]
    for tail in (0, 10, 150):
        stream = encode_stream(symbols, model, tail=tail, exponents=[28] * 32)
        assert decode_stream(stream, 150, "i16") == symbols, (raw_bits, escape_frequency, tail)


def test_core_symbol_of_frequency_0_is_escaped() -> None:
    model = Model([2000, 0, 2090], -1, Escape(6, 2, -2))
    symbols = [-1, 0, 1, -2] * 30
    assert decode_stream(encode_stream(symbols, model, tail=7), len(symbols), "i8") == symbols


def test_every_pair_of_symbols_decodes_as_a_narrow_chunk() -> None:
    model = Model([1, 0, 30, 65, 3000], 0, Escape(1000, 1, 100))
    alphabet = [0, 2, 3, 4, 100, 101]
    for symbols in itertools.product(alphabet, repeat=2):
        assert decode_stream(encode_stream(symbols, model, tail=2), 2, "u8") == list(symbols)


def test_alias_layout_gives_every_index_its_frequency() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        freq = random_frequencies(rng, rng.randrange(2, 257))
        divider, alias = alias_layout(freq)
        width = SLOTS // len(divider)
        assert all(0 <= d <= width for d in divider) and all(0 <= a < len(freq) for a in alias), seed
        owners = set(zip(*slot_owners(freq)))
        assert owners == {(i, bias) for i, f in enumerate(freq) for bias in range(f)}, seed


def test_tables_round_trip_with_every_adjust() -> None:
    for seed, adjust in itertools.product(range(30), range(-4, 4)):
        rng = random.Random(seed)
        freq = random_frequencies(rng, rng.randrange(2, 257))
        coded = write_table(Model(freq, -100), adjust=adjust)
        table, end = read_table(b"--" + coded + b"--", 2, "i16")
        assert (table.freq, table.first_value, table.adjust, end) == (freq, -100, adjust, 2 + len(coded)), (seed, adjust)


@pytest.mark.parametrize("case", ILLEGAL)
def test_illegal_stream_is_named(case: str) -> None:
    with pytest.raises(Corrupted) as caught:
        decode_stream(*ILLEGAL[case]())
    assert caught.value.name == case.split(":")[0]


@pytest.mark.parametrize("case", matrix_forge.ILLEGAL)
def test_illegal_matrix_is_named(case: str) -> None:
    stream, symbol_type = matrix_forge.ILLEGAL[case]
    with pytest.raises(Corrupted) as caught:
        decode_stream(stream, matrix_forge.NUMEL, symbol_type)
    assert caught.value.name == case.split(":")[0]


def test_illegal_streams_cover_every_name_of_the_specification() -> None:
    rules = re.findall(r"^Corrupted if: .*?(?=^\s*$|\Z)", SPECIFICATION.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"\(`([A-Z]\w+)`\)", "".join(rules)))
    assert len(rules) == 5 and names == {case.split(":")[0] for case in [*ILLEGAL, *matrix_forge.ILLEGAL]}


def assert_decodes_or_is_corrupted(stream: bytes, numel: int, symbol_type: str, origin: str) -> None:
    _, lowest, highest = SYMBOL_TYPES[symbol_type]
    try:
        decoded = decode_stream(stream, numel, symbol_type)
    except Corrupted:
        return
    assert len(decoded) == numel and all(lowest <= symbol <= highest for symbol in decoded), origin


def small_streams() -> list[tuple[int, bytes, int, str]]:
    streams = [(seed, *legal_stream(seed, max_symbols=400)[:3]) for seed in range(1000, 1030)]
    return [stream for stream in streams if len(stream[1]) < 600]


def test_every_truncation_decodes_in_range_or_is_corrupted() -> None:
    """A container knows the size of a stream; a stream alone may lose words at its end that its symbols do not need."""
    for seed, stream, numel, symbol_type in small_streams():
        for size in range(len(stream)):
            assert_decodes_or_is_corrupted(stream[:size], numel, symbol_type, f"legal_stream({seed}, 400)[0][:{size}]")


def test_flipped_bytes_decode_in_range_or_are_corrupted() -> None:
    for seed, stream, numel, symbol_type in small_streams():
        rng = random.Random(seed)
        for at in range(len(stream)):
            flipped = stream[:at] + bytes([stream[at] ^ rng.randrange(1, 256)]) + stream[at + 1 :]
            assert_decodes_or_is_corrupted(flipped, numel, symbol_type, f"legal_stream({seed}, 400), byte {at}: {flipped.hex()}")


def test_wrong_numel_or_symbol_type_decodes_in_range_or_is_corrupted() -> None:
    for seed, stream, numel, symbol_type in small_streams():
        for other, wrong_type in itertools.product([0, 1, numel - 1, numel, numel + 1, 2 * numel], SYMBOL_TYPES):
            assert_decodes_or_is_corrupted(stream, other, wrong_type, f"legal_stream({seed}, 400) as {other} {wrong_type}")
