"""What might make a model smaller, tried on its own weights: each idea with what it saves, in bits per weight, and a verdict.

All are measured on the integers that a uniform grid makes of the weights, at the same step for an idea and for what it is compared with, so that errors are equal; bits are entropies
of exact counts. `explain` tries them on the matrices of a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from . import grid, weights
from .errors import InvalidArgumentError

#: What is worth having, in bits per weight.
WORTH = 0.01
# The grid, in standard deviations of rows: about 3.3 bits.
_STEP = 0.4
# Weights of a matrix that are looked at.
_SAMPLE = 1 << 19
_LEAST = 4096


@dataclass(frozen=True)
class Finding:
    """An idea: `saved_bits` per weight of those that it applies to (`weights`; None: it does not apply), a sentence of what was measured, and figures for a table."""

    name: str
    question: str
    saved_bits: float | None
    weights: int
    text: str
    rows: Sequence[Mapping[str, Any]] = ()
    is_cost: bool = False  # no idea: what cannot be saved, as no idea is without tables

    @property
    def verdict(self) -> str:
        if self.is_cost:
            return "is the cost"
        if self.saved_bits is None:
            return "does not apply"
        return "pays" if self.saved_bits > WORTH else "does not pay"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def explain(model: Mapping[str, Tensor], progress: Callable[[str], None] | None = None) -> list[Finding]:
    """Findings on the float matrices of a model, by name. Raises InvalidArgumentError if there are none of 4096 weights or more."""
    matrices = {name: t.detach().reshape(-1, weights.row_columns(tuple(t.shape))).float().cpu() for name, t in model.items() if t.is_floating_point() and t.dim() >= 2 and t.numel() >= _LEAST}
    if not matrices:
        raise InvalidArgumentError(f"there is no float matrix of {_LEAST} weights or more")
    found = []
    for idea in (layer_deltas, embedding_factors, neighbours, trellis, unequal_rows, column_scales):
        if progress is not None:
            progress(idea.__name__.replace("_", " "))
        found.append(idea(matrices))
    return found


# ---- ideas ----


def layer_deltas(matrices: Mapping[str, Tensor]) -> Finding:
    """Store the difference to the same matrix of the layer before."""
    roles: dict[tuple[str, tuple[int, ...]], list[tuple[list[int], Tensor]]] = {}
    for name, w in matrices.items():
        roles.setdefault((re.sub(r"\d+", "*", name), tuple(w.shape)), []).append(([int(n) for n in re.findall(r"\d+", name)], w))
    rows, saved, count = [], 0.0, 0
    for (role, _), layers in roles.items():
        if len(layers) < 2:
            continue
        layers.sort(key=lambda layer: layer[0])
        own = deltas = ratio = 0.0
        total = 0
        for (_, before), (_, w) in zip(layers, layers[1:]):
            w, before = _sample(w), _sample(before)
            step = _steps(w)
            own += _bits(w, step)
            deltas += _bits(w - before, step)
            ratio += float((w - before).norm() / w.norm().clamp_min(1e-30)) * w.numel()
            total += w.numel()
        rows.append({"role": role, "layers": len(layers), "delta_norm_over_weight_norm": ratio / total, "bits": own / total, "bits_of_deltas": deltas / total})
        saved += own - deltas
        count += total
    question = "Are layers so alike that differences between them take fewer bits?"
    if not count:
        return Finding("layer deltas", question, None, 0, "No two matrices have the same role and shape.")
    mean = sum(row["delta_norm_over_weight_norm"] for row in rows) / len(rows)
    text = f"A layer's difference to the one before is {mean:.2f} times as large as the layer itself (unrelated ones: 1.41); coded, it {_says(saved / count)}."
    return Finding("layer deltas", question, saved / count, count, text, rows)


def embedding_factors(matrices: Mapping[str, Tensor]) -> Finding:
    """Store an embedding as a product of two thin matrices, or its rows in the basis of their principal components."""
    question = "Is the embedding of low rank?"
    name, w = max(matrices.items(), key=lambda item: item[1].shape[0] / item[1].shape[1])
    rows, columns = w.shape
    total = sum(m.numel() for m in matrices.values())
    if rows < 4 * columns:
        return Finding("embedding factors", question, None, 0, "No matrix has four times as many rows as columns.")
    values = torch.linalg.eigvalsh((w.double().T @ w.double()) / rows).flip(0).clamp_min(1e-30)
    energy = values.cumsum(0) / values.sum()
    noise = float(_steps(w).double().square().mean()) / 12  # of the grid, for a weight
    # The rank at which what is cut off errs as much as the grid does, and at which two factors have as many numbers as the matrix.
    needed = int((columns * noise < values.flip(0).cumsum(0).flip(0)).sum())
    even = rows * columns / (rows + columns)
    # At this noise each component takes half the logarithm of its variance over it (reverse water-filling), a weight that of the mean variance.
    gain = float(0.5 * math.log2(max(float(values.mean()), noise) / noise) - 0.5 * (values.clamp_min(noise) / noise).log2().mean())
    spectrum = [{"rank": r, "energy": float(energy[r - 1])} for r in sorted({max(1, columns * k // 16) for k in (1, 2, 4, 8, 12, 15, 16)})]
    text = (
        f"{name} has {100 * w.numel() / total:.0f} % of the weights. Half of its {columns} components hold {100 * float(energy[columns // 2 - 1]):.0f} % of its energy; to err no more than a grid of "
        f"{_STEP} deviations does, {needed} are needed, and factors are smaller only below {even:.0f}. In the basis of its components it {_says(gain)} (without what the basis takes)."
    )
    basis = 16.0 * columns / rows  # bits per weight of a basis of 16-bit numbers
    return Finding("embedding factors", question, gain - basis, w.numel(), text, spectrum)


def neighbours(matrices: Mapping[str, Tensor]) -> Finding:
    """Predict a weight from the one to its left or above."""

    def look(w: Tensor) -> tuple[float, dict[str, Any]]:
        q = _integers(w, _steps(w)).double()
        own, best, where = weights.entropy_bits(q.to(torch.int16)), math.inf, ""
        slopes = {}
        for side, x, y in (("left", q[:, 1:], q[:, :-1]), ("above", q[1:], q[:-1])):
            if not x.numel():
                continue
            slope = slopes[f"slope_{side}"] = float((x * y).sum() / y.square().sum().clamp_min(1e-30))
            residual = (x - (slope * y).round()).to(torch.int16)
            bits = weights.entropy_bits(residual) / residual.numel() * q.numel()
            if bits < best:
                best, where = bits, side
        return max(0.0, own - best), {"bits": own / q.numel(), "bits_of_residuals": best / q.numel(), "from": where, **slopes}

    rows, saved, count = _over(matrices, look)
    strongest = max(rows, key=lambda row: max(abs(row.get("slope_left", 0)), abs(row.get("slope_above", 0))))
    text = f"Predicting each weight from the better of its two neighbours {_says(saved)}; the strongest dependence is that of {strongest['tensor']} ({max(strongest.get('slope_left', 0), strongest.get('slope_above', 0), key=abs):+.3f})."
    return Finding("spatial correlation", "Does a weight tell about the next one?", saved, count, text, rows)


def trellis(matrices: Mapping[str, Tensor]) -> Finding:
    """A trellis of 8 states instead of rounding, at equal error."""

    def look(w: Tensor) -> tuple[float, dict[str, Any]]:
        plain, coded = grid.GridSearch(w, "uniform").run(_STEP), grid.GridSearch(w, "trellis8")
        # Errors go with the square of the step, nearly.
        step = _STEP * 0.57
        for _ in range(4):
            found = coded.run(step)
            ratio = plain.error / max(found.error, 1e-30)
            if abs(math.log2(ratio)) < 0.002:
                break
            step *= math.sqrt(ratio)
        gain = plain.bits - found.bits
        return gain * w.numel(), {"error": plain.error, "bits_uniform": plain.bits, "bits_trellis8": found.bits, "saved": gain}

    rows, saved, count = _over(matrices, look)
    text = f"At the error of a uniform grid of {_STEP} deviations, trellis8 {_says(saved)}. Use quantizer=\"trellis8\"."
    return Finding("trellis", "Do fewer bits do at equal error if a trellis chooses the integers?", saved, count, text, rows)


def unequal_rows(matrices: Mapping[str, Tensor]) -> Finding:
    """One step for all rows of a matrix, with a table for rows of each size, instead of steps in proportion to rows."""

    def look(w: Tensor) -> tuple[float, dict[str, Any]]:
        variance = w.double().square().mean(1).clamp_min(1e-30)
        gain = float(0.5 * (variance.mean().log2() - variance.log2().mean()))
        return gain * w.numel(), {"saved": gain}

    rows, saved, count = _over(matrices, look)
    text = f"If the squared error of all rows counts alike, one step for all of a matrix's rows {_says(saved)} (half the logarithm of their arithmetic over their geometric mean variance)."
    return Finding("one step per matrix", "Are rows of so different size that steps should not follow them?", saved, count, text, rows)


def column_scales(matrices: Mapping[str, Tensor]) -> Finding:
    """Tables for columns of each size, as level "default" has them."""

    def look(w: Tensor) -> tuple[float, dict[str, Any]]:
        q = _integers(w, _steps(w))
        own = weights.entropy_bits(q)
        size = q.double().square().mean(0).sqrt().clamp_min(2.0**-8).log2()
        classes = ((size - size.min()) * 4).round().long()
        kept = sum(weights.entropy_bits(q[:, classes == c].contiguous()) + 64 for c in classes.unique().tolist()) + w.shape[1] * 2
        return max(0.0, own - kept), {"bits": own / q.numel(), "bits_by_classes": kept / q.numel(), "octaves": float(size.max() - size.min())}

    rows, saved, count = _over(matrices, look)
    text = f"A table for columns of each size {_says(saved)}. Use level=\"default\" or \"best\"; GPTQ with column scales makes more of it."
    return Finding("sizes of columns", "Are columns of so different size that they should have tables of their own?", saved, count, text, rows)


# ---- what they share ----


def _over(matrices: Mapping[str, Tensor], look: Callable[[Tensor], tuple[float, dict[str, Any]]]) -> tuple[list[dict[str, Any]], float, int]:
    """`look` at each matrix (its first rows) gives bits that are saved, and figures: a row for each, bits saved per weight, weights."""
    rows, saved, count = [], 0.0, 0
    for name, w in matrices.items():
        w = _sample(w)
        gain, figures = look(w)
        rows.append({"tensor": name, **figures})
        saved += gain
        count += w.numel()
    return rows, saved / count, count


def _sample(w: Tensor) -> Tensor:
    """Rows from the first on."""
    return w[: max(2, _SAMPLE // w.shape[1])]


def _steps(w: Tensor) -> Tensor:
    return (_STEP * w.square().mean(1, keepdim=True).sqrt()).clamp_min(1e-30)


def _integers(w: Tensor, step: Tensor) -> Tensor:
    return (w / step).round().clamp(-32768, 32767).to(torch.int16)


def _bits(w: Tensor, step: Tensor) -> float:
    return weights.entropy_bits(_integers(w, step))


def _says(saved: float) -> str:
    return f"saves {saved:.3f} bits per weight" if saved > 0 else f"costs {-saved:.3f} bits per weight more"
