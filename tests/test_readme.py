"""The README's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, str(README), "exec"), names)
    assert torch.equal(names["same"], names["symbols"])
    assert names["restored"]["layer.weight"].shape == names["state"]["layer.weight"].shape
    assert torch.equal(names["restored"]["layer.bias"], names["state"]["layer.bias"])
    assert names["weight"].dtype == torch.bfloat16
    assert names["restored"]["layer.weight"].dtype == torch.float32


def test_the_example_of_the_quantizers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (README.parent / "docs" / "quantizers.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "docs/quantizers.md", "exec"), names)
    assert set(names["quantized"]) == {"0.weight", "2.weight"} and len(names["better"]) > 1000


def test_files_that_it_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
