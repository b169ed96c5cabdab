"""`torch.ops.ans.gatherv`: unequal payloads of all ranks to one of them, over any backend of torch.distributed."""

import torch
import torch.distributed as dist
from torch import Tensor


def _group(name: str) -> dist.ProcessGroup:
    from torch.distributed.distributed_c10d import _resolve_process_group

    return _resolve_process_group(name)


# Not torch.library.custom_op: that imports torch._dynamo at the first call, which takes seconds that a job has better use for.
torch.library.define("ans::gatherv", "(Tensor payload, str group_name, int dst) -> Tensor[]")


@torch.library.impl("ans::gatherv", "CompositeExplicitAutograd")
def gatherv(payload: Tensor, group_name: str, dst: int) -> list[Tensor]:
    """Collects the `payload` (1-D, same dtype on all ranks, any length, also 0) of every rank of a group on its rank `dst` (a rank of the group, not
    of the world). Returns all payloads in order of ranks there, and an empty list elsewhere. The tensors stay on their device; the sizes are
    exchanged first, with one synchronisation of the host."""
    if payload.dim() != 1:
        raise ValueError("ans::gatherv: [InvalidArgument] payload is not one-dimensional")
    group = _group(group_name)
    rank, world_size = group.rank(), group.size()
    if not 0 <= dst < world_size:
        raise ValueError(f"ans::gatherv: [InvalidArgument] dst is {dst}, but the group has {world_size} ranks")
    payload = payload.contiguous()
    size = torch.tensor([payload.numel()], device=payload.device)
    sizes = size.new_empty(world_size)
    dist.all_gather_into_tensor(sizes, size, group=group)
    sizes = sizes.tolist()
    if rank != dst:
        out = []
        transfers = [dist.P2POp(dist.isend, payload, group=group, group_peer=dst)] if sizes[rank] else []
    else:
        out = [payload.clone() if i == rank else payload.new_empty(sizes[i]) for i in range(world_size)]
        transfers = [dist.P2POp(dist.irecv, out[i], group=group, group_peer=i) for i in range(world_size) if i != rank and sizes[i]]
    # A batch on both sides: NCCL runs batches over the group's own communicator, and a single send over another one, of the pair,
    # where a batch would wait for it for ever.
    for work in dist.batch_isend_irecv(transfers) if transfers else []:
        work.wait()
    return out


@torch.library.register_fake("ans::gatherv")
def _(payload, group_name, dst):
    group = _group(group_name)
    if group.rank() != dst:
        return []
    context = torch.library.get_ctx()
    return [payload.new_empty((context.new_dynamic_size(),)) for _ in range(group.size())]
