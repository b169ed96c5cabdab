"""How small a model can get, and how small coders make it: entropies of an `.ans` file, tensor by tensor, and other coders beside it.

The *minimum* of a stream is the order-0 entropy of its symbols: what a coder with one free table, of no size, would need. Every coder is given
the same bytes: all streams of the file, decoded, one after another. Floats are cut into byte planes by then, which helps all alike.
"""

from __future__ import annotations

import importlib
import lzma
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import model as models
from . import ops, streams, tree, weights
from .entries import Kind, QuantizedMeta, StreamSpec
from .errors import CorruptError
from .pipeline import Progress
from .reader import AnsFile

T = TypeVar("T")

_QUICK_SECONDS = 2.0
_SYMBOL_DTYPES = {"i8": torch.int8, "u8": torch.uint8, "i16": torch.int16}


# ---- what a file holds ----


@dataclass(frozen=True)
class StreamReport:
    """A coded stream: its model (raw, constant, order0, matrix, trellis), chunks, symbols, bytes, and `minimum_bytes`, the order-0 entropy of its symbols."""

    symbol_type: str
    model: str
    chunks: int
    symbols: int
    bytes: int
    minimum_bytes: float


@dataclass(frozen=True)
class TensorReport:
    """A tensor of a file with its streams; an alias has none. `bits` is that of a quantized tensor, otherwise None."""

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    bits: int | None
    numel: int
    streams: tuple[StreamReport, ...]

    @property
    def bytes(self) -> int:
        return sum(stream.bytes for stream in self.streams)

    @property
    def minimum_bytes(self) -> float:
        return sum(stream.minimum_bytes for stream in self.streams)

    @property
    def model(self) -> str:
        """The models of its streams."""
        return "+".join(dict.fromkeys(stream.model for stream in self.streams)) or "-"

    def to_json(self) -> dict[str, Any]:
        sums = {"model": self.model, "bytes": self.bytes, "bits_per_weight": bits_per(self.bytes, self.numel)}
        overhead = {"minimum_bytes": self.minimum_bytes, "overhead_bytes": self.bytes - self.minimum_bytes}
        return asdict(self) | sums | overhead


def bits_per(size: float, numel: int) -> float | None:
    """Bits per element; None for no elements."""
    return 8 * size / numel if numel else None


def order0_bytes(symbols: Tensor) -> float:
    """Order-0 entropy of symbols (int8, uint8 or int16), in bytes."""
    counts = ops.histogram(symbols)[0]
    counts = counts[counts > 0].double()
    return abs(float((counts * (counts / symbols.numel()).log2()).sum())) / 8 if symbols.numel() else 0.0


def inspect(file: AnsFile, progress: Progress | None = None, each: Callable[[Tensor], None] | None = None) -> list[TensorReport]:
    """A report on every tensor of a file. Decodes all streams, one at a time, and hands the symbols to `each`. Raises a CorruptError if the file
    is damaged."""
    reports = []
    for entry in file.index.entries:
        meta_bits = entry.meta[1] if entry.kind == Kind.QUANTIZED else None
        coded = [] if entry.kind == Kind.ALIAS else file.get_streams(entry.name)
        described = tuple(_inspect_stream(spec, stream, each) for spec, stream in coded)
        kind = Kind(entry.kind).name.lower()
        reports.append(TensorReport(entry.name, kind, entry.dtype, tuple(entry.shape), meta_bits, entry.numel, described))
        if progress is not None:
            progress(entry.name, entry.decoded_bytes)
    return reports


def _inspect_stream(spec: StreamSpec, stream: Tensor, each: Callable[[Tensor], None] | None) -> StreamReport:
    dtype = _SYMBOL_DTYPES[spec.symbol_type]
    symbols = streams.decode_stream(stream, spec.numel, dtype)
    if each is not None:
        each(symbols)
    _, directory = ops.stream_layout(stream, spec.numel, dtype)
    model = streams.stream_model(stream).name.lower().removesuffix("_one_chunk")
    minimum = order0_bytes(symbols)
    if ops.stream_trellis(stream, spec.numel, dtype)[0]:  # the parity of a symbol is known
        model, minimum = "trellis", minimum - order0_bytes((symbols & 1).to(torch.int8))
    return StreamReport(spec.symbol_type, model, directory.shape[0], spec.numel, stream.numel(), minimum)


