"""What an `.ans` file says about its tensors: dtypes, kinds, entries and the index they form.

Plain Python; torch is asked only when a dtype of its own has to be found. docs/CONTAINER.md gives the numbers and the meaning.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import UnsupportedDtypeError

if TYPE_CHECKING:
    import torch


class Dtype(NamedTuple):
    """How the elements of a torch dtype are stored: `components` numbers (2 for complex) that fill `item_bytes` together."""

    name: str
    item_bytes: int
    components: int = 1


# The position is the number in the file: append only.
DTYPES = (
    Dtype("bool", 1),
    Dtype("uint8", 1),
    Dtype("int8", 1),
    Dtype("uint16", 2),
    Dtype("int16", 2),
    Dtype("uint32", 4),
    Dtype("int32", 4),
    Dtype("uint64", 8),
    Dtype("int64", 8),
    Dtype("float16", 2),
    Dtype("bfloat16", 2),
    Dtype("float32", 4),
    Dtype("float64", 8),
    Dtype("complex32", 4, 2),
    Dtype("complex64", 8, 2),
    Dtype("complex128", 16, 2),
    Dtype("float8_e4m3fn", 1),
    Dtype("float8_e4m3fnuz", 1),
    Dtype("float8_e5m2", 1),
    Dtype("float8_e5m2fnuz", 1),
    Dtype("float8_e8m0fnu", 1),
    Dtype("float4_e2m1fn_x2", 1),
    Dtype("bits8", 1),
    Dtype("bits16", 2),
    Dtype("bits1x8", 1),
    Dtype("bits2x4", 1),
    Dtype("bits4x2", 1),
)
DTYPE_NUMBERS = {dtype.name: number for number, dtype in enumerate(DTYPES)}

# Symbol type of BITSTREAM.md by the dtype of a tensor that is one stream of symbols.
SYMBOL_TYPES = {"int8": "i8", "uint8": "u8", "int16": "i16"}
_SYMBOL_BYTES = {"i8": 1, "u8": 1, "i16": 2}
# What differences are taken of.
DELTA_DTYPES = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
# What quantized weights can be turned back into.
QUANTIZED_DTYPES = ("float16", "bfloat16", "float32", "float64")


def dtype_name(dtype: torch.dtype) -> str:
    """Name of a torch dtype in the file. Raises UnsupportedDtypeError if the format has none."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPE_NUMBERS:
        raise UnsupportedDtypeError(f"the format has no dtype {name}")
    return name


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of that name. Raises UnsupportedDtypeError if the installed torch has none."""
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UnsupportedDtypeError(f"torch {torch.__version__} has no dtype {name}; a newer torch can read this tensor")
    return dtype


class Kind(IntEnum):
    """What the streams of an entry hold; the number is the one in the file."""

    PLANES = 0
    SYMBOLS = 1
    QUANTIZED = 2
    ALIAS = 3


class Transform(IntEnum):
    """What is done to the components of `Kind.PLANES` before they are cut into bytes: nothing; each is rotated left by one bit;
    of each, the one before is subtracted (DELTA_DTYPES only). The number is the one in the file."""

    NONE = 0
    ROTATE = 1
    DELTA = 2


class PlanesMeta(NamedTuple):
    """Parameters of `Kind.PLANES`: a `Transform`."""

    transform: int


class QuantizedMeta(NamedTuple):
    """Parameters of `Kind.QUANTIZED`: weights per row scale, bits that the integers need (beyond 8: they are int16), `exponent`: a row's true scale is its fp16
    scale times 2^exponent, and whether columns have scales, too.
    """

    columns: int
    bits: int
    exponent: int
    column_scaled: int = 0


class StreamSpec(NamedTuple):
    """What the reader of a stream has to know: number of symbols and symbol type (`i8`, `u8`, `i16`)."""

    numel: int
    symbol_type: str

    @property
    def raw_bytes(self) -> int:
        """Bytes of the stream if it is stored raw."""
        return 1 + self.numel * _SYMBOL_BYTES[self.symbol_type]


@dataclass(frozen=True)
class Entry:
    """One tensor of the file. Its record is its streams, one after another.

    `dtype` is a key of DTYPE_NUMBERS; `meta` is `(transform,)`, `()`, a `QuantizedMeta`, `()` by kind; `stream_bytes` are
    the lengths of the streams in the order of `streams`; `checksum` is the record's `record_checksum` (0 without a record);
    `refers` are the numbers of the entries that this one needs or belongs to (the target of an alias; the weights of a tied
    scale).
    """

    name: str
    kind: Kind
    dtype: str
    shape: tuple[int, ...]
    meta: tuple[int, ...] = ()
    stream_bytes: tuple[int, ...] = ()
    checksum: int = 0
    refers: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the tensor in memory."""
        return self.numel * DTYPES[DTYPE_NUMBERS[self.dtype]].item_bytes

    @property
    def record_bytes(self) -> int:
        return sum(self.stream_bytes)

    @property
    def streams(self) -> tuple[StreamSpec, ...]:
        """The streams that an entry of this kind, dtype, shape and meta has."""
        return _stream_specs(self.kind, self.dtype, self.numel, self.meta)


@functools.lru_cache(maxsize=1024)
def _stream_specs(kind: Kind, dtype: str, numel: int, meta: tuple[int, ...]) -> tuple[StreamSpec, ...]:
    if kind == Kind.PLANES:
        _, item_bytes, components = DTYPES[DTYPE_NUMBERS[dtype]]
        return (StreamSpec(numel * components, "u8"),) * (item_bytes // components)
    if kind == Kind.SYMBOLS:
        return (StreamSpec(numel, SYMBOL_TYPES[dtype]),)
    if kind == Kind.QUANTIZED:
        parts = QuantizedMeta(*meta)
        rows = StreamSpec(numel // parts.columns, "u8")
        symbols = StreamSpec(numel, "i8" if parts.bits <= 8 else "i16")
        return (symbols, *[StreamSpec(parts.columns, "i8")] * parts.column_scaled, rows, rows)
    return ()


@dataclass(frozen=True)
class Index:
    """Everything a file says about its tensors. `structure` is the text of `tree.flatten` (empty: a flat dict of all entries)."""

    entries: Sequence[Entry] = ()
    structure: bytes = b""
    metadata: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Entry number of each name."""
        return {entry.name: number for number, entry in enumerate(self.entries)}

    @functools.cached_property
    def record_offsets(self) -> list[int]:
        """Where each entry's record begins in the payload, and, last, where the payload ends."""
        return list(itertools.accumulate((entry.record_bytes for entry in self.entries), initial=0))

    @functools.cached_property
    def users(self) -> dict[int, list[int]]:
        """For every entry that others refer to: the numbers of those others, ascending."""
        users: dict[int, list[int]] = {}
        for number, entry in enumerate(self.entries):
            for target in entry.refers:
                users.setdefault(target, []).append(number)
        return users

    @property
    def payload_bytes(self) -> int:
        return self.record_offsets[-1]

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all tensors in memory; an alias counts like any other."""
        return sum(entry.decoded_bytes for entry in self.entries)

    def resolve(self, number: int) -> int:
        """The entry whose record holds this entry's tensor: itself, or the target of an alias."""
        entry = self.entries[number]
        return entry.refers[0] if entry.kind == Kind.ALIAS else number
