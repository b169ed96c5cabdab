"""Damaged and lying `.ans` files: every lie of docs/CONTAINER.md raises its error, and no damage does more than that."""

from __future__ import annotations

import collections
import random
import re
import tracemalloc
import zlib
from pathlib import Path

import pytest
from container_forge import example, example_file, forge, forge_index, read_everything, reseal, seal, split
from torch_ans import container, errors
from torch_ans.container import ContainerReader, default_max_bytes, write_container
from torch_ans.entries import DELTA_DTYPES, DTYPES
from torch_ans.errors import CorruptError, LimitExceededError
from torch_ans.index import _varint, _zigzag

REPOSITORY = Path(__file__).resolve().parent.parent


def check_damaged(data, allow_readable):
    """The damaged file raises a CorruptError, or, if allowed, is read. Returns the error's name."""
    try:
        read_everything(data)
    except CorruptError as error:
        assert type(error) is not CorruptError and type(error).__name__.removesuffix("Error") in errors.BY_NAME
        return type(error).__name__
    except LimitExceededError as error:
        assert allow_readable
        return type(error).__name__
    assert allow_readable, data.hex()
    return "read"


def test_every_prefix_and_every_extension_is_an_error():
    data = example_file()
    for size in range(len(data)):
        check_damaged(data[:size], False)
        check_damaged(reseal(data[:size]), False)
    for extra in (b"\0", data):
        assert check_damaged(data + extra, False) == check_damaged(reseal(data + extra), False) == "FileTrailingError"


def test_every_changed_byte_is_an_error():
    data = example_file()
    for position in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            check_damaged(bytes(damaged), False)


def test_every_changed_byte_with_valid_checksums_is_a_named_error_or_a_readable_file():
    data, outcomes = example_file(), collections.Counter()
    index, payload = split(data)
    for position in range(len(data)):
        for value in {data[position] ^ 1, data[position] ^ 0x80, data[position] ^ 0xFF, 0, 0xFF, 0x7F} - {data[position]}:
            outcomes[check_damaged(reseal(data[:position] + bytes([value]) + data[position + 1 :]), True)] += 1
    for position in range(len(index)):  # behind DEFLATE, where every byte counts
        for value in range(256):
            mutated = index[:position] + bytes([value]) + index[position + 1 :]
            outcomes[check_damaged(seal(mutated, payload), True)] += 1
    assert outcomes["read"] > 100 and len(outcomes) > 20, outcomes


