"""The `.ans` file: header, packed index, records. docs/CONTAINER.md is the specification.

Knows bytes only: no coder, no torch. `write_container` streams records out, `ContainerReader` gives them back one by one, each
checked against its checksum, from bytes, a memory map or a file of which nothing but the index is read beforehand.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import xxhash

from . import errors
from .atomic import atomic_write
from .entries import Entry, Index
from .errors import InvalidArgumentError, LimitExceededError
from .index import MAX_BYTES, MAX_INDEX_BYTES, pack_index, unpack_index

MAGIC = b"\x89ANS"
VERSION = 5
HEADER = struct.Struct(
    "<4sBBHIIQQ"
)  # magic, version, index coding, reserved, packed bytes, unpacked bytes, payload bytes, checksum
_CHECKSUM_BYTES = 8
INDEX_STORED, INDEX_DEFLATED = 0, 1
MAX_DEFLATE_RATIO = 64  # a small file shall not unpack to a large index

_VERIFY_BYTES = 1 << 24

Buffer = Any  # contiguous memory that memoryview takes; typing has no name for it before Python 3.12
Record = Any  # one Buffer, or an iterable of Buffers to be joined, which need not end where streams end


def record_checksum(record: Record) -> int:
    """The checksum of a record that its entry holds: the low 32 bits of XXH3-64."""
    digest = xxhash.xxh3_64()
    for piece in _pieces(record):
        digest.update(piece)
    return digest.intdigest() & 0xFFFFFFFF


def default_max_bytes(file_bytes: int) -> int:
    """Bytes that a file's tensors may occupy unless the reader is told otherwise: 1 GiB, or 64 times the size of the file.

    A tensor of equal elements is coded in two bytes, so a file of 1 KB can declare terabytes. Real weights shrink 2 to 8 times,
    and a checkpoint whose optimizer state is still zero some 20 times; a limit that grows with the file lets all of them pass at
    any size.
    """
    return max(1 << 30, 64 * file_bytes)


# ---- writing ----


def pack_head(index: Index) -> bytes:
    """Everything before the payload: header and packed index. Raises the errors of `pack_index`."""
    if index.payload_bytes > MAX_BYTES:
        raise LimitExceededError(f"a payload of {index.payload_bytes} bytes exceeds 63 bits")
    parts = pack_index(index)
    stored = b"".join(parts)
    packed, coding = _deflate(parts), INDEX_DEFLATED
    if not len(packed) < len(stored) <= MAX_DEFLATE_RATIO * len(packed):
        packed, coding = stored, INDEX_STORED
    header = HEADER.pack(MAGIC, VERSION, coding, 0, len(packed), len(stored), index.payload_bytes, 0)[:-_CHECKSUM_BYTES]
    return header + struct.pack("<Q", xxhash.xxh3_64_intdigest(header + packed)) + packed


def _deflate(parts: Iterable[bytes]) -> bytes:
    """Raw DEFLATE of the parts joined, each in blocks, hence with Huffman codes, of its own: checksums are random, names text."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    *front, last = [part for part in parts if part]
    out = b"".join(compressor.compress(part) + compressor.flush(zlib.Z_BLOCK) for part in front)
    return out + compressor.compress(last) + compressor.flush()


def write_container(sink: BinaryIO | str | os.PathLike[str], index: Index, records: Iterable[Record]) -> int:
    """Write a file to `sink`, an object with `write`, or a path (then atomically: see `atomic_write`). Returns the bytes written.

    `records` yields the record of every entry that has one, in the order of the entries; it is read once, and nothing is kept.
    Raises InvalidArgumentError if a record is missing, is one too many, or is not what its entry says (length, checksum).
    """
    if isinstance(sink, (str, os.PathLike)):
        with atomic_write(sink) as file:
            return write_container(file, index, records)
    head = pack_head(index)
    _write(sink, head)
    remaining = iter(records)
    for entry in index.entries:
        if entry.stream_bytes:
            _write_record(sink, entry, remaining)
    if next(remaining, None) is not None:
        raise InvalidArgumentError("there are more records than entries that have one")
    return len(head) + index.payload_bytes


