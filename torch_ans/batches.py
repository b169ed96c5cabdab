"""Whole tensors on a GPU, many together: each step is one call of an operator for all of them, and what leaves the GPU is compressed.

The records are those of records.py, which takes tensors (and parts of tensors) one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from . import ops, records, weights
from .entries import Entry, Kind, QuantizedMeta, Transform, torch_dtype
from .planes import component_bytes, cut_planes, flat, join_planes
from .records import EncodedPiece, EntrySpec

#: Bytes of tensors that are worked on together, about: their symbols and planes take up to three times as much beside them.
BATCH_BYTES = 1 << 28
#: Dtypes of symbols by their names in the index.
SYMBOLS = {"i8": torch.int8, "u8": torch.uint8, "i16": torch.int16}


def on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def has_cuda_kernels() -> bool:
    """Whether this installation was built with CUDA."""
    return torch._C._dispatch_has_kernel_for_dispatch_key("ans::encode_streams", "CUDA")


def suits(spec: EntrySpec, tensor: object) -> bool:
    """Whether a tensor is one for `encode_whole`. The operators take no float64 weights; what is larger than a batch is better taken in parts."""
    quantized = bool(spec.forms) and spec.forms[0].kind == Kind.QUANTIZED
    if spec.on_grid or not isinstance(tensor, Tensor):
        return False
    return on_gpu(tensor) and 0 < tensor.nbytes <= BATCH_BYTES and not (quantized and tensor.dtype == torch.float64)


def batched(numbers: Sequence[int], size_of: Callable[[int], int], device_of: Callable[[int], object] = lambda number: None) -> Iterator[list[int]]:
    """Cuts a sequence of tensors (their numbers) into batches of one device and about BATCH_BYTES."""
    batch: list[int] = []
    size = 0
    for number in numbers:
        if batch and (size + size_of(number) > BATCH_BYTES or device_of(batch[0]) != device_of(number)):
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += size_of(number)
    if batch:
        yield batch


def encode_whole(specs: Sequence[EntrySpec], tensors: Sequence[Tensor], chunk_target: int) -> list[EncodedPiece]:
    """The only piece of each of these tensors, with its record complete, on the GPU. Raises NotFiniteError without saying for which."""
    pieces: list[EncodedPiece | None] = [None] * len(specs)
    symbols: list[Tensor] = []
    chunks: list[int] = []
    begins: dict[int, int] = {}  # of each tensor's streams among all
    exponents = _quantize(specs, tensors, chunk_target, symbols, chunks, begins)
    forms = _choose_planes(specs, tensors, symbols, chunks, begins)
    streams = ops.encode_streams(symbols, chunks)
    for i in range(len(specs)):
        count = 3 if i in exponents else len(_streams_of(specs[i], forms[i]))
        record = streams[begins[i] : begins[i] + count]
        pieces[i] = EncodedPiece(forms.get(i, 0), exponents.get(i, 0), [], [], None, record)
    return [piece for piece in pieces if piece is not None]


def _quantize(
    specs: Sequence[EntrySpec], tensors: Sequence[Tensor], chunk_target: int, symbols: list[Tensor], chunks: list[int], begins: dict[int, int]
) -> dict[int, int]:
    """Quantizes what is to be, and appends symbols and the two planes of the scales. Exponents by tensor."""
    alike: dict[tuple[int, float | None], list[int]] = {}
    for i, spec in enumerate(specs):
        if spec.forms[0].kind == Kind.QUANTIZED:
            alike.setdefault((spec.forms[0].bits, spec.forms[0].clip_sigmas), []).append(i)
    exponents: dict[int, int] = {}
    for (bits, clip), members in alike.items():
        quantized = ops.quantize_many([flat(tensors[i]).view(-1, specs[i].forms[0].columns) for i in members], bits, clip)
        rows = [q.scale.numel() for q in quantized]
        planes = [plane.split(rows) for plane in cut_planes(component_bytes(torch.cat([q.scale for q in quantized]), "float16"), Transform.NONE)]
        exponents.update(zip(members, torch.stack([q.exponent for q in quantized]).tolist()))
        for i, q, high, low in zip(members, quantized, *planes):
            begins[i] = len(symbols)
            symbols += [q.symbols.view(-1), high, low]
            chunks += [specs[i].chunk_symbols, *[records.chunk_length(high.numel(), 1, chunk_target)] * 2]
    return exponents


def _choose_planes(specs: Sequence[EntrySpec], tensors: Sequence[Tensor], symbols: list[Tensor], chunks: list[int], begins: dict[int, int]) -> dict[int, int]:
    """For tensors that are kept exactly: the number of the smallest form. Its streams' symbols are appended."""
    candidates = {i: [_symbols_of(tensors[i], spec, form) for form in range(len(spec.forms))] for i, spec in enumerate(specs) if spec.forms[0].kind != Kind.QUANTIZED}
    to_count = [s for i, forms in candidates.items() if len(forms) > 1 for form in forms for s in form]
    counts: dict[int, Tensor] = {}  # by identity of what was counted
    for dtype in {s.dtype for s in to_count}:
        alike = [s for s in to_count if s.dtype == dtype]
        counts.update(zip(map(id, alike), ops.histogram_many(alike).cpu().unbind()))
    chosen = {}
    for i, forms in candidates.items():
        chosen[i] = records.choose(specs[i], [torch.stack([counts[id(s)] for s in form]) for form in forms]) if len(forms) > 1 else 0
        begins[i] = len(symbols)
        symbols += forms[chosen[i]]
        chunks += [specs[i].chunk_symbols] * len(forms[chosen[i]])
    return chosen


