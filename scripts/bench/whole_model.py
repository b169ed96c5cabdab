"""compress_model and decompress_model on a whole model: seconds, bytes, memory, and Brotli-11 on what is coded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import torch_ans
from torch_ans import analyze

from .machine import peak_bytes


def _best(work: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begin)
        del result
    return best


def measure_model(
    weights: dict[str, Tensor], bits: int, clip_sigmas: float, threads: list[int], rounds: int, brotli: bool, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds are the best of `rounds`. The memory of compress_model is what the process grew by: output and what is in between, not the
    input; `compress_allowed_bytes` is output + the largest tensor's integers + 10 % of it all, input included, likewise for decompressing."""

    def compress() -> torch_ans.CompressedModel:
        return torch_ans.compress_model(weights, bits, clip_sigmas=clip_sigmas)

    compressed = compress()
    data = compressed.to_bytes()
    report: dict[str, Any] = {"file_bytes": len(data), "head_bytes": compressed.head_bytes}
    for count in threads:
        progress(f"compress_model, {count} threads")
        torch.set_num_threads(count)
        report[f"compress_seconds_{count}"] = _best(compress, rounds)
        progress(f"decompress_model, {count} threads")
        report[f"decompress_seconds_{count}"] = _best(lambda: torch_ans.decompress_model(data), rounds)
    torch.set_num_threads(1)
    report |= _memory(weights, compress, compressed, data)
    if brotli:
        coder = next(coder for coder in analyze.other_coders() if coder.name == "brotli 11")
        progress("brotli 11 on all integers")
        result = analyze.analyze(weights, bits, coders=[coder], clip_sigmas=clip_sigmas).coders[1]
        report["brotli"] = {"bytes": result.bytes, "seconds": result.compress_seconds, "missing": result.missing}
        if result.compress_seconds is not None:
            report["brotli"]["times_slower"] = result.compress_seconds / report["compress_seconds_1"]
    return report


def _memory(weights: dict[str, Tensor], compress: Callable[[], object], compressed: Any, data: bytes) -> dict[str, Any]:
    input_bytes = sum(tensor.nbytes for tensor in weights.values())
    integers = max((entry.numel for entry in compressed.index.entries if entry.kind.name == "QUANTIZED"), default=0)
    result = {
        "compress_peak_bytes": peak_bytes(compress),
        "compress_allowed_bytes": 1.1 * (input_bytes + len(data) + integers) - input_bytes,
        "decompress_peak_bytes": peak_bytes(lambda: torch_ans.decompress_model(data)),
        "decompress_allowed_bytes": 1.1 * (len(data) + input_bytes + integers) - len(data),
    }
    return result | {"input_bytes": input_bytes, "largest_integers_bytes": integers}


def print_model(report: dict[str, Any], threads: list[int]) -> None:
    print(f"\n  file: {report['file_bytes']:,} bytes, of which header and index {report['head_bytes']:,}")
    for count in threads:
        compress, decompress = report[f"compress_seconds_{count}"], report[f"decompress_seconds_{count}"]
        print(f"  {count} thread(s): compress_model {compress:.3f} s, decompress_model {decompress:.3f} s")
    for what in ("compress", "decompress"):
        peak, allowed = report[f"{what}_peak_bytes"], report[f"{what}_allowed_bytes"]
        told = "not known here" if peak is None else f"{peak / 1e6:.1f} MB"
        print(f"  memory of {what}_model beyond its input: {told} (allowed: {allowed / 1e6:.1f} MB)")
    if brotli := report.get("brotli"):
        if brotli["missing"]:
            print(f"  brotli 11: {brotli['missing']}")
        else:
            slower = f"{brotli['times_slower']:.0f} times as long as compress_model on one thread"
            print(f"  brotli 11: {brotli['bytes']:,} bytes in {brotli['seconds']:.1f} s, {slower}")
