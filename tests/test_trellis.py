"""Trellis-coded quantization: what symbols stand for, what it saves against rounding, wrong arguments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_ans import errors, ops

MACHINES = {4: (2, 1), 8: (5, 2), 32: (18, 4)}


def is_path(symbols: Tensor, states: int) -> bool:
    """Whether the machine has rows of these symbols, by the definition."""
    odd, parity = MACHINES[states]
    rows = symbols.view(-1, symbols.shape[-1]).long()
    state = torch.zeros(len(rows), dtype=torch.int64)
    for v in rows.T:
        if not torch.equal(v & 1, state & 1):
            return False
        state = state >> 1 ^ (state & 1) * odd ^ (v >> 1 & 1) * parity
    return True


def weights(dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(1)
    w = torch.randn(70, 300, generator=g) * torch.exp2(torch.randn(70, 1, generator=g))
    w[3] = 0
    w[5, 7] = 60 * w[5].std()
    return w.to(dtype)


@pytest.mark.parametrize("states", MACHINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_errors_are_those_of_the_values(states: int, dtype: torch.dtype) -> None:
    w = weights(dtype)
    step = 0.23 * w.float().std(1)
    q = ops.quantize_trellis(w, step, states)
    exact = torch.where(step[:, None] > 0, w.float() / step[:, None], 0)
    assert is_path(q.symbols, states)
    assert q.error == pytest.approx((exact - q.symbols).square().mean().item(), rel=1e-2)
    assert (exact - q.symbols).abs().max() <= 4.1


@pytest.mark.parametrize("states, least", [(4, 0.15), (8, 0.17), (32, 0.19)])
def test_bits_saved_at_equal_error(states: int, least: float) -> None:
    """Against uniform rounding, whose entropy at the same error follows from two steps around it."""
    g = torch.Generator().manual_seed(2)
    w = torch.randn(512, 512, generator=g)
    q = ops.quantize_trellis(w, torch.full((512,), 0.23), states)
    mean, curve = q.error * 0.23**2, []
    for step in (0.36, 0.44):
        k = torch.round(w / step)
        part = torch.unique(k, return_counts=True)[1].double() / w.numel()
        curve.append(((w - k * step).square().mean().log2().item(), -(part * part.log2()).sum().item()))
    (x0, y0), (x1, y1) = curve
    scalar = y0 + (y1 - y0) * (torch.tensor(mean).log2().item() - x0) / (x1 - x0)
    assert scalar - q.bits / w.numel() > least


def test_classes_of_columns_have_their_own_tables() -> None:
    g = torch.Generator().manual_seed(3)
    scale = torch.where(torch.arange(256) % 2 == 0, 0.3, 3.0)
    w = torch.randn(200, 256, generator=g) * scale
    step = torch.full((200,), 0.2)
    plain = ops.quantize_trellis(w, step)
    own = ops.quantize_trellis(w, step, column_class=(torch.arange(256) % 2).to(torch.uint8), classes=2)
    assert own.bits < plain.bits - 0.2 * w.numel()
    scaled = ops.quantize_trellis(w, step, column_step=scale)
    exact = w / (step[:, None] * scale)
    assert is_path(scaled.symbols, 8)
    assert scaled.error == pytest.approx((exact - scaled.symbols).square().mean().item(), rel=1e-2)


def test_backends_and_threads_agree(every_backend: list[str]) -> None:
    w = weights()
    step = 0.3 * w.std(1)
    before, found = torch.get_num_threads(), []
    try:
        for backend in every_backend:
            ops.cpu_backend(backend)
            for threads in (1, 3):
                torch.set_num_threads(threads)
                found.append(ops.quantize_trellis(w, step, 32))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(q.symbols, found[0].symbols) and q[1:] == found[0][1:] for q in found)


def test_what_cannot_be_quantized() -> None:
    w, step, costs = weights(), torch.ones(70), torch.zeros(1, 4, 128, dtype=torch.int32)
    for bad, error in ((float("nan"), errors.NotFiniteError), (float("inf"), errors.NotFiniteError), (4e4, errors.InvalidArgumentError)):
        damaged = w.clone()
        damaged[69, 299] = bad
        with pytest.raises(error):
            ops.quantize_trellis(damaged, step)
    zero = w.clone()
    zero[8] = 1
    with pytest.raises(errors.InvalidArgumentError):
        ops.quantize_trellis(zero, torch.where(torch.arange(70) == 8, 0.0, 1.0))
    for step_ in (step * float("nan"), -step):
        with pytest.raises(errors.NotFiniteError):
            ops.quantize_trellis(w, step_)
    wrong = [
        lambda: ops.quantize_trellis(w, step, 16),
        lambda: ops.quantize_trellis(w, step[1:]),
        lambda: ops.quantize_trellis(w.double(), step),
        lambda: ops.quantize_trellis(w, step, column_step=torch.ones(299)),
        lambda: ops.quantize_trellis(w, step, column_class=torch.ones(300, dtype=torch.uint8)),
        lambda: torch.ops.ans.quantize_trellis(w, step, costs - 1, 8),
        lambda: torch.ops.ans.quantize_trellis(w, step, costs[:, :2], 8),
        lambda: torch.ops.ans.trellis_costs(torch.ones(1, 4, 128, dtype=torch.int64), -1.0),
    ]
    for call in wrong:
        with pytest.raises((errors.InvalidArgumentError, RuntimeError), match="InvalidArgument|states|row_step|float32|column"):
            call()
    empty = ops.quantize_trellis(torch.zeros(0, 8), torch.zeros(0))
    assert empty.symbols.shape == (0, 8) and empty.bits == 0
