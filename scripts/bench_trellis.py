#!/usr/bin/env python3
"""Speed of trellises on the CPU, one thread: decoding beside order-0 coding, searching, GPTQ.

    scripts/bench_trellis.py [--rows 10000] [--columns 1536] [--threads 1] [--json OUT.json]

Rounds are interleaved and the best counts; ratios are of one run. Everything that is decoded is compared with what was encoded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench import machine
from torch_ans import gptq, ops, streams, weights

ROUNDS, REPEATS = 5, 4


def best(jobs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of each job."""
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            for _ in range(REPEATS):  # the first one finds the caches as the job before left them
                begin = time.perf_counter()
                job()
                seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return seconds


def decoding(rows: int, columns: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(rows, columns, generator=generator)
    step, number = torch.full((rows,), 0.232), torch.arange(columns) % 8
    size = torch.exp2(number / 2 - 2)
    plain = weights.narrowed(weights.round_to_steps(w, torch.full((rows,), 0.41)))
    one = weights.narrowed(ops.quantize_trellis(w, step).symbols)
    eight = weights.narrowed(ops.quantize_trellis(w * size, step, column_class=number.to(torch.uint8), classes=8).symbols)
    scale, exponent, factor = step.half(), torch.tensor(0, dtype=torch.int32), 1 / size
    coded = {"order 0": (ops.encode_stream(plain), plain), "trellis, one class": (streams.encode_rows(one, 8, 81920), one), "trellis, eight classes": (streams.encode_rows(eight, 8, 81920), eight)}
    outs = {name: torch.empty_like(symbols) for name, (_, symbols) in coded.items()}
    floats = torch.empty(rows, columns, dtype=torch.bfloat16)
    jobs: dict[str, Callable[[], object]] = {name: (lambda s=stream, o=outs[name]: ops.decode_streams_out([s], [o])) for name, (stream, _) in coded.items()}
    for name, (stream, symbols) in coded.items():
        factors = [factor] if "eight" in name else []
        jobs[f"{name}, to bf16"] = lambda s=stream, d=symbols.dtype, f=factors: ops.decode_streams_dequantize_out([s], [scale], [exponent], d, [floats], f)
    seconds = best(jobs)
    for name, (_, symbols) in coded.items():
        assert torch.equal(outs[name], symbols), name
    return {name: rows * columns / s / 1e9 for name, s in seconds.items()}


def searching(rows: int, columns: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    w, step = torch.randn(rows, columns, generator=generator), torch.full((rows,), 0.232)
    x = torch.randn(4 * columns, columns, generator=generator).double() @ (torch.eye(columns) + torch.randn(columns, columns, generator=generator) / columns**0.5).double()
    f = gptq.feedback_of(gptq.inverse_factor(x.T @ x / len(x)), None)
    jobs: dict[str, Callable[[], object]] = {}
    for states in (4, 8, 32):
        known = ops.quantize_trellis(w, step, states)
        costs = torch.ops.ans.trellis_costs(torch.ops.ans.quantize_trellis(w, step, torch.zeros(1, 4, 128, dtype=torch.int32), states)[1], 0.3)[0]
        assert known.symbols.shape == w.shape
        jobs[f"search, {states} states"] = lambda s=states, c=costs: torch.ops.ans.quantize_trellis(w, step, c, s)
        for survivors in (1, 4) if states == 8 else (1,):
            name = f"GPTQ search, {states} states" + (f", {survivors} survivors" if survivors > 1 else "")
            jobs[name] = lambda s=states, c=costs, n=survivors: torch.ops.ans.quantize_feedback(w, step, c, s, f.feedback, f.weight, survivors=n)
    return {name: 1e9 * s / w.numel() for name, s in best(jobs, 3).items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10000)
    parser.add_argument("--columns", type=int, default=1536)
    parser.add_argument("--gptq-columns", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    speed = decoding(args.rows, args.columns)
    print(f"decoding, {args.rows} x {args.columns}, {args.threads} thread(s), {ops.cpu_backend()}")
    for name, value in speed.items():
        base = speed["order 0, to bf16" if "bf16" in name else "order 0"]
        print(f"{name:34}{value:7.2f} billion symbols per second   {value / base:.2f} x")
    cost = searching(4 * args.gptq_columns, args.gptq_columns)
    print(f"searching, {4 * args.gptq_columns} x {args.gptq_columns}")
    for name, value in cost.items():
        print(f"{name:34}{value:7.1f} ns per weight")
    if args.json is not None:
        args.json.write_text(json.dumps({"machine": machine.describe(), "decode": speed, "search_ns": cost}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
