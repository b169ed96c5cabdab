"""The `.ans` file comes back as it was written, in few bytes, and nothing is written that a reader would refuse."""

from __future__ import annotations

import dataclasses
import io
import mmap
import random
import re
from pathlib import Path

import pytest
from container_forge import as_bytes, example, example_file, forged_entry, read_everything, split
from torch_ans import errors
from torch_ans.container import ContainerReader, pack_head, record_checksum, write_container
from torch_ans.entries import DELTA_DTYPES, DTYPES, Dtype, Entry, Index, Kind, dtype_name, torch_dtype
from torch_ans.errors import InvalidArgumentError, LimitExceededError
from torch_ans.index import _Columns, _unzigzag, _varint, _zigzag, pack_index, unpack_index

REPOSITORY = Path(__file__).resolve().parent.parent


# ---- round trips ----


def test_file_comes_back_from_bytes_file_map_and_path(tmp_path):
    index, records = example()
    path = tmp_path / "file.ans"
    write_container(path, index, records)
    assert path.read_bytes() == example_file()
    expected = [*records[:4], records[1], *records[4:]]
    data = example_file()
    with open(path, "rb") as file, open(path, "rb", buffering=0) as unbuffered, mmap.mmap(file.fileno(), 0, access=1) as mapped:
        for source in (path, str(path), file, unbuffered, mapped, data, bytearray(data), memoryview(data), io.BytesIO(data)):
            assert read_everything(source) == (index, expected)
        assert not file.closed


def test_records_are_streamed_from_pieces_and_read_back_as_views():
    index, records = example()
    joined = [b"".join(streams) for streams in records]
    pieces = ([joined_record[:1], b"", memoryview(bytearray(joined_record[1:]))] for joined_record in joined)
    assert as_bytes(index, pieces) == as_bytes(index, joined) == example_file()
    stream = ContainerReader(example_file()).record(0)[0]
    assert isinstance(stream.obj, bytes) and stream.obj is example_file()


def test_empty_file_and_empty_names_come_back():
    data = as_bytes(Index(), [])
    assert len(data) == 35 and read_everything(data) == (Index((), b"", {}), [])


def test_random_indices_come_back():
    for seed in range(300):
        rng = random.Random(seed)
        made = []
        for number in range(rng.randrange(12)):
            name = f"{'layer.' * rng.randrange(3)}{number}{rng.choice(['', '.w', '.' + chr(rng.randrange(0xD7FF))])}"
            shape = tuple(rng.randrange(4) for _ in range(rng.randrange(4)))
            refers = tuple(rng.sample(range(number), rng.randrange(min(3, number + 1))))
            kind = rng.randrange(4)
            aliased = [entry for entry, _ in made if entry.kind != Kind.ALIAS]
            if kind == Kind.ALIAS and aliased:
                target = rng.choice(aliased)
                number_of_target = [entry for entry, _ in made].index(target)
                made.append(forged_entry(name, Kind.ALIAS, target.dtype, target.shape, refers=(number_of_target,)))
            elif kind == Kind.SYMBOLS:
                made.append(forged_entry(name, Kind.SYMBOLS, rng.choice(["int8", "uint8", "int16"]), shape, (), refers, rng))
            elif kind == Kind.QUANTIZED:
                meta = (rng.randrange(1, 5), rng.randrange(2, 17), rng.randrange(-300, 300), rng.randrange(2))
                made.append(forged_entry(name, Kind.QUANTIZED, "float16", (rng.randrange(1, 5), meta[0]), meta, refers, rng))
            else:
                dtype = rng.choice(DTYPES).name
                meta = (rng.randrange(3 if dtype in DELTA_DTYPES else 2),)
                made.append(forged_entry(name, Kind.PLANES, dtype, shape, meta, refers, rng))
        metadata = {"k": rng.random()} if rng.randrange(2) else {}
        index = Index(tuple(entry for entry, _ in made), rng.randbytes(rng.randrange(9)), metadata)
        records = [streams for _, streams in made if streams]
        back, streams = read_everything(as_bytes(index, records))
        assert back == index, f"seed {seed}"
        assert [s for s, e in zip(streams, back.entries) if e.kind != Kind.ALIAS] == records, f"seed {seed}"


