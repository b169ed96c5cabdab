"""Forges headers of matrix streams, field by field as section 7 of BITSTREAM.md lists them: `ILLEGAL` breaks each of its rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stream_writer import BitWriter


class Part(NamedTuple):
    predictor: int = 0
    scale: bytes = b""  # empty: all 0
    mean: bytes = b""  # empty: none


def array(*values: int, order: int = 4, differences: bool = False) -> bytes:
    writer = BitWriter()
    writer.bits(2 if differences else 1, 2)
    writer.bits(order, 4)
    before = 0
    for value in values:
        writer.seg(value - before, order)
        before = value if differences else 0
    return writer.to_bytes()


def constant(value: int) -> bytes:
    writer = BitWriter()
    writer.bits(0, 2)
    writer.seg(value, 4)
    return writer.to_bytes()


def scale(base: int, values: bytes, padding: str = "0") -> bytes:
    writer = BitWriter()
    writer.bits(base, 2)
    return writer.to_bytes(padding) + values


def predictor(period: int = 8, window: int = 1, coefficients: bytes = b"", own_scale: bytes = b"", shift: int = 6) -> bytes:
    writer = BitWriter()
    writer.bits(0, 1)
    writer.bits(shift - 1, 3)
    writer.eg(period - 2, 6)
    writer.eg(window - 1, 6)
    writer.bits(bool(own_scale), 1)
    return writer.to_bytes() + (coefficients or constant(1)) + own_scale


def header(
    *,
    columns: int = 8,
    trellis: int = 0,
    chunk_lines: int = 1,
    bucket_code: int = 0,
    raw_bits: int = 8,
    raw_min: int = -128,
    class_origin: int = 0,
    classes: Sequence[tuple[int, int]] = ((0, 0),),
    given: int = 0,
    own: Sequence[bytes] = (),
    parts: Sequence[Part] = (Part(),),
    part: bytes = b"",
    start: bytes = b"",
    given_factor: bytes = b"",
    factor: bytes = b"",
    references: str = "",
    padding: str = "0",
) -> bytes:
    """The model byte and a header. Arrays are given as bytes, and are there if they are not empty."""
    w = BitWriter()
    w.eg(columns - 1, 8)
    w.bits(trellis, 2)
    w.bits(0, 1)
    w.eg(chunk_lines - 1, 8)
    w.bits(bucket_code, 2)
    w.bits(raw_bits - 1, 4)
    w.seg(raw_min, 4)
    w.bits(2, 2)
    w.seg(class_origin, 4)
    w.eg(len(classes) - 1, 3)
    for offset, step in classes:
        w.seg(offset, 2)
        w.seg(step, 0)
    w.bits(0, 8)  # no averages
    w.eg(given, 1)
    w.eg(len(own), 1)
    w.eg(len(parts) - 1, 1)
    for p in parts:
        w.eg(p.predictor, 1)
        w.bits(bool(p.mean), 1)
    w.bits(bool(start), 1)
    w.bits(bool(given_factor), 1)
    if given_factor:
        w.bits(0, 1)
    w.bits(bool(factor), 1)
    if factor:
        w.bits(0, 1)
    data = b"\x04" + w.to_bytes(padding) + b"".join(own)
    for p in parts:
        data += (p.scale or scale(0, constant(0))) + p.mean
    data += part + start + given_factor + factor
    if factor:
        bits = BitWriter()
        for bit in references:
            bits.bits(int(bit), 1)
        data += bits.to_bytes()
    return data


LINES = 4
NUMEL = 8 * LINES

_PREDICTOR = predictor()
_TWO = [Part(), Part()]
_BAD_EG = BitWriter()
_BAD_EG.bits(0, 30)

#: name, or name: what -> stream of NUMEL symbols, symbol type. Chunks are left out: none of these gets that far.
ILLEGAL: dict[str, tuple[bytes, str]] = {
    "StreamTruncated": (header()[:3], "i8"),
    "StreamTruncated: in an array": (header(parts=[Part(scale=scale(0, array(*range(8))[:4]))]), "i8"),
    "StreamTruncated: an array that can not be there": (header(parts=_TWO, part=array(0)), "i8"),
    "BadExpGolomb": (b"\x04" + _BAD_EG.to_bytes(), "i8"),
    "NonzeroPadding": (header(padding="1"), "i8"),
    "NonzeroPadding: of a scale": (header(parts=[Part(scale=scale(0, constant(0), "1"))]), "i8"),
    "MatrixShapeOutOfRange: columns": (header(columns=9), "i8"),
    "MatrixShapeOutOfRange: too many columns": (header(columns=65537), "i8"),
    "MatrixShapeOutOfRange: period": (header(own=[predictor(5)], parts=[Part(1)]), "i8"),
    "ChunkSizeOutOfRange": (header(chunk_lines=LINES + 1), "i8"),
    "SymbolOutOfRange": (header(raw_bits=9), "i8"),
    "SymbolOutOfRange: u8": (header(), "u8"),
    "SymbolOutOfRange: i16": (header(raw_bits=16, raw_min=-32767), "i16"),
    "SymbolOutOfRange: of a trellis": (header(trellis=2), "i8"),
    "SymbolOutOfRange: i16 of a trellis": (header(trellis=1, raw_bits=16, raw_min=-16384), "i16"),
    "ReferenceMissing: given predictor": (header(given=1), "i8"),
    "ReferenceMissing: number of a predictor": (header(parts=[Part(1)]), "i8"),
    "ReferenceMissing: given matrix": (header(given_factor=constant(1)), "i8"),
    "ReferenceCycle": (header(factor=constant(1), references="01101100"), "i8"),
    "ReferenceCycle: itself": (header(factor=array(0, 8, 0, 0), references="01"), "i8"),
    "ParameterOutOfRange: origin": (header(class_origin=255), "i8"),
    "ParameterOutOfRange: low origin": (header(class_origin=-129), "i8"),
    "ParameterOutOfRange: classes": (header(classes=[(0, 0)] * 129), "i8"),
    "ParameterOutOfRange: offset": (header(classes=[(128, 0)]), "i8"),
    "ParameterOutOfRange: shape": (header(classes=[(0, 4)]), "i8"),
    "ParameterOutOfRange: negative shape": (header(classes=[(0, -8)]), "i8"),
    "ParameterOutOfRange: predictors": (header(own=[_PREDICTOR] * 17), "i8"),
    "ParameterOutOfRange: given predictors": (header(given=17), "i8"),
    "ParameterOutOfRange: parts": (header(parts=[Part()] * 17), "i8"),
    "ParameterOutOfRange: period": (header(own=[predictor(4097)]), "i8"),
    "ParameterOutOfRange: window": (header(own=[predictor(8, 8)]), "i8"),
    "ParameterOutOfRange: coefficients of one": (header(own=[predictor(4096)]), "i8"),
    "ParameterOutOfRange: coefficients of several": (header(own=[predictor(1600)] * 4), "i8"),
    "ParameterOutOfRange: coefficient": (header(own=[predictor(coefficients=constant(128))]), "i8"),
    "ParameterOutOfRange: base": (header(parts=[Part(scale=scale(3, constant(0)))]), "i8"),
    "ParameterOutOfRange: no part before": (header(parts=[Part(scale=scale(2, constant(0)))]), "i8"),
    "ParameterOutOfRange: no scale of a predictor": (header(own=[_PREDICTOR], parts=[Part(1, scale(1, constant(0)))]), "i8"),
    "ParameterOutOfRange: scale": (header(parts=[Part(scale=scale(0, constant(64)))]), "i8"),
    "ParameterOutOfRange: sum of scales": (header(parts=[Part(scale=scale(0, constant(40))), Part(scale=scale(2, constant(40)))], part=constant(0)), "i8"),
    "ParameterOutOfRange: mean": (header(parts=[Part(mean=constant(8 * 127 + 1))]), "i8"),
    "ParameterOutOfRange: mean of i16": (header(parts=[Part(mean=constant(8 * 127 + 1))]), "i16"),
    "ParameterOutOfRange: part": (header(parts=_TWO, part=constant(2)), "i8"),
    "ParameterOutOfRange: start": (header(start=constant(25)), "i8"),
    "ParameterOutOfRange: factor": (header(factor=constant(16), references="00" * LINES), "i8"),
}
