#!/usr/bin/env python3
"""What quantizers do to weights and to models: bytes of real files against errors.

    scripts/eval_quantizers.py --model FILE.safetensors --quantizers uniform,trellis8,trellis32 --bits 2.9,3.3,3.7 --json OUT.json
    scripts/eval_quantizers.py --network minilm --quantizers gptq-nearest,gptq-trellis8 --bits 3.0,3.3,3.7      the error of the model, too
    scripts/eval_quantizers.py --network gpt --train-seconds 300 ...        a GPT of bytes that is trained first: KL divergence and bits per byte
    scripts/eval_quantizers.py --network muon --model FILE.safetensors ...  a GPT from a file: KL divergence on text of its own

Quantizers: uniform, trellis4, trellis8, trellis32 (torch_ans.quantize_weight: steps in proportion to each row's deviation), uniform-flat, trellis8-flat ... (one step for all), nncodec (the ISO
standard's, from PyPI, dependent quantization: one step for all, too); with --network also gptq-nearest (GPTQ with
rounding and row scales, as it is usually done), gptq-uniform, gptq-trellis4 ... (row scales), gptq-trellis8x4 ... (four survivors per state), and the same with +columns (scales of
columns where they help).
Every file is written, decoded back and compared. OUT is a list of rows {"quantizer", "target_bits", "bytes" (of the quantized tensors, with all that belongs to them), "weights",
"mse" (relative to the variance of rows), "mse_flat" (relative to that of all), "seconds"}, and of models "error". Then bits saved at equal error against the first quantizer are printed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import torch_ans
from evaluation import flat
from torch_ans import gptq, grid, tree, weights
from torch_ans.entries import Kind
from torch_ans.model_files import read_model
from torch_ans.weights import QUANTIZERS, QuantizedWeight

ROOT = Path(__file__).resolve().parent.parent / "build" / "evaluation"
LEAST_WEIGHTS = 32768


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="weights: .safetensors, .npz or .pt")
    parser.add_argument("--network", choices=("minilm", "gpt", "muon"), help="a network that is run as well")
    parser.add_argument("--quantizers", default="uniform,trellis8,trellis32")
    parser.add_argument("--bits", default="2.9,3.3,3.7", help="per weight, order-0 coded")
    parser.add_argument("--level", default="fast", choices=torch_ans.prediction.LEVELS)
    parser.add_argument("--least-weights", type=int, default=LEAST_WEIGHTS, help=f"matrices of fewer stay floats ({LEAST_WEIGHTS})")
    parser.add_argument("--linear-only", action="store_true", help="of --network: embeddings, which have no Hessian, stay floats")
    parser.add_argument("--train-seconds", type=float, default=300, help="of --network gpt")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a .png or .svg of error against bits (needs matplotlib)")
    args = parser.parse_args(arguments)
    if args.network != "gpt" and args.network != "minilm" and args.model is None:
        parser.error("--model is needed")
    try:
        for name in args.quantizers.split(","):  # before all the work
            if name != "nncodec":
                named(name)
        subject = Subject(args)
        rows = [subject.row(name, float(bits)) for name in args.quantizers.split(",") for bits in args.bits.split(",")]
    except (torch_ans.AnsError, ImportError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    for measure in ("mse", "mse_flat", "error"):
        if measure in rows[0]:
            show_savings(rows, measure)
    if args.plot is not None:
        plot(rows, args.plot)
    return 0


class Named(NamedTuple):
    """What the name of a quantizer says."""

    base: str  # one of QUANTIZERS
    gptq: bool
    nearest: bool
    columns: bool
    survivors: int
    flat: bool


def named(text: str) -> Named:
    match = re.fullmatch(r"(gptq-)?([a-z]+(?:4|8|32)?)(?:x([1-4]))?(\+columns)?(-flat)?", text)
    base = "uniform" if match and match[1] and match[2] == "nearest" else match[2] if match else ""
    of_gptq = bool(match and match[1])
    if match is None or base not in QUANTIZERS or (match[5] and of_gptq) or ((match[3] or match[4]) and not of_gptq):
        raise torch_ans.InvalidArgumentError(f"there is no quantizer {text!r}")
    return Named(base, of_gptq, match[2] == "nearest", bool(match[4]), int(match[3] or 1), bool(match[5]))


class Subject:
    """Weights to quantize and, if a network is run, what its error is with other weights."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.level = args.level
        self.hessians: Mapping[str, Tensor] = {}
        self.error_of: Callable[[Mapping[str, Tensor]], dict[str, float]] | None = None
        if args.network is None:
            flat = tree.flatten(read_model(args.model).model, lambda node: isinstance(node, Tensor))
            state = dict(zip(flat.names, flat.tensors))
        elif args.network == "minilm":
            state = self._minilm()
        else:
            state = self._gpt(args)
        self.weights = {name: tensor.detach() for name, tensor in state.items() if tensor.is_floating_point() and tensor.dim() == 2 and tensor.numel() >= args.least_weights}
        if args.linear_only:
            self.weights = {name: w for name, w in self.weights.items() if name in self.hessians}
        self.hessians = {name: h for name, h in self.hessians.items() if name in self.weights}
        head = f"{sum(w.numel() for w in self.weights.values()):,} weights in {len(self.weights)} matrices, level {self.level}"
        print(f"{head}\n{'quantizer':<22}{'target':>7}{'bits/w':>9}{'bytes':>12}{'mse':>11}{'seconds':>9}  error", flush=True)

    def _minilm(self) -> Mapping[str, Tensor]:
        from evaluation import minilm

        model, calibration, held = minilm.load(ROOT)
        self.hessians = gptq.collect_hessians(model, calibration)
        reference = minilm.embeddings(model, held)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

        def error_of(changed: Mapping[str, Tensor]) -> dict[str, float]:
            model.load_state_dict(state | dict(changed))
            return {"error": minilm.distance(reference, minilm.embeddings(model, held))}

        self.error_of = error_of
        return state

    def _gpt(self, args: argparse.Namespace) -> Mapping[str, Tensor]:
        from evaluation import gpt

        if args.network == "muon":
            model = gpt.from_file(args.model)
            calibration, held = gpt.sampled(model, 96, 128, 1), gpt.sampled(model, 64, 128, 2)
        else:
            model, calibration, held = gpt.trained(args.train_seconds, lambda text: print(text, file=sys.stderr, flush=True))
        self.hessians = gptq.collect_hessians(model, list(calibration.split(16)))
        reference = gpt.log_chances(model, held)
        print(f"{gpt.bits_per_token(reference, held):.4f} bits per token on {held.numel():,} held-out tokens")
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

        def error_of(changed: Mapping[str, Tensor]) -> dict[str, float]:
            model.load_state_dict(state | dict(changed))
            chances = gpt.log_chances(model, held)
            return {"error": gpt.divergence(reference, chances), "bits_per_token": gpt.bits_per_token(chances, held)}

        self.error_of = error_of
        return state

    def row(self, quantizer: str, bits: float) -> dict[str, Any]:
        if quantizer == "nncodec":
            from evaluation import nncodec

            size, decoded, told = nncodec.at_bits(self.weights, bits)
        else:
            size, decoded, told = self._ours(quantizer, bits)
        count = sum(w.numel() for w in self.weights.values())
        row = {"quantizer": quantizer, "target_bits": bits, "bytes": size, "weights": count, "mse": self._mse(decoded), "mse_flat": flat.error(self.weights, decoded), **told}
        if self.error_of is not None:
            row |= self.error_of(decoded)
        rest = "  ".join(f"{row[name]:.6f}" for name in ("error", "bits_per_token") if name in row)
        print(f"{quantizer:<22}{bits:>7.2f}{8 * size / count:>9.4f}{size:>12,}{row['mse']:>11.6f}{row['seconds']:>9.2f}  {rest}", flush=True)
        return row

    def _ours(self, quantizer: str, bits: float) -> tuple[int, dict[str, Tensor], dict[str, float]]:
        begin = time.perf_counter()
        of = named(quantizer)
        quantized = flat.at_bits(self.weights, of.base, bits) if of.flat else {name: self._quantized(of, name, bits) for name in self.weights}
        seconds = time.perf_counter() - begin
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.ans"
            torch_ans.save(quantized, path, level=self.level)
            begin = time.perf_counter()
            decoded = torch_ans.load(path)
            decode_seconds = time.perf_counter() - begin
            with torch_ans.open(path) as file:
                size = sum(entry.record_bytes for entry in file.index.entries if entry.kind == Kind.QUANTIZED)
                assert all(weights.same(file.get_quantized_weight(name), q) for name, q in quantized.items()), "a file does not give back what was written"
        return size, decoded, {"seconds": seconds, "decode_seconds": decode_seconds}

    def _quantized(self, of: Named, name: str, bits: float) -> QuantizedWeight:
        weight = self.weights[name]
        if not of.gptq or name not in self.hessians:  # embeddings have no Hessian
            return grid.quantize_weight(weight, of.base, bits_per_weight=bits)
        options: dict[str, Any] = {"scale_columns": None if of.columns else False, "survivors": of.survivors} | ({"rounds": 0} if of.nearest else {})
        return gptq.quantize_weight(weight, self.hessians[name], of.base, bits_per_weight=bits, **options)

    def _mse(self, decoded: Mapping[str, Tensor]) -> float:
        total = 0.0
        for name, w in self.weights.items():
            variance = w.double().var(1)
            squares = (w.double() - decoded[name].double()).square().sum(1)
            total += float((squares / variance)[variance > 0].sum())
        return total / sum(w.numel() for w in self.weights.values())


