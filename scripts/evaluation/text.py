"""English text that every machine with Python has: the documentation inside the standard library."""

from __future__ import annotations

import ast
import re
import sysconfig
from pathlib import Path


def documentation() -> list[str]:
    """Docstrings of the standard library, in order of files; the same for one version of Python."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted([*folder.glob("*.py"), *folder.glob("[a-z]*/*.py")]):
        if "site-packages" in path.parts or path.parent.name.startswith("test"):
            continue
        try:
            parsed = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(parsed):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)) and len(text) > 80:
                found.append(re.sub(r"\s+", " ", text))
    return found


def source_bytes(most: int = 1 << 24) -> bytes:
    """Source code of the standard library, up to so many bytes."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    joined = b""
    for path in sorted(folder.glob("*.py")) + sorted(folder.glob("[a-z]*/*.py")):
        if "site-packages" not in path.parts and len(joined) < most:
            joined += path.read_bytes()
    return joined[:most]
