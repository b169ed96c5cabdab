"""A second decoder of the torch_ans bitstream, in plain Python, written from the text of BITSTREAM.md alone.

It is independent of the implementation and shares nothing with it, not even a library: what the two disagree about is a bug in one
of them or in the text. So it keeps the specification honest. It follows the text's order; the numbers in comments are its sections.
Every "Corrupted if" condition raises `Corrupted` with the name that the text gives it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LANES = 32
PROB_BITS = 12
SLOTS = 1 << PROB_BITS
STATE_LOWER_BOUND = 1 << 16
MAX_CHUNK_SYMBOLS = 1 << 22
MAX_TAIL = 1024
MAX_LEADING_ZEROS = 24

# symbol type -> (bytes of a symbol, lowest value, highest value)
SYMBOL_TYPES = {"i8": (1, -128, 127), "u8": (1, 0, 255), "i16": (2, -32768, 32767)}


class Corrupted(ValueError):
    """The stream breaks a rule of BITSTREAM.md; `name` is the rule's name there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def check(legal: bool, name: str) -> None:
    if not legal:
        raise Corrupted(name)


# ---- 1. Stream ----


def decode_stream(data: bytes, numel: int, symbol_type: str) -> list[int]:
    """The `numel` symbols of the stream `data`, whose symbol type is 'i8', 'u8' or 'i16'. Raises `Corrupted`."""
    check(len(data) >= 1, "StreamTruncated")
    model, body = data[0], data[1:]
    check(model <= 4, "UnknownModel")
    if model == 4:
        from reference_matrix import decode_matrix

        return decode_matrix(data, numel, symbol_type)
    if model == 0:
        check(len(body) == numel * SYMBOL_TYPES[symbol_type][0], "BodySizeMismatch")
        return plain_symbols(body, symbol_type)
    check(numel >= 1, "EmptyStreamModel")
    if model == 1:
        check(len(body) == SYMBOL_TYPES[symbol_type][0], "BodySizeMismatch")
        return plain_symbols(body, symbol_type) * numel
    return decode_order0(body, numel, symbol_type, several=model == 3)


def plain_symbols(body: bytes, symbol_type: str) -> list[int]:
    size, lowest, _ = SYMBOL_TYPES[symbol_type]
    return [int.from_bytes(body[i : i + size], "little", signed=lowest < 0) for i in range(0, len(body), size)]


def decode_order0(body: bytes, numel: int, symbol_type: str, several: bool) -> list[int]:
    chunk_symbols, position = read_varint(body) if several else (numel, 0)
    check(1 <= chunk_symbols <= MAX_CHUNK_SYMBOLS, "ChunkSizeOutOfRange")
    check(not several or chunk_symbols < numel, "ChunkSizeOutOfRange")
    table, position = read_table(body, position, symbol_type)
    directory, position = read_directory(body, position, numel, chunk_symbols)
    slots = slot_table(table)
    symbols: list[int] = []
    for words, tail in directory:
        chunk = body[position : position + 2 * words]
        symbols += decode_chunk(chunk, min(chunk_symbols, numel - len(symbols)), tail, slots)
        position += 2 * words
    return symbols


def read_varint(body: bytes) -> tuple[int, int]:
    """chunk_symbols, and the position behind it."""
    value = 0
    for at in range(4):
        check(at < len(body), "StreamTruncated")
        value |= (body[at] & 127) << 7 * at
        if body[at] < 128:
            return value, at + 1
    raise Corrupted("ChunkSizeOutOfRange")


# ---- 2. Bits ----


class BitReader:
    """Reads bits from byte `position` on; `truncated` is the name of the error when they end early."""

    def __init__(self, data: bytes, position: int, truncated: str) -> None:
        self.data = data
        self.position = 8 * position
        self.truncated = truncated

    def bits(self, count: int) -> int:
        check(self.position + count <= 8 * len(self.data), self.truncated)
        value = 0
        for at in range(self.position, self.position + count):
            value = value << 1 | (self.data[at >> 3] >> (7 - (at & 7)) & 1)
        self.position += count
        return value

    def eg(self, order: int) -> int:
        zeros = 0
        while self.bits(1) == 0:
            zeros += 1
            check(zeros <= MAX_LEADING_ZEROS, "BadExpGolomb")
        u = 1 << zeros | self.bits(zeros)
        return (u - 1) << order | self.bits(order)

    def seg(self, order: int) -> int:
        v = self.eg(order)
        return (v + 1) // 2 if v % 2 else -(v // 2)

    def end(self) -> int:
        """Checks the padding; returns the position of the next byte."""
        check(self.bits(-self.position % 8) == 0, "NonzeroPadding")
        return self.position // 8


# ---- 3. Table ----


class Table(NamedTuple):
    """The coded table. `freq` has `core_size` entries, and then the escape's if there is one."""

    freq: list[int]
    first_value: int
    core_size: int
    has_escape: bool
    raw_bits: int
    raw_min: int
    adjust: int


