"""One rank of the processes that test_distributed.py starts: `torchrun distributed_worker.py SCENARIO FOLDER`, or, faster, with
`--fork N` in place of torchrun: imports torch once, then becomes N ranks.

A rank writes what it saw to FOLDER/rank<N>.json: the outcome of each save, by name.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
import torch_ans
from torch_ans.errors import DistributedSaveError, InvalidArgumentError

TIMEOUT_S = 20


def example(seed=0):
    """A model of everything: a large embedding, matrices, a convolution, integers with a tied scale, shared and empty tensors."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, dtype=torch.float32):
        return (torch.randn(shape, generator=generator) * 0.05).to(dtype)

    embedding = normal(9000, 96)
    state = {"embedding": embedding, "step": 7, "empty": torch.zeros(0, 4), "scalar": torch.tensor(2.5)}
    for i in range(3):
        state[f"layer.{i}"] = {
            "weight": normal(96, 96, dtype=torch.bfloat16), "bias": normal(96), "conv": normal(32, 16, 3, 3),
            "q": (normal(64, 96) * 100).to(torch.int8), "scale": normal(64, dtype=torch.float16).abs(),
        }  # fmt: skip
    state["wide"] = normal(1, 90000, dtype=torch.float64)
    state["signal"] = torch.complex(normal(20000), normal(20000))
    state["ids"] = (normal(150000) * 3000).to(torch.int16)
    state["head"] = embedding
    symbols = (normal(40, 70) * 9000).to(torch.int16)
    state["grid"] = torch_ans.QuantizedWeight(symbols, normal(40).abs().half(), -3, (normal(70) * 300).to(torch.int8), 0, (40, 70), torch.float32)
    state["grid again"] = state["grid"]
    return state


OPTIONS = {
    "exact": {"chunk_symbols": 4096},
    "predicted": {"bits": 6, "min_quantized_numel": 2000, "level": "best"},
    "trellis": {"quantizer": "trellis8", "bits_per_weight": 3.0, "min_quantized_numel": 2000},
    "quantized": {"bits": 6, "chunk_symbols": 2000, "min_quantized_numel": 2000, "ties": (".q", ".scale")},
}


class Recorder:
    """Saves, and notes how that went."""

    def __init__(self, folder):
        self.folder, self.outcomes = Path(folder), {}

    def save(self, name, state, group=None, path=None, **options):
        begin = time.monotonic()
        outcome = {"path": str(path or self.folder / f"{name}.ans")}
        try:
            outcome["size"] = torch_ans.save_distributed(state, outcome["path"], group, **options)
            outcome["size_on_return"] = os.path.getsize(outcome["path"])
        except DistributedSaveError as error:
            outcome |= {"rank": error.rank, "message": str(error)}
        outcome["seconds"] = time.monotonic() - begin
        self.outcomes[name] = outcome

    def finish(self, rank):
        (self.folder / f"rank{rank}.json").write_text(json.dumps(self.outcomes))


def raising(error):
    def select(name, tensor):
        raise error

    return select


def same_bytes(recorder, rank):
    """Worlds of 1, 2, 3 and 8 of these 8 ranks, and one whose rank 0 is another."""
    for ranks in ([0], [0, 1], [0, 1, 2], list(range(8)), [5, 2, 7]):
        group = dist.new_group(ranks)
        for name, options in OPTIONS.items():
            if rank in ranks:
                recorder.save(f"{name}-{'-'.join(map(str, ranks))}", example(), group, **options)
        if rank not in ranks:
            try:
                torch_ans.save_distributed({}, recorder.folder / "stranger.ans", group)
            except InvalidArgumentError as error:
                assert "does not belong to the group" in str(error)
            else:
                raise AssertionError("saved with a group of others")
    recorder.save("one", {"only": torch.arange(5)})
    recorder.save("nothing", {})
    recorder.save("verified", example(), verify=True, metadata={"a": [1]}, **OPTIONS["quantized"])


