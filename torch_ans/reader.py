"""An open `.ans` file: tensors by name, decoded when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from . import batches, ops, records, streams, tree, weights
from .entries import QUANTIZED_DTYPES, Entry, Index, Kind, QuantizedMeta, StreamSpec, torch_dtype
from .errors import InvalidArgumentError
from .predicted import SymbolDecoder
from .weights import QuantizedWeight


class Reader(Protocol):
    """Where index and records come from: a ContainerReader, or a CompressedModel."""

    index: Index

    @property
    def file_bytes(self) -> int: ...
    @property
    def head_bytes(self) -> int: ...
    def record(self, number: int) -> list[memoryview]: ...
    def verify(self) -> None: ...
    def close(self) -> None: ...


class AnsFile:
    """An open `.ans` file; each tensor is read and decoded when it is asked for. Unknown names raise KeyError, damage raises
    CorruptErrors. Made by `torch_ans.open`. `source` is closed with it."""

    def __init__(self, source: Reader, device: str | torch.device = "cpu") -> None:
        self._reader = source
        self._device = torch.device(device)
        self._symbols = SymbolDecoder(source.index.entries, lambda number: self._streams(number)[0])

    @property
    def index(self) -> Index:
        return self._reader.index

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self._reader.file_bytes

    @property
    def head_bytes(self) -> int:
        """Bytes of header and index, of `file_bytes`."""
        return self._reader.head_bytes

    def keys(self) -> list[str]:
        """Names of all tensors, in order."""
        return [entry.name for entry in self.index.entries]

    def __contains__(self, name: object) -> bool:
        return name in self.index.numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.index.entries)

    def metadata(self) -> dict[str, Any]:
        """The user's metadata."""
        return dict(self.index.metadata)

    def entry(self, name: str) -> Entry:
        """What the index says about a tensor; for one that is stored as another, what it says about that."""
        return self.index.entries[self._number(name)]

    def get_shape(self, name: str) -> torch.Size:
        return torch.Size(self.entry(name).shape)

    def get_dtype(self, name: str) -> torch.dtype:
        return torch_dtype(self.entry(name).dtype)

    def get_streams(self, name: str) -> list[tuple[StreamSpec, Tensor]]:
        """The coded streams of a tensor (uint8), and what has to be known to decode them."""
        entry = self.entry(name)
        return list(zip(entry.streams, self._record(name)))

    def get_chunk_count(self, name: str) -> int:
        """Chunks that the first stream of a tensor can be decoded in, side by side: its integers, if it has any."""
        return self._symbols.chunks(self._number(name))

    def get_tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor as it was saved. Quantized weights come as floats of their own dtype, or of `dtype` if given."""
        entry = self.entry(name)
        if entry.kind == Kind.QUANTIZED:
            return self.dequantize(name, dtype)
        return self._decode_exact(entry)

    def get_quantized(self, name: str) -> ops.Quantized:
        """The integers of a quantized tensor and their scales. Symbols have one row per scale as their last dimension, which
        for convolutions joins several dimensions of the tensor."""
        entry = self.entry(name)
        if entry.kind != Kind.QUANTIZED:
            raise InvalidArgumentError(f"{name!r} is not quantized, but kept exactly")
        record = self._record(name)
        scale, exponent = records.decode_scale(entry, record)
        symbols = self._decode_symbols(self._number(name), record[0], batches.SYMBOLS[entry.streams[0].symbol_type])
        return ops.Quantized(symbols.view(*scale.shape, QuantizedMeta(*entry.meta).columns), scale.to(self._device), exponent.to(self._device))

    def get_quantized_weight(self, name: str) -> QuantizedWeight:
        """A quantized tensor as `compress_model` and `save` take it: saved again, it is the same. (Integers that were clipped are then as good as any others.)"""
        entry, parts, record = self.entry(name), self.get_quantized(name), self._record(name)
        column_scale = records.decode_column_scale(entry, record)
        spec = entry.streams[0]
        states, _ = ops.stream_trellis(record[0], spec.numel, batches.SYMBOLS[spec.symbol_type])
        return QuantizedWeight(
            parts.symbols.view(-1, parts.symbols.shape[-1]),
            parts.scale.view(-1),
            int(parts.exponent),
            None if column_scale is None else column_scale.to(self._device),
            states,
            entry.shape,
            torch_dtype(entry.dtype),
        )

    def get_scale_name(self, name: str) -> str | None:
        """Name of the scale that is tied to a tensor of integers; None if there is none."""
        for user in self.index.users.get(self._number(name), ()):
            entry = self.index.entries[user]
            if self.entry(name).kind == Kind.SYMBOLS and entry.kind == Kind.PLANES and entry.dtype in QUANTIZED_DTYPES:
                return entry.name
        return None

    def dequantize(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Quantized weights, or integers with a tied scale, as floats of any dtype. Default: the tensor's own dtype, or that of
        the scale. Each integer times its scale is rounded to float32 (with a float64 scale: not at all) and that to `dtype`."""
        entry = self.entry(name)
        if dtype is not None and str(dtype).removeprefix("torch.") not in QUANTIZED_DTYPES:
            raise InvalidArgumentError(f"weights cannot be decoded to {dtype}; {', '.join(QUANTIZED_DTYPES)} are possible")
        if entry.kind == Kind.QUANTIZED and batches.decodes_on(self._device):
            return self._decode_there([self._number(name)], dtype)[0]
        if entry.kind == Kind.QUANTIZED:
            return self._decode_quantized(self._number(name), self._record(name), dtype, None)
        if (scale_name := self.get_scale_name(name)) is None:
            raise InvalidArgumentError(f"{name!r} is neither quantized nor tied to a scale")
        scale = self._decode_exact(self.entry(scale_name)).view(-1)
        if scale.numel() == 0 or entry.numel % scale.numel():
            raise InvalidArgumentError(f"{scale_name!r} has {scale.numel()} scales, which do not divide {name!r}")
        return self._dequantize_tied(name, entry, scale, dtype or scale.dtype).view(entry.shape)

    def _dequantize_tied(self, name: str, entry: Entry, scale: Tensor, dtype: torch.dtype) -> Tensor:
        stream = self._record(name)[0]
        symbol_dtype = batches.SYMBOLS[entry.streams[0].symbol_type]
        wide = torch.float64 if scale.dtype == torch.float64 else torch.float32
        predicted = self._symbols.is_predicted(self._number(name), stream)
        if scale.dtype == torch.float16 and not predicted:
            weights = torch.empty(scale.numel(), entry.numel // scale.numel(), dtype=wide if dtype == torch.float64 else dtype, device=self._device)
            if weights.is_cpu or batches.decodes_on(self._device):
                exponent = torch.zeros((), dtype=torch.int32, device=self._device)
                ops.decode_streams_dequantize_out([stream], [scale], [exponent], symbol_dtype, [weights])
                return weights.to(dtype)
        symbols = self._decode_symbols(self._number(name), stream, symbol_dtype).view(scale.numel(), -1)
        return symbols.to(wide).mul_(scale.to(wide)[:, None]).to(dtype)

    def tree(self, dtype: torch.dtype | None = None, progress: Callable[[str, int], None] | None = None) -> Any:
        """Everything, nested as it was saved; tensors that were one are one again."""
        tensors: dict[int, Tensor] = {}
        symbols: dict[int, Tensor] = {}  # of matrices, to which others may refer
        if batches.decodes_on(self._device):
            numbers = [number for number, entry in enumerate(self.index.entries) if entry.kind != Kind.ALIAS]
            for batch in batches.batched(numbers, lambda i: self.index.entries[i].decoded_bytes):
                tensors.update(zip(batch, self._decode_there(batch, dtype, symbols)))
        for number, name in enumerate(self.keys()):
            target = self.index.resolve(number)
            if target not in tensors:
                tensors[target] = self._decode_here(target, dtype, symbols)
            if progress is not None:
                progress(name, tensors[target].nbytes)
        ordered = [tensors[self.index.resolve(number)] for number in range(len(self))]
        return tree.unflatten(self.index.structure, self.keys(), ordered)

    def verify(self, decode: bool = True) -> None:
        """Raises a CorruptError if a checksum is wrong or, with `decode`, if a tensor cannot be decoded."""
        self._reader.verify()
        tree.unflatten(self.index.structure, self.keys(), self.keys())
        for entry in self.index.entries if decode else ():
            if entry.kind != Kind.ALIAS:
                self.get_tensor(entry.name)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> AnsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _number(self, name: str) -> int:
        if name not in self.index.numbers:
            raise KeyError(f"there is no tensor {name!r} in this file")
        return self.index.resolve(self.index.numbers[name])

    def _decode_there(self, numbers: Sequence[int], dtype: torch.dtype | None = None, symbols: dict[int, Tensor] | None = None) -> list[Tensor]:
        """Tensors of entries on the file's device, all at once there. Symbols of matrix streams, and of what they refer to, stay in `symbols`."""
        found = [self._reader.record(i) for i in numbers]
        kept: dict[int, Tensor] = {} if symbols is None else symbols
        predicted = {
            i: records.stream_tensor(record[0]) for i, record in zip(numbers, found) if record and self._symbols.is_predicted(i, records.stream_tensor(record[0][:1]))
        }
        self._symbols.decode_on(self._device, predicted, kept)
        decoded = {k: kept[i] if self.index.entries[i].kind == Kind.QUANTIZED else self._own(kept[i], symbols) for k, i in enumerate(numbers) if i in predicted}
        return batches.decode([self.index.entries[i] for i in numbers], found, [dtype] * len(numbers), self._device, decoded)

    def _decode_here(self, number: int, dtype: torch.dtype | None, symbols: dict[int, Tensor] | None) -> Tensor:
        """A tensor, decoded on the CPU. Symbols of matrix streams, and of what they refer to, stay in `symbols`."""
        entry, record = self.index.entries[number], self._streams(number)
        if entry.kind == Kind.QUANTIZED:
            return self._decode_quantized(number, record, dtype, symbols)
        if self._symbols.is_predicted(number, record[0] if record else torch.empty(0)):
            return self._own(self._symbols.decode(number, record[0], symbols), symbols).view(entry.shape).to(self._device)
        return records.decode_exact(entry, record).to(self._device)

    @staticmethod
    def _own(symbols: Tensor, kept: dict[int, Tensor] | None) -> Tensor:
        """Symbols that the caller may write to, while others are still to be decoded from them."""
        return symbols if kept is None else symbols.clone()

    def _decode_quantized(self, number: int, record: Sequence[Tensor], dtype: torch.dtype | None, symbols: dict[int, Tensor] | None) -> Tensor:
        entry = self.index.entries[number]
        wanted, columns = dtype or torch_dtype(entry.dtype), QuantizedMeta(*entry.meta).columns
        scale, exponent = records.decode_scale(entry, record)
        column_scale = records.decode_column_scale(entry, record)
        # Symbols that others may refer to are kept; all others become weights while they are decoded.
        alone = not entry.refers and (symbols is None or number not in self.index.users)
        if alone and (symbols is None or number not in symbols):
            weight = weights.decode(record[0], batches.SYMBOLS[entry.streams[0].symbol_type], scale.view(-1), exponent, column_scale, columns, wanted)
        else:
            weight = weights.dequantize(self._symbols.decode(number, record[0], symbols).view(-1, columns), scale.view(-1), exponent, column_scale, wanted)
        return weight.view(entry.shape).to(self._device)

    def _decode_exact(self, entry: Entry) -> Tensor:
        if batches.decodes_on(self._device):
            return self._decode_there([self._number(entry.name)])[0]
        return self._decode_here(self._number(entry.name), None, None)

    def _decode_symbols(self, number: int, stream: Tensor, dtype: torch.dtype) -> Tensor:
        numel = self.index.entries[number].numel
        if self._symbols.is_predicted(number, stream):
            if not batches.decodes_on(self._device):
                return self._symbols.decode(number, stream).to(self._device)
            kept: dict[int, Tensor] = {}
            self._symbols.decode_on(self._device, {number: stream}, kept)
            return kept[number]
        if batches.decodes_on(self._device):
            return ops.decode_streams_out([stream], [torch.empty(numel, dtype=dtype, device=self._device)])[0]
        return streams.decode_stream(stream, numel, dtype).to(self._device)

    def _record(self, name: str) -> list[Tensor]:
        return self._streams(self._number(name))

    def _streams(self, number: int) -> list[Tensor]:
        return [records.stream_tensor(stream) for stream in self._reader.record(number)]
