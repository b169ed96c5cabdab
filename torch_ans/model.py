"""Whole models: compress and decompress, save and load, and `open` for one tensor at a time.

torch_ans.save(model.state_dict(), "model.ans")                        # every bit of every tensor
compressed = torch_ans.compress_model(model.state_dict(), bits=6)      # large matrices as 6-bit integers with a scale per row
with torch_ans.open("model.ans") as file:
    weight = file.get_tensor("layers.0.weight")
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

from . import ops, pipeline, predicted, prediction, tree, weights
from .atomic import atomic_write, check_target
from .container import ContainerReader, pack_head, write_container
from .entries import Index, Kind, QuantizedMeta
from .errors import CorruptError, InvalidArgumentError
from .pipeline import Exchange, LocalExchange, Options, Progress
from .planes import same_bits
from .reader import AnsFile
from .records import EntrySpec
from .weights import QuantizedWeight


class CompressedModel:
    """A file in memory: its index, and the record of every entry. `save` writes it, `decompress_model` and `open` read it."""

    def __init__(self, index: Index, parts: Sequence[Sequence[Tensor]]) -> None:
        self.index = index
        self._parts = parts
        self._head = pack_head(index)

    @property
    def file_bytes(self) -> int:
        """Size of the `.ans` file."""
        return len(self._head) + self.index.payload_bytes

    @property
    def head_bytes(self) -> int:
        """Bytes of header and index, of `file_bytes`."""
        return len(self._head)

    def record(self, number: int) -> list[memoryview]:
        """The streams of entry `number`, for an alias those of its target."""
        number = self.index.resolve(number)
        joined = memoryview(torch.cat(list(self._parts[number])).numpy()) if self._parts[number] else memoryview(b"")
        result, begin = [], 0
        for size in self.index.entries[number].stream_bytes:
            result.append(joined[begin : begin + size])
            begin += size
        return result

    def write(self, sink: BinaryIO | str | os.PathLike[str]) -> int:
        """Writes the file to a path (atomically) or a binary file. Returns its size."""
        return write_container(sink, self.index, ((part.numpy() for part in parts) for parts in self._parts if parts))

    def to_bytes(self) -> bytes:
        """The file."""
        pieces = _Pieces()
        self.write(pieces)
        return b"".join(pieces)

    def verify(self) -> None:
        """Records in memory have no way to change."""

    def close(self) -> None:
        """Nothing to close."""


class _Pieces(list):
    """A file that keeps references to what is written, so that it is copied once only."""

    write = list.append


# ---- compress and save ----


def compress_model(
    state_dict: Any,
    bits: int | None | str = "default",
    *,
    clip_sigmas: float | str | None = None,
    select: pipeline.Select | None = None,
    min_quantized_numel: int = 65536,
    chunk_symbols: int = ops.DEFAULT_CHUNK_SYMBOLS,
    ties: pipeline.Ties | None = None,
    level: str = "fast",
    quantizer: str = "clip",
    bits_per_weight: float | None = None,
    step_sigmas: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> CompressedModel:
    """Compresses tensors in any nesting of dicts, lists and tuples, with numbers, strings, bytes and None among them.

    Integers are coded as they are, and everything is kept exactly, except float tensors that are quantized:

    bits: 2 ... 8 bits per quantized weight, in symmetric integers with one float16 scale per row; None: nothing is quantized. Default: 6 with the quantizer "clip".
    clip_sigmas: a row's scale is that many standard deviations over the largest integer; None: 12.85, "absmax": its largest
        magnitude.
    select: which float tensors to quantize. A function of name and tensor says True, False, a number of bits, or None (then the
        size decides); a pattern (`*.weight`), or a sequence of them, picks tensors by name, and only these. Default: those of
        two or more dimensions and at least `min_quantized_numel` elements.
    chunk_symbols: symbols per independently decodable chunk, about (1 ... 2**22). Fewer: more parallelism; more: about 10 bytes
        saved per chunk.
    ties: the scales of integers that were quantized elsewhere: a mapping `{"w.q": "w.scale"}`, a pair of suffixes `(".q",
        ".scale")`, or a function from the name of a tensor to that of its scale or None. Both are kept exactly;
        `AnsFile.dequantize("w.q")` multiplies them.
    level: how hard to look for a smaller file. "fast": each symbol for itself (order 0); "default": matrices are predicted along
        their rows or columns; "best": also by several predictors for the lines of a matrix, from lines like them, and from other
        matrices. Files of the higher levels take longer to make, and several times as long to decode.
    quantizer: "clip", as above, or one that clips nothing and whose grid is as fine as asked for: "uniform", "trellis4", "trellis8" or "trellis32" (see
        `quantize_weight`). Then `bits` is None, and either bits_per_weight or step_sigmas is given; `select` may return other bits per weight.
    metadata: a dict of what JSON can hold, returned by `AnsFile.metadata`.
    progress: called with name and bytes of each tensor that is done.

    Tensors that share all their memory are stored once. Raises InvalidArgumentError, UnsupportedDtypeError, or NotFiniteError
    if a tensor to be quantized holds NaN or infinity.
    """
    if isinstance(bits, str) and bits == "default":
        bits = 6 if quantizer == "clip" else None
    options = Options(bits, clip_sigmas, select, min_quantized_numel, chunk_symbols, ties, level, quantizer, bits_per_weight, step_sigmas)
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidArgumentError(f"metadata is {metadata!r}, not a dict")
    model = compress(state_dict, options, metadata, progress, LocalExchange())
    assert model is not None
    return model


def compress(
    state_dict: Any, options: Options, metadata: Mapping[str, Any] | None, progress: Progress | None, exchange: Exchange
) -> CompressedModel | None:
    """`compress_model` on the ranks of an exchange, which all have the same state dict. The result is on rank 0, None
    elsewhere."""
    flat, specs = pipeline.agreed(exchange, lambda: _plan(state_dict, options))
    about = f"{len(specs)} tensors of {sum(spec.numel for spec in specs)} elements"
    exchange.agree(None, pipeline.digest(specs), about)
    effort = prediction.effort_of(options.level)
    pieces = pipeline.encode(specs, flat.tensors, exchange, progress if effort is None else None, options.chunk_symbols)

    def finish() -> CompressedModel | None:
        if pieces is None:
            return None
        entries, parts = pipeline.assemble(specs, pieces, options.chunk_symbols)
        if effort is not None:
            with predicted.all_cores() if exchange.world_size > 1 else contextlib.nullcontext():
                entries, parts = predicted.predict(entries, parts, effort, options.chunk_symbols, progress)
        return CompressedModel(Index(tuple(entries), flat.structure, dict(metadata or {})), parts)

    return pipeline.agreed(exchange, finish)


def is_leaf(node: Any) -> bool:
    """Whether something in the nesting of a model is a tensor, or stands for one."""
    return isinstance(node, Tensor | QuantizedWeight)


def _plan(state_dict: Any, options: Options) -> tuple[tree.Flattened, list[EntrySpec]]:
    flat = tree.flatten(state_dict, is_leaf)
    return flat, pipeline.plan(flat.names, flat.tensors, options)


def save(
    obj: Any,
    path: str | os.PathLike[str],
    *,
    bits: int | None = None,
    verify: bool = False,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> int:
    """Writes tensors (as `compress_model` takes them) or a CompressedModel to a file and returns its size.

    Unlike `compress_model` it keeps everything exactly unless `bits` is given; the other options are the same. The file appears
    under its name only when it is complete. `verify`: before that, it is read back and decoded, and raises a CorruptError if
    anything is not as it was.
    """
    check_target(path)  # before all the work
    model = _compressed(obj, bits, metadata, progress, options)
    return write_model(model, path, None if obj is model else obj, verify)


def write_model(model: CompressedModel, path: str | os.PathLike[str], source: Any, verify: bool) -> int:
    """Writes a model that was made of `source` (None: not known) to a file."""
    if not verify:
        return model.write(path)
    with atomic_write(path) as file:
        size = model.write(file)
        file.flush()
        with open(file, max_bytes=model.index.decoded_bytes) as written:
            written.verify(decode=source is None)
            if source is not None:
                _compare(written, source)
    return size


def dumps(
    obj: Any,
    *,
    bits: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> bytes:
    """The file that `save` would write."""
    return _compressed(obj, bits, metadata, progress, options).to_bytes()


def _compressed(obj: Any, bits: int | None, metadata: Any, progress: Progress | None, options: dict[str, Any]) -> CompressedModel:
    if not isinstance(obj, CompressedModel):
        return compress_model(obj, bits, metadata=metadata, progress=progress, **options)
    if bits is not None or metadata or options:
        raise InvalidArgumentError("a CompressedModel has its options already")
    return obj


def _compare(written: AnsFile, source: Any) -> None:
    """Raise unless the file decodes to what it was made of; quantized weights to their integers."""
    for name, tensor in zip(written.keys(), tree.flatten(source, is_leaf).tensors):
        entry = written.entry(name)
        if isinstance(tensor, QuantizedWeight):
            same = weights.same(written.get_quantized_weight(name), tensor)
        elif entry.kind == Kind.QUANTIZED:
            same = weights.are_integers_of(tensor.detach().cpu(), written.get_quantized_weight(name), QuantizedMeta(*entry.meta).bits)
        else:
            same = same_bits(written.get_tensor(name), tensor.detach().cpu(), entry.dtype)
        if not same:
            raise CorruptError(f"{name!r} does not decode to what was to be saved")


# ---- load and decompress ----


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """What was saved in a file: the same nesting, quantized weights as floats of their own dtype, or of `dtype` if given.

    A file can be small and still declare huge tensors: beyond `max_bytes` in all (default: 1 GiB, or 64 times the file if that
    is more) LimitExceededError is raised before anything is allocated. A damaged file raises a CorruptError.
    """
    with open(path, device=device, max_bytes=max_bytes) as file:
        return file.tree(dtype, progress)


def loads(
    data: Any, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None, max_bytes: int | None = None
) -> Any:
    """`load` of the bytes of a file."""
    with open(memoryview(data), device=device, max_bytes=max_bytes) as file:
        return file.tree(dtype)


def decompress_model(
    compressed: CompressedModel | Any,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """What `compress_model` was given, from its result or from the bytes of a file; arguments as of `load`."""
    source = compressed if isinstance(compressed, CompressedModel) else memoryview(compressed)
    with open(source, device=device, max_bytes=max_bytes) as file:
        return file.tree(dtype, progress)


def open(  # like gzip.open: meant to be called as torch_ans.open
    source: str | os.PathLike[str] | bytes | BinaryIO | CompressedModel,
    *,
    device: str | torch.device = "cpu",
    max_bytes: int | None = None,
) -> AnsFile:
    """Opens a file (a path, its bytes, a seekable binary file, or a CompressedModel) and reads nothing but its index. Tensors
    come on `device`; `max_bytes` as for `load` (a CompressedModel is not limited)."""
    return AnsFile(source if isinstance(source, CompressedModel) else ContainerReader(source, max_bytes), device)
