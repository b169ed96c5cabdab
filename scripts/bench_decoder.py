#!/usr/bin/env python3
"""Small decoders of real models: bytes as written and after Brotli, seconds, and that tensors are those of `torch_ans.load`, bit for bit.

    scripts/bench_decoder.py [--minilm MODEL.safetensors] [--gpt MODEL.safetensors] [--only k4,best,trellis]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import brotli
import torch
from safetensors.torch import load_file

import torch_ans
from torch_ans import decoder_writer as writer

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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minilm", default=str(ROOT / "build" / "weights" / "model.safetensors"))
    parser.add_argument("--gpt", help="a model in bfloat16 for the trellis (without it, these artifacts are left out)")
    parser.add_argument("--only", default=",".join(ARTIFACTS))
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
        for key, tensor in expected.items():
            if not (state[key].dtype == tensor.dtype and state[key].shape == tensor.shape and torch.equal(state[key].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))):
                raise SystemExit(f"{name}: {key} is not decoded right")
        if list(state) != list(expected):
            raise SystemExit(f"{name}: other tensors than there are")
        packed = len(brotli.compress(text.encode(), quality=11))
        print(f"{name:<14}{len(content):>12,}{len(text):>9,}{packed:>8,}{most_bytes:>7,}{seconds:>9.2f}{most_seconds:>5}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
