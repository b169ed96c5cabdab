#!/usr/bin/env python3
"""`torch_ans.fit` over budgets: how near files come to them, how long it takes, and errors beside those of one step for all tensors, found by bisection over real files.

    scripts/bench_fit.py MODEL.safetensors ... [--budgets 20] [--bits 2.4,4.4] [--quantizer trellis8] [--level fast] [--bisect 4] [--json OUT.json]

Budgets are spread evenly between two rates (bits per weight of all that is quantized, beside what is not). The bisection is run for so many of them, to within 0.01 % of the budget.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

import torch_ans
from bench import machine
from torch_ans import budget, quantizing, tree
from torch_ans.model_files import read_model

LEAST = 65536


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--bits", default="2.4,4.4")
    parser.add_argument("--quantizer", default="trellis8")
    parser.add_argument("--level", default="fast", choices=torch_ans.prediction.LEVELS)
    parser.add_argument("--least-weights", type=int, default=LEAST, help=f"matrices of fewer stay floats ({LEAST})")
    parser.add_argument("--bisect", type=int, default=4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    failed = 0
    print(f"{'network':24}{'budget':>13}{'below %':>9}{'error':>11}{'one step':>11}{'ratio':>8}{'seconds':>9}{'rounds':>8}")
    try:
        for path in args.models:
            model = read_model(path).model
            for row in compare(path.stem, model, args):
                rows.append(row)
                failed += not row["is_met"]
    except (torch_ans.AnsError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    print(f"{len(rows)} budgets, {len(rows) - failed} met within 0.05 %; at most {max(row['seconds'] for row in rows):.1f} s; {torch.get_num_threads()} threads")
    if args.json is not None:
        args.json.write_text(json.dumps({"machine": machine.describe(), "threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")
    return failed > 0


def compare(name: str, model: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
    flat = tree.flatten(model, lambda node: isinstance(node, torch.Tensor))
    tensors = dict(zip(flat.names, flat.tensors))
    weights = {n: t for n, t in tensors.items() if t.is_floating_point() and t.dim() >= 2 and t.numel() >= args.least_weights}
    count = sum(t.numel() for t in weights.values())
    rest = torch_ans.compress_model({n: t for n, t in tensors.items() if n not in weights}, None).file_bytes
    low, high = map(float, args.bits.split(","))
    rows = []
    for i in range(args.budgets):
        size = int(rest + count / 8 * (low + (high - low) * i / max(1, args.budgets - 1)))
        fitted = torch_ans.fit(model, size, groups=budget.Group(quantizers=args.quantizer), level=args.level, min_quantized_numel=args.least_weights)
        row = {"network": name, "budget": size, "bytes": fitted.file_bytes, "error": fitted.error, "seconds": fitted.seconds, "rounds": fitted.rounds}
        row["is_met"] = budget.CLOSE * size <= fitted.file_bytes <= size
        text = ""
        if args.bisect and i % max(1, args.budgets // args.bisect) == 0:
            row["one_step"] = one_step(model, weights, size, args)
            text = f"{row['one_step']:11.6f}{fitted.error / row['one_step']:8.4f}"
        print(f"{name:24}{size:13,}{100 * (1 - fitted.file_bytes / size):9.4f}{fitted.error:11.6f}{text:>19}{fitted.seconds:9.2f}{fitted.rounds:8}", flush=True)
        rows.append(row)
    return rows


def one_step(model: Any, weights: dict[str, torch.Tensor], size: int, args: argparse.Namespace) -> float:
    """The error with the smallest step, the same part of every row's deviation, whose file keeps within the budget."""
    options = {"quantizer": args.quantizer, "level": args.level, "min_quantized_numel": args.least_weights}
    low, high = 0.01, 2.5
    best = None
    for _ in range(30):
        middle = math.sqrt(low * high)
        made = torch_ans.compress_model(model, step_sigmas=middle, **options)
        low, high = (middle, high) if made.file_bytes > size else (low, middle)
        if made.file_bytes <= size:
            best = made
            if made.file_bytes > 0.9999 * size:
                break
    assert best is not None, "the bisection found nothing"
    with torch_ans.open(best) as file:
        errors = [(quantizing.relative_error(w, file.get_quantized_weight(name)), w.numel()) for name, w in weights.items()]
    return sum(e * n for e, n in errors) / sum(n for _, n in errors)


if __name__ == "__main__":
    sys.exit(main())
