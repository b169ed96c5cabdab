"""Forges torch_ans streams for tests: `legal_stream(seed)` draws a legal one full of choices that no encoder makes, `ILLEGAL` has
an illegal one for every rule of BITSTREAM.md, `encode_stream` codes given symbols. The parts are written by `stream_writer`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reference_codec import LANES, MAX_TAIL, SLOTS, SYMBOL_TYPES
from stream_writer import Coder, Escape, Model, NotRepresentable, encode_chunk, write_directory, write_table

# ---- streams ----


def order0_stream(
    model: Model,
    chunk_symbols: int,
    chunks: Sequence[tuple[bytes, int]],
    *,
    adjust: int = 0,
    mirror_adjust: int | None = None,
    words_order: int = 8,
    tail_order: int = 4,
) -> bytes:
    """A stream of chunks given as (bytes, tail)."""
    directory = write_directory([(len(chunk) // 2, tail) for chunk, tail in chunks], words_order=words_order, tail_order=tail_order)
    table = write_table(model, adjust=adjust, mirror_adjust=mirror_adjust)
    return order0_bytes(table, directory, b"".join(chunk for chunk, _ in chunks), chunk_symbols if len(chunks) > 1 else None)


def order0_bytes(table: bytes, directory: bytes, payload: bytes, chunk_symbols: int | None = None) -> bytes:
    """A stream of one chunk, or with `chunk_symbols` of several."""
    header = b"\x02" if chunk_symbols is None else b"\x03" + varint(chunk_symbols)
    return header + table + directory + payload


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def encode_stream(
    symbols: Sequence[int], model: Model, *, chunk_symbols: int = 65536, tail: int = 0, exponents: Sequence[int] = (16,) * LANES
) -> bytes:
    """An order0 stream of `symbols`. Every chunk has these `exponents`, and `tail` (or all it has) of its symbols in the tail."""
    coder = Coder(model)
    steps = coder.steps(symbols)
    pieces = [steps[i : i + chunk_symbols] for i in range(0, len(steps), chunk_symbols)]
    tails = [min(tail, len(piece)) for piece in pieces]
    chunks = [(encode_chunk(coder, piece, tail=t, exponents=exponents), t) for piece, t in zip(pieces, tails)]
    return order0_stream(model, chunk_symbols, chunks)


class Forged(NamedTuple):
    """A legal stream, what its reader is told, and the symbols that it decodes to."""

    stream: bytes
    numel: int
    symbol_type: str
    symbols: list[int]


def plain_stream(model_byte: int, symbols: Sequence[int], symbol_type: str) -> bytes:
    """A raw stream, or with one symbol a constant stream."""
    size = SYMBOL_TYPES[symbol_type][0]
    return bytes([model_byte]) + b"".join((s % 256**size).to_bytes(size, "little") for s in symbols)


def random_frequencies(rng: random.Random, count: int) -> list[int]:
    """`count` frequencies (2 or more) of which two or more are positive, summing to 4096."""
    kind = rng.choice(["cuts", "uniform", "bell", "two", "sparse"])
    if kind == "cuts":
        cuts = [0, *sorted(rng.randrange(SLOTS + 1) for _ in range(count - 1)), SLOTS]
        freq = [high - low for low, high in zip(cuts, cuts[1:])]
    elif kind == "uniform":
        freq = [SLOTS // count] * count
    elif kind == "bell":
        center, width = rng.uniform(0, count), rng.uniform(0.3, count)
        weight = [2.0 ** -min(30.0, ((i - center) / width) ** 2) for i in range(count)]
        freq = [int((SLOTS - count) * w / sum(weight)) + 1 for w in weight]
    else:  # one large among many of 0 or 1
        freq = [0 if kind == "two" else int(rng.random() < 0.3) for _ in range(count)]
    large = rng.randrange(count)
    freq[large] += SLOTS - sum(freq)
    if freq[large] == SLOTS:
        freq[large] -= 1
        freq[large - 1] += 1
    if freq[0] == 0:  # illegal
        freq[freq.index(max(freq))] -= 1
        freq[0] = 1
    return freq


def random_model(rng: random.Random, symbol_type: str) -> Model:
    _, lowest, highest = SYMBOL_TYPES[symbol_type]
    core_size = rng.choice([1, 2, 3, 15, 63, 64, 65, 128, 129, 255, 256, rng.randrange(1, 257)])
    has_escape = core_size == 1 or (core_size < 256 and rng.random() < 0.6)
    first_value = rng.choice([lowest, highest - core_size + 1, rng.randrange(lowest, highest - core_size + 2)])
    freq = random_frequencies(rng, core_size + has_escape)
    if not has_escape:
        return Model(freq, first_value)
    if freq[-1] == 0:
        large = freq.index(max(freq))
        freq[large] -= 1
        freq[-1] = 1
    raw_bits = rng.randrange(1, SYMBOL_TYPES[symbol_type][0] * 8 + 1)
    raw_min = rng.randrange(lowest, highest - (1 << raw_bits) + 2)
    return Model(freq[:-1], first_value, Escape(freq[-1], raw_bits, raw_min))


def legal_stream(seed: int, max_symbols: int = 3000) -> Forged:
    """A legal order0 stream: any alphabet, exponents, tails, chunk sizes, code orders; some symbols escaped without need."""
    rng = random.Random(seed)
    symbol_type = rng.choice(list(SYMBOL_TYPES))
    model = random_model(rng, symbol_type)
    coder = Coder(model)
    numel = rng.choice([1, 2, 31, 32, 33, rng.randrange(1, 200), rng.randrange(1, max_symbols + 1)])
    positive = [i for i, f in enumerate(coder.freq) if f]
    weights = rng.choice([[coder.freq[i] for i in positive], [1] * len(positive)])
    indices = rng.choices(positive, weights, k=numel)
    symbols = [
        model.first_value + i if i < coder.core_size else model.escape.raw_min + rng.randrange(1 << model.escape.raw_bits)
        for i in indices
    ]
    steps = coder.steps(symbols, rng.choice([0.0, 0.0, 0.1, 1.0]), rng)
    chunk_symbols = rng.choice([numel, 1 << 20, max(numel // 3, 1), max(numel // 7, 1), 1024, 32])
    chunk_symbols = max(chunk_symbols, numel // 50 + 1)
    chunks = []
    for begin in range(0, numel, chunk_symbols):
        piece = steps[begin : begin + chunk_symbols]
        exponents = rng.choice([[16] * LANES, [31] * LANES, [rng.randrange(16, 32) for _ in range(LANES)]])
        most = min(len(piece), MAX_TAIL)
        tail = rng.choice([0, most, rng.randrange(most + 1), rng.randrange(min(most, 90) + 1)])
        try:
            chunk = encode_chunk(coder, piece, tail=tail, exponents=exponents, spare_words=rng.choice([0, 0, 1, 20]))
        except NotRepresentable:
            tail = 0
            chunk = encode_chunk(coder, piece, exponents=exponents)
        chunks.append((chunk, tail))
    orders = {"adjust": rng.randrange(-4, 4), "mirror_adjust": rng.choice([None, rng.randrange(-4, 4)]), "words_order": rng.randrange(32), "tail_order": rng.randrange(16)}
    return Forged(order0_stream(model, chunk_symbols, chunks, **orders), numel, symbol_type, symbols)


# ---- illegal streams, each with one fault ----

MODEL = Model([1000, 2000, 500], -1, Escape(596, 3, -8))
SYMBOLS = [-1, 0, 0, 1, 0, -8, -1, 1] * 10
CODER = Coder(MODEL)
STEPS = CODER.steps(SYMBOLS)
CHUNK = encode_chunk(CODER, STEPS)
RAW16 = Model([2048], 0, Escape(2048, 16, -32768))  # every escape takes a word
Illegal = tuple[bytes, int, str]


def illegal_table(model: Model, symbol_type: str = "i8", **fields) -> Illegal:
    """The table of `model` before the directory and the chunk of a legal stream."""
    return order0_bytes(write_table(model, **fields), write_directory([(len(CHUNK) // 2, 0)]), CHUNK), len(SYMBOLS), symbol_type


def illegal_directory(
    entries: Sequence[tuple[int, int]], numel: int = len(SYMBOLS), chunk_symbols: int | None = None, **fields
) -> Illegal:
    """A directory with as many bytes behind it as it announces; they begin with a legal chunk."""
    size = 2 * sum(max(words, 0) for words, _ in entries)
    payload = (CHUNK + bytes(size))[:size]
    return order0_bytes(write_table(MODEL), write_directory(entries, **fields), payload, chunk_symbols), numel, "i8"


def illegal_chunk(chunk: bytes, tail: int = 0, numel: int = len(SYMBOLS), model: Model = MODEL) -> Illegal:
    return order0_stream(model, 65536, [(chunk, tail)]), numel, "i8" if model is MODEL else "i16"


def cut(stream: bytes, size: int, numel: int = len(SYMBOLS)) -> Illegal:
    return stream[:size], numel, "i8"


def chunk_with(state: int) -> bytes:
    return CHUNK[:124] + state.to_bytes(4, "little") + CHUNK[128:]


LEGAL = order0_stream(MODEL, 65536, [(CHUNK, 0)])
TABLE_END = 1 + len(write_table(MODEL))
DIRECTORY_END = len(LEGAL) - len(CHUNK)
TWO = order0_stream(MODEL, 80, [(CHUNK, 0)] * 2)
TWO_TABLE_END = 2 + len(write_table(MODEL))
RAW16_CHUNK = encode_chunk(Coder(RAW16), [(1, 12345)], exponents=[20] * LANES)
WIDE = len(CHUNK) // 2

# "Name: case" -> a function that makes (stream, numel, symbol type). `Name` is the error's name in BITSTREAM.md.
ILLEGAL: dict[str, Callable[[], Illegal]] = {
    "StreamTruncated: empty": lambda: (b"", 3, "i8"),
    "StreamTruncated: empty, no symbols": lambda: (b"", 0, "i8"),
    "StreamTruncated: no chunk_symbols": lambda: (b"\x03", 3, "i8"),
    "StreamTruncated: in chunk_symbols": lambda: (b"\x03\x80\x80", 3, "i8"),
    "UnknownModel: 5": lambda: (b"\x05" + LEGAL[1:], len(SYMBOLS), "i8"),
    "UnknownModel: 255": lambda: (b"\xff", 0, "u8"),
    "BodySizeMismatch: raw, short": lambda: (plain_stream(0, [1, 2], "i8"), 3, "i8"),
    "BodySizeMismatch: raw, long": lambda: (plain_stream(0, [1, 2, 3, 4], "u8"), 3, "u8"),
    "BodySizeMismatch: raw, half a symbol": lambda: (plain_stream(0, [1, 2, 3], "i16")[:-1], 3, "i16"),
    "BodySizeMismatch: raw, no symbols": lambda: (b"\x00\x00", 0, "i8"),
    "BodySizeMismatch: constant, none": lambda: (b"\x01", 3, "i8"),
    "BodySizeMismatch: constant, two": lambda: (plain_stream(1, [5, 5], "i8"), 2, "i8"),
    "BodySizeMismatch: constant, half a symbol": lambda: (b"\x01\x05", 3, "i16"),
    "EmptyStreamModel: constant": lambda: (plain_stream(1, [5], "i8"), 0, "i8"),
    "EmptyStreamModel: order0, one chunk": lambda: (LEGAL, 0, "i8"),
    "EmptyStreamModel: order0": lambda: (order0_bytes(b"", b"", b"", 80), 0, "i8"),
    "ChunkSizeOutOfRange: one chunk of 2^22 + 1": lambda: (LEGAL, (1 << 22) + 1, "i8"),
    "ChunkSizeOutOfRange: 0": lambda: (b"\x03\x00" + LEGAL[1:], 1 << 30, "i8"),
    "ChunkSizeOutOfRange: numel": lambda: (b"\x03\x50" + LEGAL[1:], 80, "i8"),
    "ChunkSizeOutOfRange: 2^22 + 1": lambda: (b"\x03" + varint((1 << 22) + 1) + LEGAL[1:], 1 << 30, "i8"),
    "ChunkSizeOutOfRange: 5 bytes": lambda: (b"\x03\x80\x80\x80\x80\x01" + LEGAL[1:], 1 << 40, "i8"),
    "TableTruncated: no table": lambda: cut(LEGAL, 1),
    "TableTruncated: in a field": lambda: cut(LEGAL, 3),
    "TableTruncated: in the last frequency": lambda: cut(LEGAL, TABLE_END - 1),
    **{
        f"BadExpGolomb: table, {what}": lambda at=at: illegal_table(MODEL, bad_code_at=at)
        for at, what in enumerate(["first_value", "raw_min", "escape", "first frequency", "second frequency"])
    },
    "AlphabetTooLarge: symmetric, 1": lambda: illegal_table(MODEL._replace(first_value=1), symmetric=True),
    "AlphabetTooLarge: symmetric, huge": lambda: illegal_table(MODEL._replace(first_value=-(1 << 27)), symmetric=True),
    "AlphabetTooLarge: 257": lambda: illegal_table(Model([15] * 255 + [1], -128, Escape(270, 8, -128))),
    "FrequencySumTooLarge: one": lambda: illegal_table(Model([4097, 0], 0)),
    "FrequencySumTooLarge: one, huge": lambda: illegal_table(Model([(1 << 24) + 5, 0], 0)),
    "FrequencySumTooLarge: sum": lambda: illegal_table(Model([2048, 2047, 2, 0], 0)),
    "FrequencySumTooLarge: escape": lambda: illegal_table(Model([1, 0], 0, Escape(4097, 1, 0))),
    "FrequencySumTooLarge: sum with escape": lambda: illegal_table(Model([2000, 97, 0], 0, Escape(2000, 1, 0))),
    "DegenerateTable: one index": lambda: illegal_table(Model([4096], 0)),
    "DegenerateTable: one positive, first": lambda: illegal_table(Model([4096, 0, 0], 0)),
    "DegenerateTable: first 0": lambda: illegal_table(Model([0, 2048, 2048], 0)),
    "DegenerateTable: escape 4096": lambda: illegal_table(Model([0, 0], 0, Escape(4096, 1, 0))),
    "DegenerateTable: escape 0": lambda: illegal_table(Model([2000, 2096], 0, Escape(0, 1, 0))),
    "SymbolOutOfRange: core low": lambda: illegal_table(MODEL._replace(first_value=-129)),
    "SymbolOutOfRange: core high": lambda: illegal_table(MODEL._replace(first_value=126)),
    "SymbolOutOfRange: core negative": lambda: illegal_table(MODEL._replace(escape=None), "u8"),
    "SymbolOutOfRange: core high, i16": lambda: illegal_table(MODEL._replace(first_value=32766), "i16"),
    "SymbolOutOfRange: core far": lambda: illegal_table(MODEL._replace(first_value=-(1 << 27))),
    "SymbolOutOfRange: raw low": lambda: illegal_table(MODEL._replace(escape=Escape(596, 1, -129))),
    "SymbolOutOfRange: raw high": lambda: illegal_table(MODEL._replace(escape=Escape(596, 3, 121))),
    "SymbolOutOfRange: raw 16 bits": lambda: illegal_table(MODEL._replace(escape=Escape(596, 16, -128))),
    "SymbolOutOfRange: raw high, i16": lambda: illegal_table(MODEL._replace(escape=Escape(596, 16, -32767)), "i16"),
    "NonzeroPadding: table": lambda: illegal_table(MODEL, padding="1"),
    "NonzeroPadding: raw values": lambda: illegal_chunk(encode_chunk(CODER, STEPS, padding="01")),
    "NonzeroPadding: directory": lambda: illegal_directory([(WIDE, 0)], padding="1"),
    "DirectoryTruncated: no directory": lambda: cut(LEGAL, TABLE_END),
    "DirectoryTruncated: in an order": lambda: cut(TWO, TWO_TABLE_END + 1, 160),
    "DirectoryTruncated: in an entry": lambda: cut(TWO, len(TWO) - 2 * len(CHUNK) - 1, 160),
    "DirectoryTruncated: in the only tail": lambda: cut(LEGAL, DIRECTORY_END - 1),
    "BadExpGolomb: directory": lambda: illegal_directory([(WIDE, 0), (WIDE, 0)], 160, chunk_symbols=80, bad_code=True),
    "TailOutOfRange: negative": lambda: illegal_directory([(WIDE, -1), (WIDE, 0)], 160, chunk_symbols=80),
    "TailOutOfRange: 1025": lambda: illegal_directory([(WIDE, 1025)], numel=5000),
    "TailOutOfRange: above the symbols": lambda: illegal_directory([(WIDE, 81)]),
    "TailOutOfRange: above the last chunk's": lambda: illegal_directory([(WIDE, 17), (WIDE, 17)], 96, chunk_symbols=80),
    "ChunkWordsOutOfRange: negative": lambda: illegal_directory([(-1, 0), (WIDE, 0)], 160, chunk_symbols=80),
    "ChunkWordsOutOfRange: nothing left": lambda: cut(LEGAL, DIRECTORY_END),
    "ChunkWordsOutOfRange: 0, wide": lambda: illegal_directory([(0, 0)]),
    "ChunkWordsOutOfRange: 0, narrow": lambda: illegal_directory([(0, 80)]),
    "ChunkWordsOutOfRange: 63, wide": lambda: illegal_directory([(63, 79)]),
    "ChunkWordsOutOfRange: many, wide": lambda: illegal_directory([(64 + 2 * 80 + 1, 0)]),
    "ChunkWordsOutOfRange: many, narrow": lambda: illegal_directory([(64 + 2 * 80 + 1, 80)]),
    "ChunkWordsOutOfRange: huge": lambda: (
        order0_bytes(write_table(MODEL), write_directory([(1 << 54, 0), (WIDE, 0)], words_order=31), CHUNK, 80),
        160,
        "i8",
    ),
    "PayloadTruncated: the first of two": lambda: (
        order0_bytes(write_table(MODEL), write_directory([(WIDE, 0), (WIDE, 0)]), CHUNK[:-2], 80),
        160,
        "i8",
    ),
    "PayloadTrailing: a byte less": lambda: cut(LEGAL, len(LEGAL) - 1),
    "PayloadTrailing: a byte more": lambda: cut(LEGAL + b"\x00", len(LEGAL) + 1),
    "StateOutOfRange: 0": lambda: illegal_chunk(chunk_with(state=0)),
    "StateOutOfRange: 2^16 - 1": lambda: illegal_chunk(chunk_with(state=0xFFFF)),
    "StateOutOfRange: an idle lane": lambda: illegal_chunk(RAW16_CHUNK[:124] + bytes(4) + RAW16_CHUNK[128:], 0, 1, RAW16),
    "WordsExhausted: index": lambda: illegal_chunk(encode_chunk(CODER, CODER.steps([1] * 80), exponents=[31] * LANES)[:-2]),
    "WordsExhausted: both": lambda: illegal_chunk(CHUNK[:-2]),
    "WordsExhausted: raw": lambda: illegal_chunk(RAW16_CHUNK[:-2], 0, 1, RAW16),
    "WordsLeft: one": lambda: illegal_chunk(CHUNK + b"\x00\x00"),
    "WordsLeft: raw": lambda: illegal_chunk(RAW16_CHUNK + bytes(2), 0, 1, RAW16),
    "TailEmpty: wide": lambda: illegal_chunk(encode_chunk(CODER, STEPS, payload="0")),
    "TailEmpty: wide, with a tail": lambda: illegal_chunk(encode_chunk(CODER, STEPS, tail=9, payload="0"), tail=9),
    "TailEmpty: narrow": lambda: illegal_chunk(bytes(6), tail=80),
    "TailStateMismatch: no tail, y = 3": lambda: illegal_chunk(encode_chunk(CODER, STEPS, payload="11")),
    "TailStateMismatch: no tail, a word": lambda: illegal_chunk(encode_chunk(CODER, STEPS, payload="1" + "0" * 32)),
    "TailStateMismatch: wide, a symbol less": lambda: illegal_chunk(encode_chunk(CODER, STEPS, tail=9), 8, 79),
    "TailStateMismatch: narrow, a symbol less": lambda: illegal_chunk(encode_chunk(CODER, STEPS, tail=80), 79, 79),
}
