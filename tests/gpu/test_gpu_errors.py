"""Wrong arguments and damaged data get the error that the CPU gives, and nothing outside the result is touched."""

from __future__ import annotations

import random

import pytest
import torch
from distributions import bell, outliers

from torch_ans import errors, ops

C = torch.ops.ans


def name_of_error(call) -> str | None:
    """The error's name, None if there is none."""
    try:
        call()
    except RuntimeError as error:
        return str(error).split("[")[1].split("]")[0] if "[" in str(error) else f"unnamed: {error}"
    return None


def test_what_cannot_be_quantized(gpu) -> None:
    weights = [torch.randn(9, 40), torch.randn(70, 33), torch.randn(4, 2048)]
    for bad in (float("nan"), float("inf"), -float("inf")):
        damaged = [w.clone() for w in weights]
        damaged[1][69, 32] = bad
        for call in (lambda: gpu.ops.quantize_many(gpu.to(damaged), 6, 4.5), lambda: gpu.ops.row_scale_many(gpu.to(damaged), 6, None)):
            with pytest.raises(RuntimeError, match=r"\[NotFinite\] tensor 1"):
                call()
        _, scale, exponent = C.quantize(weights[1], 6, None)
        with pytest.raises(RuntimeError, match=r"\[NotFinite\]"):
            gpu.ops.quantize_rows(gpu.to(damaged[1]), gpu.to(scale), gpu.to(exponent), 6)
    with pytest.raises(RuntimeError, match=r"\[NotFinite\] tensor 2"):
        gpu.ops.pack_scale_many(gpu.to([torch.ones(3), torch.zeros(0), torch.tensor([1.0, -1.0])]))


def test_wrong_arguments(gpu) -> None:
    w, s = gpu.to(torch.randn(4, 8)), gpu.to(bell(3000, 3.0, torch.int8, 1))
    calls = [
        lambda: gpu.ops.quantize(w, 9, None),
        lambda: gpu.ops.quantize(w, 6, -1.0),
        lambda: gpu.ops.quantize(w.double(), 6, None),
        lambda: gpu.ops.quantize_rows_many([w], [], [], 6),
        lambda: gpu.ops.histogram(w),
        lambda: gpu.ops.histogram(s, gpu.to(torch.full((3000,), 7, dtype=torch.uint8)), 7),
        lambda: gpu.ops.histogram_many([s, s.to(torch.int16)]),
        lambda: gpu.ops.encode_streams([s], [0]),
        lambda: gpu.ops.encode_streams([s], [100, 100]),
        lambda: gpu.ops.encode_stream(w, 100),
        lambda: gpu.ops.encode(s, s, 100),
        lambda: gpu.ops.decode_streams_out([s], [s]),
        lambda: gpu.ops.decode_stream(gpu.to(torch.zeros(3, dtype=torch.uint8)), -1, torch.int8),
        lambda: gpu.ops.decode_streams_out([], [s]),
        lambda: gpu.ops.decode_stream_out(gpu.to(C.encode_stream(s.cpu(), 1000)), s.view(50, 60).t()),
        lambda: gpu.ops.check_decoded(s),
    ]
    for i, call in enumerate(calls):
        assert name_of_error(call) == "InvalidArgument", i


def test_symbols_that_are_not_in_the_table(gpu) -> None:
    narrow = bell(5000, 1.0, torch.int8, 1).clamp(-3, 3)
    table = C.build_table(C.histogram(narrow)[0], torch.int8)
    assert not ops.table_frequencies(table, torch.int8).has_escape
    for symbols in (bell(5000, 9.0, torch.int8, 2), narrow.clone().index_fill_(0, torch.tensor([4999]), 100)):
        with pytest.raises(RuntimeError, match=r"\[SymbolNotInTable\]"):
            gpu.ops.encode(gpu.to(symbols), gpu.to(table), 2000)
    with pytest.raises(RuntimeError, match=r"\[SymbolNotInTable\] tensor 1"):
        gpu.ops.encode_many(gpu.to([narrow, bell(800, 9.0, torch.int8, 3)]), [table, table], [2000, 2000])


def test_plans_are_for_their_tensors(gpu) -> None:
    symbols = bell(5000, 3.0, torch.int8, 1)
    stream, out = gpu.to(C.encode_stream(symbols, 1000)), gpu.to(torch.empty_like(symbols))
    plan = gpu.ops.plan_decode([stream], [], [], torch.int8, [out])
    for call in (
        lambda: gpu.ops.run_decode(*plan, [stream.clone()], [], [], [out]),
        lambda: gpu.ops.run_decode(*plan, [stream], [], [], [out.clone()]),
        lambda: gpu.ops.run_decode(*plan, [stream], [], [], [out[:99]]),
        lambda: gpu.ops.run_decode(*plan, [stream, stream], [], [], [out, out]),
        lambda: gpu.ops.run_decode(plan[0][:-1], plan[1], [stream], [], [], [out]),
        lambda: gpu.ops.plan_decode([stream], [], [], torch.int8, []),
    ):
        assert name_of_error(call) == "InvalidArgument"


def test_damage_after_planning_is_reported(gpu) -> None:
    symbols = [outliers(6000, 3.0, torch.int8, i) for i in range(3)]
    streams = gpu.to(C.encode_streams(symbols, [1000, 2000, 6000]))
    out = gpu.to([torch.empty_like(s) for s in symbols])
    plan = gpu.ops.plan_decode(streams, [], [], torch.int8, out)
    streams[1][-60] ^= 16
    status = gpu.ops.run_decode(*plan, streams, [], [], out)
    assert [bool(s) for s in status.tolist()] == [False, True, False]
    with pytest.raises(RuntimeError, match="stream 1"):
        gpu.ops.check_decoded(status)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_streams(gpu, seed: int) -> None:
    """The same verdict as the CPU's and, where both decode, the same symbols; beyond the result nothing changes."""
    rng = random.Random(seed)
    symbols = [outliers(2600, 3.0, torch.int8, seed), bell(900, 30.0, torch.uint8, seed), bell(3000, 200.0, torch.int16, seed), torch.full((50,), 3, dtype=torch.int8)][seed]
    stream = C.encode_stream(symbols, 1300)
    verdicts = set()
    for _ in range(25):
        damaged = stream.clone()
        if rng.random() < 0.25:
            damaged = damaged[: rng.randrange(len(damaged))].clone()
        else:
            for _ in range(rng.choice((1, 1, 3))):
                damaged[rng.randrange(min(len(damaged), rng.choice((8, 60, 10**6))))] ^= 1 << rng.randrange(8)
        guarded = gpu.to(torch.full((symbols.numel() + 64,), 77, dtype=symbols.dtype))
        out, expected = guarded[32:-32], torch.empty_like(symbols)
        own = name_of_error(lambda: gpu.ops.decode_stream_out(gpu.to(damaged), out))
        cpu = name_of_error(lambda: C.decode_stream_out(damaged, expected))
        assert (own is None) == (cpu is None), (own, cpu)
        if own is None:
            assert torch.equal(out.cpu(), expected)
        assert bool((guarded[:32] == 77).all() and (guarded[-32:] == 77).all())
        verdicts.add(own)
    assert None not in verdicts or len(verdicts) > 1
    assert all(verdict is None or verdict in {cls.__name__.removesuffix("Error") for cls in errors.CorruptError.__subclasses__()} for verdict in verdicts), verdicts
