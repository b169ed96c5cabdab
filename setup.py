"""Builds the extensions; everything else about the package stands in pyproject.toml.

torch_ans._C       schemas and CPU kernels
torch_ans._C_cuda  CUDA kernels, where there is an nvcc; no GPU and no driver is needed to build or to import it

Both use LibTorch's stable ABI (torch 2.10 and later) and CPython's (3.10 and later), so one wheel serves all of these.
csrc/sources.txt lists the sources for this file and for CMakeLists.txt.

Environment:
ANS_CUDA     auto (default): build _C_cuda if there is an nvcc that fits the installed torch; 1: fail without; 0: never
ANS_GENCODE  nvcc's -gencode options, space-separated; sm_80 is the oldest that compiles
ANS_WERROR   0: compiler warnings are not errors
ANS_EMULATED_GPU  1: instead of these, build the library that runs the CUDA kernels on the host, for the tests (tests/emulated_gpu)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
from setuptools import Extension, setup
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parent
TORCH_TARGET_VERSION = "0x020a000000000000"  # 2.10: the newest LibTorch functions that we may call
DEFAULT_GENCODE = (
    "-gencode=arch=compute_90,code=sm_90 "
    "-gencode=arch=compute_80,code=sm_80 "
    "-gencode=arch=compute_80,code=compute_80"  # PTX, for every later GPU
)


def read_sources() -> dict[str, list[str]]:
    """Role -> paths, from the list that CMake reads too."""
    sources: dict[str, list[str]] = {}
    for line in (ROOT / "csrc" / "sources.txt").read_text().splitlines():
        if fields := line.split("#")[0].split():
            role, path = fields
            sources.setdefault(role, []).append(path)
    return sources


def why_no_cuda() -> str | None:
    """The reason why _C_cuda cannot be built here; None if it can."""
    if torch.version.cuda is None:
        return "the installed torch has no CUDA support"
    if cpp_extension.CUDA_HOME is None or not (Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc").exists():
        return "there is no nvcc"
    nvcc = Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc"
    release = re.search(r"release (\d+)\.", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)
    if release is None or release[1] != torch.version.cuda.split(".")[0]:
        return f"{nvcc} is of CUDA {release[1] if release else '(unknown)'}, torch of CUDA {torch.version.cuda}"
    return None


def wants_cuda() -> bool:
    """ANS_CUDA against what is there. A visible GPU plays no part: wheels are built on machines without one."""
    choice = os.environ.get("ANS_CUDA", "auto")
    if choice not in ("auto", "0", "1"):
        sys.exit(f"ANS_CUDA is {choice!r}, not auto, 0 or 1")
    if choice == "0":
        return False
    reason = why_no_cuda()
    if reason and choice == "1":
        sys.exit(f"ANS_CUDA=1, but {reason}")
    if reason:
        print(f"torch_ans._C_cuda is left out: {reason}", file=sys.stderr)
    return reason is None


def system_includes(*folders: str | Path) -> list[str]:
    """-isystem, so that warnings inside other people's headers are not ours."""
    return [flag for folder in folders for flag in ("-isystem", str(folder))]


def extension(name: str, sources: list[str], *, cuda: bool) -> Extension:
    """One shared library. It needs libtorch_cpu (and, with `cuda`, libtorch_cuda) at run time and nothing else of torch."""
    warnings = ["-Wall", "-Wextra"] + ([] if os.environ.get("ANS_WERROR") == "0" else ["-Werror"])
    common = [
        *("-O3", "-std=c++17", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"),
        *system_includes(*cpp_extension.include_paths(), sysconfig.get_path("include")),
    ]
    # Every result must be the same bits everywhere: no contraction. The other two change no value, they only let loops vectorize.
    arithmetic = ["-ffp-contract=off", "-fno-wrapv", "-fno-math-errno", "-fno-trapping-math"]
    host = ["-g0", "-fvisibility=hidden", f"-ffile-prefix-map={ROOT}/=", *arithmetic, *warnings]
    cxx, nvcc = [*common, *host], [*common, "--fmad=false"]
    libraries, library_dirs, link = ["torch_cpu"], cpp_extension.library_paths(), []
    if cuda:
        home = Path(cpp_extension.CUDA_HOME)
        cxx += ["-DUSE_CUDA", *system_includes(home / "include")]
        nvcc += [f"-Xcompiler={flag}" for flag in host] + os.environ.get("ANS_GENCODE", DEFAULT_GENCODE).split()
        nvcc += ["-Werror=all-warnings"] if "-Werror" in warnings else []
        libraries = ["torch_cuda", "torch_cpu", "cudart_static", "dl", "rt", "pthread"]
        library_dirs = [*library_dirs, str(home / "lib64")]
        link = ["-Wl,--exclude-libs,ALL"]  # cudart's symbols must not meet those of torch's own cudart
    return Extension(
        f"torch_ans.{name}",
        sources,
        include_dirs=[str(ROOT / "csrc"), str(ROOT)],
        libraries=libraries,
        library_dirs=library_dirs,
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
        extra_link_args=link,
        language="c++",
        py_limited_api=True,
    )


class BuildExtension(cpp_extension.BuildExtension):
    """Keeps objects in build/, so that `pip install -e .` compiles only what changed."""

    def build_extension(self, ext: Extension) -> None:
        self.build_temp = str(ROOT / "build" / ext.name)
        super().build_extension(ext)


def emulated_gpu(sources: dict[str, list[str]]) -> Extension:
    """The CUDA operators of the package, with the GPU of tests/emulated_gpu."""
    kernels = [f"tests/emulated_gpu/{Path(path).stem}.cpp" for path in sources["cuda"]]
    operators = [path for path in sources["torch_cuda"] if not path.endswith("module_cuda.cpp")]
    library = extension("_emulated_gpu", sources["core"] + kernels + operators + sources["torch_shared"], cuda=False)
    library.include_dirs.insert(0, str(ROOT / "tests" / "emulated_gpu"))
    library.extra_compile_args["cxx"].append("-DANS_EMULATED_GPU")
    return library


def extensions() -> list[Extension]:
    sources = read_sources()
    if os.environ.get("ANS_EMULATED_GPU") == "1":
        return [emulated_gpu(sources)]
    result = [extension("_C", sources["core"] + sources["cpu"] + sources["torch"] + sources["torch_shared"], cuda=False)]
    if wants_cuda():
        result.append(extension("_C_cuda", sources["core"] + sources["cuda"] + sources["torch_cuda"] + sources["torch_shared"], cuda=True))
    return result


os.chdir(ROOT)
setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
