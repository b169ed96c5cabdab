"""The index of an `.ans` file as bytes: columns of numbers and names. docs/CONTAINER.md is the specification.

`pack_index` and `unpack_index` turn an `Index` into its columns and back. What `unpack_index` returns has been checked against
all limits of the format; and `pack_index` reads its own output back, so that nothing is written which a reader would refuse.
"""

from __future__ import annotations

import dataclasses
import graphlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from . import errors
from .entries import (
    DELTA_DTYPES,
    DTYPE_NUMBERS,
    DTYPES,
    QUANTIZED_DTYPES,
    SYMBOL_TYPES,
    Entry,
    Index,
    Kind,
    PlanesMeta,
    QuantizedMeta,
    Transform,
)
from .errors import AnsError, CorruptError, InvalidArgumentError, LimitExceededError, UnsupportedDtypeError

MAX_INDEX_BYTES = 1 << 24
MAX_ENTRIES = 1 << 17
MAX_NAME_BYTES = (1 << 16) - 1
MAX_NAMES_BYTES = 1 << 24
MAX_DIMS = 255
MAX_REFERENCES = 16
MAX_JSON_DIGITS = 4300
MAX_BYTES = (1 << 63) - 1
STREAM_SLACK = 64


def parse_json(text: bytes, error: type[CorruptError], what: str) -> Any:
    """Strict JSON: UTF-8, no NaN or infinity, no key twice in an object, no huge integer. Raises `error`, also beyond Python's
    recursion limit.
    """

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"number {number[:20]} out of range")
        return value

    def integer(number: str) -> int:
        if len(number) > MAX_JSON_DIGITS:  # Python's own limit, which a program may have lifted, and then parsing is quadratic
            raise ValueError(f"an integer of {len(number)} characters")
        return int(number)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(pairs)) != len(pairs):
            raise ValueError("a key occurs twice")
        return result

    try:
        return json.JSONDecoder(object_pairs_hook=unique, parse_float=finite, parse_int=integer, parse_constant=finite).decode(
            text.decode("utf-8")
        )
    except (ValueError, RecursionError) as cause:
        raise error(f"{what} is not strict JSON: {cause}") from cause


def _dump_metadata(metadata: dict[str, Any]) -> bytes:
    if not metadata:
        return b""
    try:
        text = json.dumps(metadata, separators=(",", ":"), allow_nan=False).encode()
        if isinstance(metadata, dict) and parse_json(text, CorruptError, "metadata") == metadata:
            return text
    except (TypeError, ValueError, RecursionError) as cause:  # CorruptError is a ValueError
        raise InvalidArgumentError(f"metadata cannot be written as JSON: {cause}") from cause
    raise InvalidArgumentError(
        "metadata must be a dict with str keys, of values that JSON gives back as they are (no tuples, no int keys)"
    )


# ---- columns: numbers ----


def _varint(value: int) -> bytes:
    if not 0 <= value < 1 << 64:
        raise InvalidArgumentError(f"{value} does not fit an unsigned 64-bit field of the index")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if value & 1 == 0 else -(value + 1 >> 1)


