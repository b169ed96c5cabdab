"""torch_ans in the benchmark, once per backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import torch_ans
from torch_ans import ops, streams

from .contender import Contender, Unavailable
from .weights import Matrix


class Ours(Contender):
    """Operations: `encode` with given tables; `encode_counted` from the symbols alone, to the parts of a stream; `encode_joined` the same
    to one buffer; `decode` and `decode_bf16` from a stream, reading its table and directory. Outputs are allocated by each call."""

    ours = True

    def __init__(self, backend: str, chunk_symbols: int) -> None:
        super().__init__()
        current = torch_ans.cpu_backend()
        try:
            torch_ans.cpu_backend(backend)
        except torch_ans.AnsError as error:
            raise Unavailable(f"this CPU has no {backend}: {error}") from error
        finally:
            torch_ans.cpu_backend(current)
        self.name, self.backend, self.chunk_symbols = f"torch_ans {backend}", backend, chunk_symbols
        self.what = f"{Ours.__doc__} Chunks of {chunk_symbols} symbols.".replace("\n    ", " ")

    def load(self, matrices: Sequence[Matrix], threads: int) -> None:
        self.matrices = matrices
        self.sizes = [matrix.symbols.numel() for matrix in matrices]
        self.prefixes = [self._prefix(matrix.symbols) for matrix in matrices]
        self.streams: list[Any] = [None] * len(matrices)
        self.decoded: list[Any] = [None] * len(matrices)
        self.operations = {
            "encode": self._encode,
            "encode_counted": self._encode_counted,
            "encode_joined": self._encode_joined,
            "decode": self._decode,
            "decode_bf16": self._decode_bf16,
        }

    def activate(self) -> None:
        torch_ans.cpu_backend(self.backend)

    def run(self, operation: str, threads: int) -> float:
        return super().run(operation, 1)  # the operators bring their own threads: torch's

    def _prefix(self, symbols: torch.Tensor) -> torch.Tensor:
        return ops.stream_prefix(ops.histogram(symbols)[0], symbols.dtype, self.chunk_symbols)

    def _encode(self, i: int) -> object:
        return streams.encode_piece(self.matrices[i].symbols, self.prefixes[i], self.chunk_symbols)

    def _encode_counted(self, i: int) -> object:
        symbols = self.matrices[i].symbols
        prefix = self._prefix(symbols)
        return streams.assemble_stream(prefix, [streams.encode_piece(symbols, prefix, self.chunk_symbols)])

    def _encode_joined(self, i: int) -> None:
        self.streams[i] = torch_ans.encode_stream(self.matrices[i].symbols, self.chunk_symbols)

    def _decode(self, i: int) -> None:
        self.decoded[i] = None  # the buffer of the last round is free to be used again
        self.decoded[i] = torch_ans.decode_stream(self.streams[i], self.sizes[i], torch.int8)

    def _decode_bf16(self, i: int) -> object:
        stream, matrix = self.streams[i], self.matrices[i]
        layout, directory = ops.stream_layout(stream, self.sizes[i], torch.int8)
        model, chunk_symbols, table_begin, table_end, payload_begin = layout.tolist()
        assert model == streams.Model.ORDER0, f"{matrix.name} is not coded: decoding it proves nothing"
        payload, table = stream[payload_begin:], stream[table_begin:table_end]
        shape, scale, exponent = matrix.symbols.shape, matrix.scale, matrix.exponent
        return torch_ans.decode_dequantize(
            payload, directory, table, scale, exponent, shape, chunk_symbols, torch.int8, torch.bfloat16
        )

    def coded_bytes(self) -> int:
        return sum(stream.numel() for stream in self.streams)

    def check(self) -> bool:
        same = all(torch.equal(d.view_as(m.symbols), m.symbols) for d, m in zip(self.decoded, self.matrices))
        return same and all(
            torch.equal(self._decode_bf16(i), torch_ans.dequantize(*self.matrices[i][1:], torch.bfloat16)) for i in range(len(self.sizes))
        )


def our_contenders(chunk_symbols: int) -> tuple[list[Contender], dict[str, str]]:
    """Contenders, and reasons of those that cannot run here."""
    found: list[Contender] = []
    missing = {}
    for backend in ("avx512", "avx2", "scalar"):
        try:
            found.append(Ours(backend, chunk_symbols))
        except Unavailable as error:
            missing[f"torch_ans {backend}"] = str(error)
    return found, missing
