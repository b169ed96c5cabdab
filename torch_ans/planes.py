"""Tensors of any dtype as byte planes: byte k of every number beside each other, because like beside like compresses best.

Cutting, counting and joining go block by block, so that beside the tensor and its planes hardly any memory is needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from . import ops
from .entries import DTYPE_NUMBERS, DTYPES, Transform

# Components (numbers) that are worked on at a time: on the CPU what is in between stays in the cache, on a GPU launches are few.
_BLOCK, _GPU_BLOCK = 1 << 17, 1 << 25
# Up to this many symbols in each, planes are counted together.
_SHORT = 1 << 12
_INTEGER_OF_BYTES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def flat(tensor: Tensor) -> Tensor:
    """The tensor in row-major order, contiguous: a view if it is so already."""
    return tensor.detach().resolve_conj().resolve_neg().reshape(-1).contiguous()


def component_bytes(tensor: Tensor, dtype: str) -> Tensor:
    """uint8 [components, bytes of one], in the byte order of the machine; a view if the tensor is contiguous."""
    _, item_bytes, components = DTYPES[DTYPE_NUMBERS[dtype]]
    return flat(tensor).view(torch.uint8).view(tensor.numel() * components, item_bytes // components)


def _rotated(block: Tensor) -> Tensor:
    """Components (uint8 [n, bytes]), each rotated left by one bit."""
    x = block.view(_INTEGER_OF_BYTES[block.shape[1]]).view(-1)
    top = x >> 8 * x.element_size() - 1  # signed numbers: 0 or -1
    twice = x + x
    twice = twice.add_(top) if x.dtype == torch.uint8 else twice.sub_(top)
    return twice.view(torch.uint8).view(block.shape)


def _unrotate_(components: Tensor) -> None:
    """Undo `_rotated`, in place."""
    x = components.view(_INTEGER_OF_BYTES[components.shape[1]])
    for block in x.split(_block(x)):
        top = 8 * x.element_size() - 1
        sign = block << top  # the lowest bit alone, at the top
        block >>= 1
        if x.dtype != torch.uint8:
            block &= torch.iinfo(x.dtype).max  # the shift was arithmetic
        block |= sign


def _differences(block: Tensor, before: Tensor) -> Tensor:
    """Components (uint8 [n, bytes]), of each the one before subtracted, of the first what `before` (uint8 [1, bytes]) holds."""
    integer = _INTEGER_OF_BYTES[block.shape[1]]
    x = torch.cat([before, block]).view(integer).view(-1)
    return (x[1:] - x[:-1]).view(torch.uint8).view(block.shape)


def _block(tensor: Tensor) -> int:
    return _BLOCK if tensor.is_cpu else _GPU_BLOCK


def _undo_differences_(components: Tensor) -> None:
    """Undo `_differences` of all components of a tensor, in place. Sums wrap, so the sign of the integers does not matter."""
    x = components.view(_INTEGER_OF_BYTES[components.shape[1]]).view(-1)
    carry = x.new_zeros(1)
    for block in x.split(_block(x)):
        block[:1] += carry
        block.copy_(block.cumsum(0, dtype=torch.int64))
        carry = block[-1:]


def _blocks(components: Tensor, transform: int, begin: int, end: int | None) -> Iterator[Tensor]:
    for block in components[begin:end].split(_block(components)):
        if transform == Transform.ROTATE:
            yield _rotated(block)
        elif transform == Transform.DELTA and block.shape[0]:
            yield _differences(block, components[begin - 1 : begin] if begin else torch.zeros_like(block[:1]))
            begin += block.shape[0]
        else:
            yield block


def cut_planes(components: Tensor, transform: int, begin: int = 0, end: int | None = None) -> list[Tensor]:
    """The planes (uint8 [n] each, the most significant first) of the components from `begin` to `end`, in memory of their own.
    `components` are those of the whole tensor: a difference needs the one before."""
    numel = components[begin:end].shape[0]
    planes = [components.new_empty(numel) for _ in range(components.shape[1])]
    done = 0
    for block in _blocks(components, transform, begin, end):
        for plane, column in zip(planes, reversed(block.unbind(1))):
            plane[done : done + block.shape[0]] = column
        done += block.shape[0]
    return planes


def count_planes(components: Tensor, transform: int, begin: int = 0, end: int | None = None) -> Tensor:
    """int64 [planes, 256]: the counts of `cut_planes`, without keeping the planes."""
    counts = torch.zeros(components.shape[1], 256, dtype=torch.int64, device=components.device)
    for block in _blocks(components, transform, begin, end):
        for total, column in zip(counts, reversed(block.unbind(1))):
            total += ops.histogram(column.contiguous())[0]
    return counts


@functools.lru_cache(maxsize=16)
def _plane_numbers(planes: int, numel: int) -> Tensor:
    return torch.arange(planes, dtype=torch.uint8).repeat_interleave(numel)


def count_cut(planes: list[Tensor]) -> Tensor:
    """int64 [planes, 256]: the counts of planes that have been cut."""
    numel = planes[0].numel()
    if numel <= _SHORT and planes[0].is_cpu:  # one call is faster than several
        return ops.histogram(torch.cat(planes), _plane_numbers(len(planes), numel), len(planes))
    return torch.cat([ops.histogram(plane) for plane in planes])


def join_planes(
    planes: Callable[[int], Tensor], components: int, size: int, transform: int, device: torch.device | str = "cpu"
) -> Tensor:
    """uint8 [components, size] of the planes, each asked for when its turn has come."""
    joined = torch.empty(components, size, dtype=torch.uint8, device=device)
    for number in range(size):
        joined[:, size - 1 - number] = planes(number)
    if transform == Transform.ROTATE:
        _unrotate_(joined)
    elif transform == Transform.DELTA:
        _undo_differences_(joined)
    return joined


def same_bits(a: Tensor, b: Tensor, dtype: str) -> bool:
    """Whether two tensors of this dtype have the same shape and the same bits."""
    return a.shape == b.shape and torch.equal(component_bytes(a, dtype), component_bytes(b, dtype))
