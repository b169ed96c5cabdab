"""What may include or import what: nothing points upwards or sideways.

csrc/format -> (nothing)    csrc/core -> format    csrc/cpu -> core    cuda -> core, CUB    csrc/torch -> cpu, cuda/launch.h
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Folder -> project headers that it may include (prefixes of the include path) and foreign headers beside the standard library.
CUDA_RUNTIME = r"cuda(_runtime|_runtime_api|_fp16|_bf16)?\.h"
CPP_LAYERS = {
    "csrc/format": (["format/"], []),
    "csrc/core": (["core/", "format/"], [r"sys/mman\.h"]),  # a hint for large pages, nothing else of the system
    "csrc/cpu": (["cpu/", "core/", "format/"], [r"immintrin\.h", r"cpuid\.h"]),
    "cuda": (["cuda/", "core/", "format/"], [CUDA_RUNTIME, r"cub/.*", r"cuda/.*"]),
    "csrc/torch": (["torch/", "cpu/", "core/", "format/", "cuda/launch.h"], [r"torch/.*", r"Python\.h", r"cuda_runtime_api\.h"]),
}

# Modules of the package from the lowest to the highest: each may import those before it. What comes before `ops` knows no coder.
PYTHON_ORDER = [
    *("_version", "errors", "atomic", "entries", "index", "tree", "container"),
    *("decoder.source", "decoder.scopes", "decoder.dropping", "decoder.inlining", "decoder.simplifying", "decoder.folding", "decoder.names", "decoder.printing", "decoder.minifying"),
    *("ops", "fake", "gatherv", "streams", "planes", "weights", "sharing", "grid", "records", "batches", "gptq", "prediction", "predicted", "pipeline", "reader", "model", "decoder_writer", "distributed", "fitted", "quantizing", "allocation", "budget", "size_contest", "model_files", "hypotheses", "analyze", "explanation", "cli", "__main__"),
]


def included(path: Path) -> list[tuple[str, str]]:
    """(kind, header) of every #include, kind being '"' or '<'."""
    return re.findall(r'^\s*#\s*include\s*(["<])([^">]+)[">]', path.read_text(), flags=re.MULTILINE)


def sources(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*") if p.suffix in {".h", ".cuh", ".cpp", ".cu", ".inc"})


def imported(path: Path) -> set[str]:
    """Modules of this package that a module imports anywhere in it, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level > 0 or (node.module or "").split(".")[0] == "torch_ans"):
            folder = path.relative_to(ROOT / "torch_ans").parts[: -node.level] if node.level > 0 else ()
            inside = ".".join([*folder, *filter(None, [(node.module or "").removeprefix("torch_ans").removeprefix(".")])])
            names |= {inside} if inside else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            named = [alias.name.split(".") for alias in node.names]
            names |= {(parts + ["__init__"])[1] for parts in named if parts[0] == "torch_ans"}
    return names


@pytest.mark.parametrize("folder", CPP_LAYERS)
def test_cpp_folder_includes_only_what_lies_below_it(folder: str) -> None:
    project, foreign = CPP_LAYERS[folder]
    assert sources(folder), f"{folder} is empty"
    wrong = []
    for path in sources(folder):
        for kind, header in included(path):
            if kind == '"':
                legal = any(header == prefix or (prefix.endswith("/") and header.startswith(prefix)) for prefix in project)
            else:  # headers of the standard library are the ones with neither a dot nor a slash
                legal = re.fullmatch(r"\w+", header) or any(re.fullmatch(pattern, header) for pattern in foreign)
            if not legal:
                wrong.append(f"{path.relative_to(ROOT)} includes {header}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", CPP_LAYERS)
def test_cpp_project_headers_are_included_by_their_full_path(folder: str) -> None:
    roots = [ROOT / "csrc", ROOT]
    missing = [
        f"{path.relative_to(ROOT)} includes {header}"
        for path in sources(folder)
        for kind, header in included(path)
        if kind == '"' and not any((root / header).is_file() for root in roots)
    ]
    assert not missing, "\n".join(missing)


def test_every_source_is_listed_once_under_the_role_of_its_folder() -> None:
    folder_of_role = {"core": "csrc/core", "cpu": "csrc/cpu", "torch": "csrc/torch", "cuda": "cuda", "torch_cuda": "csrc/torch", "torch_shared": "csrc/torch"}
    lines = [line.split("#")[0].split() for line in (ROOT / "csrc" / "sources.txt").read_text().splitlines()]
    listed = [(role, path) for role, path in filter(None, lines)]
    for role, path in listed:
        assert path.startswith(folder_of_role[role] + "/"), f"{path} is not of role {role}"
    paths = [path for _, path in listed]
    on_disk = [str(p.relative_to(ROOT)) for folder in CPP_LAYERS for p in sources(folder) if p.suffix in {".cpp", ".cu"}]
    assert sorted(paths) == sorted(on_disk)


def test_file_stems_are_unique() -> None:
    """A header and its .cpp share a stem, and a kernel may be named after the host code that does the same; nothing else."""
    folders_of: dict[str, set[Path]] = {}
    for folder in CPP_LAYERS:
        for path in sources(folder):
            if path.suffix != ".cu":
                folders_of.setdefault(path.stem, set()).add(path.parent)
    assert not {stem: folders for stem, folders in folders_of.items() if len(folders) > 1}


def test_python_modules_import_only_what_lies_below_them() -> None:
    wrong = []
    for path in sorted((ROOT / "torch_ans").rglob("*.py")):
        if path.stem == "__init__":
            continue
        module = ".".join(path.relative_to(ROOT / "torch_ans").with_suffix("").parts)
        assert module in PYTHON_ORDER, f"give {module} a place in PYTHON_ORDER"
        below = PYTHON_ORDER[: PYTHON_ORDER.index(module)]
        wrong += [f"{path.name} imports {name}" for name in sorted(imported(path)) if name not in below]
    assert not wrong, "\n".join(wrong)
