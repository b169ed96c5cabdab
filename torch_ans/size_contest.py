"""Artifacts of size contests: `(quant_result, quant_meta)`, as post-GPTQ code there has it, in one blob and back.

quant_result: tensors by name, `w.q` (int8: int6 or fewer bits, or gates) beside `w.scale` (float16, of rows or of groups), factors of low-rank corrections, what is passed through.
quant_meta: what the decoder has to know of each, of strings, numbers, lists and dicts. Both come back as they were, bit for bit. See docs/size-contests.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import CorruptError, InvalidArgumentError
from .model import compress_model, loads

_RESULT, _META = "w", "m"


def serialize(quant_result: Mapping[str, Tensor], quant_meta: Any, *, level: str = "best", **options: Any) -> bytes:
    """The smallest file of both. level, options (chunk_symbols, metadata): as of `torch_ans.compress_model`. Drop-in for `torch.save` into a buffer and a general compressor.

    Raises InvalidArgumentError for anything but tensors in quant_result, and for what a file cannot hold in quant_meta."""
    for name, tensor in quant_result.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InvalidArgumentError(f"quant_result[{name!r}] is a {type(tensor).__name__}, not a tensor with a name")
    # Large chunks: in an artifact of some megabytes every byte counts more than how many threads can decode it.
    options = {"chunk_symbols": 1 << 18} | options
    return compress_model({_RESULT: dict(quant_result), _META: quant_meta}, None, level=level, **options).to_bytes()


def deserialize(data: Any, *, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], Any]:
    """quant_result and quant_meta of the bytes that `serialize` made; tensors on a device. Raises CorruptError for a damaged blob, or one of another kind."""
    both = loads(data, device=device)
    if not isinstance(both, dict) or set(both) != {_RESULT, _META}:
        raise CorruptError("this file was not made by size_contest.serialize")
    return both[_RESULT], both[_META]
