"""Whole models come back as they were, or quantized as asked, and what cannot be saved is refused by name."""

from __future__ import annotations

import copy
import io
import math
import os

import pytest
import torch
import torch_ans
from model_examples import FLOATS, normal, same, tensors_everywhere
from torch_ans import ops
from torch_ans.entries import Kind
from torch_ans.errors import CorruptError, InvalidArgumentError, NotFiniteError, UnsupportedDtypeError


# ---- round trips ----


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_everything_that_torch_can_save_comes_back_exactly(tmp_path):
    tree = tensors_everywhere()
    path = tmp_path / "all.ans"
    size = torch_ans.save(tree, path, metadata={"note": ["a", 1.5]}, verify=True)
    assert path.stat().st_size == size and os.listdir(tmp_path) == ["all.ans"]
    assert same(torch_ans.load(path), tree)
    data = torch_ans.dumps(tree, metadata={"note": ["a", 1.5]})
    assert data == path.read_bytes()
    for source in (data, bytearray(data), memoryview(data)):
        assert same(torch_ans.loads(source), tree) and same(torch_ans.decompress_model(source), tree)
    with torch_ans.open(path) as file:
        assert file.metadata() == {"note": ["a", 1.5]}


def test_every_dtype_of_torch_is_saved_or_refused_by_name():
    for name in dir(torch):
        dtype = getattr(torch, name)
        if isinstance(dtype, torch.dtype) and not name.startswith("q"):
            tensor = torch.empty(4, dtype=dtype)
            try:
                assert same(torch_ans.loads(torch_ans.dumps({"t": tensor}))["t"], tensor)
            except UnsupportedDtypeError as error:
                assert "'t'" in str(error)
                with pytest.raises(KeyError, match="not recognized"):
                    torch.save(tensor, io.BytesIO())


def test_a_tensor_alone_and_an_empty_model_come_back():
    assert same(torch_ans.loads(torch_ans.dumps(normal(3, 4))), normal(3, 4))
    for empty in ({}, [], None, "text"):
        assert same(torch_ans.loads(torch_ans.dumps(empty)), empty)


def test_views_parameters_and_shared_tensors_come_back():
    base = normal(60, 40)
    parameter = torch.nn.Parameter(base)
    tree = {
        "transposed": base.t(), "strided": base[::2, 1::3], "expanded": base[:1].expand(5, 40), "parameter": parameter,
        "conjugate": torch.view_as_complex(normal(5, 2)).conj(), "negative": torch.view_as_complex(normal(5, 2)).conj().imag,
        "tied": parameter, "same view": base[:], "other view": base.view(40, 60), "list": [parameter],
        "empty": base[:0], "empty too": base[:0],
    }  # fmt: skip
    data = torch_ans.dumps(tree)
    back = torch_ans.loads(data)
    assert same(back, tree)
    assert back["tied"] is back["parameter"] is back["same view"] is back["list"][0] and back["other view"] is not back["tied"]
    assert not back["parameter"].requires_grad and back["transposed"].is_contiguous()
    with torch_ans.open(data) as file:
        assert [entry.name for entry in file.index.entries if entry.kind == Kind.ALIAS] == ["tied", "same view", "list.0"]
        assert same(file.get_tensor("tied"), base) and file.get_shape("tied") == (60, 40)


def test_a_module_is_restored():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8, 4))
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    checkpoint = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    back = torch_ans.loads(torch_ans.dumps(checkpoint))
    other.load_state_dict(back["model"])
    torch.optim.AdamW(other.parameters()).load_state_dict(back["optimizer"])
    assert same(back, checkpoint) and same(other.state_dict(), network.state_dict())


def test_equal_input_gives_equal_bytes_and_nothing_grows():
    tree = {"a": normal(300, 70), "b": torch.randint(0, 256, (5000,), dtype=torch.uint8), "c": normal(7)}
    data = torch_ans.dumps(tree)
    assert data == torch_ans.dumps(copy.deepcopy(tree))
    assert len(data) < sum(tensor.nbytes for tensor in tree.values()) + 150


def test_compressed_model_is_a_snapshot():
    tree = {"raw": torch.randint(0, 256, (5000,), dtype=torch.uint8), "coded": normal(100, 100)}
    kept = copy.deepcopy(tree)
    compressed = torch_ans.compress_model(tree, None)
    for tensor in tree.values():
        tensor.zero_()
    assert same(torch_ans.decompress_model(compressed), kept)
    assert same(torch_ans.loads(compressed.to_bytes()), kept)


# ---- quantized ----