class _Columns:
    """Reads an index from front to back; every read checks that the bytes are there."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, size: int, what: str) -> bytes:
        begin = self.position
        if size > len(self.data) - begin:
            raise errors.IndexTruncatedError(f"the index ends inside the column of {what}")
        self.position += size
        return self.data[begin : self.position]

    def varint(self, what: str) -> int:
        data, position, value, shift = self.data, self.position, 0, 0
        try:
            while (byte := data[position]) >= 0x80 and shift < 63:
                value |= (byte & 0x7F) << shift
                shift += 7
                position += 1
        except IndexError:
            raise errors.IndexTruncatedError(f"the index ends inside the column of {what}") from None
        self.position = position + 1
        value |= byte << shift
        if value >= 1 << 64 or (byte == 0 and shift):
            raise errors.BadVarintError(f"a number of the column of {what} exceeds 64 bits or is longer than it has to be")
        return value

    def varints(self, count: int, what: str) -> Sequence[int]:
        if (few := self.data[self.position : self.position + count]).isascii() and len(few) == count:
            self.position += count  # one byte each, as in most columns
            return few
        return [self.varint(what) for _ in range(count)]


# ---- writing ----


def pack_index(index: Index) -> list[bytes]:
    """The unpacked index, as three parts (descriptions, stream lengths, checksums) whose statistics differ; their concatenation
    counts.

    Raises InvalidArgumentError, UnsupportedDtypeError or LimitExceededError if the reader would refuse it.
    """
    entries = index.entries
    if len(entries) > MAX_ENTRIES:
        raise LimitExceededError(f"{len(entries)} tensors are more than the {MAX_ENTRIES} that a file can hold")
    for entry in entries:
        if len(entry.shape) > MAX_DIMS:
            raise LimitExceededError(f"{entry.name!r} has {len(entry.shape)} dimensions, an entry can have {MAX_DIMS}")
        if entry.dtype not in DTYPE_NUMBERS:
            raise UnsupportedDtypeError(f"{entry.name!r}: the format has no dtype {entry.dtype!r}")
    try:
        parts = [b"".join(_descriptions(index)), b"".join(_lengths(entries)), b"".join(_checksums(entries))]
    except AnsError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as cause:
        raise InvalidArgumentError(f"the index cannot be written: {cause}") from cause
    if sum(map(len, parts)) > MAX_INDEX_BYTES:
        raise LimitExceededError(f"names, structure and metadata exceed the {MAX_INDEX_BYTES} bytes that an index can have")
    try:  # the reader's checks are the writer's: nothing is written that does not come back
        same = unpack_index(b"".join(parts)) == Index(tuple(entries), index.structure, index.metadata)
    except (errors.TooManyEntriesError, errors.NameTooLongError) as cause:
        raise LimitExceededError(str(cause)) from cause
    except CorruptError as cause:
        raise InvalidArgumentError(str(cause)) from cause
    if not same:
        raise InvalidArgumentError(
            "an entry has more streams, parameters or a checksum than its kind has, or values of a wrong type"
        )
    return parts


def _descriptions(index: Index) -> Iterable[bytes]:
    entries = index.entries
    names = [entry.name.encode() for entry in entries]
    shared = [_shared_prefix(before, name) for before, name in zip([b"", *names], names)]
    yield _varint(len(entries))
    yield from map(_varint, shared)
    yield from (name[size:] + b"\xff" for name, size in zip(names, shared))
    yield bytes(entry.kind for entry in entries)
    yield bytes(DTYPE_NUMBERS[entry.dtype] for entry in entries)
    yield bytes(len(entry.shape) for entry in entries)
    yield from (_varint(size) for entry in entries for size in entry.shape)
    yield from (_varint(entry.meta[0]) for entry in entries if entry.kind == Kind.PLANES)
    quantized = [QuantizedMeta(*entry.meta) for entry in entries if entry.kind == Kind.QUANTIZED]
    yield from (_varint(meta.columns) for meta in quantized)
    yield from (_varint(meta.bits) for meta in quantized)
    yield from (_varint(_zigzag(meta.exponent)) for meta in quantized)
    yield from (_varint(meta.column_scaled) for meta in quantized)
    yield bytes(len(entry.refers) for entry in entries)
    yield from (_varint(_zigzag(number - target)) for number, entry in enumerate(entries) for target in entry.refers)
    for text in (index.structure, _dump_metadata(index.metadata)):
        yield _varint(len(text)) + text


def _shared_prefix(a: bytes, b: bytes) -> int:
    size = min(len(a), len(b))
    return next((i for i in range(size) if a[i] != b[i]), size)


def _lengths(entries: Sequence[Entry]) -> Iterable[bytes]:
    for entry in entries:
        if len(entry.stream_bytes) != len(entry.streams):
            raise InvalidArgumentError(
                f"{entry.name!r} has {len(entry.stream_bytes)} stream lengths, its kind has {len(entry.streams)} streams"
            )
        for spec, size in zip(entry.streams, entry.stream_bytes):
            yield _varint(_zigzag(spec.raw_bytes - size))


def _checksums(entries: Sequence[Entry]) -> Iterable[bytes]:
    return (entry.checksum.to_bytes(4, "little") for entry in entries if entry.streams)


# ---- reading ----


def unpack_index(data: bytes) -> Index:
    """The index that these bytes (not packed any more) hold. Raises the CorruptError of the first thing that docs/CONTAINER.md
    forbids."""
    columns = _Columns(data)
    count = columns.varint("entries")
    if count > MAX_ENTRIES:
        raise errors.TooManyEntriesError(f"{count} entries, the limit is {MAX_ENTRIES}")
    names = _read_names(columns, count)
    kinds = [_lookup(Kind, number, errors.UnknownKindError) for number in columns.take(count, "kinds")]
    dtypes = [_lookup(DTYPES.__getitem__, number, errors.UnknownDtypeError) for number in columns.take(count, "dtypes")]
    shapes = [tuple(columns.varints(ndim, "dimensions")) for ndim in columns.take(count, "dimension counts")]
    for name, shape, dtype in zip(names, shapes, dtypes):
        # Zero sizes are left out of the product: torch multiplies the others when it computes strides.
        if math.prod(size for size in shape if size) * dtype.item_bytes > MAX_BYTES:
            raise errors.ShapeOutOfRangeError(f"{name!r}: a {dtype.name} tensor of shape {shape} exceeds 63 bits")
    metas = _read_metas(columns, kinds)
    refers = _read_references(columns, count)
    structure = columns.take(columns.varint("structure"), "structure")
    text = columns.take(columns.varint("metadata"), "metadata")
    metadata = parse_json(text, errors.BadUserMetadataError, "the metadata") if text else {}
    if not isinstance(metadata, dict):
        raise errors.BadUserMetadataError("the metadata is not a JSON object")
    partial = [
        Entry(name, kind, dtype.name, shape, meta, refers=targets)
        for name, kind, dtype, shape, meta, targets in zip(names, kinds, dtypes, shapes, metas, refers)
    ]
    for entry in partial:
        _check_kind(entry, partial)
    saved = iter(columns.varints(sum(len(entry.streams) for entry in partial), "stream lengths"))
    entries = [_with_record(entry, saved, columns) for entry in partial]
    if columns.position != len(data):
        raise errors.IndexTrailingError(f"{len(data) - columns.position} bytes follow the last column of the index")
    return Index(tuple(entries), structure, metadata)


def _lookup(table: Callable[[int], Any], number: int, error: type[CorruptError]) -> Any:
    try:
        return table(number)
    except (ValueError, IndexError):
        raise error(f"an entry has the unknown number {number} as its {'kind' if table is Kind else 'dtype'}") from None


def _read_names(columns: _Columns, count: int) -> list[str]:
    shared = columns.varints(count, "shared name prefixes")
    names: dict[str, None] = {}
    previous, total = b"", 0
    for size in shared:
        end = columns.data.find(b"\xff", columns.position)
        suffix = columns.take((len(columns.data) if end < 0 else end) + 1 - columns.position, "names")[:-1]
        if size > len(previous):
            raise errors.BadNameError(f"a name shares {size} bytes with its predecessor, which has {len(previous)}")
        total += size + len(suffix)
        if size + len(suffix) > MAX_NAME_BYTES or total > MAX_NAMES_BYTES:
            raise errors.NameTooLongError(f"a name exceeds {MAX_NAME_BYTES} bytes, or all names {MAX_NAMES_BYTES}")
        previous = previous[:size] + suffix
        try:
            name = previous.decode()
        except UnicodeDecodeError as cause:
            raise errors.BadNameError(f"name {previous[:80]!r} is not UTF-8") from cause
        if name in names:
            raise errors.DuplicateNameError(f"two entries have the name {name!r}")
        names[name] = None
    return list(names)


def _read_metas(columns: _Columns, kinds: list[Kind]) -> list[tuple[int, ...]]:
    transforms = iter([PlanesMeta(number) for number in columns.varints(kinds.count(Kind.PLANES), "transforms")])
    count = kinds.count(Kind.QUANTIZED)
    table = [columns.varints(count, what) for what in ("columns per row", "bits", "exponents", "column scales")]
    quantized = iter([QuantizedMeta(size, bits, _unzigzag(exponent), scaled) for size, bits, exponent, scaled in zip(*table)])
    return [next(transforms) if kind == Kind.PLANES else next(quantized) if kind == Kind.QUANTIZED else () for kind in kinds]


def _read_references(columns: _Columns, count: int) -> list[tuple[int, ...]]:
    refers = []
    for number, size in enumerate(columns.take(count, "reference counts")):
        if size > MAX_REFERENCES:
            raise errors.ReferenceOutOfRangeError(f"entry {number} refers to {size} others, the limit is {MAX_REFERENCES}")
        targets = tuple(number - _unzigzag(distance) for distance in columns.varints(size, "references"))
        if not all(0 <= target < count for target in targets):
            raise errors.ReferenceOutOfRangeError(f"entry {number} refers to an entry that does not exist: {targets}")
        refers.append(targets)
    try:
        graphlib.TopologicalSorter({number: targets for number, targets in enumerate(refers) if targets}).prepare()
    except graphlib.CycleError as cause:
        raise errors.ReferenceCycleError(f"entries refer to each other in a circle: {cause.args[1][:8]}") from cause
    return refers


def _check_kind(entry: Entry, entries: list[Entry]) -> None:
    """Raise unless kind, dtype, shape, meta and references of an entry fit together."""
    name, kind, meta = entry.name, entry.kind, entry.meta
    if kind == Kind.PLANES and (meta[0] > Transform.DELTA or meta[0] == Transform.DELTA and entry.dtype not in DELTA_DTYPES):
        raise errors.MetaOutOfRangeError(f"{name!r}: {entry.dtype} planes cannot have the transform {meta[0]}")
    if kind == Kind.SYMBOLS and entry.dtype not in SYMBOL_TYPES or kind == Kind.QUANTIZED and entry.dtype not in QUANTIZED_DTYPES:
        raise errors.KindDtypeMismatchError(f"{name!r}: an entry of kind {kind.name.lower()} cannot be {entry.dtype}")
    if kind == Kind.QUANTIZED:
        columns, bits, exponent, scaled = meta
        if entry.numel == 0 or columns == 0 or entry.numel % columns or not 2 <= bits <= 16 or abs(exponent) > 1023 or scaled > 1:
            raise errors.MetaOutOfRangeError(f"{name!r}: impossible parameters {meta} for a shape of {entry.shape}")
    if kind == Kind.ALIAS:
        target = entries[entry.refers[0]] if len(entry.refers) == 1 else entry
        if target.kind == Kind.ALIAS or (target.dtype, target.shape) != (entry.dtype, entry.shape):
            raise errors.AliasMismatchError(f"{name!r} is an alias, but not of one real entry of the same dtype and shape")


def _with_record(entry: Entry, saved: Iterator[int], columns: _Columns) -> Entry:
    """The entry with its stream lengths, taken from their column (`saved`), and its checksum, read from `columns`."""
    if not entry.streams:
        return entry
    sizes = tuple(spec.raw_bytes - _unzigzag(next(saved)) for spec in entry.streams)
    # Symbols that are not worth coding are raw, so no stream is much longer than that: what is read for one has a bound that the caller sees.
    if not all(0 < size <= min(MAX_BYTES, 2 * spec.raw_bytes + STREAM_SLACK) for size, spec in zip(sizes, entry.streams)):
        raise errors.StreamLengthOutOfRangeError(f"{entry.name!r}: impossible stream lengths {sizes}")
    checksum = int.from_bytes(columns.take(4, "checksums"), "little")
    return dataclasses.replace(entry, stream_bytes=sizes, checksum=checksum)
