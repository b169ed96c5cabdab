"""What only a real GPU can show: models on it, CUDA graphs, streams, NCCL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from devices import HAS_GPU
from distributions import bell, outliers
from test_batches import model

import torch_ans
from torch_ans import ops
from torch_ans.errors import CorruptError, NotFiniteError

pytestmark = pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
OPTIONS = {"bits": 6, "min_quantized_numel": 500, "ties": (".q", ".scale")}


def on(device: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    moved = {name: tensor.to(device) for name, tensor in state.items()}
    return moved | {"again": moved["layer.0"]}


@pytest.mark.parametrize("options", [OPTIONS, {"bits": None}])
def test_the_file_of_a_model_on_the_gpu_is_that_of_the_cpu(options) -> None:
    assert torch_ans.dumps(on("cuda", model()), **options) == torch_ans.dumps(model(), **options)
    mixed = on("cuda", model()) | {"bias": model()["bias"]}
    assert torch_ans.dumps(mixed, **options) == torch_ans.dumps(model(), **options)


def test_a_model_of_several_batches_and_of_tensors_beyond_one(monkeypatch) -> None:
    from torch_ans import batches

    expected = torch_ans.dumps(model(), **OPTIONS)
    monkeypatch.setattr(batches, "BATCH_BYTES", 30_000)
    assert torch_ans.dumps(on("cuda", model()), **OPTIONS) == expected
    with torch_ans.open(expected, device="cuda") as file:
        assert all(torch.equal(a.cpu(), b) for a, b in zip(file.tree().values(), torch_ans.loads(expected).values()))


def test_a_file_is_loaded_to_the_gpu() -> None:
    data = torch_ans.dumps(model(), **OPTIONS)
    for dtype in (None, torch.bfloat16):
        expected = torch_ans.loads(data, dtype=dtype)
        loaded = torch_ans.loads(data, device="cuda", dtype=dtype)
        for name, tensor in expected.items():
            assert loaded[name].is_cuda and loaded[name].dtype == tensor.dtype
            assert torch.equal(loaded[name].cpu().contiguous().view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8)), name
    with torch_ans.open(data, device="cuda") as file, torch_ans.open(data) as host:
        assert torch.equal(file.dequantize("w.q").cpu(), host.dequantize("w.q"))
        assert all(torch.equal(a.cpu(), b) for a, b in zip(file.get_quantized("layer.1"), host.get_quantized("layer.1")))
        file.verify()


def test_the_tensor_that_cannot_be_quantized_is_named() -> None:
    state = on("cuda", model())
    state["layer.2"][5, 5] = float("inf")
    with pytest.raises(NotFiniteError, match=r"'layer\.2' cannot be quantized"):
        torch_ans.compress_model(state, 6, min_quantized_numel=500)


def test_a_run_is_captured_in_a_cuda_graph() -> None:
    symbols = [bell(300_000, 5.0, torch.int8, 1), outliers(200_000, 3.0, torch.int8, 2), bell(900, 4.0, torch.int8, 3), torch.full((5000,), 3, dtype=torch.int8)]
    streams = ops.encode_streams([s.cuda() for s in symbols], 8192)
    out = [torch.empty_like(s, device="cuda") for s in symbols]
    plan = ops.DecodePlan(streams, out)
    plan.check(plan.run())  # before capturing, as CUDA graphs want it
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        status = plan.run()
    for _ in range(3):
        for o in out:
            o.fill_(99)
        graph.replay()
        plan.check(status)
        assert all(torch.equal(o.cpu(), s) for o, s in zip(out, symbols))
    streams[1][-2000] ^= 1
    graph.replay()
    with pytest.raises(CorruptError, match="stream 1"):
        plan.check(status)


def test_operators_keep_to_the_current_stream() -> None:
    side = torch.cuda.Stream()
    symbols = bell(2_000_000, 6.0, torch.int8, 1)
    with torch.cuda.stream(side):
        moved = symbols.cuda(non_blocking=True)
        stream = ops.encode_stream(moved, 16384)
        back = ops.decode_stream(stream, symbols.numel(), torch.int8)
    side.synchronize()
    assert torch.equal(back.cpu(), symbols) and torch.equal(stream.cpu(), ops.encode_stream(symbols, 16384))


def test_large_and_odd_sizes() -> None:
    for n in (1 << 20, 3_000_001, 20_000_000):
        symbols = outliers(n, 4.0, torch.int8, n)
        stream = ops.encode_stream(symbols.cuda())
        assert torch.equal(stream.cpu(), ops.encode_stream(symbols))
        assert torch.equal(ops.decode_stream(stream, n, torch.int8).cpu(), symbols)


def test_more_than_4_gib_of_symbols() -> None:
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("24 GiB of GPU memory are wanted")
    symbols = torch.zeros((1 << 32) + 12345, dtype=torch.int8, device="cuda")
    symbols[:: 1 << 12] = 1
    symbols[-3:] = torch.tensor([1, 0, 1], dtype=torch.int8, device="cuda")
    stream = ops.encode_stream(symbols, 1 << 20)
    assert torch.equal(ops.decode_stream(stream, symbols.numel(), torch.int8), symbols)
    assert torch.equal(ops.histogram(symbols)[0].nonzero().flatten().cpu(), torch.tensor([128, 129]))


@pytest.mark.parametrize("backend", ["nccl", "gloo"])
def test_saving_over_a_process_group_of_one(backend: str, tmp_path: Path) -> None:
    """One card can run NCCL with one rank only."""
    code = f"""
