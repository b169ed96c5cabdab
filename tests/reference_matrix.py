"""Matrix streams decoded in plain Python, written from section 7 of BITSTREAM.md alone: the second half of `reference_codec`, and as independent."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

from reference_codec import (
    LANES,
    SLOTS,
    STATE_LOWER_BOUND,
    SYMBOL_TYPES,
    BitReader,
    check,
    decode_tail,
    read_directory_of,
    read_table,
    slot_owners,
    slot_table,
)

OCTAVE_16 = [32768, 34219, 35734, 37316, 38968, 40693, 42495, 44376, 46341, 48393, 50535, 52773, 55109, 57549, 60097, 62757]
#: states, odd, parity
TRELLISES = [(0, 0, 0), (4, 2, 1), (8, 5, 2), (32, 18, 4)]
SHAPES = [1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64]


def pow8(c: int, s: int) -> int:
    product, shift = c * OCTAVE_16[2 * (s % 8)], s // 8 - 15
    return product << shift if shift >= 0 else product >> -shift


# ---- 7.3 Predictors ----


@dataclass
class Predictor:
    stationary: bool
    shift: int
    period: int
    window: int
    coefficients: list[int]
    scale: list[int] | None

    def coefficient(self, j: int, k: int) -> int:
        if not max(0, j - self.window) <= k < j:
            return 0
        if self.stationary:
            return self.coefficients[j - k - 1]
        before = sum(min(row, self.window) for row in range(j))
        return self.coefficients[before + k - max(0, j - self.window)]

    @functools.cached_property
    def rows(self) -> list[list[int]]:
        return [[self.coefficient(j, k) for k in range(j)] for j in range(self.period)]


def read_predictor(data: bytes, position: int, most: int = 1 << 23) -> tuple[Predictor, int]:
    reader = BitReader(data, position, "StreamTruncated")
    stationary = reader.bits(1) == 1
    shift = reader.bits(3) + 1
    period, window = reader.eg(6) + 2, reader.eg(6) + 1
    has_scale = reader.bits(1) == 1
    position = reader.end()
    check(period <= 4096 and window < period and period * (period - 1) // 2 <= most, "ParameterOutOfRange")
    count = window if stationary else sum(min(j, window) for j in range(period))
    coefficients, position = read_array(data, position, count, -128, 127)
    scale = None
    if has_scale:
        scale, position = read_array(data, position, period, -32, 63)
    return Predictor(stationary, shift, period, window, coefficients, scale), position


# ---- 7.2 Arrays ----


def read_array(data: bytes, position: int, count: int, lowest: int, highest: int) -> tuple[list[int], int]:
    reader = BitReader(data, position, "StreamTruncated")
    mode = reader.bits(2)
    if mode == 0:
        values = [reader.seg(4)] * count
        position = reader.end()
    elif mode == 3:
        words = reader.eg(8)
        table, position = read_table(data, reader.end(), "i8")
        check(words < 1 << 26 and position + 2 * words <= len(data), "StreamTruncated")
        bits = "".join(f"{data[i] | data[i + 1] << 8:016b}" for i in range(position, position + 2 * words, 2))
        values = decode_tail(bits, count, slot_table(table))
        position += 2 * words
    else:
        order = reader.bits(4)
        values, before = [], 0
        for _ in range(count):
            before = reader.seg(order) + (before if mode == 2 else 0)
            check(lowest <= before <= highest, "ParameterOutOfRange")
            values.append(before)
        position = reader.end()
    check(all(lowest <= v <= highest for v in values), "ParameterOutOfRange")
    return values, position


# ---- 7.1 Header ----


@dataclass
class Part:
    predictor: Predictor | None
    scale: list[int] = field(default_factory=list)
    mean: list[int] | None = None


@dataclass
class Header:
    lines: int = 0
    columns: int = 0
    trellis: tuple[int, int, int] = TRELLISES[0]
    transposed: bool = False
    chunk_lines: int = 0
    buckets: int = 64
    raw_bits: int = 0
    raw_min: int = 0
    class_shift: int = 0
    class_origin: int = 0
    classes: list[tuple[int, int]] = field(default_factory=list)
    averages: list[tuple[int, int]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    start: list[int] | None = None
    given_transposed: bool = False
    given_factor: list[int] | None = None
    factor: list[int] | None = None
    alternating: bool = False
    reference: dict[int, int] = field(default_factory=dict)

    @property
    def predicts(self) -> bool:
        parts = any(part.predictor is not None or part.mean is not None for part in self.parts)
        return parts or self.given_factor is not None or self.factor is not None


def counted_as(symbol_type: str) -> tuple[int, int, int]:
    return SYMBOL_TYPES["i8" if symbol_type == "i16" else symbol_type]


def read_header(data: bytes, position: int, numel: int, symbol_type: str, given: Sequence[Predictor], has_matrix: bool) -> tuple[Header, int]:
    _, lowest, highest = SYMBOL_TYPES[symbol_type]
    _, counted_lowest, counted_highest = counted_as(symbol_type)
    h = Header()
    reader = BitReader(data, position, "StreamTruncated")
    h.columns = reader.eg(8) + 1
    h.trellis = TRELLISES[reader.bits(2)]
    h.transposed = reader.bits(1) == 1
    h.chunk_lines = reader.eg(8) + 1
    h.buckets = [64, 128, 256, 32][reader.bits(2)]
    h.raw_bits = reader.bits(4) + 1
    h.raw_min = reader.seg(4)
    h.class_shift = reader.bits(2)
    h.class_origin = reader.seg(4)
    classes = reader.eg(3) + 1
    check(h.columns <= 65536 and numel % h.columns == 0 and 1 <= numel // h.columns <= 1 << 30, "MatrixShapeOutOfRange")
    h.lines = numel // h.columns
    check(h.chunk_lines <= h.lines and h.chunk_lines * h.columns <= 1 << 22, "ChunkSizeOutOfRange")
    half = 2 if h.trellis[0] else 1
    check(lowest // half <= h.raw_min and h.raw_min + (1 << h.raw_bits) - 1 <= highest // half, "SymbolOutOfRange")
    check(-128 <= h.class_origin <= 254 and classes <= 128, "ParameterOutOfRange")
    shape = 7
    for _ in range(classes):
        offset = reader.seg(2)
        shape += reader.seg(0)
        check(-64 <= offset <= 127 and 0 <= shape <= 10, "ParameterOutOfRange")
        h.classes.append((offset, shape))
    for _ in range(2):
        rate = reader.bits(4)
        h.averages.append((rate, reader.bits(4) + 1 if rate else 0))
    given_count, own_count, parts = reader.eg(1), reader.eg(1), reader.eg(1) + 1
    check(given_count <= 16 and own_count <= 16 and parts <= 16, "ParameterOutOfRange")
    flags = []
    for _ in range(parts):
        number = reader.eg(1)
        flags.append((number, reader.bits(1) == 1))
        check(number <= given_count + own_count, "ReferenceMissing")
    has_starts = reader.bits(1) == 1
    has_given = reader.bits(1) == 1
    if has_given:
        h.given_transposed = reader.bits(1) == 1
    has_references = reader.bits(1) == 1
    h.alternating = has_references and reader.bits(1) == 1
    position = reader.end()
    check(given_count == len(given) and has_given <= has_matrix, "ReferenceMissing")
    predictors = list(given)
    most = (1 << 22) + numel
    for _ in range(own_count):
        predictor, position = read_predictor(data, position, most)
        most -= predictor.period * (predictor.period - 1) // 2
        predictors.append(predictor)
    for number, has_mean in flags:
        part = Part(predictors[number - 1] if number else None)
        check(part.predictor is None or h.columns % part.predictor.period == 0, "MatrixShapeOutOfRange")
        part.scale, position = read_scale(data, position, h, part)
        if has_mean:
            part.mean, position = read_array(data, position, h.columns, 8 * counted_lowest, 8 * counted_highest)
        h.parts.append(part)
    h.part = [0] * h.lines
    if parts > 1:
        h.part, position = read_array(data, position, h.lines, 0, parts - 1)
    if has_starts:
        h.start, position = read_array(data, position, h.lines, -32, 24)
    if has_given:
        h.given_factor, position = read_array(data, position, h.lines, -15, 15)
    if has_references:
        h.factor, position = read_array(data, position, h.lines, -15, 15)
        reader = BitReader(data, position, "StreamTruncated")
        for line, factor in enumerate(h.factor):
            if factor:
                h.reference[line] = reader.bits((h.lines - 1).bit_length())
                check(h.reference[line] < h.lines, "ReferenceMissing")
        position = reader.end()
    return h, position


def read_scale(data: bytes, position: int, h: Header, part: Part) -> tuple[list[int], int]:
    reader = BitReader(data, position, "StreamTruncated")
    base = reader.bits(2)
    position = reader.end()
    scale = [0] * h.columns
    if base == 1:
        check(part.predictor is not None and part.predictor.scale is not None, "ParameterOutOfRange")
        scale = [part.predictor.scale[j % part.predictor.period] for j in range(h.columns)]
    if base == 2:
        check(len(h.parts) > 0, "ParameterOutOfRange")
        scale = h.parts[-1].scale
    check(base != 3, "ParameterOutOfRange")
    values, position = read_array(data, position, h.columns, -95, 95)
    scale = [a + b for a, b in zip(scale, values)]
    check(all(-32 <= s <= 63 for s in scale), "ParameterOutOfRange")
    return scale, position


# ---- 7.4 Lines, levels, chunks ----


def coding_order(h: Header) -> list[list[int]]:
    """Lines by chunk."""
    levels: dict[int, int] = {}
    for line in range(h.lines):
        path = []
        while line not in levels and line in h.reference:
            path.append(line)
            levels[line] = -1
            line = h.reference[line]
        check(levels.get(line, 0) >= 0, "ReferenceCycle")
        level = levels.setdefault(line, 0)
        for at in reversed(path):
            level += 1
            check(level <= 255, "ParameterOutOfRange")
            levels[at] = level
    groups: dict[tuple[int, int], list[int]] = {}
    for line in range(h.lines):
        groups.setdefault((levels[line], h.part[line]), []).append(line)
    return [lines[i : i + h.chunk_lines] for _, lines in sorted(groups.items()) for i in range(0, len(lines), h.chunk_lines)]


# ---- 7.7 Tables ----


@functools.cache
def masses(shape: int) -> list[int]:
    m = SHAPES[shape]
    nu = (2 * m - 1) * 65536
    sums = [0]
    for i in range(2048):
        b = density = (nu << 30) // (nu + (2 * i + 1) ** 2)
        for _ in range(m - 1):
            density = density * b >> 30
        sums.append(sums[-1] + density)
    return [(s << 20) // sums[-1] for s in sums]


def below(scale: int, shape: int, e: int) -> int:
    n, f = divmod(-scale, 16)
    u = abs(e) * OCTAVE_16[f]
    u = u << (n - 4) if n >= 4 else u >> (4 - n)
    g, i = masses(shape), u >> 8
    mass = 1 << 20 if i >= 2048 else g[i] + ((g[i + 1] - g[i]) * (u & 255) >> 8)
    return (((1 << 20) + (mass if e >= 0 else -mass)) * SLOTS + (1 << 20)) >> 21


@functools.cache
def context_slots(scale: int, shape: int, phase: int, buckets: int) -> list[tuple[int, int, int | None]]:
    """(frequency, bias, residual; None: the escape) of every slot."""
    residuals = range(-(buckets // 2 - 1), buckets // 2 - 1)
    freq = [below(scale, shape, 16 * r + 8 - 2 * phase) - below(scale, shape, 16 * r - 8 - 2 * phase) for r in residuals]
    positive = [i for i, f in enumerate(freq) if f > 0]
    first, core = residuals[positive[0]], freq[positive[0] : positive[-1] + 1]
    if sum(core) == SLOTS:
        core[core.index(max(core))] -= 1
    core.append(SLOTS - sum(core))
    index, bias = slot_owners(core, buckets)
    return [(core[i], b, first + i if i < len(core) - 1 else None) for i, b in zip(index, bias)]


# ---- 7.5, 7.6: one line ----


class Line:
    """What a lane knows about its line."""

    def __init__(self, h: Header, number: int, symbols: dict[int, list[int]], given: Sequence[int] | None, symbol_type: str) -> None:
        self.h, self.part = h, h.parts[h.part[number]]
        self.bytes, self.type_lowest, _ = SYMBOL_TYPES[symbol_type]
        _, self.lowest, self.highest = counted_as(symbol_type)
        self.state = 0
        self.averages = [pow8(16384, h.start[number] if h.start else 0)] * 2
        self.z = [0] * h.columns
        self.rest = 8
        if h.given_factor is not None:
            assert given is not None
            place = (lambda j: j * h.lines + number) if h.given_transposed else (lambda j: number * h.columns + j)
            self.z = [h.given_factor[number] * self.counted(given[place(j)]) for j in range(h.columns)]
            self.rest -= h.given_factor[number]
        if number in h.reference and h.factor is not None:
            other = symbols[h.reference[number]]
            self.z = [z + (-h.factor[number] if h.alternating and j % 2 else h.factor[number]) * self.counted(other[j]) for j, z in enumerate(self.z)]
            self.rest -= h.factor[number]
        self.symbols: list[int] = []
        self.d: list[int] = []

    def counted(self, symbol: int) -> int:
        return max(self.lowest, min(self.highest, symbol))

    def prediction(self) -> int:
        j, p = len(self.symbols), self.part.predictor
        t = 0
        if p is not None:
            first = j - j % p.period
            total = sum(c * d for c, d in zip(p.rows[j - first], self.d[first:]))
            t = ((total + (1 << p.shift - 1) + (1 << 31)) % (1 << 32) - (1 << 31)) >> p.shift
        t += self.z[j]
        if self.part.mean is not None:
            t += (self.rest * self.part.mean[j] + 4) >> 3
        return max(8 * self.lowest, min(8 * self.highest, t))

    def context(self) -> tuple[int, int, int]:
        """Class, phase, and what residuals are relative to."""
        h, j = self.h, len(self.symbols)
        self.t = self.prediction() if h.predicts else 0
        s = 2 * self.part.scale[j] - h.class_origin
        w = sum(weight * log16(v) for (rate, weight), v in zip(h.averages, self.averages) if rate)
        s += (w + 4) >> 3
        u = self.t // 2 - 4 * (self.state % 2) if h.trellis[0] else self.t
        return max(0, min(len(h.classes) - 1, s >> h.class_shift)), u % 8, u // 8

    def learn(self, coded: int) -> None:
        j = len(self.symbols)
        states, odd, parity = self.h.trellis
        actual = coded
        if states:
            actual = 2 * coded + self.state % 2
            self.state = self.state // 2 ^ (odd if self.state % 2 else 0) ^ (parity if coded % 2 else 0)
        actual = (actual - self.type_lowest) % 256**self.bytes + self.type_lowest
        symbol = self.counted(actual)
        seen = min(1 << 17, abs(8 * symbol - self.t) * pow8(20534, -self.part.scale[j]) >> 3)
        for i, (rate, _) in enumerate(self.h.averages):
            if 1 <= rate <= 14:
                self.averages[i] = max(64, self.averages[i] + ((seen - self.averages[i] + (1 << rate - 1)) >> rate))
        self.symbols.append(actual)
        self.d.append((8 * symbol - self.z[j] + 32768) % 65536 - 32768)


def log16(v: int) -> int:
    return 16 * (v.bit_length() - 1) + ((v << 4 >> v.bit_length() - 1) & 15) - 224


# ---- 7.4: chunks ----


def decode_matrix(
    data: bytes, numel: int, symbol_type: str, predictors: Sequence[bytes] = (), given: Sequence[int] | None = None
) -> list[int]:
    """The symbols of a matrix stream, whose given predictors are these (as bytes), and its given matrix."""
    check(numel >= 1, "EmptyStreamModel")
    parsed = [read_predictor(bytes(p), 0)[0] for p in predictors]
    h, position = read_header(data, 1, numel, symbol_type, parsed, given is not None)
    chunks = coding_order(h)
    directory, position = read_directory_of(data, position, [len(lines) * h.columns for lines in chunks])
    symbols: dict[int, list[int]] = {}
    for lines, (words, tail) in zip(chunks, directory):
        chunk = data[position : position + 2 * words]
        position += 2 * words
        decode_matrix_chunk(h, lines, [chunk[i] | chunk[i + 1] << 8 for i in range(0, len(chunk), 2)], tail, symbols, given, symbol_type)
    if h.transposed:
        return [symbols[i][j] for j in range(h.columns) for i in range(h.lines)]
    return [symbol for i in range(h.lines) for symbol in symbols[i]]


def decode_matrix_chunk(
    h: Header, lines: list[int], words: list[int], tail: int, symbols: dict[int, list[int]], given: Sequence[int] | None, symbol_type: str
) -> None:
    main = len(lines) * h.columns - tail
    states: list[int] = []
    next_word = 0
    if main:
        states = [words[2 * lane] | words[2 * lane + 1] << 16 for lane in range(LANES)]
        check(min(states) >= STATE_LOWER_BOUND, "StateOutOfRange")
        next_word = 2 * LANES
    raw_begin = 0  # bits of raw values that are used

    def raw_value() -> int:
        nonlocal raw_begin
        bits = ""
        for at in range(raw_begin, raw_begin + h.raw_bits):
            place = len(words) - 1 - at // 16
            check(place >= next_word, "WordsExhausted")
            bits += f"{words[place]:016b}"[at % 16]
        raw_begin += h.raw_bits
        return int(bits, 2)

    coder: TailCoder | None = None if main else TailCoder("".join(f"{word:016b}" for word in words))
    done = 0
    for begin in range(0, len(lines), LANES):
        band = [Line(h, i, symbols, given, symbol_type) for i in lines[begin : begin + LANES]]
        for _ in range(h.columns):
            row: list[tuple[Line, int | None, int]] = []
            for lane, line in enumerate(band):
                k, phase, base = line.context()
                offset, shape = h.classes[k]
                scale = h.class_origin + (k << h.class_shift) + ((1 << h.class_shift) // 2) + offset - (16 if h.trellis[0] else 0)
                slots = context_slots(max(-64, min(127, scale)), shape, phase, h.buckets)
                if done < main:
                    x = states[lane]
                    freq, bias, residual = slots[x % SLOTS]
                    x = freq * (x >> 12) + bias
                    if x < STATE_LOWER_BOUND:
                        check(next_word < len(words), "WordsExhausted")
                        x = x << 16 | words[next_word]
                        next_word += 1
                    states[lane] = x
                    done += 1
                    row.append((line, residual, base))
                    if done == main:
                        row = finish_row(row, raw_value, h)
                        used = -(-raw_begin // 16)
                        check(len(words) - next_word >= used, "WordsExhausted")
                        check(len(words) - next_word <= used, "WordsLeft")
                        padding = "".join(f"{words[len(words) - 1 - at // 16]:016b}"[at % 16] for at in range(raw_begin, 16 * used))
                        check("1" not in padding, "NonzeroPadding")
                        coder = TailCoder("".join(f"{state:b}"[1:] for state in states))
                else:
                    assert coder is not None
                    residual, raw = coder.next(slots, h.raw_bits)
                    line.learn(base + residual if residual is not None else h.raw_min + raw)
            finish_row(row, raw_value, h)
        for line, i in zip(band, lines[begin : begin + LANES]):
            symbols[i] = line.symbols
    assert coder is not None
    check(not coder.words and coder.y == 1, "TailStateMismatch")


def finish_row(row: list[tuple[Line, int | None, int]], raw_value, h: Header) -> list:
    """Raw values belong to the escapes in the order of symbols; lines learn when the row is done."""
    for line, residual, base in row:
        line.learn(base + residual if residual is not None else h.raw_min + raw_value())
    return []


class TailCoder:
    """The single coder of section 6, a symbol at a time."""

    def __init__(self, bits: str) -> None:
        begin = bits.find("1")
        check(begin >= 0, "TailEmpty")
        r = len(bits) - begin
        word_count = 0 if r <= 32 else (r - 17) // 16
        words_begin = len(bits) - 16 * word_count
        self.y = int(bits[begin:words_begin], 2)
        self.words = [int(bits[i : i + 16], 2) for i in range(words_begin, len(bits), 16)][::-1]

    def refill(self) -> None:
        if self.y < STATE_LOWER_BOUND and self.words:
            self.y = self.y << 16 | self.words.pop()

    def next(self, slots: list[tuple[int, int, int | None]], raw_bits: int) -> tuple[int | None, int]:
        freq, bias, residual = slots[self.y % SLOTS]
        self.y = freq * (self.y >> 12) + bias
        self.refill()
        raw = 0
        if residual is None:
            raw = self.y % (1 << raw_bits)
            self.y >>= raw_bits
            self.refill()
        return residual, raw
