"""How time and memory depend on the size of a tensor: from 1 KB to gigabytes, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import torch_ans
from torch_ans import ops, streams

from .machine import peak_bytes
from .weights import Matrix

SMALLEST = 1 << 10
MIN_SECONDS, MIN_CALLS, MAX_CALLS = 0.1, 3, 2000  # per operation and size


def _tensor(matrices: list[Matrix], numel: int) -> torch.Tensor:
    """The integers of a model, repeated until there are enough."""
    symbols = torch.cat([matrix.symbols.reshape(-1) for matrix in matrices])
    start = (symbols.numel() - numel) // 2 if numel < symbols.numel() else 0  # the middle: the model begins with its embedding
    return symbols.repeat(-(-numel // symbols.numel()))[start : start + numel].clone()


def _best_seconds(work: Callable[[], object]) -> float:
    best = total = 0.0
    calls = 0
    while calls < MIN_CALLS or (total < MIN_SECONDS and calls < MAX_CALLS):
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
        best = min(best, seconds) if calls else seconds
        total += seconds
        calls += 1
    return best


def sweep(matrices: list[Matrix], largest: int, chunk_symbols: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row per size, sizes growing fourfold. Times are the best of many calls; `*_peak_bytes` is what the process grew by at most."""
    torch.set_num_threads(1)
    rows = []
    size = SMALLEST
    while size <= largest:
        progress(f"sweep: {size} symbols")
        symbols = _tensor(matrices, size)
        prefix = ops.stream_prefix(ops.histogram(symbols)[0], symbols.dtype, chunk_symbols)
        stream = torch_ans.encode_stream(symbols, chunk_symbols)
        operations: dict[str, Callable[[], object]] = {
            "encode": lambda: streams.encode_piece(symbols, prefix, chunk_symbols),
            "encode_stream": lambda: torch_ans.encode_stream(symbols, chunk_symbols),
            "decode_stream": lambda: torch_ans.decode_stream(stream, size, torch.int8),
        }
        row: dict[str, Any] = {"symbols": size, "bytes": stream.numel()}
        for name, work in operations.items():
            row[f"{name}_seconds"] = _best_seconds(work)
        for name in ("encode_stream", "decode_stream"):
            row[f"{name}_peak_bytes"] = peak_bytes(operations[name])
        rows.append(row)
        size *= 4 if size * 4 <= largest or size == largest else max(2, largest // size)
    return rows


def fixed_costs(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Microseconds of every operation that do not depend on the size: the smallest tensor's time less its share at full speed."""
    small, large = rows[0], max(rows, key=lambda row: row["symbols"] <= 1 << 20 and row["symbols"])
    costs = {}
    for key in (key for key in small if key.endswith("_seconds")):
        per_symbol = large[key] / large["symbols"]
        costs[key.removesuffix("_seconds")] = 1e6 * (small[key] - per_symbol * small["symbols"])
    return costs
