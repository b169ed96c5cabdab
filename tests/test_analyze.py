"""Analysis: entropies are right, every coder sees the same bytes, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from model_examples import normal
from torch import Tensor

import torch_ans
from torch_ans import analyze, cli
from torch_ans.analyze import Coder
from torch_ans.errors import CorruptError

IDENTITY = Coder("copy", bytes, lambda data: data)


def small_model() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "layers.0.weight": torch.randn(256, 300, generator=generator),
        "layers.1.weight": torch.randn(256, 300, generator=generator),
        "layers.0.bias": torch.randn(256, generator=generator),
        "table": torch.randint(-900, 900, (5000,), generator=generator, dtype=torch.int16),
        "none": torch.zeros(0, 4),
    }


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16])
@pytest.mark.parametrize("values", [[], [3], [3, 3, 3], [0, 1, 2, 3], [0, 0, 0, 1]])
def test_order0_entropy_is_that_of_the_formula(dtype: torch.dtype, values: list[int]) -> None:
    expected = 0.0
    if values:
        shares = np.unique(values, return_counts=True)[1] / len(values)
        expected = -len(values) * float((shares * np.log2(shares)).sum()) / 8
    assert analyze.order0_bytes(torch.tensor(values, dtype=dtype)) == pytest.approx(expected)


@pytest.mark.parametrize("bits", [None, 6])
def test_sums_agree_with_the_file(bits: int | None) -> None:
    result = analyze.analyze(small_model(), bits, coders=[IDENTITY])
    ours, copy = result.coders
    assert ours.bytes == len(torch_ans.dumps(small_model(), bits=bits))
    assert ours.bytes == result.head_bytes + sum(tensor.bytes for tensor in result.tensors)
    element = {"quantized": 1, "planes": 4, "symbols": 2}
    extra = 2 * 2 * 256 if bits else 0  # fp16 scales
    assert copy.bytes == result.symbol_bytes == sum(t.numel * (2 if t.name == "table" else element[t.kind]) for t in result.tensors) + extra
    assert result.numel == sum(tensor.numel() for tensor in small_model().values())
    told = json.loads(json.dumps(result.to_json()))
    assert told["coders"][0]["over_minimum_bytes"] == pytest.approx(ours.bytes - result.minimum_bytes)
    integers = [tensor for tensor in result.tensors if tensor.kind in ("quantized", "symbols")]
    assert told["integers"]["symbols"] == sum(tensor.numel for tensor in integers)
    assert 0 <= told["integers"]["overhead_bytes"] < 2000
    rows = {row["role"]: row for row in told["roles"]}
    assert rows["layers.*.weight"]["tensors"] == 2 and rows["layers.*.weight"]["weights"] == 2 * 256 * 300


def test_a_coder_that_loses_something_is_caught() -> None:
    broken = Coder("broken", bytes, lambda data: data[:-1])
    with pytest.raises(CorruptError, match="broken does not give back"):
        analyze.analyze(small_model(), coders=[broken])


def test_missing_coders_are_named_in_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(analyze, "_optional", lambda name: None)
    torch.save({"w": torch.randn(100, 100)}, tmp_path / "in.pt")
    assert cli.main(["analyze", str(tmp_path / "in.pt"), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["coders"]}
    assert rows["lzma 9e"]["bytes"] > 0
    for name in ("brotli 11", "zstd 19", "zstd 3"):
        assert rows[name]["bytes"] is None and "not installed" in rows[name]["missing"]
    assert cli.main(["analyze", str(tmp_path / "in.pt"), "--roles"]) == 0
    assert capsys.readouterr().out.count("not installed") == 3


def test_installed_coders_are_beaten_on_quantized_weights(capsys: pytest.CaptureFixture[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    result = analyze.analyze({"w": torch.randn(512, 512, generator=generator)}, 6, clip_sigmas=4.5)
    ours, *others = result.coders
    for other in others:
        assert other.bytes is None or ours.bytes < other.bytes, other.name
    cli.print_analysis(result)
    assert "theoretical minimum" in capsys.readouterr().out


def test_an_empty_model_can_be_analyzed() -> None:
    result = analyze.analyze({"none": torch.zeros(0)}, 6)
    cli.print_analysis(result)
    assert result.minimum_bytes == 0 and result.to_json()["minimum_bits_per_weight"] is None


def test_clipping_that_wastes_bits_is_told(tmp_path, capsys) -> None:
    tails = normal(400, 300)
    tails[:, ::50] *= 6
    state = {"tails": tails, "mild": normal(400, 300, seed=2)}
    result = analyze.analyze(state, 6, clip_sigmas=4.5, coders=[], min_quantized_numel=1)
    assert [clipping.name for clipping in result.clipping] == ["tails"]
    assert result.clipping[0].wasted_bits > 0.1 and 0 < result.clipping[0].clipped < 0.02
    assert result.to_json()["clipping"][0]["name"] == "tails"
    for options in ({"bits": 6, "clip_sigmas": 40.0}, {"quantizer": "uniform", "bits_per_weight": 3.3}, {"bits": None}):
        assert analyze.analyze(state, coders=[], min_quantized_numel=1, **options).clipping == []
    torch.save(state, tmp_path / "m.pt")
    assert cli.main(["analyze", str(tmp_path / "m.pt"), "--bits", "6", "--clip-sigmas", "4.5"]) == 0
    assert "clipping wastes" in capsys.readouterr().out


def test_trellises_are_told() -> None:
    result = analyze.analyze({"w": normal(400, 300)}, quantizer="trellis8", bits_per_weight=3.3, coders=[], min_quantized_numel=1)
    stream = result.tensors[0].streams[0]
    assert stream.model == "trellis" and abs(stream.bytes - stream.minimum_bytes) < 0.01 * stream.bytes