def read_table(data: bytes, position: int, symbol_type: str) -> tuple[Table, int]:
    """The table that begins at byte `position` of `data`, and the position of the byte behind it."""
    reader = BitReader(data, position, "TableTruncated")
    first_value = reader.seg(4)
    symmetric = reader.bits(1) == 1
    check(not symmetric or -256 < first_value <= 0, "AlphabetTooLarge")
    core_size = 1 - 2 * first_value if symmetric else reader.bits(8) + 1
    has_escape = reader.bits(1) == 1
    check(core_size + has_escape <= 256, "AlphabetTooLarge")
    raw_bits = reader.bits(4) + 1 if has_escape else 0
    raw_min = 0
    if has_escape:
        sent = reader.bits(1) == 1
        raw_min = reader.seg(4) if sent else 0 if symbol_type == "u8" else -(1 << (raw_bits - 1))
    unit_shift = reader.bits(3)
    adjust = reader.bits(3) - 4
    mirrored = reader.bits(1) == 1
    mirror_adjust = reader.bits(3) - 4 if mirrored else 0

    escape = [reader.eg(4)] if has_escape else []
    total = sum(escape)
    units = SLOTS >> unit_shift
    check(total <= units, "FrequencySumTooLarge")
    core: list[int] = []
    for i in range(core_size - 1):
        opposite = -2 * first_value - i
        if mirrored and 0 <= opposite < i:
            core.append(read_residual(reader, core[opposite], mirror_adjust))
        else:
            a = core[i - 1] if i >= 1 else 0
            b = core[i - 2] if i >= 2 else 0
            core.append(read_residual(reader, min(2 * a, max(a >> 1, a * a // max(1, b))), adjust))
        total += core[i]
        check(total <= units, "FrequencySumTooLarge")
    core.append(units - total)
    end = reader.end()

    freq = [unit << unit_shift for unit in core + escape]
    check(sum(f > 0 for f in freq) >= 2 and freq[0] > 0 and escape != [0], "DegenerateTable")
    _, lowest, highest = SYMBOL_TYPES[symbol_type]
    check(lowest <= first_value and first_value + core_size - 1 <= highest, "SymbolOutOfRange")
    if has_escape:
        check(lowest <= raw_min and raw_min + (1 << raw_bits) - 1 <= highest, "SymbolOutOfRange")
    return Table(freq, first_value, core_size, has_escape, raw_bits, raw_min, adjust), end


def read_residual(reader: BitReader, p: int, adjust: int) -> int:
    """A frequency that is predicted to be `p`."""
    z = reader.eg(max(0, p.bit_length() // 2 + adjust))
    if z > 2 * p:
        return z
    return p + (z + 1) // 2 if z % 2 else p - z // 2


# ---- 3.1 Alias layout ----


def alias_layout(freq: list[int], buckets: int | None = None) -> tuple[list[int], list[int]]:
    """(divider, alias) of every bucket, for frequencies that sum to 4096."""
    buckets = buckets or (64 if len(freq) <= 64 else 128 if len(freq) <= 128 else 256)
    width = SLOTS // buckets
    rest = freq + [0] * (buckets - len(freq))
    divider, alias = [0] * buckets, [0] * buckets
    small = sorted((b for b in range(buckets) if rest[b] < width), key=lambda b: (rest[b], b))
    large = [b for b in range(buckets) if rest[b] >= width]
    late: list[int] = []
    from_front = True
    while small or late:
        if small:
            b = small.pop(0) if from_front else small.pop()
            from_front = not from_front
        else:
            b = late.pop()
        divider[b] = rest[b]
        alias[b] = large[-1]
        rest[large[-1]] -= width - rest[b]
        if rest[large[-1]] < width:
            late.append(large.pop())
    for b in large:
        divider[b], alias[b] = width, b
    return divider, alias


def slot_owners(freq: list[int], buckets: int | None = None) -> tuple[list[int], list[int]]:
    """(index, bias) of every slot."""
    divider, alias = alias_layout(freq, buckets)
    width = SLOTS // len(divider)
    index, bias = [0] * SLOTS, [0] * SLOTS
    next_bias = divider.copy()  # an index's biases in its own bucket are the positions there; the others follow
    for b, (own, other) in enumerate(zip(divider, alias)):
        for position in range(width):
            slot = b * width + position
            if position < own:
                index[slot], bias[slot] = b, position
            else:
                index[slot], bias[slot] = other, next_bias[other]
                next_bias[other] += 1
    return index, bias


# ---- 4. rANS ----


class Slots(NamedTuple):
    """What a decoding step looks up: per slot the frequency, the bias and the symbol (None: the escape)."""

    freq: list[int]
    bias: list[int]
    symbol: list[int | None]
    raw_bits: int
    raw_min: int


def slot_table(table: Table) -> Slots:
    index, bias = slot_owners(table.freq)
    symbol = [table.first_value + i if i < table.core_size else None for i in index]
    return Slots([table.freq[i] for i in index], bias, symbol, table.raw_bits, table.raw_min)


# ---- 5. Chunk directory ----


def read_directory(data: bytes, position: int, numel: int, chunk_symbols: int) -> tuple[list[tuple[int, int]], int]:
    """[(words, tail)] of every chunk, and the position of the first chunk; the chunks end where `data` does."""
    return read_directory_of(data, position, [min(chunk_symbols, numel - begin) for begin in range(0, numel, chunk_symbols)])


def read_directory_of(data: bytes, position: int, sizes: list[int]) -> tuple[list[tuple[int, int]], int]:
    """The same for chunks of these numbers of symbols."""
    reader = BitReader(data, position, "DirectoryTruncated")
    one = len(sizes) == 1
    words_order = 0 if one else reader.bits(5)
    tail_order = 0 if one else reader.bits(4)
    directory: list[tuple[int, int]] = []
    words = tail = 0
    for number, symbols in enumerate(sizes):
        last = number + 1 == len(sizes)
        if not last:
            words += reader.seg(words_order)
        tail += reader.bits(11) if one else reader.seg(tail_order)
        check(0 <= tail <= min(MAX_TAIL, symbols), "TailOutOfRange")
        if last:
            begin_of_chunks = reader.end()
            left = len(data) - begin_of_chunks - 2 * sum(w for w, _ in directory)
            check(left >= 0, "PayloadTruncated")
            check(left % 2 == 0, "PayloadTrailing")
            words = left // 2
        fewest = 2 * LANES if tail < symbols else 1
        check(fewest <= words <= 2 * LANES + 2 * symbols, "ChunkWordsOutOfRange")
        directory.append((words, tail))
    return directory, begin_of_chunks


# ---- 6. Chunk ----


def decode_chunk(chunk: bytes, symbols: int, tail: int, slots: Slots) -> list[int]:
    """The `symbols` symbols of a chunk, of which the last `tail` are in the tail."""
    words = [chunk[i] | chunk[i + 1] << 8 for i in range(0, len(chunk), 2)]
    if tail == symbols:
        return decode_tail("".join(f"{word:016b}" for word in words), tail, slots)
    states = [words[2 * lane] | words[2 * lane + 1] << 16 for lane in range(LANES)]
    check(min(states) >= STATE_LOWER_BOUND, "StateOutOfRange")
    left = iter(words[2 * LANES :])
    try:
        main = decode_main(states, left, symbols - tail, slots)
    except StopIteration:
        raise Corrupted("WordsExhausted") from None
    put_raw_values(main, list(left), slots)
    # f"{state:b}" is the leading 1, which stands for 2^e, and then the e bits of the payload
    return [s for s in main if s is not None] + decode_tail("".join(f"{state:b}"[1:] for state in states), tail, slots)


def decode_main(states: list[int], words: Iterator[int], main: int, slots: Slots) -> list[int | None]:
    """Decodes `main` symbols (None: the escape) row by row and leaves the final states in `states`. StopIteration: no word is left."""
    slot_freq, slot_bias, slot_symbol, _, _ = slots
    next_word = words.__next__
    out: list[int | None] = []
    for begin in range(0, main, LANES):
        for lane in range(min(LANES, main - begin)):
            x = states[lane]
            slot = x & 4095
            x = slot_freq[slot] * (x >> 12) + slot_bias[slot]
            if x < 65536:
                x = x << 16 | next_word()
            states[lane] = x
            out.append(slot_symbol[slot])
    return out


def put_raw_values(symbols: list[int | None], words: list[int], slots: Slots) -> None:
    """Replaces every None by its symbol; `words` are those that the lanes left."""
    escaped = [i for i, symbol in enumerate(symbols) if symbol is None]
    size = len(escaped) * slots.raw_bits
    check(len(words) >= -(-size // 16), "WordsExhausted")
    check(len(words) <= -(-size // 16), "WordsLeft")
    bits = "".join(f"{word:016b}" for word in reversed(words))
    check("1" not in bits[size:], "NonzeroPadding")
    for at, i in enumerate(escaped):
        symbols[i] = slots.raw_min + int(bits[at * slots.raw_bits : (at + 1) * slots.raw_bits], 2)


def decode_tail(bits: str, tail: int, slots: Slots) -> list[int]:
    """Decodes the tail from the tail bits, a string of '0' and '1'."""
    begin = bits.find("1")
    check(begin >= 0, "TailEmpty")
    r = len(bits) - begin
    word_count = 0 if r <= 32 else (r - 17) // 16
    words_begin = len(bits) - 16 * word_count
    y = int(bits[begin:words_begin], 2)
    words = [int(bits[i : i + 16], 2) for i in range(words_begin, len(bits), 16)]
    words.reverse()  # pop() takes them in order

    out: list[int] = []
    for _ in range(tail):
        slot = y % SLOTS
        y = slots.freq[slot] * (y >> PROB_BITS) + slots.bias[slot]
        if y < STATE_LOWER_BOUND and words:
            y = y << 16 | words.pop()
        symbol = slots.symbol[slot]
        if symbol is None:
            symbol = slots.raw_min + y % (1 << slots.raw_bits)
            y >>= slots.raw_bits
            if y < STATE_LOWER_BOUND and words:
                y = y << 16 | words.pop()
        out.append(symbol)
    check(not words and y == 1, "TailStateMismatch")
    return out
