"""Saving from all ranks of a process group at once: each encodes its share, rank 0 writes the file that `save` would write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from . import model, pipeline
from .entries import QuantizedMeta
from .errors import DistributedSaveError, InvalidArgumentError
from .ops import Encoded
from .pipeline import Options, Progress
from .records import EncodedPiece, bytes_to_host, to_host

# What ranks tell each other before each collective: failed or not, what has to be the same, a text.
_STATUS_BYTES, _SAME_BYTES = 1024, 32


def save_distributed(
    state_dict: Any,
    path: str | os.PathLike[str],
    group: dist.ProcessGroup | None = None,
    *,
    bits: int | None = None,
    verify: bool = False,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> int:
    """`save` by all ranks of a process group (default: the world) together; every rank calls it and has the same tensors. The
    file does not depend on the number of ranks. It is in place when the call returns, on any rank; the result is its size.

    Rank 0 of the group writes, and only its path, metadata, numbers and strings count; tensors' shapes and options must be
    equal everywhere. If a rank fails, all raise a DistributedSaveError that names it and its reason, and no file appears. If a
    rank dies or does not call, the others raise when the group notices, at the latest after the group's timeout; `rank` is then
    -1, as nobody can tell.
    """
    exchange = GroupExchange(group)
    settings = pipeline.agreed(exchange, lambda: Options(bits=bits, **options))
    compressed = model.compress(state_dict, settings, metadata, progress, exchange)

    def write() -> int:
        return 0 if compressed is None else model.write_model(compressed, path, state_dict, verify)

    size = torch.tensor([pipeline.agreed(exchange, write)], device=exchange.device)
    with exchange.collective("announcing the file"):
        dist.broadcast(size, group=group, group_src=0)
    return int(size)


class GroupExchange:
    """`pipeline.Exchange` over a process group: gloo, or NCCL with the tensors on this rank's GPU."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise InvalidArgumentError("there is no process group: call torch.distributed.init_process_group first, or use save")
        self.group = dist.group.WORLD if group is None else group
        self.rank = dist.get_rank(self.group)
        if self.rank < 0:
            raise InvalidArgumentError("this process does not belong to the group")
        self.world_size = dist.get_world_size(self.group)
        on_gpu = torch.device("cpu") not in self.group._device_types  # NCCL alone, however it was named
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")

    @contextlib.contextmanager
    def collective(self, what: str) -> Iterator[None]:
        """Whatever goes wrong in a collective is some rank's end."""
        try:
            yield
        except Exception as cause:
            raise DistributedSaveError(f"a rank that cannot be told died or did not take part in {what}: {cause}", -1) from cause

    def agree(self, error: Exception | None, same: bytes = b"", about: str = "") -> None:
        text = about if error is None else f"{type(error).__name__}: {error}"
        status = bytes([error is not None]) + same.ljust(_SAME_BYTES, b"\0") + text.encode(errors="replace")
        status = status[:_STATUS_BYTES].ljust(_STATUS_BYTES, b"\0")
        own = torch.frombuffer(bytearray(status), dtype=torch.uint8).to(self.device)
        everyone = own.new_empty(self.world_size * _STATUS_BYTES)
        with self.collective("the exchange of errors"):
            dist.all_gather_into_tensor(everyone, own, group=self.group)
        statuses = [row.numpy().tobytes() for row in everyone.cpu().view(self.world_size, _STATUS_BYTES)]
        texts = [status[1 + _SAME_BYTES :].rstrip(b"\0").decode(errors="replace") for status in statuses]
        for rank, status in enumerate(statuses):
            if status[0]:
                raise DistributedSaveError(f"rank {self._name(rank)} failed: {texts[rank]}", self._name(rank)) from error
        for rank, status in enumerate(statuses):
            if status[1 : 1 + _SAME_BYTES] != statuses[0][1 : 1 + _SAME_BYTES]:
                raise DistributedSaveError(
                    f"rank {self._name(rank)} saves other names, shapes or dtypes, or with other options, than "
                    f"rank {self._name(0)} ({texts[rank]}; rank {self._name(0)}: {texts[0]})",
                    self._name(rank),
                )

    def bounds(self, bounds: Tensor) -> Tensor:
        both = torch.stack([-bounds[:, 0], bounds[:, 1]], dim=1).to(self.device)
        with self.collective("the exchange of row scales"):
            dist.all_reduce(both, dist.ReduceOp.MAX, group=self.group)
        both = both.cpu()
        return torch.stack([-both[:, 0], both[:, 1]], dim=1)

    def total(self, counts: Sequence[Tensor]) -> list[Tensor]:
        joined = torch.cat([part.reshape(-1) for part in counts]).to(self.device)
        with self.collective("the exchange of counts"):
            dist.all_reduce(joined, dist.ReduceOp.SUM, group=self.group)
        parts = joined.cpu().split([part.numel() for part in counts])
        return [total.view(part.shape) for total, part in zip(parts, counts)]

    def gather(self, pieces: Mapping[int, EncodedPiece]) -> list[Mapping[int, EncodedPiece]]:
        # Rank 0 has no need to send its own. Over NCCL what was encoded on a GPU stays there until it is on rank 0.
        payload = pipeline.agreed(self, lambda: pack_pieces({} if self.rank == 0 else pieces, self.device))
        with self.collective("the collection of encoded tensors"):
            payloads = torch.ops.ans.gatherv(payload, self.group.group_name, 0)

        def unpacked() -> list[Mapping[int, EncodedPiece]]:
            if self.rank != 0:
                return []
            own = dict(zip(pieces, to_host(list(pieces.values()))))
            others = bytes_to_host(payloads[1:]) if self.device.type == "cuda" else payloads[1:]
            return [own, *map(unpack_pieces, others)]

        return pipeline.agreed(self, unpacked)

    def _name(self, rank: int) -> int:
        """Rank in the world of a rank of the group."""
        return dist.get_global_rank(self.group, rank)


