"""Work on many weights, divided over the ranks of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from .errors import AnsError, InvalidArgumentError, NotFiniteError
from .weights import QuantizedWeight

T = TypeVar("T")


def divide(costs: Sequence[int], world_size: int) -> list[int]:
    """The rank of each of these tasks: the dearest first, each to the rank that has least."""
    load = [0] * world_size
    owner = [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        owner[i] = min(range(world_size), key=lambda r: (load[r], r))
        load[owner[i]] += costs[i]
    return owner


def share(names: Sequence[str], costs: Sequence[int], devices: Sequence[torch.device], work: Callable[[int], T], group: dist.ProcessGroup | None = None) -> list[T]:
    """`work(i)` for each name, done by one rank of a process group (if there is one) and given to all of them; QuantizedWeights come on the devices. All ranks must call this, with work
    that gives the same wherever it is done. Where one fails all raise; InvalidArgumentError and NotFiniteError say for which name."""
    parallel = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(group), dist.get_world_size(group)) if parallel else (0, 1)
    found: dict[int, T] = {}
    error: Exception | None = None
    for i, of_rank in enumerate(divide(costs, world)):
        if of_rank != rank:
            continue
        try:
            found[i] = work(i)
        except Exception as cause:  # whatever it is, the others wait
            error = type(cause)(f"{names[i]!r}: {cause}") if type(cause) in (InvalidArgumentError, NotFiniteError) else cause
            break
    if world > 1:
        every: list[Any] = [None] * world
        told = error if error is None or isinstance(error, AnsError) else RuntimeError(f"rank {rank} failed: {type(error).__name__}: {error}")
        # Objects are pickled between the ranks of one job; files never are.
        dist.all_gather_object(every, told if told is not None else {i: moved(result, torch.device("cpu")) for i, result in found.items()}, group=group)
        for result in every:
            if error is None and isinstance(result, Exception):
                error = result
    if error is not None:
        raise error
    if world > 1:
        found = {i: moved(result, devices[i]) for of_rank in every for i, result in of_rank.items()}
    return [found[i] for i in range(len(names))]


def moved(result: T, device: torch.device) -> T:
    """A QuantizedWeight on a device; anything else as it is."""
    if not isinstance(result, QuantizedWeight):
        return result
    column_scale = None if result.column_scale is None else result.column_scale.to(device)
    return QuantizedWeight(result.symbols.to(device), result.scale.to(device), result.exponent, column_scale, result.trellis, result.shape, result.dtype)  # type: ignore[return-value]