def _write_record(sink: BinaryIO, entry: Entry, records: Iterator[Record]) -> None:
    record = next(records, None)
    if record is None:
        raise InvalidArgumentError(f"there is no record for {entry.name!r}")
    digest = xxhash.xxh3_64()
    size = 0
    for piece in _pieces(record):
        digest.update(piece)
        size += len(piece)
        _write(sink, piece)
    if (size, digest.intdigest() & 0xFFFFFFFF) != (entry.record_bytes, entry.checksum):
        raise InvalidArgumentError(f"the record for {entry.name!r} is not the one that its entry describes")


def _pieces(record: Record) -> Iterator[memoryview]:
    try:
        pieces = [memoryview(record)]
    except TypeError:
        pieces = record
    try:
        for piece in pieces:
            view = memoryview(piece)
            yield view.cast("B") if view.nbytes else memoryview(b"")  # cast refuses a shape with a zero in it
    except TypeError as cause:
        raise InvalidArgumentError(f"a record must be contiguous memory, or an iterable of such pieces: {cause}") from cause


def _write(sink: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        written = sink.write(view)  # an unbuffered file may take less than it is given
        view = view[len(view) if written is None else written :]


# ---- reading ----


class _BytesSource:
    """A file that lies in memory, or is mapped: pieces are views, nothing is copied."""

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data).cast("B")
        self.size = len(self._view)

    def read(self, offset: int, size: int) -> memoryview:
        return self._view[offset : offset + size]

    def close(self) -> None:
        pass


class _FileSource:
    """A file on disk, or any seekable binary object. Threads may read at the same time."""

    def __init__(self, file: BinaryIO, owned: bool) -> None:
        self._file, self._owned = file, owned
        self._lock = threading.Lock()
        self.size = file.seek(0, os.SEEK_END)

    def read(self, offset: int, size: int) -> memoryview:
        buffer = memoryview(bytearray(size))
        filled = 0
        with self._lock:
            self._file.seek(offset)
            while filled < size:
                count = self._file.readinto(buffer[filled:])
                if not count:
                    raise errors.FileTruncatedError(f"the file became shorter while it was read: no byte at {offset + filled}")
                filled += count
        return buffer

    def close(self) -> None:
        if self._owned:
            self._file.close()


class ContainerReader:
    """A file opened for reading: `index` is there at once, records are read and checked when asked for.

    `source` is a path, a bytes-like object (also a memory map) or a seekable binary file, which stays the caller's to close.
    Raises a CorruptError if header, index or size are wrong, LimitExceededError if the tensors declared by the index need
    more than `max_bytes` of memory (None: `default_max_bytes`), InvalidArgumentError if the source cannot be read from.
    """

    index: Index

    def __init__(self, source: str | os.PathLike[str] | Buffer | BinaryIO, max_bytes: int | None = None) -> None:
        if max_bytes is not None and (not isinstance(max_bytes, int) or max_bytes < 0):
            raise InvalidArgumentError(f"max_bytes is {max_bytes!r}, not a number of bytes")
        self._source = _open_source(source)
        try:
            self.index, self._payload_begin = _read_head(self._source)
            limit = default_max_bytes(self._source.size) if max_bytes is None else max_bytes
            if self.index.decoded_bytes > limit:
                raise LimitExceededError(
                    f"the tensors of this file occupy {self.index.decoded_bytes} bytes decoded, more than max_bytes={limit}; "
                    "pass a larger max_bytes if you trust it"
                )
        except BaseException:
            self.close()
            raise

    @property
    def file_bytes(self) -> int:
        return self._source.size

    @property
    def head_bytes(self) -> int:
        """Bytes of header and index."""
        return self._payload_begin

    def record(self, number: int) -> list[memoryview]:
        """The streams of entry `number`, for an alias those of its target. Raises RecordChecksumMismatchError."""
        number = self.index.resolve(number)
        entry = self.index.entries[number]
        record = self._source.read(self._payload_begin + self.index.record_offsets[number], entry.record_bytes)
        if entry.stream_bytes:
            _compare_checksum(entry, record_checksum(record))
        streams, begin = [], 0
        for size in entry.stream_bytes:
            streams.append(record[begin : begin + size])
            begin += size
        return streams

    def verify(self) -> None:
        """Check every record's checksum, in little memory, without decoding. Raises RecordChecksumMismatchError."""
        for entry, begin in zip(self.index.entries, self.index.record_offsets):
            if entry.stream_bytes:
                blocks = range(0, entry.record_bytes, _VERIFY_BYTES)
                start = self._payload_begin + begin
                pieces = (self._source.read(start + i, min(_VERIFY_BYTES, entry.record_bytes - i)) for i in blocks)
                _compare_checksum(entry, record_checksum(pieces))

    def close(self) -> None:
        """Close the file if this reader opened it. Views that `record` returned stay valid."""
        self._source.close()

    def __enter__(self) -> ContainerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_source(source: Any) -> _BytesSource | _FileSource:
    if isinstance(source, (str, os.PathLike)):
        return _FileSource(open(source, "rb", buffering=0), owned=True)
    try:
        if hasattr(source, "readinto"):
            return _FileSource(source, owned=False)
        return _BytesSource(source)
    except (TypeError, ValueError, OSError) as cause:
        raise InvalidArgumentError(f"cannot read a file from {type(source).__name__}: {cause}") from cause