def test_matrices_above_the_threshold_are_quantized_and_nothing_else():
    tree = {
        "matrix": normal(256, 256), "small": normal(255, 256), "vector": normal(70000),
        "conv": normal(128, 64, 3, 3, dtype=torch.bfloat16), "half": normal(4, 130, 130, dtype=torch.float16),
        "ints": torch.arange(70000).view(70, 1000), "complex": torch.complex(normal(256, 256), normal(256, 256)),
    }  # fmt: skip
    compressed = torch_ans.compress_model(tree)
    kinds = {entry.name for entry in compressed.index.entries if entry.kind == Kind.QUANTIZED}
    assert kinds == {"matrix", "conv", "half"}
    back = torch_ans.decompress_model(compressed)
    for name, tensor in tree.items():
        if name in kinds:
            rows = tensor.reshape(128, -1) if name == "conv" else tensor
            expected = ops.dequantize(*ops.quantize(rows, 6, 12.85), tensor.dtype).view(tensor.shape)
            assert same(back[name], expected), name
        else:
            assert same(back[name], tensor), name
    assert same(torch_ans.loads(compressed.to_bytes()), back)


def test_bits_clip_and_chunks_are_those_asked_for():
    weight = normal(300, 300)
    for bits in range(2, 9):
        for clip in ("absmax", 2.5, 3, None):
            compressed = torch_ans.compress_model({"w": weight}, bits, clip_sigmas=clip, chunk_symbols=4096)
            expected = ops.quantize(weight, bits, {"absmax": None, None: 12.85}.get(clip, clip))
            with torch_ans.open(compressed) as file:
                assert all(map(torch.equal, file.get_quantized("w"), expected))
                ((spec, stream), *_) = file.get_streams("w")
            layout, directory = ops.stream_layout(stream, spec.numel, torch.int8)
            if layout[0] > 1:  # neither raw nor constant
                assert directory.shape[0] == 22 and layout[1] == 14 * 300


def test_select_by_function_and_by_pattern():
    tree = {"a.weight": normal(20, 30), "a.bias": normal(30), "b.weight": normal(300, 300), "c.ids": torch.arange(9)}
    seen = []

    def by_name(name, tensor):
        seen.append(name)
        return {"a.weight": 3, "a.bias": True, "b.weight": False}[name]

    def bits_of(**options):
        compressed = torch_ans.compress_model(tree, **options)
        return {entry.name: entry.meta[1] for entry in compressed.index.entries if entry.kind == Kind.QUANTIZED}

    assert bits_of(bits=5, select=by_name) == {"a.weight": 3, "a.bias": 5} and seen == ["a.weight", "a.bias", "b.weight"]
    assert bits_of(bits=5, select=lambda name, tensor: None) == {"b.weight": 5}
    assert bits_of(bits=None, select=lambda name, tensor: 4) == {"a.weight": 4, "a.bias": 4, "b.weight": 4}
    assert bits_of(bits=5, select="*.weight") == {"a.weight": 5, "b.weight": 5}
    assert bits_of(bits=5, select=["a.*", "*.bias"])["a.weight"] == 5
    with pytest.raises(InvalidArgumentError, match="nothing"):  # a slip of the pen would leave everything as it is
        bits_of(bits=5, select=["a.*", "nothing"])
    assert bits_of(bits=5, select=()) == {}
    assert bits_of(bits=5, min_quantized_numel=600) == {"a.weight": 5, "b.weight": 5}
    assert bits_of(bits=None) == {}


def test_odd_shapes_can_be_quantized():
    tree = {
        "scalar": torch.tensor(-3.0),
        "vector": normal(100),
        "thin": normal(50, 1),
        "empty": normal(0, 5),
        "cube": normal(3, 4, 5),
    }
    compressed = torch_ans.compress_model(tree, 8, select="*", clip_sigmas="absmax")
    back = torch_ans.decompress_model(compressed)
    for name, tensor in tree.items():
        assert back[name].shape == tensor.shape and back[name].dtype == tensor.dtype
        assert tensor.numel() == 0 or (back[name] - tensor).abs().max() <= tensor.abs().max() / 127
    with torch_ans.open(compressed) as file:
        assert file.get_quantized("cube").symbols.shape == (3, 20) and file.get_quantized("scalar").scale.shape == ()
        assert file.entry("empty").kind == Kind.PLANES


