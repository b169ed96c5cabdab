"""Whole tensors on a GPU, many together: each step is one call of an operator for all of them, and what leaves the GPU is compressed.

The records are those of records.py, which takes tensors (and parts of tensors) one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from . import ops, records
from .entries import Kind, Transform, torch_dtype
from .planes import component_bytes, cut_planes, flat
from .records import EncodedPiece, EntrySpec

#: Bytes of tensors that are worked on together, about: their symbols and planes take up to three times as much beside them.
BATCH_BYTES = 1 << 28


def on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def suits(spec: EntrySpec, tensor: Tensor) -> bool:
    """Whether a tensor is one for `encode_whole`. The operators take no float64 weights; what is larger than a batch is better taken in parts."""
    quantized = bool(spec.forms) and spec.forms[0].kind == Kind.QUANTIZED
    return on_gpu(tensor) and 0 < tensor.nbytes <= BATCH_BYTES and not (quantized and tensor.dtype == torch.float64)


def batched(numbers: Sequence[int], tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Cuts a sequence of tensors (their numbers) into batches of one device."""
    batch: list[int] = []
    size = 0
    for number in numbers:
        tensor = tensors[number]
        if batch and (size + tensor.nbytes > BATCH_BYTES or tensors[batch[0]].device != tensor.device):
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += tensor.nbytes
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
