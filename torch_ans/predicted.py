"""Entries whose symbols are matrix streams: how they come into a model, and how they are decoded (docs/CONTAINER.md, section 3).

Such an entry refers to what its stream needs: first to the entry whose stream carries its predictors, if it has none of its own, then to the entry whose symbols its lines refer to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import batches, ops, prediction, streams
from .container import record_checksum
from .entries import Entry, Kind, StreamSpec
from .errors import ReferenceMissingError
from .prediction import Effort, Matrix
from .streams import Model

Progress = Callable[[str, int], None]


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Every core that this process may use, while the other ranks of a job wait: torchrun gives each rank one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(before, len(os.sched_getaffinity(0))))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def has_symbols(entry: Entry) -> bool:
    """Whether the first stream of an entry holds its tensor's symbols."""
    return entry.kind in (Kind.SYMBOLS, Kind.QUANTIZED)


def symbol_dtype(spec: StreamSpec) -> torch.dtype:
    return batches.SYMBOLS[spec.symbol_type]


def predict(
    entries: Sequence[Entry], parts: Sequence[Sequence[Tensor]], effort: Effort, chunk_symbols: int, progress: Progress | None
) -> tuple[list[Entry], list[list[Tensor]]]:
    """The entries of a model whose streams are all of order 0, and their records, with smaller streams where there are such."""
    matrices, rest = [], {}

    def done(number: int) -> None:
        if progress is not None:
            progress(entries[number].name, entries[number].decoded_bytes)

    for number, (entry, record) in enumerate(zip(entries, parts)):
        if not has_symbols(entry) or entry.numel < prediction.MIN_SYMBOLS or len(entry.shape) < 2:
            done(number)
            continue
        joined = torch.cat(list(record))
        stream, rest[number] = joined.split([entry.stream_bytes[0], joined.numel() - entry.stream_bytes[0]])
        if streams.stream_model(stream) in (Model.RAW, Model.CONSTANT) and stream.numel() < prediction.MIN_SYMBOLS:
            done(number)
            continue
        dtype = symbol_dtype(entry.streams[0])
        symbols = streams.decode_stream(stream, entry.numel, dtype)
        states, columns = ops.stream_trellis(stream, entry.numel, dtype)
        matrices.append(Matrix(number, symbols, (entry.numel // columns, columns) if states else entry.shape, stream.numel(), states))

    found = prediction.Planner(matrices, effort, chunk_symbols, done).run() if matrices else {}
    new_entries, new_parts = list(entries), [list(record) for record in parts]
    for number, predicted in found.items():
        record = [predicted.stream, rest[number]]
        needs = (predicted.predictors_of, predicted.reference)
        new_entries[number] = dataclasses.replace(
            entries[number],
            stream_bytes=(predicted.stream.numel(), *entries[number].stream_bytes[1:]),
            checksum=record_checksum(part.numpy() for part in record),
            refers=tuple(need for need in needs if need is not None),
        )
        new_parts[number] = record
    return new_entries, new_parts


class _Coded(NamedTuple):
    """A stream, and the entries that it needs."""

    number: int
    stream: Tensor
    is_matrix: bool
    carrier: int | None
    reference: int | None


class SymbolDecoder:
    """Decodes the symbols of entries. `stream_of(number)` gives the first stream of an entry, on the CPU."""

    def __init__(self, entries: Sequence[Entry], stream_of: Callable[[int], Tensor]) -> None:
        self._entries = entries
        self._stream_of = stream_of
        self._predictors: dict[int, list[Tensor]] = {}

    def is_predicted(self, number: int, stream: Tensor) -> bool:
        """Whether this is a matrix stream."""
        return has_symbols(self._entries[number]) and stream.numel() > 0 and int(stream[0]) == Model.MATRIX

    def decode(self, number: int, stream: Tensor, keep: dict[int, Tensor] | None = None) -> Tensor:
        """Symbols (flat) of an entry, from its first stream, on the CPU. What is decoded on the way stays in `keep`, and what is there already is not decoded again."""
        kept: dict[int, Tensor] = {} if keep is None else keep
        for coded in self._in_order({number: stream}, kept):
            entry = self._entries[coded.number]
            dtype = symbol_dtype(entry.streams[0])
            if not coded.is_matrix:
                kept[coded.number] = streams.decode_stream(coded.stream, entry.numel, dtype)
                continue
            reference = None if coded.reference is None else kept[coded.reference]
            kept[coded.number] = ops.decode_matrix(coded.stream, entry.numel, dtype, self._predictors_of(coded.carrier), reference)
            if keep is None and coded.reference is not None:
                del kept[coded.reference]
        return kept[number]

    def decode_on(self, device: torch.device, first_streams: Mapping[int, Tensor], keep: dict[int, Tensor]) -> None:
        """Symbols (flat) of entries, from their first streams, on a GPU: all at once. They come into `keep`, with all that they refer to; what is there already is not decoded again."""
        todo = self._in_order(first_streams, keep)
        for coded in todo:
            entry = self._entries[coded.number]
            keep[coded.number] = torch.empty(entry.numel, dtype=symbol_dtype(entry.streams[0]), device=device)
        others, matrices = [c for c in todo if not c.is_matrix], [c for c in todo if c.is_matrix]
        ops.decode_streams_out([c.stream for c in others], [keep[c.number] for c in others])
        position = {c.number: i for i, c in enumerate(matrices)}
        references = [None if c.reference is None else position.get(c.reference, keep[c.reference]) for c in matrices]
        ops.decode_matrices_out([c.stream for c in matrices], [keep[c.number] for c in matrices], [self._predictors_of(c.carrier) for c in matrices], references)

    def _in_order(self, first_streams: Mapping[int, Tensor], kept: Mapping[int, Tensor]) -> list[_Coded]:
        """What has to be decoded for these entries, whatever is referred to before those which refer to it."""
        found: dict[int, _Coded] = {}
        for number, stream in first_streams.items():
            chain: list[_Coded] = []
            wanted: int | None = number
            while wanted is not None and wanted not in kept and wanted not in found:  # the index has no circles
                own = stream if wanted == number else self._stream_of(wanted)
                chain.append(_Coded(wanted, own, self.is_predicted(wanted, own), *self._needs(wanted, own)))
                wanted = chain[-1].reference
            found.update((coded.number, coded) for coded in reversed(chain))
        return list(found.values())

    def chunks(self, number: int) -> int:
        """Chunks of the first stream of an entry."""
        entry, stream = self._entries[number], self._stream_of(number)
        dtype = symbol_dtype(entry.streams[0])
        if not self.is_predicted(number, stream):
            return ops.stream_layout(stream, entry.streams[0].numel, dtype)[1].shape[0]
        carrier, _ = self._needs(number, stream)
        return ops.matrix_directory(stream, entry.numel, dtype, self._predictors_of(carrier)).shape[0]

    def _needs(self, number: int, stream: Tensor) -> tuple[int | None, int | None]:
        """The entries that a stream needs: of its predictors, of its reference."""
        entry = self._entries[number]
        if not self.is_predicted(number, stream):
            if has_symbols(entry) and not entry.refers:
                return None, None
            raise ReferenceMissingError(f"{entry.name!r} is no matrix of symbols that another could refer to")
        predictors, reference = ops.matrix_needs(stream, entry.numel, symbol_dtype(entry.streams[0]))
        expected = int(predictors > 0) + int(reference)
        if len(entry.refers) != expected or not all(has_symbols(self._entries[target]) for target in entry.refers):
            raise ReferenceMissingError(f"{entry.name!r} refers to {len(entry.refers)} tensors of symbols, its stream needs {expected}")
        return entry.refers[0] if predictors else None, entry.refers[-1] if reference else None

    def _predictors_of(self, number: int | None) -> list[Tensor]:
        """The predictors that an entry's stream carries; none: none."""
        if number is None:
            return []
        if number not in self._predictors:
            entry = self._entries[number]
            self._predictors[number] = ops.stream_predictors(self._stream_of(number), entry.numel, symbol_dtype(entry.streams[0]))
        return self._predictors[number]
