"""Ideas that might make a model smaller, on weights of which it is known whether they do; and the page that tells."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from model_examples import normal
from torch import Tensor

from torch_ans import analyze, cli, errors, explanation, hypotheses


def finding(model: dict[str, Tensor], name: str) -> hypotheses.Finding:
    [found] = [f for f in hypotheses.explain(model) if f.name == name]
    return found


def test_layers_that_are_alike_and_others() -> None:
    base = normal(128, 96, seed=1)
    alike = {f"layers.{i}.w": base + 0.05 * normal(128, 96, seed=2 + i) for i in range(3)}
    found = finding(alike, "layer deltas")
    assert found.verdict == "pays" and found.saved_bits > 1 and found.rows[0]["delta_norm_over_weight_norm"] < 0.1 and found.rows[0]["layers"] == 3
    others = {f"layers.{i}.w": normal(128, 96, seed=2 + i) for i in range(12)}
    found = finding(others, "layer deltas")
    assert found.verdict == "does not pay" and found.saved_bits == pytest.approx(-0.5, abs=0.05) and "1.41" in found.text
    assert finding({"w": base}, "layer deltas").verdict == "does not apply"


def test_embeddings_of_low_rank_and_others() -> None:
    low = normal(4000, 8, seed=1) @ normal(8, 64, seed=2) + 0.01 * normal(4000, 64, seed=3)
    assert finding({"embedding": low}, "embedding factors").saved_bits > 1
    assert finding({"embedding": normal(4000, 64)}, "embedding factors").verdict == "does not pay"
    assert finding({"square": normal(128, 128)}, "embedding factors").verdict == "does not apply"


def test_neighbours_that_tell_and_others() -> None:
    smooth = normal(64, 512, seed=1).cumsum(1) / 8
    found = finding({"w": smooth}, "spatial correlation")
    assert found.saved_bits > 0.5 and found.rows[0]["from"] == "left" and found.rows[0]["slope_left"] > 0.9
    assert finding({"w": smooth.T.contiguous()}, "spatial correlation").rows[0]["from"] == "above"
    assert finding({"w": normal(64, 512)}, "spatial correlation").verdict == "does not pay"


def test_trellis_rows_and_columns() -> None:
    plain = {"w": normal(256, 256)}
    assert 0.15 < finding(plain, "trellis").saved_bits < 0.25
    assert finding(plain, "one step per matrix").verdict == finding(plain, "sizes of columns").verdict == "does not pay"
    assert finding({"w": normal(256, 256) * torch.exp2(normal(256, 1, seed=2))}, "one step per matrix").saved_bits > 0.2
    assert finding({"w": normal(256, 256) * torch.exp2(normal(256, seed=2))}, "sizes of columns").saved_bits > 0.2
    with pytest.raises(errors.InvalidArgumentError, match="no float matrix"):
        hypotheses.explain({"bias": normal(5000), "ids": torch.zeros(300, 300, dtype=torch.int8)})


class Page(HTMLParser):
    """Tags that are open, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag not in ("script", "link", "img", "iframe"), "the page needs nothing else"
        if tag not in ("meta", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "br"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"a<b>&'\"": normal(300, 300) * torch.exp2(normal(300, seed=1)), "bias": normal(300)}
    state["a<b>&'\""][::9, ::9] *= 30
    torch.save(state, tmp_path / "m.pt")
    arguments = ["analyze", str(tmp_path / "m.pt"), "--bits", "4", "--clip-sigmas", "3", "--html", str(tmp_path / "m.html")]
    assert cli.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    verdicts = {f["name"]: f["verdict"] for f in told["findings"]}
    assert verdicts["clipping"] == verdicts["linear prediction and reference rows"] == "pays" and verdicts["tables and lanes"] == "is the cost"
    page = Page()
    page.feed((tmp_path / "m.html").read_text())
    assert page.open == [] and "a<b>&'\"" in page.text and all(name in page.text for name in verdicts)
    assert cli.main([*arguments[:-2], "--explain"]) == 0
    assert "clipping" in capsys.readouterr().out


def test_without_other_coders_nothing_is_compared() -> None:
    analysis = analyze.analyze({"w": normal(300, 300)}, 6, coders=[])
    assert explanation.compressors(analysis).verdict == "does not apply"
    assert explanation.clipping(analyze.analyze({"w": normal(300, 300)}, coders=[])).verdict == "does not apply"
