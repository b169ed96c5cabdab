"""The shared libraries: what they need, what they export, and that both import on a machine without a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import torch_ans
from torch_ans._version import __version__

FOLDER = Path(torch_ans.__file__).parent
LIBRARIES = sorted(path.stem.split(".")[0] for path in FOLDER.glob("_C*.so"))


def binutils(*command: str, library: str) -> str:
    return subprocess.run([*command, FOLDER / f"{library}.abi3.so"], capture_output=True, text=True, check=True).stdout


def test_the_cpu_library_was_built() -> None:
    assert "_C" in LIBRARIES


@pytest.mark.parametrize("name", LIBRARIES)
def test_library_imports_without_a_gpu(name: str) -> None:
    code = f"import torch, torch_ans._C, torch_ans.{name}; print(torch.cuda.is_available())"
    no_gpu = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=no_gpu)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("name", LIBRARIES)
def test_library_keeps_to_the_stable_abi(name: str) -> None:
    """Of torch's libraries only these, and of their symbols only C functions: a C++ symbol ties us to one version of torch."""
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", binutils("readelf", "-d", library=name)))
    torch_libraries = {library for library in needed if re.search("torch|c10|cuda", library)}
    assert torch_libraries <= ({"libtorch_cpu.so"} if name == "_C" else {"libtorch_cpu.so", "libtorch_cuda.so"})
    undefined = binutils("nm", "-D", "--undefined-only", library=name).split()
    assert not [symbol for symbol in undefined if re.match(r"_Z\w*(2at|3c10|5torch)", symbol)]


@pytest.mark.parametrize("name", LIBRARIES)
def test_library_exports_nothing_of_ours_but_its_module(name: str) -> None:
    """Hidden visibility: two copies of the package's C++ in one process must not bind to each other."""
    exported = re.findall(r"^\S+ \S (.+)$", binutils("nm", "-DC", "--defined-only", library=name), flags=re.MULTILINE)
    assert [symbol for symbol in exported if "std::" not in symbol] == [f"PyInit_{name}"]


needs_cuda_library = pytest.mark.skipif("_C_cuda" not in LIBRARIES, reason="_C_cuda is not built: there is no nvcc, or torch has no CUDA")


@needs_cuda_library
def test_every_operator_has_a_cuda_kernel() -> None:
    names = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("ans::")}
    assert len(names) > 25
    # Matrices are fitted on the CPU, and headers are read there; there are no kernels for that.
    matrices = {"fit_matrix", "matrix_needs", "matrix_directory", "stream_predictors", "matrix_gram", "fit_predictor", "predictor_gains", "reference_gain", "fit_predictors"}
    for name in names - {"ans::cpu_backend"} - {f"ans::{matrix}" for matrix in matrices}:  # gatherv serves every device with one kernel
        key = "CompositeExplicitAutograd" if name == "ans::gatherv" else "CUDA"
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, key), name


# Kernel -> the most registers that a thread may take (65,536 of them are shared by the blocks of a multiprocessor, see kBlocks of each kernel), and whether it may have
# an array of its own, in local memory.
KERNELS = {
    "DecodeRows": (64, False),
    "DecodeTails": (64, False),
    "EncodeCosts": (48, False),
    "EncodeSeeds": (128, True),  # a thread for a chunk: few of them, and a tail to look back at
    "EncodeRows": (56, False),
    "PlaceChunks": (48, False),
    "CopyAll": (48, False),
    "RowScales": (64, False),
    "FindExtremes": (48, False),
    "PackScales": (48, False),
    "QuantizeRows": (64, False),
    "Dequantize": (64, False),
    "CountSymbols": (64, False),
    "QuantizeTrellis": (96, False),  # the states of a trellis are kept in registers
    "QuantizeFeedback": (255, True),  # targets, errors and lengths of all paths, of which the machine of 32 states has too many
    "FindMatrixSymbols": (192, False),
    "EncodeMatrixSeeds": (168, True),
    "EncodeMatrixRows": (64, False),
    "DecodeMatrices": (192, False),  # a warp is a block; there are few chunks, and each wants to be quick
}


@needs_cuda_library
def test_kernels_stay_in_their_registers() -> None:
    triton = pytest.importorskip("triton")  # comes with torch, and brings NVIDIA's tool along
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    listing = subprocess.run([tool, "--dump-resource-usage", FOLDER / "_C_cuda.abi3.so"], capture_output=True, text=True, check=True).stdout
    found = set()
    for function, registers, stack, local in re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", listing):
        kernel = re.search(r"3ans4cuda.*?\d(" + "|".join(KERNELS) + r")(?![a-z])", function)
        if kernel is None:
            assert "3ans4cuda" not in function, f"{function} is not in the table"
            continue
        most, array = KERNELS[kernel[1]]
        found.add(kernel[1])
        assert int(registers) <= most and local == "0", (function, registers, local)
        assert array or stack == "0", (function, stack)
    assert found == set(KERNELS)


def test_version_is_the_one_of_the_metadata() -> None:
    assert metadata.version("torch-ans-weights") == __version__


def test_code_of_different_instruction_sets_shares_no_function() -> None:
    """A function that two backends both emit would be merged by the linker, and the scalar backend could run AVX-512 code."""
    backends = sorted((FOLDER.parent / "build" / "torch_ans._C" / "csrc" / "cpu").glob("backend_*.o"))
    if not backends:
        pytest.skip("the package was not built in this folder")
    emitted_by: dict[str, str] = {}
    for path in backends:
        output = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        for symbol in re.findall(r"^\S+ [WVu] (.+)$", output, flags=re.MULTILINE):
            assert emitted_by.setdefault(symbol, path.name) == path.name, symbol
