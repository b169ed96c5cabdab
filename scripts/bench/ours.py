"""torch_ans in the benchmark, once per backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import torch_ans
from torch_ans import ops, records, streams

from .contender import Contender, Unavailable
from .weights import Matrix


class Ours(Contender):
    """Operations: `encode` with given tables; `encode_counted` from the symbols alone, to the parts of a stream; `encode_joined` the same
    to one buffer; all three allocate their output. `decode` and `decode_bf16` from a stream, reading its table and directory, into buffers
    that exist already; `decode_new` into a new tensor."""

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
        self.what = f"{Ours.__doc__} Chunks of about {chunk_symbols} symbols.".replace("\n    ", " ")

    def load(self, matrices: Sequence[Matrix], threads: int) -> None:
        self.matrices = matrices
        self.sizes = [matrix.symbols.numel() for matrix in matrices]
        # Chunks as compress_model cuts them.
        self.chunks = [records.chunk_length(m.symbols.numel(), m.symbols.shape[-1], self.chunk_symbols) for m in matrices]
        self.prefixes = [self._prefix(i) for i in range(len(matrices))]
        self.streams: list[Any] = [None] * len(matrices)
        self.decoded = [torch.zeros_like(matrix.symbols) for matrix in matrices]
        self.weights = [torch.zeros_like(matrix.symbols, dtype=torch.bfloat16) for matrix in matrices]
        self.operations = {
            "encode": self._encode,
            "encode_counted": self._encode_counted,
            "encode_joined": self._encode_joined,
            "decode": self._decode,
            "decode_new": self._decode_new,
            "decode_bf16": self._decode_bf16,
        }

    def unload(self) -> None:
        super().unload()
        self.matrices, self.streams, self.decoded, self.weights = [], [], [], []

    def activate(self) -> None:
        torch_ans.cpu_backend(self.backend)

    def run(self, operation: str, threads: int) -> float:
        return super().run(operation, 1)  # the operators bring their own threads: torch's

    def _prefix(self, i: int) -> torch.Tensor:
        symbols = self.matrices[i].symbols
        return ops.stream_prefix(ops.histogram(symbols)[0], symbols.dtype, self.chunks[i])

    def _encode(self, i: int) -> object:
        return streams.encode_piece(self.matrices[i].symbols, self.prefixes[i], self.chunks[i])

    def _encode_counted(self, i: int) -> object:
        prefix = self._prefix(i)
        return streams.assemble_stream(prefix, [streams.encode_piece(self.matrices[i].symbols, prefix, self.chunks[i])])

    def _encode_joined(self, i: int) -> None:
        self.streams[i] = None
        self.streams[i] = torch_ans.encode_stream(self.matrices[i].symbols, self.chunks[i])

    def _parts(self, i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Payload, directory, table and chunk size of a stream."""
        stream = self.streams[i]
        layout, directory = ops.stream_layout(stream, self.sizes[i], torch.int8)
        model, chunk_symbols, table_begin, table_end, payload_begin = layout.tolist()
        if model in (streams.Model.RAW, streams.Model.CONSTANT):
            raise SystemExit(f"{self.matrices[i].name} is not worth coding: decoding it would prove nothing")
        return stream[payload_begin:], directory, stream[table_begin:table_end], chunk_symbols

    def _decode(self, i: int) -> None:
        ops.decode_stream_out(self.streams[i], self.decoded[i])

    def _decode_new(self, i: int) -> object:
        return torch_ans.decode_stream(self.streams[i], self.sizes[i], torch.int8)

    def _decode_bf16(self, i: int) -> None:
        payload, directory, table, chunk_symbols = self._parts(i)
        matrix = self.matrices[i]
        ops.decode_dequantize_out(
            payload, directory, table, matrix.scale, matrix.exponent, chunk_symbols, torch.int8, self.weights[i]
        )

    def coded_bytes(self) -> int:
        return sum(stream.numel() for stream in self.streams)

    def check(self) -> bool:
        return all(
            torch.equal(symbols, matrix.symbols) and torch.equal(weight, torch_ans.dequantize(*matrix[1:], torch.bfloat16))
            for symbols, weight, matrix in zip(self.decoded, self.weights, self.matrices)
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
