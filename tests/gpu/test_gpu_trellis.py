"""The trellis quantizer of a GPU gives the symbols, counts and errors of the CPU's."""

from __future__ import annotations

import pytest
import torch
from test_gpu_errors import name_of_error
from test_gpu_operators import same
from test_trellis import weights

C = torch.ops.ans


@pytest.mark.parametrize("states", [4, 8, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_symbols_are_those_of_the_cpu(gpu, states: int, dtype: torch.dtype) -> None:
    w = weights(dtype)
    step = 0.23 * w.float().std(1)
    column_class = (torch.arange(300) % 3).to(torch.uint8)
    column_step = 0.5 + torch.rand(300, generator=torch.Generator().manual_seed(1))
    costs = torch.zeros(3, 4, 128, dtype=torch.int32)
    for _ in range(2):
        expected = C.quantize_trellis(w, step, costs, states, column_step, column_class)
        moved = gpu.to([w, step, costs, column_step, column_class])
        same(gpu.ops.quantize_trellis(*moved[:3], states, *moved[3:]), expected)
        tables = C.trellis_costs(expected[1], 0.4)
        same(gpu.ops.trellis_costs(gpu.to(expected[1]), 0.4), tables)
        costs = tables[0]
    same(gpu.ops.quantize_trellis(gpu.to(w[:33, :7]), gpu.to(step[:33]), gpu.to(costs[:1]), states, None, None), C.quantize_trellis(w[:33, :7], step[:33], costs[:1], states))
    same(gpu.ops.quantize_trellis(gpu.to(w[:0]), gpu.to(step[:0]), gpu.to(costs[:1]), states, None, None), C.quantize_trellis(w[:0], step[:0], costs[:1], states))


@pytest.mark.parametrize(
    "states, survivors, dtype",
    [(0, 1, torch.float32), (0, 4, torch.float16), (4, 1, torch.bfloat16), (4, 2, torch.float32), (8, 1, torch.float16), (8, 3, torch.bfloat16), (32, 1, torch.float32), (32, 4, torch.bfloat16)],
)
def test_errors_are_made_up_for_as_on_the_cpu(gpu, states: int, survivors: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(4)
    w = weights(dtype)[:40, :90].contiguous()
    step = 0.23 * w.float().std(1)
    feedback, weight = torch.triu(torch.randn(90, 90, generator=g) / 20, 1), 0.5 + torch.rand(90, generator=g)
    column_class, column_step = (torch.arange(90) % 3).to(torch.uint8), 0.5 + torch.rand(90, generator=g)
    costs = C.trellis_costs(C.quantize_feedback(w, step, torch.zeros(3, 4, 128, dtype=torch.int32), states, feedback, weight, column_step, column_class)[1], 0.4, states > 0)[0]
    arguments = (w, step, costs, feedback, weight, column_step, column_class)
    w_, step_, costs_, feedback_, weight_, column_step_, column_class_ = gpu.to(list(arguments))
    found = gpu.ops.quantize_feedback(w_, step_, costs_, states, feedback_, weight_, column_step_, column_class_, survivors)
    same(found, C.quantize_feedback(w, step, costs, states, feedback, weight, column_step, column_class, survivors))
    nothing = gpu.ops.quantize_feedback(w_[:0], step_[:0], costs_[:1], states, feedback_, weight_, None, None, survivors)
    same(nothing, C.quantize_feedback(w[:0], step[:0], costs[:1], states, feedback, weight))
    for wrong in (feedback_[1:], feedback_ * float("nan")):
        assert name_of_error(lambda: gpu.ops.quantize_feedback(w_, step_, costs_, states, wrong, weight_, None, None)) in ("InvalidArgument", "NotFinite")


def test_what_cannot_be_quantized(gpu) -> None:
    w, step, costs = weights(), torch.ones(70), torch.zeros(1, 4, 128, dtype=torch.int32)
    bad, far, zero = w.clone(), w.clone(), torch.where(torch.arange(70) == 8, 0.0, 1.0)
    bad[69, 299], far[5, 5] = float("nan"), 7e4
    for ops_, to in ((C, lambda t: t), (gpu.ops, gpu.to)):
        for weight, steps, name in ((bad, step, "NotFinite"), (far, step, "InvalidArgument"), (w, zero, "InvalidArgument"), (w, -step, "NotFinite"), (w, step / 0, "NotFinite"), (w, step[1:], "InvalidArgument")):
            assert name_of_error(lambda: ops_.quantize_trellis(to(weight), to(steps), to(costs), 8, None, None)) == name, name
        assert name_of_error(lambda: ops_.quantize_trellis(to(w), to(step), to(costs), 16, None, None)) == "InvalidArgument"
