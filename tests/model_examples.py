"""Models to test with, and what it means that one comes back the same."""

from __future__ import annotations

import io
import math

import torch

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def same(a, b):
    """Equal in structure, types and every bit of every tensor."""
    if isinstance(a, torch.Tensor):
        if not (isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape):
            return False
        raw = [x.detach().resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8) for x in (a, b)]
        return torch.equal(*raw)
    if type(a) is not type(b):
        return isinstance(a, dict) and isinstance(b, dict) and same(dict(a), dict(b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or a != a and b != b


def tensors_everywhere():
    """Every dtype that torch can save, in every shape that makes trouble, in a nest of containers and plain values."""
    generator = torch.Generator().manual_seed(1)
    dtypes = {}
    for name in sorted(dir(torch)):
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype) or dtype in dtypes or name.startswith("q"):  # q...: of quantized tensors
            continue
        try:
            torch.save(
                torch.zeros(3, dtype=torch.uint8).view(dtype) if dtype.itemsize == 1 else torch.empty(3, dtype=dtype),
                io.BytesIO(),
            )
        except (RuntimeError, KeyError):
            continue  # torch itself cannot save it
        shapes = []
        for shape in ((), (0,), (3, 0, 2), (1,), (33,), (40, 70), (2, 1, 3, 4)):
            raw = torch.randint(0, 256, (math.prod(shape) * dtype.itemsize,), dtype=torch.uint8, generator=generator)
            raw = raw % 2 if dtype == torch.bool else raw
            shapes.append(raw.view(dtype).view(shape))
        dtypes[dtype] = shapes
    assert len(dtypes) >= 27
    return {
        "dtypes": {str(dtype): shapes for dtype, shapes in dtypes.items()},
        "state": {
            "step": 3,
            "lr": 0.1,
            "nan": math.nan,
            "name": "x",
            "none": None,
            "raw": b"\0\xff",
            "big": 1 << 200,
            7: (True, []),
        },
        "list": [normal(5), (normal(2, 2), "text"), {}],
    }
