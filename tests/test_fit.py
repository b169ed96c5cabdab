"""Models that have to fit in so many bytes."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from model_examples import normal
from torch import Tensor

import torch_ans
from torch_ans import allocation, budget, cli, entries, errors, gptq, quantizing, weights
from torch_ans.allocation import Curve, Point
from torch_ans.budget import Group, Setting
from torch_ans.fitted import Fitted


def model() -> dict[str, Any]:
    """Matrices of different distributions and sizes, a tied one, and what is kept."""
    peaked = normal(300, 256, seed=2) * torch.exp2(2 * normal(300, 256, seed=3))
    embedding = normal(500, 256, seed=4)
    return {
        "embedding": embedding,
        "layers": [{"up": normal(512, 256, seed=5) * torch.exp2(normal(512, 1, seed=6)), "bias": normal(512, seed=7)}, {"up": peaked.bfloat16(), "bias": normal(300, seed=8)}],
        "head": embedding,
        "steps": 17,
    }


def quantized_names(fitted: Fitted) -> list[str]:
    return [t.name for t in fitted.tensors]


def check(fitted: Fitted, state: Any, size: int) -> None:
    """The file is within the budget, not far below it, and gives back what the fit says is in it."""
    assert fitted.budget == size and fitted.file_bytes == len(fitted.model.to_bytes()) <= size
    assert fitted.is_limited or fitted.file_bytes >= budget.CLOSE * size
    with torch_ans.open(fitted.model) as file:
        for t in fitted.tensors:
            assert weights.same(file.get_quantized_weight(t.name), fitted.quantized[t.name])
            assert t.bytes == file.entry(t.name).record_bytes
    loaded = torch_ans.loads(fitted.model.to_bytes())
    assert torch.equal(loaded["layers"][0]["bias"], state["layers"][0]["bias"]) and loaded["steps"] == 17
    assert loaded["head"] is loaded["embedding"]


@pytest.mark.parametrize("size", [60_000, 90_000, 130_000, 250_000])
def test_files_keep_within_budgets(size: int) -> None:
    state = model()
    fitted = torch_ans.fit(state, size)
    check(fitted, state, size)
    assert not fitted.is_limited
    assert quantized_names(fitted) == ["embedding", "layers.0.up", "layers.1.up"]
    assert fitted.error == pytest.approx(sum(t.error * t.numel for t in fitted.tensors) / sum(t.numel for t in fitted.tensors))


def test_errors_are_no_larger_than_with_one_step_for_all() -> None:
    state = model()
    for size in (110_000, 180_000):
        fitted = torch_ans.fit(state, size)
        low, high = 0.01, 2.5
        for _ in range(24):
            middle = math.sqrt(low * high)
            alike = torch_ans.compress_model(state, quantizer="trellis8", step_sigmas=middle)
            low, high = (middle, high) if alike.file_bytes > size else (low, middle)
        with torch_ans.open(torch_ans.compress_model(state, quantizer="trellis8", step_sigmas=high)) as file:
            errors_ = [(quantizing.relative_error(tensor, file.get_quantized_weight(name)), tensor.numel()) for name, tensor in tensors_of(state).items()]
        assert fitted.error <= 1.0005 * sum(e * n for e, n in errors_) / sum(n for _, n in errors_)


def tensors_of(state: Any) -> dict[str, Tensor]:
    return {"embedding": state["embedding"], "layers.0.up": state["layers"][0]["up"], "layers.1.up": state["layers"][1]["up"]}


@pytest.mark.parametrize("level", ["default", "best"])
def test_levels(level: str) -> None:
    state = model()
    fitted = torch_ans.fit(state, 120_000, level=level, metadata={"who": "test"})
    check(fitted, state, 120_000)
    with torch_ans.open(fitted.model) as file:
        assert file.metadata() == {"who": "test"}


def test_groups() -> None:
    state = model()
    groups = [
        Group("embedding", quantizers="clip", bits=(5, 6), clip_sigmas=(3, 14)),
        Group("layers.0.*", quantizers=("uniform", "trellis32"), weight=30),
        Group("*.1.up", step_sigmas=(0.25, 0.26)),
    ]
    fitted = torch_ans.fit(state, 175_000, groups=groups)
    check(fitted, state, 175_000)
    embedding, first, second = fitted.tensors
    assert embedding.setting.quantizer == "clip" and embedding.setting.bits in (5, 6) and 3 <= embedding.setting.clip_sigmas <= 14.001
    assert embedding.setting.clip_sigmas == pytest.approx(embedding.setting.step_sigmas * (2 ** (embedding.setting.bits - 1) - 1))
    assert first.setting.quantizer == "trellis32" and set(first.curves) == {"uniform", "trellis32"}
    assert 0.25 <= second.setting.step_sigmas <= 0.26
    assert first.error < 0.25 * second.error  # it counts 30 times as much
    alone = torch_ans.fit(state, 700_000, groups=Group("layers.0.up"))
    assert quantized_names(alone) == ["layers.0.up"]


def test_limits_of_ranges() -> None:
    state = model()
    fine = torch_ans.fit(state, 10_000_000)
    check(fine, state, 10_000_000)
    assert fine.is_limited and all(t.setting.step_sigmas == pytest.approx(0.01) for t in fine.tensors)
    with pytest.raises(errors.BudgetError, match="the smallest file found has") as caught:
        torch_ans.fit(state, 2_000)
    coarse = torch_ans.fit(state, caught.value.smallest_bytes)
    assert coarse.file_bytes == caught.value.smallest_bytes > 2_000


def hessian(columns: int, seed: int) -> Tensor:
    x = normal(1000, columns, seed=seed) @ (torch.eye(columns) + normal(columns, columns, seed=seed + 1) / 3) * torch.exp2(normal(columns, seed=seed + 2))
    return x.double().T @ x.double() / len(x)


def test_hessians_weigh_errors() -> None:
    state, h = model(), hessian(256, 20)
    fitted = torch_ans.fit(state, 150_000, hessians={"layers.0.up": h})
    check(fitted, state, 150_000)
    t = fitted.tensors[1]
    q, w = fitted.quantized["layers.0.up"], state["layers"][0]["up"]
    assert t.error == pytest.approx(quantizing.relative_error(w, q, h))
    curve = dict((step, error) for step, _, error in t.curves["trellis8"])
    below, above = max(s for s in curve if s <= t.setting.step_sigmas), min(s for s in curve if s >= t.setting.step_sigmas)
    assert 0.7 * curve[below] < t.error < 1.1 * curve[above]  # what the search says of itself, with damping
    plain = torch_ans.fit(state, 150_000)
    assert t.error < 0.7 * quantizing.relative_error(w, plain.quantized["layers.0.up"], h)


def test_a_quantizer_of_the_callers() -> None:
    state, asked = model(), []

    def quantize(name: str, weight: Tensor, setting: Setting) -> weights.QuantizedWeight:
        asked.append((name, setting.quantizer))
        return torch_ans.quantize_weight(weight.float() if name == "embedding" else weight, setting.quantizer, step_sigmas=setting.step_sigmas)

    fitted = torch_ans.fit(state, 150_000, quantize=quantize, groups=Group(quantizers="uniform", step_sigmas=(0.05, 2)))
    check(fitted, state, 150_000)
    assert set(asked) == {(name, "uniform") for name in quantized_names(fitted)}
    same_ = torch_ans.fit(state, 150_000, groups=Group(quantizers="uniform", step_sigmas=(0.05, 2)))
    assert fitted.error == pytest.approx(same_.error, rel=2e-3)
    for wrong in (lambda n, w, s: w, lambda n, w, s: torch_ans.quantize_weight(w[:10], step_sigmas=s.step_sigmas)):
        with pytest.raises(errors.InvalidArgumentError, match="embedding.*quantize"):
            torch_ans.fit(state, 150_000, quantize=wrong)


def test_it_repeats_exactly() -> None:
    before = torch.get_num_threads()
    try:
        files = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            files.append(torch_ans.fit(model(), 140_000).model.to_bytes())
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1]


def worker(rank: int, world: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    try:
        state = model()
        fitted = torch_ans.fit(state, 140_000, hessians={"layers.0.up": hessian(256, 20)})
        assert (fitted.model is None) == (rank > 0)
        torch_ans.save_distributed(state | {"embedding": fitted.quantized["embedding"]}, Path(folder) / "part.ans")
        if fitted.model is not None:
            fitted.model.write(Path(folder) / "0.ans")
        torch.save([(t.setting, t.bytes, t.error) for t in fitted.tensors] + [fitted.file_bytes], Path(folder) / f"{rank}.pt")

        def fails(name: str, weight: Tensor, setting: Setting) -> weights.QuantizedWeight:
            if name == "layers.1.up":
                raise ValueError("no")
            return torch_ans.quantize_weight(weight, step_sigmas=setting.step_sigmas)

        with pytest.raises((ValueError, RuntimeError), match="no"):
            torch_ans.fit(state, 140_000, quantize=fails)
    finally:
        torch.distributed.destroy_process_group()


def test_ranks_share_the_work(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, (3, port, str(tmp_path)), 3)
    alone = torch_ans.fit(model(), 140_000, hessians={"layers.0.up": hessian(256, 20)}).model.to_bytes()
    assert (tmp_path / "0.ans").read_bytes() == alone
    told = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(3)]
    assert told[0] == told[1] == told[2] and told[0][-1] == len(alone)


def test_table_json_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    fitted = torch_ans.fit(model(), 150_000)
    lines = fitted.table().splitlines()
    assert len(lines) == 6 and lines[1].startswith("embedding") and f"{fitted.file_bytes:,}" in lines[-1]
    assert len(fitted.curves_table().splitlines()) == 1 + sum(len(points) for t in fitted.tensors for points in t.curves.values()) > 20
    told = json.loads(json.dumps(fitted.to_json()))
    assert told["file_bytes"] == fitted.file_bytes and sum(t["bytes"] for t in told["tensors"]) < fitted.file_bytes
    fitted.plot(tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().lstrip().startswith("<?xml")


def test_wrong_arguments() -> None:
    state = model()
    nan = {"w": normal(300, 300).index_fill_(0, torch.tensor([3]), math.nan)}
    wrong = [
        (lambda: torch_ans.fit(state, 0), errors.InvalidArgumentError),
        (lambda: torch_ans.fit(state, 1e5), errors.InvalidArgumentError),
        (lambda: torch_ans.fit({"bias": normal(5)}, 1000), errors.InvalidArgumentError),
        (lambda: torch_ans.fit(state, 100_000, groups=[]), errors.InvalidArgumentError),
        (lambda: torch_ans.fit(state, 100_000, groups=Group("nothing")), errors.InvalidArgumentError),
        (lambda: torch_ans.fit(state, 100_000, hessians={"layer": hessian(256, 1)}), errors.InvalidArgumentError),
        (lambda: torch_ans.fit(state, 100_000, hessians={"embedding": hessian(16, 1)}), errors.InvalidArgumentError),
        (lambda: torch_ans.fit(state, 100_000, level="high"), errors.InvalidArgumentError),
        (lambda: torch_ans.fit(nan, 100_000), errors.NotFiniteError),
        (lambda: Group(quantizers="gptq"), errors.InvalidArgumentError),
        (lambda: Group(quantizers=()), errors.InvalidArgumentError),
        (lambda: Group(quantizers="clip", bits=9), errors.InvalidArgumentError),
        (lambda: Group(step_sigmas=(1, 0.5)), errors.InvalidArgumentError),
        (lambda: Group(step_sigmas=(0, 0.5)), errors.InvalidArgumentError),
        (lambda: Group(weight=0), errors.InvalidArgumentError),
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()


# ---- allocation ----


def exponential(size: float, steps: range = range(-12, 3)) -> Curve[str]:
    """A source of so many weights that at small steps has log2(1 / step) bits and step^2 of error each."""
    return Curve("way", [Point(s / 2, size * max(0.0, -s / 2), size * 2.0**s) for s in steps])


def test_a_curve_inverts_its_slope() -> None:
    curve = exponential(100)
    for step in (-5.2, -3.0, -1.1):
        slope = math.log2(2 * math.log(2) * 100 * 2 ** (2 * step) / 100)  # of error over bits, at that step
        assert curve.step_at(slope) == pytest.approx(step, abs=0.03)
        assert curve.at(step).bits == pytest.approx(-100 * step)
    assert curve.step_at(-99) == curve.least == -6 and curve.step_at(99) == curve.most


def test_what_is_worse_than_a_mixture_is_left_out() -> None:
    points = [Point(0, 10, 1), Point(1, 9, 9), Point(2, 4, 10), Point(3, 4, 11), Point(4, 5, 30), Point(5, 0, 31)]
    assert [p.step for p in Curve("way", points).points] == [0, 2, 5]
    assert Curve("way", points[:1]).step_at(3) == 0 and Curve("way", points[:1]).at(7) == points[0]


def test_slopes_are_equal_at_the_optimum() -> None:
    curves = [exponential(100), exponential(1000)]
    a, b = (choice.point for choice in allocation.fill(lambda s: [allocation.choose([c], s) for c in curves], [[c] for c in curves], 3300))
    assert a.bits + b.bits == pytest.approx(3300, rel=1e-6) and a.step == pytest.approx(b.step, abs=1e-6)


def test_bits_between_jumps_are_used() -> None:
    """Two ways, coarse and fine, with nothing in between: tensors take the fine one, one after another, and coarser steps make room for the last of them."""
    tensors = [[Curve("coarse", exponential(size, range(-3, 3)).points), Curve("fine", exponential(size, range(-14, -9)).points)] for size in (100, 150, 200)]
    at = lambda slope: [allocation.choose(curves, slope) for curves in tensors]  # noqa: E731
    used = by_slopes = 0.0
    for bits in range(300, 3000, 50):
        choices = allocation.fill(at, tensors, bits)
        assert sum(choice.point.bits for choice in choices) <= bits + 1e-6
        used += sum(choice.point.bits for choice in choices) / bits / 54
        alone = next(found for found in (at(slope / 3) for slope in range(-60, 60)) if sum(c.point.bits for c in found) <= bits)
        assert sum(choice.point.error for choice in choices) <= sum(choice.point.error for choice in alone)
        by_slopes += sum(choice.point.bits for choice in alone) / bits / 54
    assert used > by_slopes + 0.1


def test_tied_weights_are_quantized_once() -> None:
    state = {"a": normal(64, 32), "norm": normal(64)}
    state["b"] = state["a"]
    quantized = gptq.quantize_model(state, {"a": hessian(32, 3)}, bits_per_weight=3)
    assert quantized["b"] is quantized["a"]
    with torch_ans.open(torch_ans.dumps(state | quantized)) as file:
        assert file.index.entries[-1].kind == entries.Kind.ALIAS
    assert torch.equal(torch_ans.loads(torch_ans.dumps(state | quantized))["b"], quantized["a"].dequantize())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(model(), tmp_path / "m.pt")
    arguments = ["fit", str(tmp_path / "m.pt"), "-o", str(tmp_path / "m.ans"), "--budget", "150000", "--quantizer", "trellis8", "--json", str(tmp_path / "fit.json")]
    assert cli.main(arguments) == 0
    assert budget.CLOSE * 150_000 <= (tmp_path / "m.ans").stat().st_size <= 150_000
    assert json.loads((tmp_path / "fit.json").read_text())["file_bytes"] == (tmp_path / "m.ans").stat().st_size
    assert "below the budget of 150,000" in capsys.readouterr().out
    assert cli.main([*arguments[:5], "1000"]) == 1
    assert "the smallest file found has" in capsys.readouterr().err
