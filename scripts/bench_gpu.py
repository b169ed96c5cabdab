#!/usr/bin/env python
"""Speed on a GPU: every operator, every kernel, a whole model, and two peers on the same card and data in the same run.

  scripts/bench_gpu.py [--symbols N] [--rounds R] [--weights FILE.safetensors] [--pypi FOLDER] [--json OUT.json]

Times are CUDA events around calls whose host part runs ahead where it can, the best of several rounds; what is decoded is compared. GB/s of an operator are its
symbols (one byte each) a second, those of a kernel the bytes that it has to read and write, by its task. Exit code 77: there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import torch_ans
from torch_ans import ops

sys.path.insert(0, str(Path(__file__).parent))
from bench.contender import Unavailable  # noqa: E402
from bench.pypi_torch_ans import PypiTorchAns  # noqa: E402
from bench.weights import Matrix  # noqa: E402

DEVICE = "cuda"  # a test of this script sets another one
# Bytes that a kernel moves per symbol if it does nothing in vain: c are the coded bytes of a symbol, w those of a weight.
TRAFFIC: dict[str, Callable[[float, int], float]] = {
    "RowScales": lambda c, w: w,
    "QuantizeRows": lambda c, w: w + 1,
    "Dequantize": lambda c, w: 1 + w,
    "CountSymbols": lambda c, w: 1,
    "DeviceHistogramSweepKernel": lambda c, w: 1,
    "EncodeCosts": lambda c, w: 1,
    "EncodeRows": lambda c, w: 1 + c,
    "PlaceChunks": lambda c, w: 2 * c,
    "DecodeRows<SymbolSink": lambda c, w: c + 1,
    "DecodeRows<WeightSink": lambda c, w: c + w,
}


def card() -> dict[str, Any]:
    """The GPU, its driver and clocks, and versions."""
    fields = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,memory.total"
    query = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True, text=True, check=False).stdout
    values = query.splitlines()[0].split(", ") if query else []
    return {
        **dict(zip(fields.split(","), values)),
        "device": torch.cuda.get_device_name(),
        "multiprocessors": torch.cuda.get_device_properties(0).multi_processor_count,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "torch_ans": torch_ans.__version__,
    }


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The best of `rounds` calls, after one that warms up."""
    work()
    best = float("inf")
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 1000)
    return best