# ---- pieces as bytes ----


def pack_pieces(pieces: Mapping[int, EncodedPiece], device: torch.device | str = "cpu") -> Tensor:
    """uint8 on `device`: how many numbers follow, the numbers (int64), then everything else, one after another."""
    numbers, parts = [len(pieces)], []
    for tensor, piece in pieces.items():
        rows = -1 if piece.scale is None else piece.scale.numel()
        record = [] if piece.record is None else piece.record
        meta = () if piece.meta is None else piece.meta
        numbers += [tensor, piece.form, piece.exponent, rows, len(piece.streams), len(record), len(meta), *(stream.numel() for stream in record), *meta]
        parts += record
        for prefix, stream in zip(piece.prefixes, piece.streams):
            numbers += [prefix.numel(), stream.payload.numel(), stream.directory.shape[0], *stream.directory.flatten().tolist()]
            parts += [prefix, stream.payload]
        if piece.scale is not None:
            parts.append(piece.scale.view(torch.uint8))
    head = torch.tensor([len(numbers), *numbers], dtype=torch.int64)
    return torch.cat([part.to(device) for part in (head.view(torch.uint8), *parts)])


def unpack_pieces(packed: Tensor) -> dict[int, EncodedPiece]:
    """What `pack_pieces` was given; payloads are views of `packed`."""
    count = int(packed[:8].view(torch.int64))
    numbers = iter(packed[8 : 8 + 8 * count].view(torch.int64).tolist())
    position = 8 + 8 * count

    def take(size: int) -> Tensor:
        nonlocal position
        position += size
        return packed[position - size : position]

    pieces = {}
    for _ in range(next(numbers)):
        tensor, form, exponent, rows, stream_count, record_count, meta_count = (next(numbers) for _ in range(7))
        record = [take(next(numbers)) for _ in range(record_count)] or None
        meta = [next(numbers) for _ in range(meta_count)]
        prefixes, streams = [], []
        for _ in range(stream_count):
            prefix_bytes, payload_bytes, chunks = (next(numbers) for _ in range(3))
            directory = torch.tensor([next(numbers) for _ in range(2 * chunks)], dtype=torch.int32).view(chunks, 2)
            prefixes.append(take(prefix_bytes))
            streams.append(Encoded(take(payload_bytes), directory))
        scale = None if rows < 0 else take(2 * rows).clone().view(torch.float16)  # clone: aligned
        pieces[tensor] = EncodedPiece(form, exponent, prefixes, streams, scale, record, QuantizedMeta(*meta) if meta else None)
    return pieces