def failures(recorder, rank):
    """One rank fails in every way there is, and afterwards all is well."""
    state = example()
    quantized = OPTIONS["quantized"]
    for failing in (0, 2):
        mine = rank == failing
        recorder.save(f"select-{failing}", state, **quantized | {"select": raising(MemoryError("no memory")) if mine else None})
        recorder.save(f"options-{failing}", state, **quantized | {"bits": 1 if mine else 6})
        recorder.save(f"type-{failing}", state | {"odd": object() if mine else 1}, **quantized)
        recorder.save(f"metadata-{failing}", state, metadata={"a": {1}} if mine else None, **quantized)
        recorder.save(f"progress-{failing}", state, progress=raising(ValueError("stop")) if mine else None, **quantized)
    broken = example()
    broken["embedding"][8990, 5] = float("nan")  # in the share of a later rank
    recorder.save("nan", broken, **quantized)
    del broken["embedding"], broken["head"]
    broken["layer.2"]["weight"][3, 3] = float("inf")
    recorder.save("inf", broken, **quantized)
    recorder.save("folder", state, path=recorder.folder / "no" / "such.ans", **quantized)
    recorder.save("directory", state, path=recorder.folder, **quantized)
    recorder.save("shape", state | ({"scalar": torch.zeros(2)} if rank == 1 else {}), **quantized)
    recorder.save("bits", state, **quantized | ({"bits": 5} if rank == 2 else {}))
    recorder.save("fewer", {"step": 1} if rank == 1 else state, **quantized)
    recorder.save("well", state, **quantized)


def killed(recorder, rank):
    """Rank 1 dies while it encodes."""

    def die(name, size):
        os.kill(os.getpid(), signal.SIGKILL)

    recorder.save("killed", example(), progress=die if rank == 1 else None, **OPTIONS["quantized"])


def killed_early(recorder, rank):
    """Rank 0 dies before anything is exchanged."""

    def die(name, tensor):
        os.kill(os.getpid(), signal.SIGKILL)

    recorder.save("killed", example(), select=die if rank == 0 else None, **OPTIONS["quantized"])


def absent(recorder, rank):
    """Rank 1 does not call, but lives."""
    if rank == 1:
        time.sleep(8)
    else:
        recorder.save("absent", example())


def large_example():
    """As large as a small transformer: 23 million weights."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"embeddings": (30522, 384), **{f"{i}.{j}": (384, 384) for i in range(6) for j in range(4)}}
    shapes |= {f"{i}.up": (1536, 384) for i in range(6)} | {f"{i}.down": (384, 1536) for i in range(6)}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    return {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}


def large(recorder, rank):
    """Eight ranks, in earnest."""
    recorder.save("exact", large_example())
    recorder.save("quantized", large_example(), bits=6)


def checkpoint(recorder, rank):
    """Under torchrun."""
    for name, options in OPTIONS.items():
        recorder.save(name, example(), **options)


SCENARIOS = {function.__name__: function for function in (same_bytes, large, failures, killed, killed_early, absent, checkpoint)}


def run_rank(scenario, folder, rank, world_size, init_method):
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=3 if scenario == "absent" else TIMEOUT_S)
    dist.init_process_group("gloo", init_method=init_method, rank=rank, world_size=world_size, timeout=timeout)
    recorder = Recorder(folder)
    SCENARIOS[scenario](recorder, rank)
    recorder.finish(rank)
    os._exit(0)  # a group of which a rank died does not end in an orderly way


def main():
    if sys.argv[1] != "--fork":
        run_rank(*sys.argv[1:3], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "env://")
    world_size, scenario, folder = int(sys.argv[2]), *sys.argv[3:]
    children = []
    for rank in range(world_size):
        if (child := os.fork()) == 0:
            try:
                run_rank(scenario, folder, rank, world_size, f"file://{folder}/rendezvous")
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    (Path(folder) / "codes.json").write_text(json.dumps(codes))
    sys.exit(1 in codes)


if __name__ == "__main__":
    main()