# ---- other coders ----


@dataclass(frozen=True)
class Coder:
    """Another coder: `compress` and `decompress` take bytes; where its module is missing, both are None and `missing` says so."""

    name: str
    compress: Callable[[Any], bytes] | None
    decompress: Callable[[bytes], Any] | None
    missing: str | None = None


def other_coders() -> list[Coder]:
    """LZMA, Brotli and zstd at their strongest settings, and zstd at its default. What is not installed is in the list all the same."""
    strongest = 9 | lzma.PRESET_EXTREME
    coders = [Coder("lzma 9e", lambda data: lzma.compress(data, preset=strongest), lzma.decompress)]
    brotli = _optional("brotli")
    if brotli is None:
        coders.append(Coder("brotli 11", None, None, "not installed: pip install brotli"))
    else:
        coders.append(Coder("brotli 11", lambda data: brotli.compress(bytes(data), quality=11, lgwin=24), brotli.decompress))
    zstandard = _optional("zstandard")
    for level in (19, 3):
        if zstandard is None:
            coders.append(Coder(f"zstd {level}", None, None, "not installed: pip install zstandard"))
        else:
            compress = zstandard.ZstdCompressor(level=level).compress
            coders.append(Coder(f"zstd {level}", compress, zstandard.ZstdDecompressor().decompress))
    return coders


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# ---- comparison ----


@dataclass(frozen=True)
class CoderResult:
    """What a coder made of a model; a coder that is not installed has None everywhere and says so in `missing`. `bytes` of torch_ans are those of
    the whole file, header and index included. What takes less than a second is timed three times, and the best counts."""

    name: str
    bytes: int | None
    compress_seconds: float | None
    decompress_seconds: float | None
    missing: str | None = None


@dataclass(frozen=True)
class Clipping:
    """A tensor whose integers were clipped: bits per weight that this wastes against an unclipped grid of the same error (see `weights.clipping_waste`), and the share of its weights."""

    name: str
    wasted_bits: float
    clipped: float


@dataclass(frozen=True)
class Analysis:
    """Result of `analyze`. `symbol_bytes` is what the other coders were given."""

    tensors: list[TensorReport]
    numel: int
    symbol_bytes: int
    minimum_bytes: float
    head_bytes: int
    coders: list[CoderResult]
    clipping: list[Clipping] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        coders = []
        for coder in self.coders:
            row = asdict(coder)
            if coder.bytes is not None:
                row |= {"bits_per_weight": bits_per(coder.bytes, self.numel), "over_minimum_bytes": coder.bytes - self.minimum_bytes}
            coders.append(row)
        whole: dict[str, Any] = {"weights": self.numel, "symbol_bytes": self.symbol_bytes, "head_bytes": self.head_bytes}
        whole |= {"minimum_bytes": self.minimum_bytes, "minimum_bits_per_weight": bits_per(self.minimum_bytes, self.numel)}
        integers = summary(stream for tensor in self.tensors for stream in tensor.streams[:1] if tensor.kind in ("symbols", "quantized"))
        tensors = [tensor.to_json() for tensor in self.tensors]
        whole |= {"clipping": [asdict(clipping) for clipping in self.clipping]}
        return whole | {"coders": coders, "integers": integers, "roles": roles(self.tensors), "tensors": tensors}


def summary(reports: Iterable[StreamReport]) -> dict[str, Any]:
    """Sums over streams."""
    chosen = list(reports)
    symbols, size = sum(r.symbols for r in chosen), sum(r.bytes for r in chosen)
    minimum, chunks = sum(r.minimum_bytes for r in chosen), sum(r.chunks for r in chosen)
    sums = {"symbols": symbols, "bytes": size, "minimum_bytes": minimum, "overhead_bytes": size - minimum, "chunks": chunks}
    return sums | {"bits_per_symbol": bits_per(size, symbols)}


