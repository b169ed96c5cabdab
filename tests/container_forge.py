"""Makes `.ans` files for tests: a good one, and ones that lie, with their checksums set right again.

So tests reach what is behind the checksums, as an attacker does who computes them too.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import random
import struct
import zlib

import xxhash
from torch_ans.container import ContainerReader, record_checksum, write_container
from torch_ans.entries import Entry, Index, Kind
from torch_ans.errors import CorruptError
from torch_ans.index import unpack_index

HEADER_BYTES = 32
_FIELDS = struct.Struct("<4sBBHIIQ")


def split(data: bytes) -> tuple[bytes, bytes]:
    """A good file's unpacked index and its payload."""
    _, _, coding, _, packed_bytes, _, _ = _FIELDS.unpack_from(data)
    packed = data[HEADER_BYTES : HEADER_BYTES + packed_bytes]
    return zlib.decompress(packed, -15) if coding else packed, data[HEADER_BYTES + packed_bytes :]


def seal(index: bytes, payload: bytes, **lies: int | bytes) -> bytes:
    """A file around an index (as it is to lie in the file) with a right header checksum, and whatever else the caller wants to be
    wrong: magic, version, coding, reserved, packed_bytes, unpacked_bytes, payload_bytes."""
    fields = dict(magic=b"\x89ANS", version=5, coding=0, reserved=0, packed_bytes=len(index), unpacked_bytes=len(index))
    header = _FIELDS.pack(*(fields | dict(payload_bytes=len(payload)) | lies).values())
    return header + struct.pack("<Q", xxhash.xxh3_64_intdigest(header + index)) + index + payload


def reseal(data: bytes) -> bytes:
    """A damaged file with all checksums made valid again: those of the records if its index can be read, and that of the header.

    Damage to the header's sizes stays as it is. The index may become stored instead of deflated. Never raises.
    """
    if len(data) < HEADER_BYTES:
        return data
    names = ("magic", "version", "coding", "reserved", "packed_bytes", "unpacked_bytes", "payload_bytes")
    lies = dict(zip(names, _FIELDS.unpack_from(data)))
    begin = HEADER_BYTES + lies["packed_bytes"]
    packed, payload = data[HEADER_BYTES:begin], data[begin:]
    try:
        index = zlib.decompressobj(-15).decompress(packed, 1 << 26) if lies["coding"] == 1 else packed
        entries = [entry for entry in unpack_index(index).entries if entry.streams]
    except (zlib.error, CorruptError):
        return seal(packed, payload, **lies)
    checksums, begin = b"", 0
    for entry in entries:
        record = payload[begin : begin + entry.record_bytes]
        checksums += struct.pack("<I", xxhash.xxh3_64_intdigest(record) & 0xFFFFFFFF)
        begin += entry.record_bytes
    old = index[len(index) - len(checksums) :]
    if old == checksums:
        return seal(packed, payload, **lies)
    lies.update(coding=0, packed_bytes=len(index), unpacked_bytes=len(index))
    return seal(index[: len(index) - len(checksums)] + checksums, payload, **lies)


def forged_entry(name, kind, dtype, shape, meta=(), refers=(), rng=random):
    """An entry and a record of random bytes; the container does not look inside."""
    entry = Entry(name, kind, dtype, shape, meta, refers=refers)
    streams = [rng.randbytes(rng.randrange(1, spec.raw_bytes + 1)) for spec in entry.streams]
    sizes = tuple(map(len, streams))
    return dataclasses.replace(entry, stream_bytes=sizes, checksum=record_checksum(streams) if streams else 0), streams


@functools.cache
def example():
    """Index and records of a file that has everything."""
    rng = random.Random(0)
    made = [
        forged_entry("layer.0.weight", Kind.QUANTIZED, "bfloat16", (4, 6), (6, 6, -3, 0), rng=rng),
        forged_entry("layer.0.bias", Kind.PLANES, "float32", (4,), (1,), rng=rng),
        forged_entry("layer.1.q", Kind.SYMBOLS, "int8", (2, 3), rng=rng),
        forged_entry("layer.1.q.scale", Kind.PLANES, "float16", (2,), (1,), refers=(2,), rng=rng),
        forged_entry("tied", Kind.ALIAS, "float32", (4,), refers=(1,)),
        forged_entry("\u00e4 \n\x00", Kind.PLANES, "complex64", (), (0,), rng=rng),
        forged_entry("", Kind.SYMBOLS, "int16", (0, 5), rng=rng),
        forged_entry("ids", Kind.PLANES, "int64", (1, 3), (2,), rng=rng),
    ]
    index = Index(tuple(entry for entry, _ in made), b'["d",8]', {"step": 3, "nested": {"list": [1.5, None, "\u00e4"]}})
    return index, [streams for _, streams in made if streams]


def as_bytes(index, records):
    file = io.BytesIO()
    assert write_container(file, index, records) == len(file.getvalue())
    return file.getvalue()


@functools.cache
def example_file():
    return as_bytes(*example())


def read_everything(data):
    with ContainerReader(data) as reader:
        reader.verify()
        return reader.index, [[bytes(stream) for stream in reader.record(number)] for number in range(len(reader.index.entries))]


# The columns of an index of two entries: "w", five int8 symbols, and "w2", five uint8 in one plane.
_COLUMNS = {
    "entries": b"\2", "shared": b"\0\1", "names": b"w\xff2\xff", "kinds": b"\1\0", "dtypes": b"\2\1", "ndims": b"\1\1",
    "sizes": b"\5\5", "transforms": b"\0", "quantized": b"", "reference_counts": b"\0\0", "references": b"", "structure": b"\0",
    "metadata": b"\0", "saved": b"\0\0", "checksums": bytes(8),
}  # fmt: skip


def forge_index(**columns: bytes) -> bytes:
    """A good index in which the given columns are replaced by lies."""
    return b"".join((_COLUMNS | columns).values())


def forge(payload_bytes: int = 12, **columns: bytes) -> bytes:
    """A file around `forge_index`, with valid checksums and a payload of zeros."""
    return reseal(seal(forge_index(**columns), bytes(payload_bytes)))
