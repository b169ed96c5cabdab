"""Writes the golden streams. Symbols come from integer arithmetic alone, so that they are the same with every torch and Python."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from torch_ans import ops, streams

FOLDER = Path(__file__).resolve().parent
DTYPES = {"i8": torch.int8, "u8": torch.uint8, "i16": torch.int16}


def noise(n: int, seed: int) -> list[int]:
    """n numbers in [0, 2^16) of a linear congruential generator."""
    x, out = seed * 2654435761 % 2**32, []
    for _ in range(n):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append(x >> 16)
    return out


def bell(n: int, width: int, seed: int) -> list[int]:
    """A bell around 0: sums of six uniform numbers, each in [-width, width]."""
    parts = [noise(n, seed * 6 + k) for k in range(6)]
    return [sum(p[i] % (2 * width + 1) - width for p in parts) for i in range(n)]


def with_outliers(symbols: list[int], low: int, high: int, every: int) -> list[int]:
    wild = noise(len(symbols), 99)
    return [low + wild[i] % (high - low + 1) if i % every == every // 2 else s for i, s in enumerate(symbols)]


CASES: dict[str, tuple[str, int, list[int]]] = {  # symbol type, chunk_symbols, symbols
    "empty": ("i8", 65536, []),
    "one": ("i8", 65536, [-7]),
    "constant": ("i16", 65536, [300] * 5000),
    "two": ("u8", 65536, [v % 2 * 255 for v in noise(3000, 1)]),
    "narrow": ("i8", 65536, bell(900, 2, 2)),
    "int2": ("i8", 4096, [v % 3 - 1 for v in noise(9000, 3)]),
    "int4": ("i8", 65536, [max(-7, min(7, v)) for v in bell(20_000, 1, 4)]),
    "int6": ("i8", 8192, [max(-31, min(31, v)) for v in bell(30_000, 4, 5)]),
    "int6_escape": ("i8", 8192, with_outliers(bell(30_000, 1, 6), -31, 31, 400)),
    "int7": ("i8", 65536, bell(20_000, 9, 7)),
    "int8": ("i8", 65536, [max(-128, min(127, v)) for v in bell(20_000, 25, 8)]),
    "uint8_uniform": ("u8", 65536, [v & 255 for v in noise(3000, 9)]),
    "uint8_rare": ("u8", 65536, [200 if v < 9 else 3 for v in noise(40_000, 10)]),
    "int16_escape": ("i16", 4096, with_outliers(bell(12_000, 12, 11), -32768, 32767, 300)),
    "partial_chunks": ("i8", 1111, bell(10_000, 3, 12)),
}


def path(numbers: list[int], columns: int, states: int) -> list[int]:
    """Rows of a trellis whose k are these."""
    odd, parity = {4: (2, 1), 8: (5, 2), 32: (18, 4)}[states]
    out = []
    for i, k in enumerate(numbers):
        state = 0 if i % columns == 0 else state
        out.append(2 * k + state % 2)
        state = state // 2 ^ odd * (state % 2) ^ parity * (k % 2)
    return out


# Matrix streams are fitted in floating point: another machine may find another header, so these are only read. Symbol type, columns, symbols, options of the fit.
MATRICES: dict[str, tuple[str, int, list[int], dict]] = {
    "matrix": ("i8", 40, bell(8000, 3, 20), {}),
    "matrix_i16": ("i16", 40, with_outliers(bell(8000, 5, 21), -3000, 3000, 500), {"levels": 2}),
    "trellis4": ("i8", 64, path(bell(6400, 1, 22), 64, 4), {"trellis": 4, "means": False, "adaptations": 0}),
    "trellis8": ("i8", 64, path(bell(12_800, 1, 23), 64, 8), {"trellis": 8, "means": False, "adaptations": 0, "chunk_symbols": 4096}),
    "trellis32_i16": ("i16", 50, path(with_outliers(bell(10_000, 2, 24), -900, 900, 333), 50, 32), {"trellis": 32}),
}


def symbol_bytes(symbols: torch.Tensor) -> bytes:
    return symbols.numpy().astype(symbols.numpy().dtype.newbyteorder("<")).tobytes()


def main() -> None:
    index = {}
    for name, (symbol_type, chunk_symbols, values) in CASES.items():
        symbols = torch.tensor(values, dtype=DTYPES[symbol_type])
        (FOLDER / f"{name}.stream").write_bytes(bytes(streams.encode_stream(symbols, chunk_symbols).tolist()))
        index[name] = {
            "symbol_type": symbol_type,
            "numel": len(values),
            "chunk_symbols": chunk_symbols,
            "sha256": hashlib.sha256(symbol_bytes(symbols)).hexdigest(),
        }
    for name, (symbol_type, columns, values, options) in MATRICES.items():
        symbols = torch.tensor(values, dtype=DTYPES[symbol_type])
        stream = ops.encode_matrix(symbols, ops.fit_matrix(symbols, columns, **options).header)
        (FOLDER / f"{name}.stream").write_bytes(bytes(stream.tolist()))
        index[name] = {"symbol_type": symbol_type, "numel": len(values), "sha256": hashlib.sha256(symbol_bytes(symbols)).hexdigest()}
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