def roles(tensors: Sequence[TensorReport]) -> list[dict[str, Any]]:
    """Sums over tensors whose names differ in numbers only: `layers.*.weight`."""
    groups: dict[str, list[TensorReport]] = {}
    for tensor in tensors:
        groups.setdefault(re.sub(r"\d+", "*", tensor.name), []).append(tensor)
    table = []
    for role, group in groups.items():
        numel, size, minimum = (sum(getattr(t, key) for t in group) for key in ("numel", "bytes", "minimum_bytes"))
        row: dict[str, Any] = {"role": role, "tensors": len(group), "weights": numel, "bytes": size, "minimum_bytes": minimum}
        table.append(row | {"bits_per_weight": bits_per(size, numel)})
    return table


def analyze(
    state: Any,
    bits: int | None = None,
    *,
    coders: Sequence[Coder] | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Analysis:
    """Compresses a model (as `compress_model`, with its options) and gives what its streams decode to, to every one of the coders.

    progress: called with what is about to be done. Raises the errors of `compress_model`, and CorruptError if any coder, ours included, does not
    give back what it was given.
    """
    tell = progress or (lambda text: None)
    tell("torch_ans")
    compressed, seconds = _timed(lambda: models.compress_model(state, bits, **options))
    _, seconds_back = _timed(lambda: models.decompress_model(compressed))
    results = [CoderResult("torch_ans", compressed.file_bytes, seconds, seconds_back)]
    pieces: list[Tensor] = []
    with models.open(compressed) as file:
        tensors = inspect(file, each=lambda symbols: pieces.extend(_byte_planes(symbols)))
        clipping = _find_clipping(file, state) if options.get("quantizer", "clip") == "clip" else []
    data: Any = torch.cat(pieces).numpy() if pieces else b""
    pieces.clear()
    for coder in other_coders() if coders is None else coders:
        tell(coder.name)
        results.append(_run(coder, memoryview(data)))
    numel = sum(tensor.numel for tensor in tensors)
    return Analysis(tensors, numel, len(data), sum(t.minimum_bytes for t in tensors), compressed.head_bytes, results, clipping)


#: What is worth a warning, in bits per weight.
_WASTE = 0.02


def _find_clipping(file: AnsFile, state: Any) -> list[Clipping]:
    """Tensors that lose by clipping, the worst first."""
    found = []
    for name, tensor in zip(file.keys(), tree.flatten(state, models.is_leaf).tensors):
        if file.entry(name).kind == Kind.QUANTIZED and isinstance(tensor, Tensor):
            wasted, clipped = weights.clipping_waste(tensor.detach().cpu(), file.get_quantized_weight(name), QuantizedMeta(*file.entry(name).meta).bits)
            if wasted > _WASTE:
                found.append(Clipping(name, wasted, clipped))
    return sorted(found, key=lambda clipping: -clipping.wasted_bits)


def _byte_planes(symbols: Tensor) -> list[Tensor]:
    """uint8 tensors: int16 as low bytes, then high bytes."""
    as_bytes = symbols.view(torch.uint8)
    return [as_bytes] if symbols.element_size() == 1 else [as_bytes[0::2].contiguous(), as_bytes[1::2].contiguous()]


def _run(coder: Coder, data: memoryview) -> CoderResult:
    if coder.compress is None or coder.decompress is None:
        return CoderResult(coder.name, None, None, None, coder.missing)
    compress, decompress = coder.compress, coder.decompress
    packed, seconds = _timed(lambda: compress(data))
    unpacked, seconds_back = _timed(lambda: decompress(packed))
    if memoryview(unpacked) != data:
        raise CorruptError(f"{coder.name} does not give back what it was given")
    return CoderResult(coder.name, len(packed), seconds, seconds_back)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Result and seconds. What is quick is done up to three times, and the best counts: a first call pages in memory and starts threads."""
    best = spent = 0.0
    for call in range(3):
        begin = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - begin
        best, spent = min(best, seconds) if call else seconds, spent + seconds
        if spent > _QUICK_SECONDS:
            break
    return result, best