def _read_head(source: _BytesSource | _FileSource) -> tuple[Index, int]:
    """Index, and where the payload begins."""
    if source.size < HEADER.size:
        raise errors.HeaderTruncatedError(f"{source.size} bytes are less than a header of {HEADER.size}")
    header = bytes(source.read(0, HEADER.size))
    magic, version, coding, reserved, packed_bytes, unpacked_bytes, payload_bytes, checksum = HEADER.unpack(header)
    if magic != MAGIC:
        raise errors.BadMagicError("this is not an .ans file")
    if version != VERSION:
        raise errors.UnsupportedVersionError(f"the file has version {version}, this reader knows version {VERSION}")
    if coding not in (INDEX_STORED, INDEX_DEFLATED):
        raise errors.UnknownIndexCodingError(f"the index is packed in the unknown way {coding}")
    if reserved:
        raise errors.ReservedNotZeroError("a reserved field of the header is used")
    ratio = 1 if coding == INDEX_STORED else MAX_DEFLATE_RATIO
    if unpacked_bytes > MAX_INDEX_BYTES or not packed_bytes <= unpacked_bytes <= ratio * packed_bytes:
        raise errors.IndexSizeOutOfRangeError(f"an index of {packed_bytes} bytes, unpacked {unpacked_bytes}, is impossible")
    begin = HEADER.size + packed_bytes
    if source.size < begin + payload_bytes:
        raise errors.FileTruncatedError(f"the file has {source.size} bytes, its header announces {begin + payload_bytes}")
    if source.size > begin + payload_bytes:
        raise errors.FileTrailingError(f"the file has {source.size} bytes, its header announces {begin + payload_bytes}")
    packed = bytes(source.read(HEADER.size, packed_bytes))
    if xxhash.xxh3_64_intdigest(header[:-_CHECKSUM_BYTES] + packed) != checksum:
        raise errors.IndexChecksumMismatchError("header or index are damaged: their checksum is wrong")
    index = unpack_index(packed if coding == INDEX_STORED else _inflate(packed, unpacked_bytes))
    if index.payload_bytes != payload_bytes:
        raise errors.PayloadSizeMismatchError(f"records of {index.payload_bytes} bytes in a payload of {payload_bytes}")
    return index, begin


def _inflate(packed: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj(-15)
    try:
        data = decompressor.decompress(packed, size + 1)  # never more than one byte too many, whatever `packed` expands to
    except zlib.error as cause:
        raise errors.BadDeflateError(f"the packed index is damaged: {cause}") from cause
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise errors.BadDeflateError(f"the packed index does not unpack to exactly {size} bytes")
    return data


def _compare_checksum(entry: Entry, checksum: int) -> None:
    if checksum != entry.checksum:
        raise errors.RecordChecksumMismatchError(f"the data of {entry.name!r} is damaged: its checksum is wrong")
