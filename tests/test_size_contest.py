"""Artifacts of size contests, in and out."""

from __future__ import annotations

import io
import lzma
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from model_examples import normal, same

import torch_ans
from torch_ans import errors, size_contest


def artifact() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What a post-GPTQ script of that community has in its hands."""
    result: dict[str, torch.Tensor] = {}
    meta: dict[str, Any] = {"format": "mixed", "version": 3, "clip_sigmas": 12.85, "order": ["blocks.0", "blocks.1"]}
    for i in range(2):
        for name, rows in (("attn.c_q", 128), ("mlp.fc", 384)):
            key = f"blocks.{i}.{name}.weight"
            w = normal(rows, 128, seed=10 * i + rows)
            symbols, scale, exponent = torch_ans.quantize(w, 6, 12.85)
            result[key + ".q"], result[key + ".scale"] = symbols, torch.ldexp(scale.float(), exponent).half()
            meta[key] = {"type": "int6", "shape": tuple(w.shape)}
        for factor, bits in (("A", 4), ("B", 2)):  # a low-rank correction, in groups of 32
            most = 2 ** (bits - 1) - 1
            result[f"blocks.{i}.mlp.fc.lqer_{factor}.q"] = normal(4, 128, seed=20 + i).mul(most / 2).round().clamp(-most, most).to(torch.int8)
            result[f"blocks.{i}.mlp.fc.lqer_{factor}.scale"] = normal(4, 4, seed=30 + i).abs().half()
            meta[f"blocks.{i}.mlp.fc.lqer_{factor}"] = {"type": f"int{bits}", "group": 32}
        result[f"blocks.{i}.gate.q"] = normal(128, seed=40 + i).mul(20).round().to(torch.int8)
        result[f"blocks.{i}.gate.scale"] = torch.tensor(0.01).half()
        meta[f"blocks.{i}.gate"] = {"type": "int8"}
        result[f"blocks.{i}.attn_scale"] = normal(128, seed=50 + i).half()
        meta[f"blocks.{i}.attn_scale"] = "passthrough"
    result["packed"] = torch.randint(0, 256, (64, 33), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    result["steps"] = torch.tensor(1234)
    return result, meta


@pytest.mark.parametrize("level", ["fast", "default", "best"])
def test_both_come_back_as_they_were(level: str) -> None:
    result, meta = artifact()
    blob = size_contest.serialize(result, meta, level=level)
    back, told = size_contest.deserialize(blob)
    assert told == meta and isinstance(told["blocks.0.mlp.fc.weight"]["shape"], tuple)
    assert list(back) == list(result) and same(back, result)


def test_it_is_smaller_than_what_it_stands_in_for() -> None:
    result, meta = artifact()
    buffer = io.BytesIO()
    torch.save({"w": result, "m": meta}, buffer)
    general = lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)
    assert len(size_contest.serialize(result, meta)) < 0.93 * len(general)


def test_the_patch_of_the_documentation() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "size-contests.md").read_text()
    [patch] = re.findall(r"```diff\n(.*?)```", text, re.DOTALL)
    added = [line[1:].strip() for line in patch.splitlines() if line.startswith("+")]
    assert 0 < len(added) <= 6
    quant_result, quant_meta = artifact()
    names: dict[str, Any] = {"quant_result": quant_result, "quant_meta": quant_meta}
    exec("\n".join(added).replace("quant_blob_disk", "quant_blob"), names)
    assert names["quant_state"]["m"] == quant_meta and same(names["quant_state"]["w"], quant_result)


def test_what_is_refused() -> None:
    result, meta = artifact()
    with pytest.raises(errors.InvalidArgumentError, match="shape"):
        size_contest.serialize(result | {"shape": (3, 4)}, meta)  # type: ignore[dict-item]
    with pytest.raises(errors.InvalidArgumentError):
        size_contest.serialize(result, meta | {"dtype": torch.float16})
    blob = size_contest.serialize(result, meta, level="fast")
    for damaged in (blob[:-1], blob[:100] + b"?" + blob[101:], b"", torch_ans.dumps(result)):
        with pytest.raises(errors.CorruptError):
            size_contest.deserialize(damaged)
