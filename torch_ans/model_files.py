"""Files that models come in: .npz, .safetensors and .pt, read into tensors and written back.

A model is what `torch_ans.save` takes: a dict of tensors, in a .pt also nested and with other values. Every file is written beside
its target and renamed over it, so that a failure leaves no half of one.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from .atomic import atomic_write
from .errors import AnsError, InvalidArgumentError, UnsupportedDtypeError

SUFFIXES = (".npz", ".safetensors", ".pt")


class ModelFile(NamedTuple):
    """Contents of a file: the model, and the strings that a .safetensors keeps beside its tensors."""

    model: Any
    metadata: dict[str, str]


def file_kind(path: str | os.PathLike[str]) -> str:
    """The suffix by which a model file is read or written. Raises InvalidArgumentError for any other."""
    suffix = Path(path).suffix.lower()
    suffix = ".pt" if suffix == ".pth" else suffix
    if suffix not in SUFFIXES:
        raise InvalidArgumentError(f"{os.fspath(path)!r} is none of {', '.join(SUFFIXES)}")
    return suffix


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read a model file onto the CPU. Nothing in it is executed: pickled objects are refused.

    Raises InvalidArgumentError if it is no such file, UnsupportedDtypeError for arrays that torch has no dtype for, OSError.
    """
    kind = file_kind(path)
    try:
        if kind == ".npz":
            return ModelFile(_read_npz(path), {})
        if kind == ".safetensors":
            return _read_safetensors(path)
        return ModelFile(torch.load(path, map_location="cpu", weights_only=True), {})
    except AnsError:
        raise
    except pickle.UnpicklingError as error:  # its text is a page about how to load the file all the same
        raise InvalidArgumentError(f"{os.fspath(path)!r} is damaged, or holds objects other than tensors and plain values") from error
    except (zipfile.BadZipFile, safetensors.SafetensorError, EOFError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InvalidArgumentError(f"{os.fspath(path)!r} cannot be read as {kind}: {reason}") from error


def write_model(path: str | os.PathLike[str], contents: ModelFile) -> None:
    """Write a model file. Raises InvalidArgumentError or UnsupportedDtypeError if the model is none that such a file can hold."""
    kind = file_kind(path)
    if kind == ".npz":
        _write_npz(path, _flat(contents.model, kind))
    elif kind == ".safetensors":
        _write_safetensors(path, _flat(contents.model, kind), contents.metadata)
    else:
        with atomic_write(path) as file:
            torch.save(contents.model, file)


def _flat(model: Any, kind: str) -> dict[str, Tensor]:
    if not isinstance(model, dict):
        raise InvalidArgumentError(f"a {kind} file holds a dict of tensors, this model is a {type(model).__name__}; write a .pt")
    for name, value in model.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InvalidArgumentError(f"a {kind} file holds tensors by name, {name!r} is a {type(value).__name__}; write a .pt")
    return model


# ---- .npz ----


def _read_npz(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    with zipfile.ZipFile(path):  # numpy takes what is no archive for a pickle, and says so
        pass
    with np.load(path, allow_pickle=False) as arrays:
        return {name: _tensor(name, arrays) for name in arrays.files}


def _tensor(name: str, arrays: Any) -> Tensor:
    try:
        array = arrays[name]
    except ValueError as error:
        if "Object arrays" in str(error):
            raise UnsupportedDtypeError(f"{name!r} is an array of Python objects") from error
        raise
    if not isinstance(array, np.ndarray):
        raise InvalidArgumentError(f"{name!r} is a file of another kind, not an array")
    if not array.dtype.isnative:
        raise UnsupportedDtypeError(f"{name!r} has dtype {array.dtype.str}, of the other byte order")
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise UnsupportedDtypeError(f"{name!r} has dtype {array.dtype}, which torch does not have") from error


def _write_npz(path: str | os.PathLike[str], tensors: dict[str, Tensor]) -> None:
    # numpy.savez would take names for its own arguments ("file") and needs all arrays at once.
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, tensor in tensors.items():
            try:
                array = tensor.numpy(force=True)
            except TypeError as error:
                raise UnsupportedDtypeError(
                    f"{name!r} has dtype {tensor.dtype}, which numpy does not have; write a .safetensors or .pt"
                ) from error
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


# ---- .safetensors ----


def _read_safetensors(path: str | os.PathLike[str]) -> ModelFile:
    with safetensors.safe_open(path, framework="pt") as file:
        names = file.offset_keys() if hasattr(file, "offset_keys") else file.keys()  # in the order of the file, as load_file gives them
        strings = dict(sorted((file.metadata() or {}).items()))  # whose own order differs from call to call
        return ModelFile({name: file.get_tensor(name) for name in names}, strings)


def _write_safetensors(path: str | os.PathLike[str], tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():  # the format has no tensors that share memory
        storage = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if storage in seen and tensor.numel() else tensor.contiguous()
        seen.add(storage)
    directory = os.path.dirname(os.path.realpath(path))
    with atomic_write(path) as file, tempfile.TemporaryDirectory(dir=directory, prefix=".ans-") as scratch:
        # Safetensors writes to a path, never to an open file, and its bytes would be all tensors in memory once more.
        try:
            save_file(own, os.path.join(scratch, "model"), metadata=metadata or None)
        except (KeyError, ValueError, safetensors.SafetensorError) as error:
            raise UnsupportedDtypeError(f"a .safetensors file cannot hold this model: {error}") from error
        with open(os.path.join(scratch, "model"), "rb") as written:
            shutil.copyfileobj(written, file, 1 << 20)
