#!/usr/bin/env python3
"""What a training job does at its end: every rank has the weights, together they write one quantized, coded, verified file.

    torchrun --standalone --nproc_per_node=8 scripts/demo_job.py WEIGHTS.safetensors OUT.ans

Uses the GPUs where there are any. Rank 0 then decodes the file and compares every integer with what the quantizer gives.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

import torch_ans


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("output")
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--clip-sigmas", type=float, default=4.5)
    return parser.parse_args()


def start() -> torch.device:
    """Joins the other ranks. NCCL if every rank has a GPU of its own, otherwise gloo; GPUs are used either way."""
    gpus, local_rank = torch.cuda.device_count() if torch_ans.HAS_CUDA else 0, int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpus >= int(os.environ["LOCAL_WORLD_SIZE"]) else "gloo")
    return device


def check(path: str, weights: dict[str, Tensor], bits: int, clip_sigmas: float) -> tuple[int, float]:
    """Decodes the file. Returns how many tensors are quantized, and the seconds that decoding took; raises SystemExit at any difference."""
    begin = time.perf_counter()
    with torch_ans.open(path) as file:
        decoded = {name: file.get_tensor(name) for name in file.keys()}
    seconds = time.perf_counter() - begin
    quantized = 0
    with torch_ans.open(path) as file:
        file.verify()
        for name, weight in weights.items():
            if file.entry(name).kind.name == "QUANTIZED":
                quantized += 1
                integers, expected = file.get_quantized(name), torch_ans.quantize(weight, bits, clip_sigmas)
                same = all(torch.equal(a.view_as(b), b.cpu()) for a, b in zip(integers, expected))
                same = same and torch.equal(decoded[name], torch_ans.dequantize(*expected, weight.dtype).cpu())
            else:
                same = torch.equal(decoded[name], weight.cpu())
            if not same:
                raise SystemExit(f"{name} is not what was saved")
    return quantized, seconds


def main() -> None:
    args = parse()
    device = start()
    weights = {name: tensor.to(device) for name, tensor in load_file(args.weights).items()}
    numel = sum(tensor.numel() for tensor in weights.values())
    dist.barrier()
    begin = time.perf_counter()
    size = torch_ans.save_distributed(weights, args.output, bits=args.bits, clip_sigmas=args.clip_sigmas)
    seconds = time.perf_counter() - begin
    if dist.get_rank() == 0:
        who = f"{dist.get_world_size()} ranks ({dist.get_backend()}, {device.type})"
        print(f"{who}: {numel:,} weights quantized to {args.bits} bits, coded, gathered, written in {seconds:.3f} s: {size:,} bytes")
        quantized, decoding = check(args.output, weights, args.bits, args.clip_sigmas)
        print(f"decoded in {decoding:.3f} s; the integers and scales of {quantized} matrices are the quantizer's, every other tensor is unchanged")
        sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
