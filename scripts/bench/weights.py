"""Real weights as the integers that are coded: the sets that the project quotes its figures on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

import torch_ans

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fetch_weights import fetch  # noqa: E402  a script's folder is not a package's

MIN_NUMEL = 65536  # smaller tensors stay floats, as in compress_model


class Matrix(NamedTuple):
    """symbols int8 [rows, columns] with their scales, as `torch_ans.quantize` gives them."""

    name: str
    symbols: Tensor
    scale: Tensor
    exponent: Tensor


class Recipe(NamedTuple):
    """How a set is made: (bits, clip in standard deviations) of matrices and of embeddings."""

    matrix: tuple[int, float]
    embedding: tuple[int, float]


RECIPES = {
    "k4": Recipe((6, 4.5), (6, 4.5)),
    "sdclip": Recipe((6, 12.85), (7, 15.0)),
    "int4": Recipe((4, 4.0), (4, 4.0)),
}


def load_weights(path: Path | None) -> dict[str, Tensor]:
    """The tensors of a .safetensors file; of MiniLM, fetched if needed, without a path."""
    return load_file(path or fetch())


def synthetic_weights(numel: int, seed: int = 0) -> dict[str, Tensor]:
    """Gaussian matrices of about `numel` weights together, for a smoke test."""
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, numel // 2 // 384)
    return {f"layer.{i}.weight": torch.randn(rows, 384, generator=generator) for i in range(2)}


def quantize_set(weights: dict[str, Tensor], recipe: Recipe, min_numel: int = MIN_NUMEL) -> list[Matrix]:
    """The matrices of a model under a recipe."""
    matrices = []
    for name, weight in weights.items():
        if weight.dim() < 2 or weight.numel() <= min_numel or not weight.is_floating_point():
            continue
        bits, clip_sigmas = recipe.embedding if "embed" in name else recipe.matrix
        matrices.append(Matrix(name, *torch_ans.quantize(weight.reshape(weight.shape[0], -1), bits, clip_sigmas)))
    return matrices


def within(matrices: list[Matrix], limit: int) -> list[Matrix]:
    """Matrices in their order as long as they sum up to at most `limit` symbols, but at least one (cut, if it is longer)."""
    chosen, total = [], 0
    for matrix in matrices:
        if total + matrix.symbols.numel() <= limit:
            chosen.append(matrix)
            total += matrix.symbols.numel()
    if not chosen:
        first = matrices[0]
        rows = max(1, limit // first.symbols.shape[1])
        chosen = [Matrix(first.name, first.symbols[:rows].contiguous(), first.scale[:rows], first.exponent)]
    return chosen