def test_numbers_come_back():
    for value in [0, 1, 127, 128, 2**32, 2**63, 2**64 - 1]:
        assert _Columns(_varint(value)).varint("") == value
    for value in [0, 1, -1, 2**62, -(2**62), 2**63 - 1, -(2**63)]:
        assert _Columns(_varint(_zigzag(value))).varint("") == _zigzag(value) < 2**64 and _unzigzag(_zigzag(value)) == value


def test_example_of_the_specification_is_what_is_written():
    text = (REPOSITORY / "docs" / "CONTAINER.md").read_text()
    data = bytes.fromhex("".join(line[6:] for line in re.findall(r"^[0-9a-f]{4}  .*$", text, re.M)))
    w, scale = [bytes.fromhex("0001ff00020000")], [bytes.fromhex("007078"), bytes.fromhex("0100")]
    entries = (
        Entry("w", Kind.SYMBOLS, "int8", (2, 3), (), (7,), record_checksum(w)),
        Entry("w.scale", Kind.PLANES, "float16", (2,), (1,), (3, 2), record_checksum(scale), (0,)),
    )
    assert as_bytes(Index(entries), [w, scale]).hex(" ") == data.hex(" ")
    reader = ContainerReader(data)
    assert reader.index.users == {0: [1]} and (reader.head_bytes, reader.file_bytes) == (70, 82)
    explained = "".join(re.findall(r"^\| (`.*?) \|", text[text.index("## 7. ") :], re.M))
    assert re.fullmatch(explained.replace("`", "").replace(" ", "").replace("…", ".*"), data.hex())


def test_kind_decides_the_streams():
    def streams(*arguments):
        return [tuple(spec) for spec in Entry("", *arguments).streams]

    assert streams(Kind.PLANES, "bool", (), (0,)) == [(1, "u8")]
    assert streams(Kind.PLANES, "float32", (2, 3), (1,)) == [(6, "u8")] * 4
    assert streams(Kind.PLANES, "complex128", (3,), (0,)) == [(6, "u8")] * 8
    assert streams(Kind.SYMBOLS, "int16", (0,)) == [(0, "i16")]
    assert streams(Kind.QUANTIZED, "float32", (2, 3, 4), (4, 6, 0, 0)) == [(24, "i8"), (6, "u8"), (6, "u8")]
    assert streams(Kind.QUANTIZED, "float32", (2, 3, 4), (4, 9, 0, 1)) == [(24, "i16"), (4, "i8"), (6, "u8"), (6, "u8")]
    assert streams(Kind.ALIAS, "float32", (2,)) == []


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_every_dtype_that_torch_can_save_has_a_number():
    torch = pytest.importorskip("torch")
    for dtype in {value for value in vars(torch).values() if isinstance(value, torch.dtype)}:
        try:
            tensor = torch.empty(3, dtype=dtype)
            torch.save(tensor, io.BytesIO())
        except (KeyError, RuntimeError, NotImplementedError, TypeError):
            continue
        name = dtype_name(dtype)
        known = next(entry for entry in DTYPES if entry.name == name)
        assert torch_dtype(name) is dtype and known == Dtype(name, tensor.element_size(), 2 if dtype.is_complex else 1)
    with pytest.raises(errors.UnsupportedDtypeError, match="has no dtype float3"):
        torch_dtype("float3")
    with pytest.raises(errors.UnsupportedDtypeError, match="has no dtype qint8"):
        dtype_name(torch.qint8)


# ---- fixed cost ----


def test_fixed_cost_of_100_tensors_is_below_1536_bytes():
    rng = random.Random(0)
    shapes = {
        "ln_1.weight": (768,), "ln_1.bias": (768,), "attn.c_attn.weight": (768, 2304), "attn.c_attn.bias": (2304,),
        "attn.c_proj.weight": (768, 768), "attn.c_proj.bias": (768,), "ln_2.weight": (768,), "ln_2.bias": (768,),
        "mlp.c_fc.weight": (768, 3072), "mlp.c_fc.bias": (3072,), "mlp.c_proj.weight": (3072, 768), "mlp.c_proj.bias": (768,),
    }  # fmt: skip
    entries = []
    for number in range(100):
        part, shape = list(shapes.items())[number % 12]
        kind, meta = (Kind.QUANTIZED, (shape[1], 6, -rng.randrange(4, 9), 0)) if len(shape) == 2 else (Kind.PLANES, (1,))
        entry = Entry(f"transformer.h.{number // 12}.{part}", kind, "bfloat16", shape, meta)
        # Coded streams have lengths that nothing predicts; the last plane holds mantissas, which are stored raw.
        sizes = [int(spec.raw_bytes * rng.uniform(0.4, 0.7)) for spec in entry.streams[:-1]] + [entry.streams[-1].raw_bytes]
        entries.append(dataclasses.replace(entry, stream_bytes=tuple(sizes), checksum=rng.getrandbits(32)))
    assert len(pack_head(Index(tuple(entries)))) <= 1100


