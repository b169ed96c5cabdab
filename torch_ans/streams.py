"""Streams of BITSTREAM.md: arrays of symbols as bytes, in one go or piece by piece.

A stream is prefix, directory and payload. The prefix follows from the counts of all symbols, the payload can be encoded in pieces of
whole chunks, and the directory joins them: `assemble_stream` gives the bytes that `encode_stream` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from . import ops

SYMBOL_DTYPES = (torch.int8, torch.uint8, torch.int16)


class Model(IntEnum):
    """First byte of a stream."""

    RAW = 0
    CONSTANT = 1
    ORDER0_ONE_CHUNK = 2
    ORDER0 = 3
    MATRIX = 4


def _table_begin(prefix: Tensor) -> int:
    """Where the table in the prefix of an order0 stream begins: behind the model byte and, for several chunks, a varint."""
    head = prefix.numpy()
    begin = 1
    if head[0] == Model.ORDER0:
        while head[begin] >= 128:
            begin += 1
        begin += 1
    return begin


def stream_model(prefix: Tensor) -> Model:
    """The model of a stream or of its prefix."""
    return Model(prefix.numpy().item(0))


def encode_piece(symbols: Tensor, prefix: Tensor, chunk_symbols: int) -> ops.Encoded:
    """Payload and directory of a run of symbols under a stream's prefix. For the stream to be that of the whole array, every piece but the last
    must hold whole chunks. Raw: the symbols themselves and no directory; constant: nothing. The prefix is on the CPU; the result is where the symbols are."""
    model = stream_model(prefix)
    no_chunks = torch.empty((0, 2), dtype=torch.int32, device=symbols.device)
    if model is Model.CONSTANT:
        return ops.Encoded(torch.empty(0, dtype=torch.uint8, device=symbols.device), no_chunks)
    if model is Model.RAW:
        return ops.Encoded(symbols.contiguous().view(-1).view(torch.uint8), no_chunks)
    return ops.encode(symbols, prefix[_table_begin(prefix) :], chunk_symbols)


def assemble_stream(prefix: Tensor, pieces: Sequence[ops.Encoded]) -> list[Tensor]:
    """The parts (uint8 tensors, to be written one after another) of the stream with this prefix and these pieces."""
    parts = [prefix]
    if stream_model(prefix) in (Model.ORDER0_ONE_CHUNK, Model.ORDER0):
        parts.append(ops.pack_directory(torch.cat([piece.directory for piece in pieces])))
    return parts + [piece.payload for piece in pieces if piece.payload.numel()]


def encode_rows(symbols: Tensor, states: int, chunk_symbols: int) -> Tensor:
    """The stream (uint8) of rows [R, C], each symbol for itself, with a table for each scale of columns. `states`: the rows are paths of a trellis (there is a table for each of its halves), or 0."""
    columns = symbols.shape[1]
    chunk = min(ops.MAX_CHUNK_SYMBOLS, max(chunk_symbols, ops.LANES * columns))  # a lane is a row
    header = ops.fit_matrix(symbols.cpu(), columns, means=False, adaptations=0, chunk_symbols=chunk, trellis=states).header
    return ops.encode_matrix(symbols, header)


encode_stream = ops.encode_stream
decode_stream = ops.decode_stream
