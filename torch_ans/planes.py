"""Tensors of any dtype as byte planes: byte k of every number beside each other, because like beside like compresses best.

Cutting, counting and joining go block by block, so that beside the tensor and its planes hardly any memory is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from . import ops
from .entries import DTYPE_NUMBERS, DTYPES

# Components (numbers) that are worked on at a time: what is in between stays in the cache.
_BLOCK = 1 << 17
_INTEGER_OF_BYTES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def flat(tensor: Tensor) -> Tensor:
    """The tensor in row-major order: a view if it is contiguous."""
    return tensor.detach().resolve_conj().resolve_neg().reshape(-1)


def component_bytes(tensor: Tensor, dtype: str) -> Tensor:
    """uint8 [components, bytes of one], in the byte order of the machine; a view if the tensor is contiguous."""
    _, item_bytes, components = DTYPES[DTYPE_NUMBERS[dtype]]
    return flat(tensor).view(torch.uint8).view(tensor.numel() * components, item_bytes // components)


def _rotated(block: Tensor) -> Tensor:
    """Components (uint8 [n, bytes]), each rotated left by one bit."""
    x = block.view(_INTEGER_OF_BYTES[block.shape[1]]).view(-1)
    sign = x >> 7 if x.dtype == torch.uint8 else x.lt(0)
    return (x << 1).bitwise_or_(sign).view(torch.uint8).view(block.shape)


def _unrotate_(components: Tensor) -> None:
    """Undo `_rotated`, in place."""
    x = components.view(_INTEGER_OF_BYTES[components.shape[1]])
    for block in x.split(_BLOCK):
        top = 8 * x.element_size() - 1
        sign = block << top  # the lowest bit alone, at the top
        block >>= 1
        if x.dtype != torch.uint8:
            block &= torch.iinfo(x.dtype).max  # the shift was arithmetic
        block |= sign


def _blocks(components: Tensor, rotate: int) -> Iterator[Tensor]:
    for block in components.split(_BLOCK):
        yield _rotated(block) if rotate else block


def cut_planes(components: Tensor, rotate: int) -> list[Tensor]:
    """The planes (uint8 [n] each, the most significant first), in memory of their own."""
    planes = [components.new_empty(components.shape[0]) for _ in range(components.shape[1])]
    begin = 0
    for block in _blocks(components, rotate):
        end = begin + block.shape[0]
        for plane, column in zip(planes, reversed(block.unbind(1))):
            plane[begin:end] = column
        begin = end
    return planes


def count_planes(components: Tensor, rotate: int) -> Tensor:
    """int64 [planes, 256]: the counts of `cut_planes`, without keeping the planes."""
    counts = torch.zeros(components.shape[1], 256, dtype=torch.int64, device=components.device)
    for block in _blocks(components, rotate):
        for total, column in zip(counts, reversed(block.unbind(1))):
            total += ops.histogram(column.contiguous())[0]
    return counts


def join_planes(planes: Callable[[int], Tensor], components: int, size: int, rotate: int) -> Tensor:
    """uint8 [components, size] of the planes, each asked for when its turn has come."""
    joined = torch.empty(components, size, dtype=torch.uint8)
    for number in range(size):
        joined[:, size - 1 - number] = planes(number)
    if rotate:
        _unrotate_(joined)
    return joined


def same_bits(a: Tensor, b: Tensor, dtype: str) -> bool:
    """Whether two tensors of this dtype have the same shape and the same bits."""
    return a.shape == b.shape and torch.equal(component_bytes(a, dtype), component_bytes(b, dtype))
