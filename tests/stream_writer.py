"""Writes the parts of a torch_ans stream field by field: bits, tables, directories, chunks. For tests.

Written from BITSTREAM.md with the standard library only. A writer writes the fields it is given, legal or not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reference_codec import LANES, slot_owners


class NotRepresentable(ValueError):
    """No chunk has this tail: its final `y` is 0, or it has more bits than the payloads of the lanes."""


# ---- bits, table, directory ----


class BitWriter:
    """A string of '0' and '1'; `eg(v, k)` and `seg(e, k)` as in BITSTREAM.md section 2."""

    def __init__(self) -> None:
        self.text = ""

    def bits(self, value: int, count: int) -> None:
        assert 0 <= value < 1 << count
        self.text += f"{value:0{count}b}" if count else ""

    def eg(self, v: int, order: int) -> None:
        u = (v >> order) + 1
        self.bits(0, u.bit_length() - 1)
        self.bits(u, u.bit_length())
        self.bits(v & ((1 << order) - 1), order)

    def seg(self, e: int, order: int) -> None:
        self.eg(2 * e - 1 if e > 0 else -2 * e, order)

    def to_bytes(self, padding: str = "0") -> bytes:
        """The bits, padded to a whole byte. `padding` '1' is illegal, and an error where there is nothing to pad."""
        assert padding == "0" or len(self.text) % 8
        text = self.text + padding * (-len(self.text) % 8)
        return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


class Escape(NamedTuple):
    freq: int
    raw_bits: int
    raw_min: int


class Model(NamedTuple):
    """What a table says. The last core frequency is not sent: it is what the others leave of 4096."""

    core: list[int]
    first_value: int = 0
    escape: Escape | None = None

    def freq(self) -> list[int]:
        return self.core + ([self.escape.freq] if self.escape else [])


def write_table(
    model: Model,
    *,
    unit_shift: int | None = None,
    adjust: int = 0,
    mirror_adjust: int | None = None,
    padding: str = "0",
    bad_code_at: int | None = None,
    default_raw_min: int | None = None,
    symmetric: bool | None = None,
) -> bytes:
    """The coded table, mirrored if there is a `mirror_adjust`; a raw_min that equals `default_raw_min` is not sent. `bad_code_at` replaces that EG code, counted from 0, by one of 25 leading zero bits."""
    if unit_shift is None:  # the coarsest that fits
        bits = 128
        for f in model.freq():
            bits |= f
        unit_shift = (bits & -bits).bit_length() - 1
    core = [f >> unit_shift for f in model.core]
    writer = BitWriter()
    codes = 0

    def code(write: Callable[[int, int], None], value: int, order: int) -> None:
        nonlocal codes
        if codes == bad_code_at:
            writer.bits(1, 26)
            writer.bits(0, 25 + order)
        else:
            write(value, order)
        codes += 1

    code(writer.seg, model.first_value, 4)
    symmetric = len(model.core) == 1 - 2 * model.first_value if symmetric is None else symmetric
    writer.bits(symmetric, 1)
    if not symmetric:
        writer.bits(len(model.core) - 1, 8)
    writer.bits(model.escape is not None, 1)
    if model.escape:
        writer.bits(model.escape.raw_bits - 1, 4)
        sent = model.escape.raw_min != default_raw_min or bad_code_at is not None
        writer.bits(sent, 1)
        if sent:
            code(writer.seg, model.escape.raw_min, 4)
    writer.bits(unit_shift, 3)
    writer.bits(adjust + 4, 3)
    writer.bits(mirror_adjust is not None, 1)
    if mirror_adjust is not None:
        writer.bits(mirror_adjust + 4, 3)
    if model.escape:
        code(writer.eg, model.escape.freq >> unit_shift, 4)
    a = b = 0
    for i, v in enumerate(core[:-1]):
        p, order = min(2 * a, max(a >> 1, a * a // max(1, b))), adjust
        if mirror_adjust is not None and 0 <= -2 * model.first_value - i < i:
            p, order = core[-2 * model.first_value - i], mirror_adjust
        z = v if v > 2 * p else 2 * (v - p) - 1 if v > p else 2 * (p - v)
        code(writer.eg, z, max(0, p.bit_length() // 2 + order))
        a, b = v, a
    return writer.to_bytes(padding)


def write_directory(
    entries: Sequence[tuple[int, int]],
    *,
    words_order: int = 8,
    tail_order: int = 4,
    padding: str = "0",
    bad_code: bool = False,
) -> bytes:
    """The coded (words, tail) of every chunk; the words of the last are not sent. `bad_code`: the first EG code has 25 leading zero bits."""
    writer = BitWriter()
    if len(entries) == 1:
        writer.bits(entries[0][1], 11)
        return writer.to_bytes(padding)
    writer.bits(words_order, 5)
    writer.bits(tail_order, 4)
    if bad_code:
        writer.bits(1, 26)
        writer.bits(0, 25 + words_order)
    words_before = tail_before = 0
    for i, (words, tail) in enumerate(entries):
        if i + 1 < len(entries):
            writer.seg(words - words_before, words_order)
        writer.seg(tail - tail_before, tail_order)
        words_before, tail_before = words, tail
    return writer.to_bytes(padding)


# ---- chunks ----

Step = tuple[int, "int | None"]  # an index, and the raw value if it is the escape


class Coder:
    """The inverse of the decoding step: pushes onto a state, spilling words into a list (last spilled, first read)."""

    def __init__(self, model: Model) -> None:
        self.freq = model.freq()
        self.core_size, self.first_value, self.escape = len(model.core), model.first_value, model.escape
        self.slots: list[list[int]] = [[0] * f for f in self.freq]
        for slot, (index, bias) in enumerate(zip(*slot_owners(self.freq))):
            self.slots[index][bias] = slot

    def steps(self, symbols: Sequence[int], escape_rate: float = 0.0, rng: random.Random | None = None) -> list[Step]:
        """The steps of the symbols. With `rng`, a share `escape_rate` of the symbols takes the escape without need."""
        steps: list[Step] = []
        for symbol in symbols:
            index = symbol - self.first_value
            coded = 0 <= index < self.core_size and self.freq[index] > 0
            raw = symbol - self.escape.raw_min if self.escape else -1
            can_escape = self.escape is not None and 0 <= raw < 1 << self.escape.raw_bits
            if can_escape and not (coded and (rng is None or rng.random() >= escape_rate)):
                steps.append((self.core_size, raw))
            else:
                assert coded, f"the model cannot code {symbol}"
                steps.append((index, None))
        return steps

    def push_raw(self, x: int, raw: int, words: list[int]) -> int:
        assert self.escape
        if x >= 1 << (32 - self.escape.raw_bits):
            words.append(x & 0xFFFF)
            x >>= 16
        return x << self.escape.raw_bits | raw

    def push_index(self, x: int, index: int, words: list[int]) -> int:
        f = self.freq[index]
        if x >= f << 20:
            words.append(x & 0xFFFF)
            x >>= 16
        return (x // f << 12) + self.slots[index][x % f]


def tail_bits(coder: Coder, steps: Sequence[Step]) -> str:
    """The tail bits from the first one bit on."""
    y, words = 1, []
    for index, raw in reversed(steps):
        if raw is not None:
            y = coder.push_raw(y, raw, words)
        y = coder.push_index(y, index, words)
    if y == 0:
        raise NotRepresentable("the tail ends in y = 0")
    return f"{y:b}" + "".join(f"{word:016b}" for word in reversed(words))


def encode_chunk(
    coder: Coder,
    steps: Sequence[Step],
    *,
    tail: int = 0,
    exponents: Sequence[int] = (16,) * LANES,
    spare_words: int = 0,
    payload: str | None = None,
    padding: str = "",
) -> bytes:
    """A chunk whose last `tail` symbols are in the tail (all of them: a narrow chunk).

    `exponents` has the e of every lane; a narrow chunk begins with `spare_words` zero words; `payload` replaces the tail bits from
    the first one bit on, `padding` the zero bits behind the raw values.
    """
    main = len(steps) - tail
    bits = tail_bits(coder, steps[main:]) if payload is None else payload
    if main == 0:
        bits = "0" * (-len(bits) % 16 + 16 * spare_words) + bits
        return to_words([int(bits[i : i + 16], 2) for i in range(0, len(bits), 16)])
    if len(bits) > sum(exponents):
        raise NotRepresentable("the tail bits exceed the payloads")
    bits = bits.zfill(sum(exponents))
    states, words, at = [], [], 0
    for e in exponents:
        states.append(1 << e | int(bits[at : at + e], 2))
        at += e
    for begin in reversed(range(0, main, LANES)):
        for lane, (index, _) in list(enumerate(steps[begin : min(begin + LANES, main)]))[::-1]:
            states[lane] = coder.push_index(states[lane], index, words)
    raws = "".join(f"{raw:0{coder.escape.raw_bits}b}" for _, raw in steps[:main] if coder.escape and raw is not None)
    raws += padding or "0" * (-len(raws) % 16)
    raw_words = [int(raws[i : i + 16], 2) for i in range(0, len(raws), 16)]
    return b"".join(x.to_bytes(4, "little") for x in states) + to_words(words[::-1] + raw_words[::-1])


def to_words(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(2, "little") for word in words)