def test_decoding_to_another_dtype_rounds_once():
    tree = {"w": normal(300, 300), "bias": normal(300)}
    compressed = torch_ans.compress_model(tree)
    quantized = ops.quantize(tree["w"], 6, 12.85)
    for dtype in FLOATS:
        back = torch_ans.decompress_model(compressed, dtype=dtype)
        narrow = torch.float32 if dtype == torch.float64 else dtype
        assert same(back["w"], ops.dequantize(*quantized, narrow).to(dtype)) and same(back["bias"], tree["bias"])
        with torch_ans.open(compressed) as file:
            assert same(file.dequantize("w", dtype), back["w"]) and same(file.get_tensor("w", dtype), back["w"])
    with torch_ans.open(compressed) as file, pytest.raises(InvalidArgumentError, match="int8"):
        file.dequantize("w", torch.int8)


# ---- refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bits is 1"), ({"bits": 9}, "bits is 9"), ({"bits": 6.0}, "bits is 6.0"), ({"bits": True}, "bits is True"),
        ({"clip_sigmas": 0}, "positive"), ({"clip_sigmas": math.nan}, "positive"), ({"clip_sigmas": "max"}, "absmax"),
        ({"chunk_symbols": 0}, "chunk_symbols"), ({"chunk_symbols": (1 << 22) + 1}, "chunk_symbols"),
        ({"chunk_symbols": 1.5}, "chunk_symbols"),
        ({"select": lambda name, tensor: 9}, r"select\('w'\): bits is 9"),
        ({"select": lambda name, tensor: "yes"}, "bits is 'yes'"),
        ({"bits": None, "select": "*"}, "bits is not given"), ({"metadata": {"a": {1}}}, "metadata"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        torch_ans.compress_model({"w": normal(3, 3)}, **options)


@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_memory_are_refused_by_name():
    class Wrapper(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            raise AssertionError

    wrapped = torch.Tensor._make_subclass(Wrapper, torch.zeros(3))
    for tensor, message in [
        (torch.zeros(3).to_sparse(), "not dense"), (torch.zeros(3, 3).to_sparse_csr(), "not dense"),
        (torch.zeros(3, device="meta"), "meta device"),
        (torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "not dense"), (wrapped, "Wrapper"),
    ]:  # fmt: skip
        with pytest.raises(InvalidArgumentError, match=rf"'x\.0'.*{message}"):
            torch_ans.dumps({"x": [tensor]})
    with pytest.raises(UnsupportedDtypeError, match=r"'x\.0'.*quint8"):
        torch_ans.dumps({"x": [torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8)]})
    with pytest.raises(UnsupportedDtypeError, match=r"'t'.*int4"):
        torch_ans.dumps({"t": torch.empty(3, dtype=torch.int4)})
    with pytest.raises(InvalidArgumentError, match="object"):
        torch_ans.dumps({"x": object()})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_is_refused_where_it_is_quantized_and_kept_elsewhere(bad):
    tree = {"fine": normal(70, 70), "broken": normal(70, 70)}
    tree["broken"][50, 3] = bad
    assert same(torch_ans.loads(torch_ans.dumps(tree)), tree)
    with pytest.raises(NotFiniteError, match=r"'broken'.*row 50"):
        torch_ans.compress_model(tree, select="*")


def test_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.ans"
    torch_ans.save({"a": normal(3)}, path)
    before = path.read_bytes()
    for tree, error in (({"a": object()}, InvalidArgumentError), ({"w": torch.full((3, 3), math.nan)}, NotFiniteError)):
        with pytest.raises(error):
            torch_ans.save(tree, path, bits=4, select="*")
    with pytest.raises(OSError):
        torch_ans.save({}, tmp_path / "no" / "folder.ans")
    with pytest.raises(InvalidArgumentError, match="options already"):
        torch_ans.save(torch_ans.compress_model({}), path, bits=4)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.ans"]


def test_verify_notices_a_record_that_is_not_what_was_to_be_saved(tmp_path, monkeypatch):
    tree = {"w": normal(70, 70), "q": normal(70, 70, seed=1), "i": torch.arange(5, dtype=torch.int8)}

    def select(name, tensor):
        return name == "q"

    torch_ans.save(tree, tmp_path / "good.ans", bits=6, select=select, verify=True)
    model = torch_ans.compress_model(tree, 6, select=select)
    torch_ans.save(model, tmp_path / "model.ans", verify=True)
    assert (tmp_path / "good.ans").read_bytes() == (tmp_path / "model.ans").read_bytes()
    for name in tree:
        wrong = dict(tree, **{name: tree[name].flip(0)})
        with pytest.raises(CorruptError, match=f"'{name}' does not decode"):
            torch_ans.model.write_model(model, tmp_path / "wrong.ans", wrong, verify=True)
    assert sorted(os.listdir(tmp_path)) == ["good.ans", "model.ans"]