def test_random_edits_with_valid_checksums_are_named_errors_or_readable_files():
    index, payload = split(example_file())
    for seed in range(6000):
        rng = random.Random(seed)
        mutated = bytearray(index)
        for _ in range(rng.randrange(1, 5)):
            position = rng.randrange(len(mutated) + 1)
            mutated[position : position + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        try:
            check_damaged(reseal(seal(bytes(mutated), payload)), True)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {mutated.hex()}") from error


def test_reseal_makes_a_changed_payload_readable():
    data = bytearray(example_file())
    data[-1] ^= 1
    with pytest.raises(errors.RecordChecksumMismatchError):
        read_everything(bytes(data))
    index, streams = read_everything(reseal(bytes(data)))
    assert streams[-1][-1][-1] == data[-1]
    assert reseal(example_file()) == example_file()


EMPTY = bytes(3)  # no entries, no structure, no metadata
PACKED = container._deflate([bytes(200)])
QUANTIZED = dict(
    entries=b"\1", shared=b"\0", names=b"w\xff", kinds=b"\2", dtypes=b"\x0b", ndims=b"\1", sizes=b"\4", transforms=b"",
    quantized=b"\2\6\0\0", reference_counts=b"\0", saved=b"\0\0\0", checksums=bytes(4),
)  # fmt: skip
ALIAS = dict(
    kinds=b"\1\3", dtypes=b"\2\2", transforms=b"", reference_counts=b"\0\1", references=b"\2", saved=b"\0", checksums=bytes(4)
)
ALIAS_OF_ALIAS = dict(
    entries=b"\3", shared=b"\0\0\0", names=b"a\xffb\xffc\xff", kinds=b"\1\3\3", dtypes=b"\2\2\2", ndims=bytes(3), sizes=b"",
    transforms=b"", reference_counts=b"\0\1\1", references=b"\2\2", saved=b"\0", checksums=bytes(4),
)  # fmt: skip
METADATA = (
    b"1", b"[]", b"null", b"{", b"\xff", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":1,"a":1}', b"[" * 100000,
    b'{"a":' + b"1" * 5000 + b"}",
)  # fmt: skip
# 2,000 names that share 65,533 bytes: 4 KB which the reader would turn into 131 MB.
MANY_NAMES = b"n" * 65533 + b"".join(b"\xff%c%c" % divmod(i, 100) for i in range(1999)) + b"\xff"

LIES = {
    "HeaderTruncated": [b"", seal(b"", b"")[:31]],
    "BadMagic": [seal(EMPTY, b"", magic=b"PK\3\4")],
    "UnsupportedVersion": [seal(EMPTY, b"", version=4), seal(EMPTY, b"", version=6)],
    "UnknownIndexCoding": [seal(EMPTY, b"", coding=2)],
    "ReservedNotZero": [seal(EMPTY, b"", reserved=256)],
    "IndexSizeOutOfRange": [
        seal(EMPTY, b"", unpacked_bytes=2),
        seal(EMPTY, b"", unpacked_bytes=4),
        seal(PACKED, b"", coding=1, unpacked_bytes=64 * len(PACKED) + 1),
        seal(bytes(1 << 19), b"", coding=1, unpacked_bytes=(1 << 24) + 1),
        seal(b"", b"", packed_bytes=2**32 - 1, unpacked_bytes=2**32 - 1),
    ],
    "FileTruncated": [
        seal(EMPTY, b"", payload_bytes=1),
        seal(EMPTY, b"", payload_bytes=2**64 - 1),
        seal(b"", b"", packed_bytes=2**24, unpacked_bytes=2**24),
    ],
    "FileTrailing": [seal(EMPTY, b"x", payload_bytes=0)],
    "IndexChecksumMismatch": [example_file()[:24] + bytes(8) + example_file()[32:]],
    "BadDeflate": [
        seal(PACKED, b"", coding=1, unpacked_bytes=199),
        seal(PACKED, b"", coding=1, unpacked_bytes=201),
        seal(PACKED + b"\0", b"", coding=1, unpacked_bytes=200),
        seal(PACKED[:-1], b"", coding=1, unpacked_bytes=200),
        seal(b"\xff" * 20, b"", coding=1, unpacked_bytes=200),
    ],
    "IndexTruncated": [seal(forge_index()[:size], bytes(12)) for size in range(len(forge_index()))],
    "IndexTrailing": [seal(forge_index(checksums=bytes(9)), bytes(12))],
    "BadVarint": [
        forge(entries=b"\x82\0"),
        forge(sizes=b"\x85\x80\0\5"),
        forge(sizes=b"\5" + b"\xff" * 9 + b"\2"),
        forge(sizes=b"\5" + b"\xff" * 10 + b"\1"),
    ],
    "TooManyEntries": [seal(_varint(2**17 + 1) + bytes(9), b""), seal(_varint(2**64 - 1) + bytes(9), b"")],
    "BadName": [
        forge(shared=b"\1\0"),
        forge(shared=b"\0\2"),
        forge(names=b"\xc3\xff2\xff"),
        forge(names=b"w\xff\x80\xff"),
        forge(names=b"\xed\xa0\x80\xff2\xff"),
    ],
    "NameTooLong": [
        forge(names=b"n" * 65536 + b"\xff2\xff"),
        forge(names=b"n" * 65535 + b"\xff2\xff", shared=b"\0\xff\xff\3"),
        seal(_varint(2000) + b"\0" + _varint(65533) * 1999 + MANY_NAMES, b""),
    ],
    "DuplicateName": [forge(names=b"w\xff\xff")],
    "UnknownKind": [forge(kinds=b"\1\4"), forge(kinds=b"\xff\0")],
    "UnknownDtype": [forge(dtypes=b"\2\x1b"), forge(dtypes=b"\xff\1")],
    "ShapeOutOfRange": [
        forge(sizes=b"\5" + _varint(2**63)),
        forge(ndims=b"\1\3", sizes=b"\5" + _varint(2**32) * 2 + b"\0"),
        forge(dtypes=b"\2\x0b", sizes=b"\5" + _varint(2**61)),
    ],
    "MetaOutOfRange": [
        forge(transforms=b"\3"),
        *[forge(dtypes=bytes([2, n]), transforms=b"\2") for n, dtype in enumerate(DTYPES) if dtype.name not in DELTA_DTYPES],
        forge(**QUANTIZED | dict(sizes=b"\0", quantized=b"\1\6\0\0")),
        *[forge(**QUANTIZED | dict(quantized=lie)) for lie in (b"\0\6\0\0", b"\3\6\0\0", b"\5\6\0\0", b"\2\1\0\0", b"\2\x11\0\0", b"\2\6\0\2")],
        *[forge(**QUANTIZED | dict(quantized=b"\2\6" + _varint(exponent) + b"\0")) for exponent in (2047, 2048)],
    ],
    "KindDtypeMismatch": [forge(dtypes=b"\3\1"), forge(dtypes=b"\0\1"), forge(**QUANTIZED | dict(dtypes=b"\2"))],
    "ReferenceOutOfRange": [
        forge(reference_counts=b"\0\1", references=b"\4"),
        forge(reference_counts=b"\1\0", references=b"\3"),
        forge(reference_counts=b"\0\x11", references=b"\2" * 17),
        forge(reference_counts=b"\0\1", references=_varint(2**64 - 1)),
    ],
    "ReferenceCycle": [
        forge(reference_counts=b"\0\1", references=b"\0"),
        forge(reference_counts=b"\1\1", references=b"\1\2"),
    ],
    "AliasMismatch": [
        forge(**ALIAS | dict(reference_counts=b"\0\0", references=b"")),
        forge(**ALIAS | dict(reference_counts=b"\0\2", references=b"\2\2")),
        forge(**ALIAS | dict(dtypes=b"\2\1")),
        forge(**ALIAS | dict(sizes=b"\5\4")),
        forge(**ALIAS | dict(ndims=b"\1\2", sizes=b"\5\5\1")),
        forge(**ALIAS_OF_ALIAS),
    ],
    "BadUserMetadata": [forge(metadata=_varint(len(text)) + text) for text in METADATA],
    "StreamLengthOutOfRange": [forge(saved=b"\0" + _varint(lie)) for lie in (12, 2**64 - 1, 2**64 - 2, 301)],
    "PayloadSizeMismatch": [forge(saved=b"\0\2"), forge(saved=b"\0\1"), forge(payload_bytes=11), forge(payload_bytes=13)],
    "RecordChecksumMismatch": [seal(forge_index(), bytes(12)), example_file()[:-1] + b"?"],
}


@pytest.mark.parametrize("name", LIES)
def test_lie_raises_its_error(name):
    for data in LIES[name]:
        with pytest.raises(errors.BY_NAME[name]) as caught:
            read_everything(data)
        assert type(caught.value) is errors.BY_NAME[name] and str(caught.value)


def test_the_base_of_the_lies_is_a_good_file():
    assert read_everything(forge())[1] == [[bytes(6)], [bytes(6)]]
    assert read_everything(forge(**QUANTIZED, payload_bytes=11))[0].entries[0].meta == (2, 6, 0, 0)
    assert read_everything(forge(**ALIAS, payload_bytes=6))[1] == [[bytes(6)], [bytes(6)]]


def corrupted_if_names(text):
    paragraphs = re.findall(r"^Corrupted if:.*(?:\n.+)*", text, re.M)
    return {name for paragraph in paragraphs for name in re.findall(r"\(`([A-Z]\w+)`", paragraph)}


def test_every_corrupted_if_name_has_a_class_and_a_test():
    container_names = corrupted_if_names((REPOSITORY / "docs" / "CONTAINER.md").read_text())
    stream_names = corrupted_if_names((REPOSITORY / "BITSTREAM.md").read_text())
    assert len(container_names) > 30 and len(stream_names) > 20
    corrupt = {name for name, cls in errors.BY_NAME.items() if issubclass(cls, CorruptError)}
    assert corrupt == container_names | stream_names
    assert all(cls.__doc__ and cls.__name__ == name + "Error" for name, cls in errors.BY_NAME.items())
    in_test_tree = {"BadStructure", "StructureTooDeep", "LeafCountMismatch"}
    in_test_matrix = {"ReferenceMissing"}
    assert container_names == set(LIES) | in_test_tree | in_test_matrix


# ---- hostile sizes ----


def test_declared_sizes_beyond_max_bytes_are_refused_before_anything_is_allocated():
    # 2^40 elements of a constant plane: "saved" makes the stream two bytes long.
    data = forge(payload_bytes=8, sizes=b"\5" + _varint(2**40), saved=b"\0" + _varint(_zigzag(2**40 + 1 - 2)))
    tracemalloc.start()
    with pytest.raises(LimitExceededError, match="max_bytes=1073741824"):
        ContainerReader(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert ContainerReader(data, max_bytes=2**40 + 5).index.decoded_bytes == 2**40 + 5
    with pytest.raises(LimitExceededError):
        ContainerReader(data, max_bytes=2**40 + 4)
    assert default_max_bytes(10**10) == 64 * 10**10


def test_deflate_bomb_stops_at_the_declared_size():
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packed.compress(bytes(1 << 26)) + packed.flush()
    tracemalloc.start()
    with pytest.raises(errors.BadDeflateError):
        ContainerReader(seal(bomb, b"", coding=1, unpacked_bytes=len(bomb) * 2))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_file_that_shrinks_while_it_is_open_is_truncated(tmp_path):
    path = tmp_path / "file.ans"
    write_container(path, *example())
    with ContainerReader(path) as reader:
        path.write_bytes(example_file()[:-10])
        with pytest.raises(errors.FileTruncatedError):
            reader.verify()
