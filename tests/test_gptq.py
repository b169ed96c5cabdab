"""GPTQ: what it gains, Hessians from models and from several ranks, wrong arguments."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from model_examples import normal, same
from torch import Tensor, nn

import torch_ans
from torch_ans import errors, gptq, grid, ops, sharing, weights
from torch_ans.weights import QUANTIZERS


def inputs(n: int = 4000, columns: int = 96, seed: int = 1) -> Tensor:
    """Correlated, some columns large and some small, as activations are."""
    mixing = torch.eye(columns) + normal(columns, columns, seed=seed) / 4
    return normal(n, columns, seed=seed + 1) @ mixing * torch.exp2(1.5 * normal(columns, seed=seed + 2))


def hessian(x: Tensor) -> Tensor:
    return (x.double().T @ x.double()) / len(x)


def output_error(w: Tensor, q: Tensor, h: Tensor) -> float:
    error = (w - q).double()
    return float(((error @ h) * error).sum() / ((w.double() @ h) * w.double()).sum())


def coded_bits(q: weights.QuantizedWeight) -> float:
    scales = 16 * q.scale.numel() + (8 * q.column_scale.numel() if q.column_scale is not None else 0)
    return (8 * len(torch_ans.dumps({"w": q})) - scales) / q.numel()


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_the_output_errs_less_than_by_rounding(quantizer: str) -> None:
    h, w = hessian(inputs()), normal(300, 96, seed=5)
    rounded = grid.quantize_weight(w, quantizer, bits_per_weight=3.3)
    for scaled in (False, True, None):
        q = gptq.quantize_weight(w, h, quantizer, bits_per_weight=3.3, scale_columns=scaled)
        assert scaled is None or (q.column_scale is not None) == scaled
        assert output_error(w, q.dequantize(), h) < (0.9 if quantizer == "uniform" and q.column_scale is None else 0.5) * output_error(w, rounded.dequantize(), h)
        assert abs(coded_bits(q) - 3.3) < 0.15  # headers count in so small a matrix


def test_quantizers_by_output_error_at_equal_bits() -> None:
    h, w = hessian(inputs(columns=128)), normal(512, 128, seed=6)
    plain = gptq.quantize_weight(w, h, "uniform", bits_per_weight=3.3, scale_columns=False)
    trellis = gptq.quantize_weight(w, h, "trellis8", bits_per_weight=3.3, scale_columns=False)
    scaled = gptq.quantize_weight(w, h, "trellis8", bits_per_weight=3.3, scale_columns=True)
    e = [output_error(w, q.dequantize(), h) for q in (plain, trellis, scaled)]
    assert e[2] < e[1] < e[0]
    assert 0.5 * math.log2(e[0] / e[1]) > 0.15  # bits


@pytest.mark.parametrize("quantizer", ["uniform", "trellis8"])
def test_survivors(quantizer: str) -> None:
    h, w = hessian(inputs(columns=128)), normal(512, 128, seed=6)
    one, four = (gptq.quantize_weight(w, h, quantizer, bits_per_weight=3.3, scale_columns=False, survivors=n) for n in (1, 4))
    e1, e4 = (output_error(w, q.dequantize(), h) for q in (one, four))
    assert 0.5 * math.log2(e1 / e4) > 0.01  # bits
    assert abs(coded_bits(four) - coded_bits(one)) < 0.01


def test_the_error_that_the_search_reports() -> None:
    h, w = hessian(inputs()), normal(70, 96, seed=7)
    factor = gptq.inverse_factor(h, 1e-9)
    scale = gptq.column_scales(factor)
    f = gptq.feedback_of(factor, scale)
    step, column_step = torch.full((70,), 0.25), weights.column_factor(scale)
    q = ops.quantize_feedback(w, step, 8, f.feedback, f.weight, column_step=column_step)
    error = (w - q.symbols * step[:, None] * column_step).double()
    expected = float(((error @ h) * error).sum()) / 0.25**2
    assert q.error * f.factor == pytest.approx(expected, rel=1e-3)


def test_without_feedback_it_is_the_plain_quantizer() -> None:
    w, step = normal(70, 48, seed=8), torch.full((70,), 0.3)
    nothing, alike = torch.zeros(48, 48), torch.ones(48)
    costs = torch.zeros(1, 4, 128, dtype=torch.int32)
    nearest, _, _ = torch.ops.ans.quantize_feedback(w, step, costs, 0, nothing, alike)
    assert torch.equal(nearest, weights.round_to_steps(w, step))
    for states in (4, 8, 32):
        _, _, plain = torch.ops.ans.quantize_trellis(w, step, costs, states)
        _, _, same_ = torch.ops.ans.quantize_feedback(w, step, costs, states, nothing, alike)
        assert float(same_) == pytest.approx(float(plain) / 4096, rel=2e-3)


@pytest.mark.parametrize("survivors", [1, 3])
def test_backends_and_threads_agree(every_backend: list[str], survivors: int) -> None:
    h, w = hessian(inputs()), normal(100, 96, seed=9)
    f = gptq.feedback_of(gptq.inverse_factor(h), None)
    before, found = torch.get_num_threads(), []
    try:
        for backend in every_backend:
            ops.cpu_backend(backend)
            for threads in (1, 3):
                torch.set_num_threads(threads)
                found.append(ops.quantize_feedback(w, torch.full((100,), 0.3), 8, f.feedback, f.weight, survivors=survivors))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(q.symbols, found[0].symbols) and q[1:3] == found[0][1:3] for q in found)


# ---- models ----


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 80), nn.Linear(80, 32, bias=False)
        self.tied = nn.Linear(32, 32)
        self.unused = nn.Linear(8, 8)
        self.again = self.tied

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.tied(self.down(torch.relu(self.up(x * scale))))


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def batches(count: int = 6) -> list[Tensor]:
    return [inputs(64, 32, seed=10 + i) for i in range(count)]


def test_hessians_are_moments_of_inputs() -> None:
    model = network()
    model.train()
    found = gptq.collect_hessians(model, batches())
    assert model.training and not model.up._forward_pre_hooks
    assert set(found) == {"up.weight", "down.weight", "tied.weight"}
    x = torch.cat(batches())
    for name, seen in (("up.weight", x), ("down.weight", torch.relu(model.up(x)))):
        assert torch.allclose(found[name], hessian(seen.detach()), rtol=1e-4, atol=1e-5), name
    for call in (lambda: [(x, 1.0) for x in batches()], lambda: [{"x": x, "scale": 1.0} for x in batches()]):
        assert all(torch.equal(found[name], h) for name, h in gptq.collect_hessians(model, call()).items())
    run = gptq.collect_hessians(model, batches(), run=lambda m, b: m(b), layers={"first": model.up})
    assert torch.equal(run["first"], found["up.weight"])


def test_models(tmp_path: Path) -> None:
    model, seen = network(), []
    found = gptq.collect_hessians(model, batches())
    quantized = gptq.quantize_model(model, found, bits_per_weight={name: 4.0 for name in found}, progress=seen.append)
    assert set(found) == set(seen) and set(quantized) == set(found) | {"again.weight"}
    state = dict(model.state_dict()) | quantized
    torch_ans.save(state, tmp_path / "m.ans", level="best", verify=True)
    loaded = torch_ans.load(tmp_path / "m.ans")
    assert list(loaded) == list(model.state_dict())
    assert same({name: loaded[name] for name in quantized}, {name: q.dequantize() for name, q in quantized.items()})
    expected = model(batches()[0])
    model.load_state_dict(loaded)
    assert (model(batches()[0]) - expected).square().mean() < 0.05 * expected.square().mean()


def worker(rank: int, world: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    try:
        model = network()
        found = gptq.collect_hessians(model, batches()[rank::world])
        quantized = gptq.quantize_model(model, found, bits_per_weight=3.5)
        torch.save({"hessians": found, "symbols": {name: q.symbols for name, q in quantized.items()}}, Path(folder) / f"{world}.{rank}")
        if rank == 1:
            found["up.weight"][0, 0] = math.nan
        with pytest.raises(errors.NotFiniteError, match="up.weight"):
            if rank == 0:
                found["up.weight"][0, 0] = math.nan
            gptq.quantize_model(model, found, bits_per_weight=3.5)
    finally:
        torch.distributed.destroy_process_group()


def test_ranks_share_hessians_and_work(tmp_path: Path) -> None:
    for _ in range(2):  # a job that runs again finds the same
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        mp.spawn(worker, (3, port, str(tmp_path)), 3)
        results = [torch.load(tmp_path / f"3.{rank}") for rank in range(3)]
        for other in results[1:]:
            assert same(other, results[0])
        first = tmp_path / "first"
        if first.exists():
            assert same(torch.load(first), results[0])
        torch.save(results[0], first)
    alone = gptq.collect_hessians(network(), batches())
    for name, h in results[0]["hessians"].items():
        assert torch.allclose(h, alone[name], rtol=1e-6, atol=1e-9)


def test_work_is_divided() -> None:
    assert sharing.divide([5, 1, 4, 2], 2) == [0, 0, 1, 1]
    assert sharing.divide([], 3) == []
    assert set(sharing.divide([1] * 8, 8)) == set(range(8))


def test_wrong_arguments() -> None:
    h, w = hessian(inputs(columns=16)), normal(40, 16)
    wrong = [
        (lambda: gptq.quantize_weight(w, h[1:], bits_per_weight=3), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w[0], h, bits_per_weight=3), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w[:0], h, bits_per_weight=3), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w, h), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w, h, "gptq", bits_per_weight=3), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w, h, bits_per_weight=3, damping=0), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w, -h, bits_per_weight=3), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w, h + torch.triu(torch.ones(16, 16)), bits_per_weight=3), errors.InvalidArgumentError),
        (lambda: gptq.quantize_weight(w, h * math.nan, bits_per_weight=3), errors.NotFiniteError),
        (lambda: gptq.quantize_weight(w * math.nan, h, bits_per_weight=3), errors.NotFiniteError),
        (lambda: gptq.quantize_model({"v": w}, {"w": h}, bits_per_weight=3), errors.InvalidArgumentError),
        (lambda: gptq.quantize_model({"w": w}, {"w": h}, bits_per_weight={"v": 3}), errors.InvalidArgumentError),
        (lambda: gptq.collect_hessians(network(), [inputs(8, 32) * math.inf]), errors.NotFiniteError),
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()
    step, good = torch.ones(40), (torch.zeros(16, 16), torch.ones(16))
    costs = torch.zeros(1, 4, 128, dtype=torch.int32)
    for feedback, weight in ((good[0][1:], good[1]), (good[0].double(), good[1]), (good[0] + math.nan, good[1]), (good[0] + 1e7, good[1]), (good[0], good[1][1:]), (good[0], good[1] * 0)):
        with pytest.raises(RuntimeError, match="InvalidArgument|NotFinite"):
            torch.ops.ans.quantize_feedback(w, step, costs, 8, feedback, weight)
    with pytest.raises(errors.InvalidArgumentError, match="states"):
        ops.quantize_feedback(w, step, 16, *good)
    for survivors in (0, 5, -1, 1 << 40):
        with pytest.raises(errors.InvalidArgumentError, match="survivors"):
            ops.quantize_feedback(w, step, 8, *good, survivors=survivors)


@pytest.mark.parametrize("quantizer", ["uniform", "trellis8"])
def test_degenerate_hessians(quantizer: str) -> None:
    w = normal(40, 16)
    unused = hessian(inputs(columns=16))
    unused[3] = unused[:, 3] = 0
    for h in (torch.zeros(16, 16), unused, hessian(inputs(3, 16)), 1e-30 * hessian(inputs(columns=16)), 1e20 * hessian(inputs(columns=16))):
        q = gptq.quantize_weight(w, h, quantizer, bits_per_weight=4)
        assert torch.isfinite(q.dequantize()).all()
        assert (w - q.dequantize()).square().mean() < 0.5