import sys, torch, torch.distributed as dist
sys.path[:0] = {[str(Path(__file__).parent.parent), str(Path(__file__).parent)]!r}
from test_batches import model
import torch_ans
dist.init_process_group({backend!r}, init_method="file://{tmp_path}/rendezvous", rank=0, world_size=1)
torch_ans.save_distributed({{n: t.cuda() for n, t in model().items() if n != "again"}}, {str(tmp_path / "a.ans")!r}, bits=6, min_quantized_numel=500, verify=True)
payload = torch.arange(100, dtype=torch.uint8, device="cuda" if {backend!r} == "nccl" else "cpu")
[back] = torch.ops.ans.gatherv(payload, dist.group.WORLD.group_name, 0)
assert torch.equal(back, payload) and back.device == payload.device
[empty] = torch.ops.ans.gatherv(payload[:0], dist.group.WORLD.group_name, 0)
assert empty.numel() == 0
dist.destroy_process_group()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    expected = torch_ans.dumps({n: t for n, t in model().items() if n != "again"}, bits=6, min_quantized_numel=500)
    assert (tmp_path / "a.ans").read_bytes() == expected


@pytest.mark.parametrize("options", [{"bits": 6}, {"bits": 6, "level": "best"}, {"quantizer": "trellis8", "bits_per_weight": 3.3}])
def test_a_small_decoder_decodes_on_the_gpu(options) -> None:
    from torch_ans import decoder_writer

    content = torch_ans.dumps(model(), min_quantized_numel=500, **options)
    with torch.device("cuda"):
        state = decoder_writer.module_of(decoder_writer.decoder_of(content))["load"](content)
    expected = torch_ans.loads(content)
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert state[name].device.type == "cuda" and torch.equal(state[name].cpu(), tensor)


def test_a_model_on_the_gpu_is_fitted_to_a_budget() -> None:
    state = {name: torch.randn(512, 256, generator=torch.Generator().manual_seed(i)).cuda() for i, name in enumerate("abc")}
    hessian = torch.randn(256, 300, generator=torch.Generator().manual_seed(9)).cuda()
    for hessians in ({}, {"a": (hessian @ hessian.T).double()}):
        fitted = torch_ans.fit(state, 160_000, hessians=hessians)
        assert 0.9995 * 160_000 <= fitted.file_bytes <= 160_000
        loaded = torch_ans.loads(fitted.model.to_bytes())
        assert all(torch.equal(loaded[name], fitted.quantized[name].dequantize().cpu()) for name in state)