def test_fixed_cost_of_one_tensor():
    entry, _ = forged_entry("w", Kind.SYMBOLS, "int8", (8,))
    assert len(pack_head(Index((entry,)))) <= 50


# ---- what the writer refuses ----


def entry(**changes):
    base, _ = forged_entry("w", Kind.QUANTIZED, "float32", (2, 2), (2, 6, 0, 0))
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("error", "index"),
    [
        (errors.UnsupportedDtypeError, Index((entry(dtype="float3"),))),
        (LimitExceededError, Index((entry(name="n" * 65536),))),
        (LimitExceededError, Index((entry(shape=(1,) * 256),))),
        (LimitExceededError, Index((entry(stream_bytes=(2**62, 2**62, 2**62)),))),
        (LimitExceededError, Index((), b"x" * (1 << 24))),
        (InvalidArgumentError, Index((entry(), entry()))),
        (InvalidArgumentError, Index((entry(name="\ud800"),))),
        (InvalidArgumentError, Index((entry(name=b"w"),))),
        (InvalidArgumentError, Index((entry(kind=4),))),
        (InvalidArgumentError, Index((entry(kind=300),))),
        (InvalidArgumentError, Index((entry(shape=(-1, 2)),))),
        (InvalidArgumentError, Index((entry(shape=(2**62, 2**62)),))),
        (InvalidArgumentError, Index((entry(shape=[2, 2]),))),
        (InvalidArgumentError, Index((entry(shape=(2.0, 2)),))),
        (InvalidArgumentError, Index((entry(meta=(3, 6, 0)),))),
        (InvalidArgumentError, Index((entry(meta=(0, 6, 0)),))),
        (InvalidArgumentError, Index((entry(meta=(2, 9, 0)),))),
        (InvalidArgumentError, Index((entry(meta=(2, 6)),))),
        (InvalidArgumentError, Index((entry(dtype="int8"),))),
        (InvalidArgumentError, Index((entry(stream_bytes=(1, 1)),))),
        (InvalidArgumentError, Index((entry(stream_bytes=(1, 0, 1)),))),
        (InvalidArgumentError, Index((entry(checksum=2**32),))),
        (InvalidArgumentError, Index((entry(checksum=-1),))),
        (InvalidArgumentError, Index((entry(refers=(0,)),))),
        (InvalidArgumentError, Index((entry(refers=(1,)),))),
        (InvalidArgumentError, Index((), b"", {"a": (1, 2)})),
        (InvalidArgumentError, Index((), b"", {1: 2})),
        (InvalidArgumentError, Index((), b"", {"a": float("nan")})),
        (InvalidArgumentError, Index((), b"", {"a": {1}})),
        (InvalidArgumentError, Index((), b"", [1])),
        (InvalidArgumentError, Index((), b"", {"a": 10**5000})),
    ],
)
def test_writer_refuses_what_a_reader_would(error, index):
    with pytest.raises(error):
        pack_head(index)


def test_writer_refuses_records_that_are_not_those_of_the_entries(tmp_path):
    index, records = example()
    damaged = [[b"\xff" + records[0][0], *records[0][1:]], *records[1:]]
    swapped = [[bytes(len(stream)) for stream in records[0]], *records[1:]]
    for wrong in (records[:-1], [*records, b"x"], damaged, swapped, [records[1], records[0], *records[2:]], [[1.5]]):
        with pytest.raises(InvalidArgumentError):
            write_container(tmp_path / "file.ans", index, wrong)
    assert list(tmp_path.iterdir()) == []


def test_reader_refuses_what_is_not_a_file():
    for source in (3, None, [b"x"], io.StringIO("x")):
        with pytest.raises(InvalidArgumentError):
            ContainerReader(source)


# ---- the index by itself ----


def test_pack_index_is_read_by_unpack_index():
    index, _ = example()
    assert unpack_index(b"".join(pack_index(index))) == index == unpack_index(split(example_file())[0])
