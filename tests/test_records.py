"""A tensor becomes the same streams however it is cut, comes back exactly, and is written in the form that is smallest."""

from __future__ import annotations

import itertools
import math
import random
import threading

import pytest
import torch
from torch_ans import model, ops, pipeline, planes, records, streams, weights
from torch_ans.container import ContainerReader
from torch_ans.entries import DELTA_DTYPES, DTYPES, Kind, Transform, torch_dtype
from torch_ans.pipeline import Options
from torch_ans.records import Form

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def random_bits(shape, dtype, generator):
    """A tensor with any bits at all, NaN, infinities and subnormals among them."""
    numel = math.prod(shape)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    raw = torch.randint(0, 256, (numel * dtype.itemsize,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype).view(shape)


# ---- shapes ----


@pytest.mark.parametrize(
    ("shape", "columns", "leading"),
    [
        ((), 1, ()),
        ((7,), 7, ()),
        ((10, 384), 384, (10,)),
        ((10, 3), 3, (10,)),  # only the first dimension is left
        ((64, 32, 3, 3), 288, (64,)),
        ((64, 3, 3, 3), 27, (64,)),
        ((64, 16, 8, 8), 64, (64, 16)),  # 64 weights are a row
        ((8, 20, 100), 100, (8, 20)),  # experts
        ((5, 1, 1), 1, (5, 1)),
        ((1, 1, 200), 200, (1, 1)),
    ],
)
def test_row_is_the_trailing_dimensions_up_to_64_weights(shape, columns, leading):
    assert weights.row_columns(shape) == columns
    assert math.prod(weights.leading_shape(shape, columns)) * columns == math.prod(shape)
    assert weights.leading_shape(shape, columns) == leading


def test_scales_of_rows_that_cut_a_dimension_are_a_vector():
    assert weights.leading_shape((6, 10), 4) == (15,)
    assert weights.leading_shape((6, 10), 60) == ()
    assert weights.leading_shape((6, 10), 20) == (3,)
    assert weights.leading_shape((6,), 3) == (2,)


def test_chunks_are_equal_runs_of_whole_rows_near_the_target():
    rng = random.Random(1)
    for _ in range(2000):
        target = rng.choice([1, 31, 1000, 65536, 1 << 20])
        columns = rng.choice([1, 3, 64, 384, 1000, 70000])
        rows = rng.randrange(1, 5000)
        numel = rows * columns
        chunk = records.chunk_length(numel, columns, target)
        case = f"{rows} x {columns}, target {target}: {chunk}"
        assert 1 <= chunk <= ops.MAX_CHUNK_SYMBOLS, case
        if 1 < columns <= target:
            assert chunk % columns == 0 and chunk <= target + columns, case
        else:
            assert chunk % 32 == 0 and chunk < target + 32, case
        if target >= 32:
            chunks, fewest = -(-numel // chunk), -(-numel // target)
            assert chunks <= 2 * fewest, case
            if chunk > max(64, columns) and chunks > 1:  # equal: the last one is at most a granule per chunk shorter
                assert numel - (chunks - 1) * chunk > chunk - chunks * max(32, columns), case
    assert records.chunk_length(0, 1, 65536) >= 1


# ---- planes ----


def test_planes_are_the_bytes_of_each_number_most_significant_first():
    values = [0x01020304, -2, 0x7FFFFFFF, -(1 << 31), 7]
    components = planes.component_bytes(torch.tensor(values, dtype=torch.int32), "int32")
    for transform in Transform:
        expected = []
        for before, value in zip([0, *values], values):
            bits = value & 0xFFFFFFFF
            if transform == Transform.ROTATE:
                bits = bits << 1 | bits >> 31
            elif transform == Transform.DELTA:
                bits = value - before
            expected.append((bits & 0xFFFFFFFF).to_bytes(4, "big"))
        cut = planes.cut_planes(components, transform)
        assert [bytes(plane.tolist()) for plane in cut] == [bytes(column) for column in zip(*expected)]


@pytest.mark.parametrize("dtype", [entry for entry in DTYPES], ids=lambda entry: entry.name)
def test_planes_of_every_dtype_join_to_the_same_bits(dtype, monkeypatch):
    monkeypatch.setattr(planes, "_BLOCK", 100)
    generator = torch.Generator().manual_seed(1)
    transforms = list(Transform) if dtype.name in DELTA_DTYPES else [Transform.NONE, Transform.ROTATE]
    for shape in ((), (1,), (0, 4), (99,), (100,), (7, 43)):
        tensor = random_bits(shape, torch_dtype(dtype.name), generator)
        components = planes.component_bytes(tensor, dtype.name)
        for transform in transforms:
            cut = planes.cut_planes(components, transform)
            counts = planes.count_planes(components, transform)
            assert torch.equal(counts, torch.cat([ops.histogram(plane) for plane in cut]))
            assert torch.equal(counts, planes.count_cut(cut))
            joined = planes.join_planes(cut.__getitem__, *components.shape, transform)
            assert torch.equal(joined, components), (shape, transform)
            for begin, end in ((0, 0), (0, 50), (50, 50), (50, 290), (290, components.shape[0])):
                part = planes.cut_planes(components, transform, begin, end)
                assert all(torch.equal(one, whole[begin:end]) for one, whole in zip(part, cut, strict=True))
                counts = planes.count_planes(components, transform, begin, end)
                assert torch.equal(counts, torch.cat([ops.histogram(plane) for plane in part]))


def strides_apart(dtype):
    """Tensors of an integer dtype of which differences are small, though some wrap around."""
    smallest, largest = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    ends = [0, largest, smallest, largest, largest - 1, smallest + 1, 0, 1, smallest]
    yield torch.tensor(ends, dtype=torch.int64 if smallest < 0 else torch.uint64).to(dtype)
    ids = torch.arange(30000).to(torch.int16).to(torch.int64)
    yield from (ids.to(dtype), (ids - 15000).to(dtype), ids[:1].to(dtype), ids[:0].to(dtype))
    yield from (ids.to(dtype).view(3, -1).t(), ids.to(dtype)[::3])


@pytest.mark.parametrize("dtype", [torch_dtype(name) for name in DELTA_DTYPES], ids=str)
def test_numbers_near_the_one_before_become_differences(dtype, monkeypatch):
    for block in (planes._BLOCK, 7):
        monkeypatch.setattr(planes, "_BLOCK", block)
        for tensor in strides_apart(dtype):
            compressed = model.compress_model({"t": tensor})
            back = model.decompress_model(compressed)["t"]
            assert back.dtype == dtype and back.shape == tensor.shape
            assert planes.same_bits(back, tensor, compressed.index.entries[0].dtype)
            if tensor.dim() == 1 and tensor.numel() >= 10000:
                assert compressed.index.entries[0].meta == (Transform.DELTA,)
                assert compressed.index.entries[0].record_bytes < 150 * dtype.itemsize


def test_position_ids_take_a_few_bytes():
    entry, record = encoded(torch.arange(512).expand(1, -1))
    assert (entry.kind, entry.meta) == (Kind.PLANES, (Transform.DELTA,))
    assert sum(stream.numel() for stream in record) <= 14 + 12  # seven constant planes, and one of a zero and 511 ones


def test_planes_are_no_views_of_the_tensor():
    tensor = torch.arange(10, dtype=torch.uint8)
    (plane,) = planes.cut_planes(planes.component_bytes(tensor, "uint8"), 0)
    tensor.zero_()
    assert plane.tolist() == list(range(10))


def test_same_bits_tells_nan_and_minus_zero_apart():
    nan = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert planes.same_bits(nan, nan.clone(), "float32") and not planes.same_bits(nan, nan.flip(0), "float32")
    assert not planes.same_bits(torch.tensor([0.0]), torch.tensor([-0.0]), "float32")


# ---- the choice between forms ----


def encoded(tensor, **options):
    """Entry and record (one uint8 tensor per stream) of a tensor."""
    compressed = model.compress_model({"t": tensor}, None, **options)
    return compressed.index.entries[0], [records.stream_tensor(stream) for stream in compressed.record(0)]


def sizes_of_forms(tensor, dtype):
    """Bytes of the streams in every lossless form."""
    sizes = []
    for form in records.lossless_forms(dtype):
        cut = [tensor] if form.kind == Kind.SYMBOLS else planes.cut_planes(planes.component_bytes(tensor, dtype), form.transform)
        sizes.append(sum(streams.encode_stream(part).numel() for part in cut))
    return sizes


def test_the_smallest_form_is_chosen():
    generator = torch.Generator().manual_seed(2)
    normal = torch.randn(20000, generator=generator)
    cases = [normal, normal.abs(), normal.exp(), normal[:100], normal * 0 + 3, torch.complex(normal, normal)]
    tensors = [case.to(dtype) for case in cases[:5] for dtype in FLOATS] + [cases[5]]
    tensors += [(normal * scale).to(torch.int16) for scale in (0.3, 5, 80, 400, 5000)]
    tensors += [(normal[:300] * scale).to(torch.int16) for scale in (0.3, 5, 80, 400, 5000)]
    tensors += [(normal[:size] * 3000).to(torch.int64).sort().values for size in (30, 1000, 20000)]
    chosen = set()
    for tensor in tensors:
        entry, record = encoded(tensor)
        sizes = sizes_of_forms(tensor, entry.dtype)
        size = sum(stream.numel() for stream in record)
        assert size <= 1.01 * min(sizes) + 16, (tensor[:4], tensor.dtype, sizes, size)
        chosen.add((entry.dtype, entry.kind, entry.meta))
    assert {("float32", Kind.PLANES, (0,)), ("float32", Kind.PLANES, (1,))} <= chosen
    assert {("int16", Kind.SYMBOLS, ()), ("int16", Kind.PLANES, (0,))} <= chosen


def test_mixed_signs_are_rotated_out_of_the_exponents():
    weights = torch.randn(30000, generator=torch.Generator().manual_seed(3)) * 0.02
    for dtype in (torch.bfloat16, torch.float32):
        entry, record = encoded(weights.to(dtype))
        assert entry.meta == (1,)
        assert record[0].numel() < 0.5 * weights.numel()  # exponents alone


# ---- cutting ----


class ThreadExchange:
    """A world of threads: what one rank tells all others lies in a list that they share."""

    device = torch.device("cpu")

    def __init__(self, rank, world_size, barrier, board):
        self.rank, self.world_size, self._barrier, self._board = rank, world_size, barrier, board

    def _all(self, value):
        self._board[self.rank] = value
        self._barrier.wait(30)
        values = list(self._board)
        self._barrier.wait(30)
        return values

    def agree(self, error, same=b"", about=""):
        answers = self._all((error, same))
        for other, _ in answers:
            if other is not None:
                raise other
        assert len({said for _, said in answers}) == 1

    def bounds(self, bounds):
        every = torch.stack(self._all(bounds))
        return torch.stack([every[:, :, 0].amin(0), every[:, :, 1].amax(0)], dim=1)

    def total(self, counts):
        return [torch.stack(parts).sum(0) for parts in zip(*self._all(counts))]

    def gather(self, pieces):
        every = self._all(pieces)
        return every if self.rank == 0 else []


def compress_in_a_world(tree, options, world_size):
    barrier, board, results = threading.Barrier(world_size), [None] * world_size, [None] * world_size

    def work(rank):
        results[rank] = model.compress(tree, options, None, None, ThreadExchange(rank, world_size, barrier, board))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result is None for result in results] == [rank > 0 for rank in range(world_size)]
    return results[0].to_bytes()


def mixed_tensors(rng, generator):
    """Some tensors of all kinds, of very different sizes."""
    tensors = {}
    for number in range(rng.randrange(1, 8)):
        shape = rng.choice([(), (0,), (3,), (1000,), (40, 70), (300, 64), (33, 5, 3, 3), (2, 5000), (1, 30000), (20000,)])
        dtype = rng.choice([torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.int16, torch.int64, torch.complex64])
        wide = torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0 ** rng.randrange(-3, 3)
        tensors[f"t{number}"] = wide.clamp(-120, 120).to(dtype)
    tensors["ids"] = torch.arange(30000).view(-1, 5) << 4 * len(tensors)  # differences across every cut
    tensors["again"] = tensors["t0"]
    return tensors


@pytest.mark.parametrize("seed", range(12))
def test_bytes_do_not_depend_on_the_number_of_ranks(seed):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    tensors = mixed_tensors(rng, generator)
    options = Options(
        bits=rng.choice([None, 4, 6]),
        select=rng.choice([None, "*"]),
        chunk_symbols=rng.choice([100, 1000, 4096]),
        min_quantized_numel=500,
        clip_sigmas=rng.choice([None, "absmax", 3.0]),
    )
    alone = model.compress(tensors, options, None, None, pipeline.LocalExchange()).to_bytes()
    for world_size in (1, 2, 3, 5, 8):
        assert compress_in_a_world(tensors, options, world_size) == alone, world_size


def test_large_tensors_are_divided_and_every_rank_gets_its_part():
    flat = {"big": torch.zeros(100_000, 10), "small": torch.zeros(50, 10), "middle": torch.zeros(10_000, 10)}
    specs = pipeline.plan(list(flat), list(flat.values()), Options(chunk_symbols=1000))
    for world_size in (1, 2, 3, 8, 50):
        shares = pipeline.divide(specs, world_size)
        load = [0.0] * world_size
        for spec, parts in zip(specs, shares):
            assert [part.first_chunk for part in parts] == [0, *(part.last_chunk for part in parts[:-1])]
            assert parts[-1].last_chunk == spec.chunks and [part.rank for part in parts] == sorted({part.rank for part in parts})
            for part in parts:
                load[part.rank] += pipeline.cost(spec) * (part.last_chunk - part.first_chunk) / spec.chunks
        assert max(load) <= 1.3 * sum(load) / world_size, (world_size, load)


def test_more_ranks_than_work_leave_some_without():
    specs = pipeline.plan(["a", "b"], [torch.zeros(3), torch.zeros(2, 2)], Options())
    shares = pipeline.divide(specs, 8)
    assert [len(parts) for parts in shares] == [1, 1]


# ---- quantized pieces ----


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1.0, 1e6, 1e30], ids=str)
@pytest.mark.parametrize("clip_sigmas", [None, "absmax", 4.5])
def test_pieces_are_quantized_as_the_whole(size, clip_sigmas):
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(50, 64, generator=generator) * size * torch.rand(50, 1, generator=generator) ** 3
    weight[7] = 0
    weight[8, 1:] = 0
    spec = pipeline.plan(["w"], [weight], Options(6, clip_sigmas, "*", chunk_symbols=640))[0]
    whole = ops.quantize(weight, 6, spec.forms[0].clip_sigmas)
    for cuts in ([0, spec.chunks], [0, 1, 3, 3, spec.chunks], range(spec.chunks + 1)):
        pieces = [records.make_piece(spec, weight, *cut) for cut in itertools.pairwise(cuts)]
        bounds = torch.stack([piece.scale_bounds() for piece in pieces])
        bounds = torch.stack([bounds[:, 0].amin(), bounds[:, 1].amax()])
        counts = sum(piece.count(bounds)[0] for piece in pieces)
        assert torch.equal(counts, ops.histogram(whole.symbols))
        assert torch.equal(torch.cat([piece.symbols for piece in pieces]), whole.symbols.view(-1))
        assert torch.equal(torch.cat([piece.scale for piece in pieces]), whole.scale)
        assert {piece.exponent for piece in pieces} == {int(whole.exponent)}


