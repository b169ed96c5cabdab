"""Tests that take `gpu` run twice: on the emulated GPU, and on a real one where there is one."""

from __future__ import annotations

import pytest
import torch
from devices import HAS_GPU, Gpu, emulated_gpu


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.skipif(not HAS_GPU, reason="there is no GPU"))])
def gpu(request: pytest.FixtureRequest) -> Gpu:
    return emulated_gpu() if request.param == "emulated" else Gpu("cuda", torch.ops.ans, "cuda")
