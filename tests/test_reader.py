"""An open file gives single tensors, and multiplies integers with the scales that are tied to them."""

from __future__ import annotations

import gc

import pytest
import torch
import torch_ans
from model_examples import FLOATS, normal, same
from torch_ans import errors
from torch_ans.entries import Kind
from torch_ans.errors import InvalidArgumentError


# ---- tied scales ----


def quantized_elsewhere():
    q = {f"layers.{i}.q": torch.randint(-31, 32, (20, 30), dtype=torch.int8) for i in range(3)}
    return (
        q
        | {f"layers.{i}.scale": normal(20, seed=i).abs() for i in range(3)}
        | {"other.q": torch.arange(5), "lonely.q": torch.zeros(3, dtype=torch.int8)}
    )


@pytest.mark.parametrize(
    "ties",
    [
        (".q", ".scale"),
        lambda name: name[:-1] + "scale" if name.startswith("layers") and name[-1] == "q" else None,
        {f"layers.{i}.q": f"layers.{i}.scale" for i in range(3)},
    ],
    ids=["suffixes", "function", "mapping"],
)
def test_tied_scale_dequantizes_its_integers(ties):
    tree = quantized_elsewhere()
    data = torch_ans.dumps(tree, ties=ties)
    assert same(torch_ans.loads(data), tree)
    with torch_ans.open(data) as file:
        for i in range(3):
            assert file.get_scale_name(f"layers.{i}.q") == f"layers.{i}.scale"
            expected = tree[f"layers.{i}.q"].float() * tree[f"layers.{i}.scale"][:, None]
            assert same(file.dequantize(f"layers.{i}.q"), expected)
            assert same(file.dequantize(f"layers.{i}.q", torch.bfloat16), expected.bfloat16())
        for name in ("other.q", "lonely.q", "layers.0.scale"):
            assert file.get_scale_name(name) is None
            with pytest.raises(InvalidArgumentError, match="neither quantized nor tied"):
                file.dequantize(name)


@pytest.mark.parametrize("scale_dtype", FLOATS, ids=str)
@pytest.mark.parametrize("symbol_dtype", [torch.int8, torch.uint8, torch.int16], ids=str)
def test_tied_scales_of_any_dtype_and_leading_shape(scale_dtype, symbol_dtype):
    q = torch.randint(0, 100, (6, 10, 8), dtype=symbol_dtype)
    for shape in ((6, 10), (6, 10, 1), (6,), (), (6, 20)):
        scale = normal(*shape, dtype=scale_dtype)
        with torch_ans.open(torch_ans.dumps({"q": q, "s": scale}, ties={"q": "s"})) as file:
            assert file.entry("q").kind == Kind.SYMBOLS
            wide = torch.float64 if scale_dtype == torch.float64 else torch.float32
            expected = (q.view(max(1, scale.numel()), -1).to(wide) * scale.to(wide).view(-1, 1)).view(q.shape)
            assert same(file.dequantize("q"), expected.to(scale_dtype))
            for dtype in FLOATS:
                assert same(file.dequantize("q", dtype), expected.to(dtype))


def test_tied_scales_are_never_quantized_and_may_be_shared():
    q, scale = torch.ones(300, 300, dtype=torch.int8), normal(300, 300)
    tree = {"a": q, "b": q.clone(), "c": q, "s": scale, "t": scale}
    compressed = torch_ans.compress_model(tree, 6, ties={"a": "s", "b": "t", "c": "s"})
    assert [entry.kind for entry in compressed.index.entries] == [Kind.SYMBOLS, Kind.SYMBOLS, Kind.ALIAS, Kind.PLANES, Kind.ALIAS]
    with torch_ans.open(compressed) as file:
        assert {file.get_scale_name(name) for name in "abc"} == {"s"} and same(file.dequantize("b"), scale)


@pytest.mark.parametrize(
    ("ties", "message"),
    [
        ({"q": "nothing"}, "no tensor 'nothing'"),
        ({"s": "s"}, "int8, uint8 or int16"),
        ({"q": "q"}, "scales are floats"),
        ({"q": "three"}, "do not divide"),
        ({"q": "empty"}, "do not divide"),
        ("q", "neither a mapping"),
        (("", "s"), "neither a mapping"),
    ],
)
def test_wrong_ties_are_refused(ties, message):
    tree = {"q": torch.ones(20, dtype=torch.int8), "s": normal(2), "three": normal(3), "empty": normal(0)}
    with pytest.raises(InvalidArgumentError, match=message):
        torch_ans.dumps(tree, ties=ties)


def test_two_scales_of_one_tensor_are_refused():
    q = torch.ones(20, dtype=torch.int8)
    with pytest.raises(InvalidArgumentError, match="two scales"):
        torch_ans.dumps({"q": q, "r": q, "s": normal(2), "t": normal(2)}, ties={"q": "s", "r": "t"})
    many = {f"q{i}": torch.ones(2, dtype=torch.int8) for i in range(17)}
    with pytest.raises(InvalidArgumentError, match="more than 16"):
        torch_ans.dumps(many | {"s": normal(2)}, ties=lambda name: "s" if name[0] == "q" else None)


# ---- lazy reading ----


def test_open_reads_single_tensors_without_the_rest(tmp_path):
    tree = {"a": normal(200, 200), "nested": {"b": normal(5, dtype=torch.bfloat16), "c": [torch.arange(3)]}}
    path = tmp_path / "m.ans"
    torch_ans.save(tree, path, bits=6, min_quantized_numel=100)
    damaged = bytearray(path.read_bytes())
    with torch_ans.open(path) as file:
        assert file.keys() == list(file) == ["a", "nested.b", "nested.c.0"] and len(file) == 3
        assert "nested.b" in file and "b" not in file and file.metadata() == {}
        assert file.get_dtype("nested.b") == torch.bfloat16 and file.get_shape("a") == (200, 200)
        assert same(file.get_tensor("nested.b"), tree["nested"]["b"]) and file.file_bytes == len(damaged)
        file.verify()
        with pytest.raises(KeyError, match="missing"):
            file.get_tensor("missing")
        with pytest.raises(InvalidArgumentError, match="not quantized"):
            file.get_quantized("nested.b")
        begin = file.head_bytes
    damaged[begin + 100] ^= 1  # in the record of a
    path.write_bytes(damaged)
    with torch_ans.open(path) as file:
        assert same(file.get_tensor("nested.b"), tree["nested"]["b"])
        for read in (lambda: file.get_tensor("a"), file.verify, file.tree):
            with pytest.raises(errors.RecordChecksumMismatchError, match="'a'"):
                read()


def test_progress_counts_every_tensor():
    tree, done = {"a": normal(100), "b": [normal(3), torch.arange(2)]}, []
    compressed = torch_ans.compress_model(tree, progress=lambda name, size: done.append((name, size)))
    assert done == [("a", 400), ("b.0", 12), ("b.1", 16)]
    done.clear()
    torch_ans.decompress_model(compressed, progress=lambda name, size: done.append((name, size)))
    assert done == [("a", 400), ("b.0", 12), ("b.1", 16)]


def test_closing_leaves_the_callers_file_open(tmp_path):
    path = tmp_path / "m.ans"
    torch_ans.save({"a": normal(3)}, path)
    with open(path, "rb") as raw:
        with torch_ans.open(raw) as file:
            kept = file.get_tensor("a")
        assert not raw.closed
    gc.collect()
    assert same(kept, normal(3))