def bits_at(rows: list[dict[str, Any]], measure: str, error: float) -> float | None:
    """Bits per weight at which a quantizer has this error, between its rows; None outside."""
    points = sorted((math.log2(row[measure]), 8 * row["bytes"] / row["weights"]) for row in rows)
    for (e0, b0), (e1, b1) in zip(points, points[1:]):
        if e0 <= math.log2(error) <= e1:
            return b0 + (b1 - b0) * (math.log2(error) - e0) / (e1 - e0)
    return None


def show_savings(rows: list[dict[str, Any]], measure: str) -> None:
    names = list(dict.fromkeys(row["quantizer"] for row in rows))
    first = [row for row in rows if row["quantizer"] == names[0]]
    for name in names[1:]:
        told = []
        for row in rows:
            if row["quantizer"] == name and (bits := bits_at(first, measure, row[measure])) is not None:
                told.append(f"{bits - 8 * row['bytes'] / row['weights']:+.3f} at {8 * row['bytes'] / row['weights']:.2f}")
        print(f"bits saved by {name} against {names[0]} at equal {measure}: {', '.join(told) or 'out of range: more --bits are needed'}")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text: a tenth of the size
    from matplotlib import pyplot

    measure = "error" if "error" in rows[0] else "mse"
    figure, axes = pyplot.subplots(figsize=(7, 5))
    for name in dict.fromkeys(row["quantizer"] for row in rows):
        points = sorted((8 * row["bytes"] / row["weights"], row[measure]) for row in rows if row["quantizer"] == name)
        axes.semilogy(*zip(*points), marker="o", label=name)
    axes.set(xlabel="bits per weight, real files", ylabel={"error": "error of the model", "mse": "mean squared error / variance of rows"}[measure])
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
