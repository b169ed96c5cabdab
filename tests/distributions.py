"""Symbol arrays for tests: every kind of distribution, in every symbol type, at awkward lengths."""

from __future__ import annotations

import torch
from torch import Tensor


def bell(n: int, sigma: float, dtype: torch.dtype, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    info = torch.iinfo(dtype)
    middle = 0 if info.min < 0 else 128
    return (torch.randn(n, generator=g, dtype=torch.float64) * sigma + middle).round().clamp(info.min, info.max).to(dtype)


def uniform(n: int, low: int, high: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Values in [low, high)."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n,), generator=g).to(dtype)


def skewed(n: int, rare: float, a: int, b: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Almost only `a`, a share `rare` of `b`."""
    g = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(n, generator=g) < rare, b, a).to(dtype)


def outliers(n: int, sigma: float, dtype: torch.dtype, seed: int) -> Tensor:
    """A bell with a few values from the whole range: they take the escape."""
    x = bell(n, sigma, dtype, seed)
    info = torch.iinfo(dtype)
    wild = uniform(n, info.min, info.max + 1, dtype, seed + 1)
    g = torch.Generator().manual_seed(seed + 2)
    return torch.where(torch.rand(n, generator=g) < 3e-3, wild, x)


KINDS = {
    "int2": lambda n, s: uniform(n, -1, 2, torch.int8, s),
    "int4 bell": lambda n, s: bell(n, 2.0, torch.int8, s).clamp(-7, 7),
    "int6 bell": lambda n, s: bell(n, 7.0, torch.int8, s).clamp(-31, 31),
    "int6 narrow": lambda n, s: bell(n, 2.4, torch.int8, s),
    "int7 bell": lambda n, s: bell(n, 15.0, torch.int8, s),
    "int8 bell": lambda n, s: bell(n, 40.0, torch.int8, s),
    "int8 uniform": lambda n, s: uniform(n, -128, 128, torch.int8, s),
    "int8 one": lambda n, s: uniform(n, 5, 6, torch.int8, s),
    "int8 two": lambda n, s: uniform(n, -128, -126, torch.int8, s),
    "int8 two, far apart": lambda n, s: skewed(n, 0.5, -128, 127, torch.int8, s),
    "int8 99.99 %": lambda n, s: skewed(n, 1e-4, 127, -3, torch.int8, s),
    "int8 outliers": lambda n, s: outliers(n, 3.0, torch.int8, s),
    "int8 even": lambda n, s: uniform(n, -40, 41, torch.int8, s) * 2,
    "uint8 bell": lambda n, s: bell(n, 9.0, torch.uint8, s),
    "uint8 uniform": lambda n, s: uniform(n, 0, 256, torch.uint8, s),
    "uint8 99.99 %": lambda n, s: skewed(n, 1e-4, 0, 255, torch.uint8, s),
    "uint8 outliers": lambda n, s: outliers(n, 5.0, torch.uint8, s),
    "int16 bell": lambda n, s: bell(n, 20.0, torch.int16, s),
    "int16 wide": lambda n, s: bell(n, 3000.0, torch.int16, s),
    "int16 outliers": lambda n, s: outliers(n, 8.0, torch.int16, s),
    "int16 uniform": lambda n, s: uniform(n, -32768, 32768, torch.int16, s),
}
LENGTHS = (0, 1, 2, 31, 32, 33, 1000, 1024, 1025, 1057, 5000, 40_000)