def _streams_of(spec: EntrySpec, form: int) -> range:
    """Numbers of the streams of a form of a tensor that is kept exactly."""
    return range(1 if spec.forms[form].kind == Kind.SYMBOLS else records.plane_count(spec))


def _symbols_of(tensor: Tensor, spec: EntrySpec, form: int) -> list[Tensor]:
    components = component_bytes(tensor, spec.dtype)
    if spec.forms[form].kind == Kind.SYMBOLS:
        return [components.view(torch_dtype(spec.dtype)).view(-1)]
    return cut_planes(components, spec.forms[form].transform)


# ---- the other way ----


def decodes_on(device: torch.device) -> bool:
    """Whether tensors for this device are decoded on it. Otherwise they are decoded on the CPU and moved."""
    return device.type == "cuda" and has_cuda_kernels()


def staged(streams: Sequence[Sequence[memoryview]], device: torch.device) -> list[list[Tensor]]:
    """Streams as uint8 tensors on the host, in pinned memory where they are to go to a GPU."""
    sizes = [len(stream) for record in streams for stream in record]
    memory = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=device.type == "cuda")
    parts = iter(memory.split(sizes))
    result = []
    for record in streams:
        result.append([next(parts) for _ in record])
        for part, stream in zip(result[-1], record):
            part.numpy()[:] = memoryview(stream)
    return result


def decode(
    entries: Sequence[Entry], streams: Sequence[Sequence[memoryview]], dtypes: Sequence[torch.dtype | None], device: torch.device, symbols: Mapping[int, Tensor]
) -> list[Tensor]:
    """The tensors of these entries (no aliases) from their records: two calls of operators for all of them. Quantized ones come in the dtype that is given for them. Some of those
    with symbols may have been decoded already: `symbols`, by position."""
    there = staged([record[1:] if i in symbols else record for i, record in enumerate(streams)], device)
    metas = {i: QuantizedMeta(*entry.meta) for i, entry in enumerate(entries) if entry.kind == Kind.QUANTIZED}
    # Symbols of 8 bits without scales of columns become weights while they are decoded; of others the symbols come first.
    separate = {i for i, meta in metas.items() if meta.bits > 8 or meta.column_scaled}
    quantized = [i for i, entry in enumerate(entries) if entry.kind == Kind.QUANTIZED]
    rows = [entries[i].numel // metas[i].columns for i in quantized]
    planes = torch.empty(2, sum(rows), dtype=torch.uint8, device=device)  # of the scales of all quantized tensors
    parts: dict[int, list[Tensor]] = {i: list(of_one) for i, of_one in zip(quantized, zip(*(plane.split(rows) for plane in planes)))}
    for i, entry in enumerate(entries):
        specs = entry.streams if entry.kind != Kind.QUANTIZED else entry.streams[:-2] if i in separate else ()
        specs = specs[1:] if i in symbols else specs
        parts[i] = [torch.empty(spec.numel, dtype=SYMBOLS[spec.symbol_type], device=device) for spec in specs] + parts.get(i, [])
    ops.decode_streams_out([stream for i in parts for stream in there[i][-len(parts[i]) :]], [part for of_one in parts.values() for part in of_one])

    results: dict[int, Tensor] = {}
    if quantized:
        scales = torch.stack([planes[1], planes[0]], dim=1).view(-1).view(torch.float16).split(rows)  # the low byte comes first
        exponents = torch.tensor([metas[i].exponent for i in quantized], dtype=torch.int32, device=device).unbind()
        wanted = {i: dtypes[i] or torch_dtype(entries[i].dtype) for i in quantized}
        coded = [k for k, i in enumerate(quantized) if i not in symbols and i not in separate]
        for i in (quantized[k] for k in coded):
            narrow = torch.float32 if wanted[i] == torch.float64 else wanted[i]
            results[i] = torch.empty(entries[i].numel, dtype=narrow, device=device).view(-1, metas[i].columns)
        ops.decode_streams_dequantize_out([there[quantized[k]][0] for k in coded], [scales[k] for k in coded], [exponents[k] for k in coded], torch.int8, [results[quantized[k]] for k in coded])
        for i, scale, exponent in zip(quantized, scales, exponents):
            if i in symbols or i in separate:
                of_rows = (symbols[i] if i in symbols else parts[i][0]).view(-1, metas[i].columns)
                results[i] = weights.dequantize(of_rows, scale, exponent, parts[i][-3] if metas[i].column_scaled else None, wanted[i])
    for i, entry in enumerate(entries):
        if entry.kind == Kind.QUANTIZED:
            results[i] = results[i].to(dtypes[i] or torch_dtype(entry.dtype))
        elif entry.kind == Kind.SYMBOLS:
            results[i] = symbols[i] if i in symbols else parts[i][0]
        else:
            results[i] = _joined(parts[i], entry.meta[0]).view(-1).view(torch_dtype(entry.dtype))
    return [results[i].view(entry.shape) for i, entry in enumerate(entries)]


def _joined(planes: Sequence[Tensor], transform: int) -> Tensor:
    return join_planes(planes.__getitem__, planes[0].numel(), len(planes), transform, planes[0].device)
