"""What `fit` found: settings, bytes and errors of tensors, as text, JSON and a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InvalidArgumentError
from .model import CompressedModel
from .weights import QuantizedWeight


@dataclass(frozen=True)
class Setting:
    """How a tensor is quantized: in steps of `step_sigmas` standard deviations of each row, by one of weights.QUANTIZERS, or ("clip") to `bits` bits, what is beyond them clipped."""

    quantizer: str
    step_sigmas: float
    bits: int | None = None

    @property
    def clip_sigmas(self) -> float | None:
        """Standard deviations of the largest integer ("clip")."""
        return None if self.bits is None else self.step_sigmas * ((1 << self.bits - 1) - 1)


@dataclass(frozen=True)
class FittedTensor:
    """A tensor of a fit: its setting, bytes in the file (scales included), error (relative: 1 if all were zero), and the curves that its setting was chosen from, by quantizer (and bits):
    steps in standard deviations, bits per weight, relative error."""

    name: str
    setting: Setting
    numel: int
    bytes: int
    error: float
    curves: Mapping[str, Sequence[tuple[float, float, float]]] = field(repr=False)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.bytes / self.numel


@dataclass(frozen=True)
class Fitted:
    """What `fit` found: the file (in a process group on rank 0 only, elsewhere None), and the quantized weights that are in it, by name. `is_limited`: all tensors have their smallest step,
    so the file may be smaller than it need be."""

    model: CompressedModel | None = field(repr=False)
    file_bytes: int
    quantized: Mapping[str, QuantizedWeight] = field(repr=False)
    tensors: Sequence[FittedTensor] = field(repr=False)
    budget: int
    is_limited: bool
    rounds: int
    seconds: float

    @property
    def error(self) -> float:
        """Mean relative error of all quantized weights (groups' weights not counted)."""
        return sum(t.error * t.numel for t in self.tensors) / max(1, sum(t.numel for t in self.tensors))

    def table(self) -> str:
        """Lines of text: what each tensor has."""
        lines = [f"{'tensor':44}{'weights':>12}{'quantizer':>12}{'step/sigma':>12}{'bits/weight':>13}{'bytes':>12}{'error':>11}"]
        for t in self.tensors:
            quantizer = t.setting.quantizer + (f" {t.setting.bits}" if t.setting.bits else "")
            lines.append(f"{t.name:44}{t.numel:12,}{quantizer:>12}{t.setting.step_sigmas:12.4f}{t.bits_per_weight:13.3f}{t.bytes:12,}{t.error:11.6f}")
        kept = self.file_bytes - sum(t.bytes for t in self.tensors)
        lines.append(f"{'everything else':44}{'':49}{kept:12,}")
        lines.append(f"{'the file':44}{'':49}{self.file_bytes:12,}{self.error:11.6f}   {self.budget - self.file_bytes:,} bytes below the budget of {self.budget:,}")
        return "\n".join(lines)

    def curves_table(self) -> str:
        """Lines of text: bits per weight and relative error of each tensor at the steps at which it was tried, as far as they are on the convex hull."""
        lines = [f"{'tensor':44}{'quantizer':>12}{'step/sigma':>12}{'bits/weight':>13}{'error':>11}"]
        for t in self.tensors:
            lines += [f"{t.name:44}{way:>12}{step:12.4f}{bits:13.3f}{error:11.6f}" for way, points in t.curves.items() for step, bits, error in points]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        tensors = [
            {"name": t.name, "weights": t.numel, "quantizer": t.setting.quantizer, "step_sigmas": t.setting.step_sigmas, "bits": t.setting.bits, "clip_sigmas": t.setting.clip_sigmas}
            | {"bytes": t.bytes, "bits_per_weight": t.bits_per_weight, "error": t.error, "curves": {way: [list(point) for point in points] for way, points in t.curves.items()}}
            for t in self.tensors
        ]
        whole = {"budget": self.budget, "file_bytes": self.file_bytes, "error": self.error, "is_limited": self.is_limited, "rounds": self.rounds, "seconds": self.seconds}
        return whole | {"tensors": tensors}

    def plot(self, path: str | Path) -> None:
        """Curves of all tensors, error against bits, and where on them they are: a .png or .svg (needs matplotlib)."""
        try:
            import matplotlib
        except ImportError as cause:
            raise InvalidArgumentError("a plot needs matplotlib: pip install matplotlib") from cause
        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(9, 6))
        for t in self.tensors:
            for points in t.curves.values():
                axes.semilogy([bits for _, bits, _ in points], [max(error, 1e-12) for _, _, error in points], color="tab:blue", alpha=0.25, linewidth=0.8)
        sizes = [5 + 40 * math.sqrt(t.numel / max(u.numel for u in self.tensors)) for t in self.tensors]
        axes.scatter([t.bits_per_weight for t in self.tensors], [max(t.error, 1e-12) for t in self.tensors], s=sizes, color="tab:red", zorder=3, label="chosen (with scales)")
        axes.set(xlabel="bits per weight", ylabel="squared error / that of zeros", title=f"{self.file_bytes:,} of {self.budget:,} bytes")
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()
        figure.tight_layout()
        figure.savefig(path)
        pyplot.close(figure)
