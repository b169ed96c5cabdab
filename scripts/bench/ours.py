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
    """Operations: `encode` with given tables; `encode_counted` from the symbols alone to a stream; both allocate their output, tensor after
    tensor. `decode` and `decode_bf16` all streams in one call, reading their tables and directories, into buffers that exist already;
    `decode_each` the same in a call per tensor; `decode_new` into new tensors, in a call each."""

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
        self.tables = [ops.build_table(ops.histogram(m.symbols)[0], m.symbols.dtype) for m in matrices]
        self.streams: list[Any] = [None] * len(matrices)
        self.decoded = [torch.zeros_like(matrix.symbols) for matrix in matrices]
        self.weights = [torch.zeros_like(matrix.symbols, dtype=torch.bfloat16) for matrix in matrices]
        self.operations = {
            "encode": self._encode,
            "encode_counted": self._encode_counted,
            "decode_each": self._decode_each,
            "decode_new": self._decode_new,
        }
        self.operations_on_all = {"decode": self._decode, "decode_bf16": self._decode_bf16}

    def unload(self) -> None:
        super().unload()
        self.matrices, self.streams, self.decoded, self.weights = [], [], [], []

    def activate(self) -> None:
        torch_ans.cpu_backend(self.backend)

    def run(self, operation: str, threads: int) -> float:
        return super().run(operation, 1)  # the operators bring their own threads: torch's

    def _encode(self, i: int) -> object:
        return ops.encode(self.matrices[i].symbols, self.tables[i], self.chunks[i])

    def _encode_counted(self, i: int) -> None:
        self.streams[i] = None
        self.streams[i] = torch_ans.encode_stream(self.matrices[i].symbols, self.chunks[i])

    def _decode(self) -> None:
        ops.decode_streams_out(self.streams, self.decoded)

    def _decode_bf16(self) -> None:
        scales, exponents = [m.scale for m in self.matrices], [m.exponent for m in self.matrices]
        ops.decode_streams_dequantize_out(self.streams, scales, exponents, torch.int8, self.weights)

    def _decode_each(self, i: int) -> None:
        ops.decode_stream_out(self.streams[i], self.decoded[i])

    def _decode_new(self, i: int) -> object:
        return torch_ans.decode_stream(self.streams[i], self.sizes[i], torch.int8)

    def coded_bytes(self) -> int:
        return sum(stream.numel() for stream in self.streams)

    def check(self) -> bool:
        coded = {streams.stream_model(stream) for stream in self.streams}
        if coded & {streams.Model.RAW, streams.Model.CONSTANT}:
            raise SystemExit("a tensor is not worth coding: decoding it would prove nothing")
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