def kernel_seconds(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of every kernel in one call, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    return {event.key: event.device_time_total / 1e6 for event in profile.key_averages() if event.device_time_total > 0}


def weights(numel: int, columns: int = 4096) -> torch.Tensor:
    """bf16 [rows, columns] with rows of different deviation, drawn on the GPU."""
    g = torch.Generator(DEVICE).manual_seed(1)
    matrix = torch.empty(numel // columns, columns, dtype=torch.bfloat16, device=DEVICE)
    for rows in matrix.split(1 << 14):
        rows.copy_(torch.randn(rows.shape, generator=g, device=DEVICE) * (0.01 + 0.05 * torch.rand(rows.shape[0], 1, generator=g, device=DEVICE)))
    return matrix


def model() -> list[torch.Tensor]:
    """bf16 tensors of a small GPT: 67 of them, 37 million weights."""
    g = torch.Generator(DEVICE).manual_seed(2)
    shapes = [(1024, 512)] + [shape for _ in range(11) for shape in ((1536, 512), (512, 512), (2048, 512), (512, 2048), (512, 256), (512, 64))]
    return [(torch.randn(shape, generator=g, device=DEVICE) * 0.03).bfloat16() for shape in shapes]


def file_tensors(path: str) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return [t.to(DEVICE).bfloat16() for t in load_file(path).values() if t.is_floating_point() and t.dim() == 2]


class Report:
    def __init__(self) -> None:
        self.result: dict[str, Any] = {"card": card(), "operators": {}, "kernels": {}, "model": {}, "peers": {}}

    def operator(self, name: str, symbols: int, time: float, **more: Any) -> None:
        self.result["operators"][name] = {"seconds": time, "gsym_per_s": symbols / time / 1e9, **more}
        print(f"{name:34} {time * 1e3:9.3f} ms {symbols / time / 1e9:9.1f} Gsym/s", *(f"{k} {v:.4g}" for k, v in more.items()))

    def kernels(self, work: Callable[[], object], symbols: int, coded: float, weight_bytes: int = 2) -> None:
        for name, time in kernel_seconds(work).items():
            kind = next((k for k in TRAFFIC if k.replace("<", "") in name.replace("<", "").replace("ans::cuda::", "").replace("(anonymous namespace)::", "")), None)
            entry: dict[str, Any] = {"seconds": time}
            if kind is not None:
                entry |= {"kernel": kind, "traffic_gb_per_s": symbols * TRAFFIC[kind](coded, weight_bytes) / time / 1e9}
            self.result["kernels"].setdefault(name[:160], entry)


def bench_operators(report: Report, numel: int, rounds: int) -> torch.Tensor:
    """One large matrix. Returns its symbols."""
    matrix = weights(numel)
    quantized = ops.quantize(matrix, 6, 4.5)
    symbols = quantized.symbols.view(-1)
    stream = ops.encode_stream(symbols)
    coded = stream.numel() / symbols.numel()
    hbm = 3.35e12  # of an H100 SXM; the measured copy stands beside it
    copy = seconds(lambda: matrix.clone(), rounds)
    report.result["copy_gb_per_s"] = 2 * matrix.nbytes / copy / 1e9
    print(f"copy of device memory: {report.result['copy_gb_per_s']:.0f} GB/s read and written")

    time = seconds(lambda: ops.quantize(matrix, 6, 4.5), rounds)
    report.operator("quantize from bf16", numel, time, traffic_gb_per_s=numel * 5 / time / 1e9, of_copy=numel * 5 / time / 1e9 / report.result["copy_gb_per_s"], of_3350=numel * 5 / time / hbm)
    report.kernels(lambda: ops.quantize(matrix, 6, 4.5), numel, coded)
    report.operator("histogram (CUB)", numel, seconds(lambda: ops.histogram(symbols), rounds))
    report.operator("histogram_many", numel, seconds(lambda: ops.histogram_many([symbols]), rounds))
    report.kernels(lambda: (ops.histogram(symbols), ops.histogram_many([symbols])), numel, coded)
    report.operator("encode_stream, counting and all", numel, seconds(lambda: ops.encode_stream(symbols), rounds), coded_bits=8 * coded)
    report.kernels(lambda: ops.encode_stream(symbols), numel, coded)

    out = torch.empty_like(symbols)
    plan = ops.DecodePlan([stream], [out])
    plan.check(plan.run())
    assert torch.equal(out, symbols)
    report.operator("decode, planned", numel, seconds(plan.run, rounds))
    report.operator("decode_stream_out", numel, seconds(lambda: ops.decode_stream_out(stream, out), rounds))
    report.kernels(plan.run, numel, coded)
    back = torch.empty_like(matrix)
    plan = ops.DecodePlan([stream], [back], [quantized.scale], [quantized.exponent])
    plan.check(plan.run())
    assert torch.equal(back, ops.dequantize(*quantized, torch.bfloat16))
    report.operator("decode to bf16, planned", numel, seconds(plan.run, rounds))
    report.kernels(plan.run, numel, coded)
    report.operator("dequantize to bf16", numel, seconds(lambda: ops.dequantize(*quantized, torch.bfloat16), rounds))
    report.kernels(lambda: ops.dequantize(*quantized, torch.bfloat16), numel, coded)
    return symbols.cpu()


def bench_model(report: Report, tensors: list[torch.Tensor], rounds: int) -> None:
    """A whole model of many tensors: compressed end to end on the device, and decoded."""
    numel = sum(t.numel() for t in tensors)

    def compress() -> list[torch.Tensor]:
        quantized = ops.quantize_many(tensors, 6, 4.5)
        return ops.encode_streams([q.symbols for q in quantized])

    quantized, streams = ops.quantize_many(tensors, 6, 4.5), compress()
    out = [torch.empty_like(t) for t in tensors]
    plan = ops.DecodePlan(streams, out, [q.scale for q in quantized], [q.exponent for q in quantized])
    plan.check(plan.run())
    assert all(torch.equal(o, ops.dequantize(*q, torch.bfloat16)) for o, q in zip(out, quantized))
    data = torch_ans.dumps({str(i): t for i, t in enumerate(tensors)}, bits=6, clip_sigmas=4.5, min_quantized_numel=1)
    assert data == torch_ans.dumps({str(i): t.cpu() for i, t in enumerate(tensors)}, bits=6, clip_sigmas=4.5, min_quantized_numel=1)
    works = {
        "compress on the device": compress,
        "decode to bf16, planned": plan.run,
        "decode to bf16": lambda: ops.decode_streams_dequantize_out(streams, [q.scale for q in quantized], [q.exponent for q in quantized], torch.int8, out),
        "dumps (file in host memory)": lambda: torch_ans.dumps({str(i): t for i, t in enumerate(tensors)}, bits=6, clip_sigmas=4.5, min_quantized_numel=1),
        "loads to the device": lambda: torch_ans.loads(data, device=DEVICE),
    }
    print(f"model of {len(tensors)} tensors, {numel:,} weights, {len(data):,} bytes")
    report.result["model"] = {"tensors": len(tensors), "weights": numel, "file_bytes": len(data), "seconds": {}}
    for name, work in works.items():
        report.result["model"]["seconds"][name] = time = seconds(work, rounds)
        print(f"{name:34} {time * 1e3:9.3f} ms {numel / time / 1e9:9.1f} Gsym/s")


def related(layers: int = 6, width: int = 384, tokens: int = 30000) -> list[torch.Tensor]:
    """fp32 matrices on the CPU with what prediction lives of, in the shapes of a small encoder (22 million weights with the defaults): columns that depend on each other, lines like others."""
    g = torch.Generator().manual_seed(3)
    mixing = torch.eye(width) + 0.5 * torch.randn(width, width, generator=g) / width**0.5
    lines = [tokens] + [4 * width] * 3 * layers
    matrices = [(torch.randn(count, width, generator=g) * (0.5 + torch.rand(width, generator=g))) @ mixing for count in lines]
    for matrix in matrices:
        matrix[1::4] = 0.7 * (matrix[1::4] + matrix[::4][: len(matrix[1::4])])
    return matrices


def bench_predicted(report: Report, tensors: list[torch.Tensor], rounds: int) -> None:
    """Files of the levels that predict: what loading them to the device takes, reading of headers and all; the kernel alone is among the kernels."""
    numel = sum(t.numel() for t in tensors)
    for level in ("default", "best"):
        data = torch_ans.dumps({str(i): t for i, t in enumerate(tensors)}, bits=6, clip_sigmas=12.85, min_quantized_numel=1, level=level)
        expected, loaded = torch_ans.loads(data), torch_ans.loads(data, device=DEVICE)
        assert all(torch.equal(loaded[name].cpu(), expected[name]) for name in expected)
        report.operator(f"loads, level {level}", numel, seconds(lambda: torch_ans.loads(data, device=DEVICE), rounds), file_bytes=len(data))
        kernels = {name: time for name, time in kernel_seconds(lambda: torch_ans.loads(data, device=DEVICE)).items() if "DecodeMatrices" in name}
        for name, time in kernels.items():
            report.result["kernels"][f"{name[:140]}, level {level}"] = {"seconds": time, "kernel": "DecodeMatrices"}
            print(f"  its kernels, level by level         {time * 1e3:9.3f} ms {numel / time / 1e9:9.1f} Gsym/s")


def bench_peers(report: Report, symbols: torch.Tensor, pypi: Path | None, rounds: int) -> None:
    """The same symbols, by others; ratios of our planned decoding and of encode_stream to theirs."""
    numel = symbols.numel()
    here = symbols.to(DEVICE)
    stream, out = ops.encode_stream(here), torch.empty_like(here)
    plan = ops.DecodePlan([stream], [out])
    ours = {"encode": seconds(lambda: ops.encode_stream(here), rounds), "decode": seconds(plan.run, rounds)}
    report.result["peers"]["torch_ans, the same symbols"] = {**ours, "symbols": numel, "bytes": stream.numel()}

    def tell(name: str, theirs: dict[str, float], size: int) -> None:
        ratios = {f"{what}_ratio": theirs[what] / ours[what] for what in theirs}
        report.result["peers"][name] = {**theirs, **ratios, "bytes": size}
        print(f"{name:34}", *(f"{what} {numel / time / 1e9:.1f} Gsym/s, we are {time / ours[what]:.1f} times as fast;" for what, time in theirs.items()), f"{size:,} bytes, ours {stream.numel():,}")

    try:
        if pypi is None:
            raise Unavailable("give --pypi FOLDER, into which `pip install --no-deps --target FOLDER torch-ans` has put it")
        peer = PypiTorchAns(pypi, "rans32_16 x32 on the GPU")
        peer.load([Matrix("all", symbols.view(1, -1), torch.ones(1), torch.zeros(()))], 1)
        peer.run("encode", 1)
        times = {what: min(peer.run(what, 1) for _ in range(rounds)) for what in ("encode", "decode")}
        assert peer.check()
        tell(peer.name, times, peer.coded_bytes())
        peer.close()
    except Unavailable as reason:
        report.result["peers"]["PyPI torch-ans"] = f"not measured: {reason}"
        print(f"PyPI torch-ans: not measured: {reason}")
    try:
        from nvidia import nvcomp
    except ImportError:
        report.result["peers"]["nvCOMP ANS"] = "not measured: the package nvidia-nvcomp is not installed"
        print("nvCOMP ANS: not measured: the package nvidia-nvcomp is not installed")
    else:
        codec = nvcomp.Codec(algorithm="ANS")
        array = nvcomp.as_array(here)
        coded = codec.encode(array)
        assert torch.equal(torch.as_tensor(codec.decode(coded), device=DEVICE).view(torch.int8), here)
        tell("nvCOMP ANS", {"encode": seconds(lambda: codec.encode(array), rounds), "decode": seconds(lambda: codec.decode(coded), rounds)}, coded.buffer_size)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=1 << 30, help="of the large matrix (default: 2^30)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--weights", help="a safetensors file, whose matrices take the place of the drawn model")
    parser.add_argument("--pypi", type=Path, help="folder of PyPI's torch-ans")
    parser.add_argument("--json", type=Path, help="where to write everything")
    options = parser.parse_args(arguments)
    if not (torch_ans.HAS_CUDA and torch.cuda.is_available()):
        print("there is no GPU (or no CUDA library of this package): nothing is measured", file=sys.stderr)
        return 77
    report = Report()
    symbols = bench_operators(report, options.symbols, options.rounds)
    torch.cuda.empty_cache()
    bench_model(report, file_tensors(options.weights) if options.weights else model(), options.rounds)
    bench_predicted(report, related(), options.rounds)
    bench_peers(report, symbols[: 1 << 26].clone(), options.pypi, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(report.result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
