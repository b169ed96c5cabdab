"""Golden streams: decoded by the implementation and by the reference decoder, and written again byte for byte."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from reference_codec import decode_stream as reference_decode

from torch_ans import ops, streams

FOLDER = Path(__file__).resolve().parent / "golden"
INDEX = json.loads((FOLDER / "index.json").read_text())
DTYPES = {"i8": torch.int8, "u8": torch.uint8, "i16": torch.int16}


def digest(symbols: list[int], symbol_type: str) -> str:
    return hashlib.sha256(struct.pack(f"<{len(symbols)}{ {'i8': 'b', 'u8': 'B', 'i16': 'h'}[symbol_type] }", *symbols)).hexdigest()


def test_every_file_has_an_entry() -> None:
    assert {p.stem for p in FOLDER.glob("*.stream")} == set(INDEX)


@pytest.mark.parametrize("name", INDEX)
def test_the_reference_decoder_reads_it(name: str) -> None:
    entry = INDEX[name]
    symbols = reference_decode((FOLDER / f"{name}.stream").read_bytes(), entry["numel"], entry["symbol_type"])
    assert digest(symbols, entry["symbol_type"]) == entry["sha256"]


@pytest.mark.parametrize("name", INDEX)
def test_every_backend_reads_it_and_writes_it_again(name: str, every_backend: list[str]) -> None:
    entry = INDEX[name]
    stream = torch.tensor(list((FOLDER / f"{name}.stream").read_bytes()), dtype=torch.uint8)
    for backend in every_backend:
        ops.cpu_backend(backend)
        symbols = streams.decode_stream(stream, entry["numel"], DTYPES[entry["symbol_type"]])
        assert digest(symbols.tolist(), entry["symbol_type"]) == entry["sha256"], backend
        if "chunk_symbols" in entry:
            assert torch.equal(streams.encode_stream(symbols, entry["chunk_symbols"]), stream), backend
