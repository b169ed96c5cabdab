"""The GPUs that tests run on: the emulated one, which runs the kernels' sources and the operators' host code with CPU tensors, and a real one where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import torch_ans

ROOT = Path(__file__).resolve().parents[2]
EMULATED = ROOT / "build" / "emulated_gpu" / "torch_ans" / "_emulated_gpu.abi3.so"
HAS_GPU = torch_ans.HAS_CUDA and torch.cuda.is_available()

_libraries: list[torch.library.Library] = []  # alive as long as the process


class Gpu:
    """`ops` are the operators, `to` takes a tensor (or a list of them) to the device."""

    def __init__(self, name: str, ops: Any, device: str) -> None:
        self.name, self.ops, self.device = name, ops, torch.device(device)

    def to(self, tensors: Any) -> Any:
        return tensors.to(self.device) if isinstance(tensors, torch.Tensor) else [self.to(tensor) for tensor in tensors]

    def operator(self, name: str) -> Callable[..., Any]:
        return getattr(self.ops, name)


def emulated_gpu() -> Gpu:
    if not _libraries:
        if not EMULATED.exists():  # scripts/setup_env.sh --tests has built it; this is for who calls pytest alone
            build = [sys.executable, "setup.py", "build_ext", "--build-lib", "build/emulated_gpu"]
            subprocess.run(build, cwd=ROOT, env={**os.environ, "ANS_EMULATED_GPU": "1"}, check=True, capture_output=True)
        library = torch.library.Library("ans_emulated", "DEF")
        for schema in torch._C._jit_get_all_schemas():
            if schema.name.startswith("ans::") and schema.name not in ("ans::gatherv", "ans::cpu_backend"):
                library.define(str(schema).removeprefix("ans::"))
        torch.ops.load_library(str(EMULATED))
        _libraries.append(library)
    return Gpu("emulated", torch.ops.ans_emulated, "cpu")
