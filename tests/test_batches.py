"""What is done with tensors on a GPU, many together, gives the records that tensors give one by one. Here with CPU tensors that pass for a GPU's; tests/gpu has real ones."""

from __future__ import annotations

import pytest
import torch

import torch_ans
from torch_ans import batches, errors, records
from torch_ans.entries import Kind


def model() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    state = {f"layer.{i}": torch.randn(70 + i, 96, generator=g) * 0.1 for i in range(4)}
    state |= {"conv": torch.randn(20, 8, 3, 3, generator=g), "half": torch.randn(64, 50, generator=g).half(), "wide": torch.randn(30, 64, generator=g).double()}
    state |= {"bf16": torch.randn(5000, generator=g).bfloat16(), "norm": torch.ones(64), "bias": torch.randn(77, generator=g), "ids": torch.arange(3000)}
    state |= {"complex": torch.randn(500, generator=g, dtype=torch.complex64), "bool": torch.rand(100, generator=g) > 0.5, "empty": torch.zeros(0, 4)}
    state |= {"w.q": (torch.randn(40, 64, generator=g) * 9).to(torch.int8), "w.scale": torch.rand(40, generator=g).half(), "int16": torch.randint(-900, 900, (4000,), generator=g, dtype=torch.int16)}
    state |= {"row": torch.randn(1, 5000, generator=g)}
    return state | {"again": state["layer.0"], "t": torch.randn(64, 90, generator=g).t()}


def pass_for_a_gpu(monkeypatch: pytest.MonkeyPatch, has_cuda_kernels: bool = True) -> None:
    """Whatever is saved from here on."""
    monkeypatch.setattr(batches, "on_gpu", lambda tensor: True)
    monkeypatch.setattr(batches, "has_cuda_kernels", lambda: has_cuda_kernels)


@pytest.mark.parametrize("batch_bytes", [1, 30_000, 1 << 28])
@pytest.mark.parametrize("options", [{"bits": 6, "min_quantized_numel": 500}, {"bits": None}, {"bits": 4, "clip_sigmas": "absmax", "chunk_symbols": 1500, "min_quantized_numel": 1}])
def test_together_or_one_by_one_the_file_is_the_same(options, batch_bytes: int, monkeypatch) -> None:
    options = {"ties": (".q", ".scale"), **options}
    expected = torch_ans.dumps(model(), **options)
    calls = []
    whole = batches.encode_whole
    monkeypatch.setattr(batches, "encode_whole", lambda specs, *rest: calls.append(len(specs)) or whole(specs, *rest))
    pass_for_a_gpu(monkeypatch)
    monkeypatch.setattr(batches, "BATCH_BYTES", batch_bytes)
    seen = []
    assert torch_ans.dumps(model(), **options, progress=lambda name, size: seen.append(name)) == expected
    assert sorted(seen) == sorted(name for name in model() if name != "again")
    assert {1: calls == [], 30_000: len(calls) > 1, 1 << 28: len(calls) == 1 and calls[0] > 10}[batch_bytes]


@pytest.mark.parametrize("batch_bytes", [30_000, 1 << 28])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_together_or_one_by_one_the_tensors_are_the_same(dtype, batch_bytes: int, monkeypatch) -> None:
    data = torch_ans.dumps(model(), bits=6, min_quantized_numel=500, ties=(".q", ".scale"))
    with torch_ans.open(data) as file:
        expected = file.tree(dtype)
        quantized = [name for name in file.keys() if file.entry(name).kind == Kind.QUANTIZED]
        integers = {name: file.get_quantized(name) for name in quantized}
        tied = file.dequantize("w.q", dtype)
    monkeypatch.setattr(batches, "decodes_on", lambda device: True)
    monkeypatch.setattr(batches, "BATCH_BYTES", batch_bytes)
    with torch_ans.open(data) as file:
        tree = file.tree(dtype)
        assert tree.keys() == expected.keys() and tree["again"] is tree["layer.0"]
        for name, tensor in expected.items():
            for other in (tree[name], file.get_tensor(name, dtype)):
                assert other.dtype == tensor.dtype and other.shape == tensor.shape
                assert torch.equal(other.reshape(-1).contiguous().view(torch.uint8), tensor.reshape(-1).contiguous().view(torch.uint8)), name
        for name in quantized:
            assert all(map(torch.equal, file.get_quantized(name), integers[name]))
        assert torch.equal(file.dequantize("w.q", dtype), tied)
        file.verify()


def test_an_installation_without_cuda_says_so(monkeypatch) -> None:
    pass_for_a_gpu(monkeypatch, has_cuda_kernels=False)
    with pytest.raises(errors.InvalidArgumentError, match="'layer.0' is on a GPU.*without CUDA"):
        torch_ans.dumps(model())


def test_a_tensor_of_one_row(monkeypatch) -> None:
    data = torch_ans.dumps({"row": model()["row"]}, bits=6, min_quantized_numel=500)
    expected = torch_ans.loads(data)["row"]
    monkeypatch.setattr(batches, "decodes_on", lambda device: True)
    assert torch.equal(torch_ans.loads(data)["row"], expected)


def test_the_tensor_that_cannot_be_quantized_is_named(monkeypatch) -> None:
    pass_for_a_gpu(monkeypatch)
    state = model()
    state["layer.2"][5, 5] = float("nan")
    with pytest.raises(errors.NotFiniteError, match=r"'layer\.2' cannot be quantized"):
        torch_ans.compress_model(state, 6, min_quantized_numel=500)


def test_pieces_that_are_on_the_host_stay_as_they_are() -> None:
    pieces = [records.EncodedPiece(0, 1, [], [], None, [torch.arange(5, dtype=torch.uint8)]), records.EncodedPiece(0, 1, [], [torch_ans.ops.Encoded(torch.zeros(3), torch.zeros(1))], None)]
    moved = records.to_host(pieces)
    assert moved[0].record[0] is pieces[0].record[0] and moved[1].record is None and moved[1].streams[0].payload is pieces[1].streams[0].payload