def test_row_longer_than_a_chunk_has_one_scale_wherever_it_is_cut():
    weight = torch.randn(3, 1000, generator=torch.Generator().manual_seed(6))
    options = Options(5, "absmax", "*", chunk_symbols=100)
    alone = model.compress({"w": weight}, options, None, None, pipeline.LocalExchange())
    for world_size in (2, 3, 7, 8):
        assert compress_in_a_world({"w": weight}, options, world_size) == alone.to_bytes()
    back = model.decompress_model(alone)["w"]
    whole = ops.quantize(weight, 5)
    assert torch.equal(back, ops.dequantize(*whole))


def test_float64_is_quantized_as_float32(monkeypatch):
    monkeypatch.setattr(records, "_BLOCK", 640)
    weight = torch.randn(90, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    wide, narrow = (model.compress_model({"w": w}, 6, select="*") for w in (weight, weight.float()))
    assert wide.record(0) == narrow.record(0)
    back = model.decompress_model(wide)["w"]
    assert back.dtype == torch.float64 and torch.equal(back, model.decompress_model(narrow)["w"].double())


# ---- reading ----


def test_stream_tensor_copies_only_what_cannot_be_written_to():
    writable = bytearray(b"abc")
    records.stream_tensor(memoryview(writable))[0] = 0
    assert writable == b"\0bc"
    fixed = b"abc"
    records.stream_tensor(memoryview(fixed))[0] = 0
    assert fixed == b"abc"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "weight", [torch.zeros(4, 64), torch.ones(4, 64), torch.randn(4, 64), torch.randn(300, 64)], ids=["0", "1", "short", "long"]
)
def test_every_model_decodes_to_every_float(dtype, weight):
    with ContainerReader(model.dumps({"w": weight}, bits=8, select="*")) as reader:
        entry, record = reader.index.entries[0], [records.stream_tensor(stream) for stream in reader.record(0)]
    scale, exponent = records.decode_scale(entry, record)
    decoded = weights.decode(record[0], torch.int8, scale, exponent, None, 64, dtype)
    narrow = torch.float32 if dtype == torch.float64 else dtype
    assert torch.equal(decoded, ops.dequantize(*ops.quantize(weight, 8, ops.DEFAULT_CLIP_SIGMAS), narrow).to(dtype))


def test_forms_of_every_dtype_are_legal():
    for dtype in DTYPES:
        for form in records.lossless_forms(dtype.name):
            assert isinstance(form, Form) and form.kind in (Kind.PLANES, Kind.SYMBOLS)
