"""PyPI's torch-ans, another project whose import name is ours: it runs in a process of its own, pypi_torch_ans_child.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .contender import Contender, Unavailable, cut
from .weights import Matrix

# The fastest of its coders on a Zen 4: one at encoding, one at decoding. Eight streams per matrix, as its README advises for a desktop.
VARIANTS: dict[str, dict[str, Any]] = {
    "rans64 x4": {"impl": "rans64", "num_interleaves": 4, "inverse_cdf_precision": 12, "freq_precision": 12, "num_parallel_states": 8},
    "tans32 x4": {"impl": "tans32", "num_interleaves": 4, "freq_precision": 12, "num_parallel_states": 8},
}

# On a GPU, for bench_gpu.py: a warp for a stream, and enough streams to fill the card.
GPU_VARIANTS: dict[str, dict[str, Any]] = {
    "rans32_16 x32 on the GPU": {"impl": "rans32_16", "num_interleaves": 32, "freq_precision": 12, "num_parallel_states": 1024, "device": "cuda"},
}


def install(folder: Path) -> None:
    """pip install into a folder of its own: in the environment it would overwrite us."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--upgrade", "--only-binary=:all:"]
    subprocess.run([*pip, "--target", folder, "torch-ans"], check=True)


class PypiTorchAns(Contender):
    """One variant of PyPI's torch-ans, installed in `folder`."""

    what = "TorchANSInterface.encode and decode of int32 symbols with given tables, 8 streams per matrix; its bytes leave the tables out"

    def __init__(self, folder: Path, variant: str) -> None:
        super().__init__()
        self.name, self._settings = f"PyPI torch-ans {variant}", {**VARIANTS, **GPU_VARIANTS}[variant]
        if not (folder / "torch_ans").is_dir():
            raise Unavailable("not installed: bench_codec.py --install")
        self.version = next((path.name.split("-")[1] for path in folder.glob("torch_ans-*.dist-info")), "unknown")
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("pypi_torch_ans_child.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(folder)},  # before the environment's packages, of which we may be one
        )
        where = Path(self._answer())
        if folder.resolve() not in where.resolve().parents:
            self.close()
            raise Unavailable(f"Python found another torch_ans first: {where}")

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        raise Unavailable(f"its process ended: {lines[-1] if lines else 'it does not say why'}")

    def _ask(self, *command: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def load(self, matrices: Sequence[Matrix], threads: int) -> None:
        pieces = cut(matrices, 1)  # it shares a piece out over its threads by itself
        self.sizes = [piece.numel() for piece in pieces]
        self.operations = dict.fromkeys(("encode", "decode"), lambda piece: None)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pieces.npz")
            np.savez(path, *[piece.numpy() for piece in pieces])
            self._ask("load", path, self._settings, threads)

    def run(self, operation: str, threads: int) -> float:
        return self._ask(operation)

    def coded_bytes(self) -> int:
        return self._ask("bytes")

    def check(self) -> bool:
        return self._ask("check")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._errors.close()
