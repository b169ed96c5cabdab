#!/usr/bin/env python3
"""Small decoders of real models: bytes as written and after Brotli, seconds, and that tensors are those of `torch_ans.load`, bit for bit.

    scripts/bench_decoder.py [--minilm MODEL.safetensors] [--gpt MODEL.safetensors] [--only k4,best,trellis] [--peer]

--peer: also the same integers, scales and other tensors by torch.save and Brotli 11 (a minute each), with the code that such a file needs, so that file and code can be added up.
Both decode to the same tensors.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

import brotli
import torch
from safetensors.torch import load_file

import torch_ans
from torch_ans import decoder_writer as writer
from torch_ans.entries import Kind, dtype_name
from torch_ans.planes import same_bits

ROOT = Path(__file__).resolve().parent.parent

# name -> (model, options of dumps, most bytes after Brotli that we aim at, most seconds)
ARTIFACTS = {
    "k4": ("minilm", {"bits": 6, "clip_sigmas": 4.5}, 2000, 3),
    "sdclip": ("minilm", {"bits": 6}, 2000, 3),
    "best": ("minilm", {"bits": 6, "level": "best"}, 4000, 60),
    "k4-best": ("minilm", {"bits": 6, "clip_sigmas": 4.5, "level": "best"}, 4000, 60),
    "trellis": ("gpt", {"quantizer": "trellis8", "bits_per_weight": 3.3}, 2500, 60),
    "trellis-best": ("gpt", {"quantizer": "trellis8", "bits_per_weight": 3.3, "level": "best"}, 4000, 60),
}

# What decodes a file of torch.save and Brotli, where Brotli is installed.
PEER_DECODER = """import brotli,io,torch
def load(b):
 s=torch.load(io.BytesIO(brotli.decompress(b)))
 return{k.removesuffix('.q'):v*s[k[:-1]+'s'].float()[:,None]if k[-2:]=='.q'else v for k,v in s.items()if k[-2:]!='.s'}
"""


def peer_of(content: bytes) -> bytes:
    """The integers of an artifact by torch.save and Brotli."""
    state: dict[str, torch.Tensor] = {}
    with torch_ans.open(content) as file:
        for key in file.keys():
            if file.entry(key).kind != Kind.QUANTIZED:
                state[key] = file.get_tensor(key)
                continue
            q = file.get_quantized_weight(key)
            if q.exponent or q.column_scale is not None or q.trellis or q.dtype != torch.float32 or tuple(q.symbols.shape) != tuple(q.shape):
                raise SystemExit(f"{key}: the peer's code is for scales of rows of float32 matrices")
            state[f"{key}.q"], state[f"{key}.s"] = q.symbols, q.scale.reshape(-1)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return brotli.compress(buffer.getvalue(), quality=11, lgwin=24)


def check_same(name: str, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for key, tensor in expected.items():
        if state[key].dtype != tensor.dtype or not same_bits(state[key], tensor, dtype_name(tensor.dtype)):
            raise SystemExit(f"{name}: {key} is not decoded right")
    if set(state) != set(expected):
        raise SystemExit(f"{name}: other tensors than there are")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minilm", default=str(ROOT / "build" / "weights" / "model.safetensors"))
    parser.add_argument("--gpt", help="a model in bfloat16 for the trellis (without it, these artifacts are left out)")
    parser.add_argument("--only", default=",".join(ARTIFACTS))
    parser.add_argument("--peer", action="store_true")
    args = parser.parse_args(arguments)
    names = [name for name in args.only.split(",") if ARTIFACTS[name][0] == "minilm" or args.gpt]
    models = {model: load_file(getattr(args, model)) for model in {ARTIFACTS[name][0] for name in names}}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'artifact':<14}{'file':>12}{'decoder':>9}{'Brotli':>8}{'aim':>7}{'seconds':>9}{'aim':>5}")
    for name in names:
        model, options, most_bytes, most_seconds = ARTIFACTS[name]
        content = torch_ans.dumps(models[model], **options)
        text = writer.decoder_of(content)
        begin = time.perf_counter()
        state = writer.module_of(text)["load"](content)
        seconds = time.perf_counter() - begin
        expected = torch_ans.loads(content)
        check_same(name, state, expected)
        packed = len(brotli.compress(text.encode(), quality=11))
        print(f"{name:<14}{len(content):>12,}{len(text):>9,}{packed:>8,}{most_bytes:>7,}{seconds:>9.2f}{most_seconds:>5}", flush=True)
        if args.peer and "quantizer" not in options:
            other = peer_of(content)
            begin = time.perf_counter()
            peer_state = writer.module_of(PEER_DECODER)["load"](other)
            seconds = time.perf_counter() - begin
            check_same(f"{name} by Brotli", peer_state, expected)
            code = len(brotli.compress(PEER_DECODER.encode(), quality=11))
            ours, theirs = len(content) + packed, len(other) + code
            print(f"{'  by Brotli':<14}{len(other):>12,}{len(PEER_DECODER):>9,}{code:>8,}{'':>7}{seconds:>9.2f}   file + code {theirs:,} against {ours:,}: {100 * (ours / theirs - 1):+.2f} %", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
