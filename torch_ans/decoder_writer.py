"""Decoders as single small files: `write_decoder` makes one for an artifact, of decoder/source.py, with nothing in it that the artifact does not need."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from . import model as models
from .atomic import atomic_write, check_target
from .decoder.minifying import minify
from .decoder.folding import folded, needs_of
from .entries import DTYPES, torch_dtype
from .errors import CorruptError
from .model import CompressedModel
from .planes import same_bits

SOURCE = Path(__file__).resolve().parent / "decoder" / "source.py"
#: What keeps its name.
PUBLIC = ("load",)
_UNLIMITED = 1 << 62


def write_decoder(artifact: str | os.PathLike[str] | bytes | CompressedModel, out_path: str | os.PathLike[str], *, verify: bool = True) -> int:
    """Writes a Python file that decodes `artifact` (a path, the bytes of a file, or a CompressedModel) with nothing but torch, and returns its size in bytes.

    It defines `load(content)`, which turns the bytes of the file into a dict of tensors by name, the same bit for bit as those of `torch_ans.load` (nested
    models: a flat dict of their names). It holds what this artifact needs and no more: another file may need another decoder. It decodes where torch
    makes tensors: on a GPU within `with torch.device("cuda"):`. It makes no checks; `torch_ans` has made them when the decoder was written.

    verify: decodes the artifact with it, compares, and raises a CorruptError if anything is not the same; this takes as long as decoding.
    Raises a CorruptError if the artifact is damaged, UnsupportedDtypeError if the installed torch lacks one of its dtypes."""
    check_target(out_path)  # before all the work
    if isinstance(artifact, CompressedModel):
        content = artifact.to_bytes()
    elif isinstance(artifact, (str, os.PathLike)):
        content = Path(artifact).read_bytes()
    else:
        content = bytes(artifact)
    text = decoder_of(content)
    if verify:
        check_decoder(text, content)
    with atomic_write(out_path) as file:
        return file.write(text.encode())


def decoder_of(content: bytes) -> str:
    """The decoder for the bytes of a file, as text. Raises as `write_decoder`."""
    with models.open(content, max_bytes=_UNLIMITED) as file:
        file.verify(decode=False)
        names = {entry.dtype for entry in file.index.entries}
        most = max((math.prod(entry.shape) for entry in file.index.entries), default=0)
    for name in names:
        torch_dtype(name)
    source = SOURCE.read_text()
    dtypes = [f"{number}:torch.{dtype.name}" for number, dtype in enumerate(DTYPES) if dtype.name in names]
    tree = folded(source, needs_of(lambda marks: module_of(source, **marks)["load"](content)), {"DTYPES": f"{{{','.join(dtypes)}}}", "RATIO": str((2 * most // len(content)).bit_length())}, PUBLIC)
    return minify(tree, PUBLIC)


def check_decoder(text: str, content: bytes) -> None:
    """Raises a CorruptError unless the decoder `text` gives what `torch_ans` decodes."""
    decoded = module_of(text)["load"](content)
    with models.open(content, max_bytes=_UNLIMITED) as file:
        same = list(decoded) == file.keys() and all(same_bits(decoded[name], file.get_tensor(name), file.entry(name).dtype) for name in file.keys())
    if not same:
        raise CorruptError("the decoder does not decode this artifact as torch_ans does")


def module_of(text: str, **replaced: Any) -> dict[str, Any]:
    """The names that a module defines, some of them replaced by others."""
    names: dict[str, Any] = {}
    exec(compile(text, "decoder", "exec"), names)
    names.update(replaced)
    return names
