#!/usr/bin/env python3
"""A small GPT from training to an artifact, as size contests do it: Muon and Adam, an average of weights (EMA), GPTQ, a file of so many bytes, and its score after it has been read back.

    USE_ANS=1 torchrun --standalone --nproc_per_node=8 scripts/train_gpt_ans.py       torch_ans: fit, save_distributed, load on all ranks
    USE_ANS=0 torchrun --standalone --nproc_per_node=8 scripts/train_gpt_ans.py       as it is usually done: GPTQ to int6 at CLIP_SIGMAS, torch.save, Brotli

Environment (defaults): RUN_ID (gpt), DATA_PATH (a file of text, or a folder of *.txt; none: Python's standard library), VOCAB_SIZE (256: bytes; more: byte-level BPE, needs `tokenizers`),
MODEL_DIM (256), NUM_LAYERS (6), NUM_HEADS (4), NUM_KV_HEADS (2), MLP_DIM (768), TRAIN_SEQ_LEN (256), TRAIN_BATCH_TOKENS (16384, of all ranks), ITERATIONS (400),
MAX_WALLCLOCK_SECONDS (600), MUON_LR (0.02), ADAM_LR (0.003), EMA_DECAY (0.99), VAL_TOKENS (131072), SEED (1337), COMPILE (0), CLIP_SIGMAS (12.85), BUDGET_BYTES (of the artifact; default 16,000,000 less
this script's size), LEVEL (best), SURVIVORS (4), OUT_DIR (build/train). On GPUs: NCCL, bfloat16. RUN_ID and all settings with the same OUT_DIR share one trained model: a second run only quantizes.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import torch_ans
from evaluation.gpt import Gpt
from evaluation.text import source_bytes
from torch_ans import gptq


LEAST_WEIGHTS = 8192


def is_quantized(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and tensor.numel() >= LEAST_WEIGHTS


class Settings:
    def __init__(self) -> None:
        def integer(name: str, default: int) -> int:
            return int(os.environ.get(name, default))

        def number(name: str, default: float) -> float:
            return float(os.environ.get(name, default))

        self.run_id, self.use_ans = os.environ.get("RUN_ID", "gpt"), bool(integer("USE_ANS", 1))
        self.data_path, self.vocabulary = os.environ.get("DATA_PATH"), integer("VOCAB_SIZE", 256)
        self.width, self.layers, self.heads, self.kv_heads = integer("MODEL_DIM", 256), integer("NUM_LAYERS", 6), integer("NUM_HEADS", 4), integer("NUM_KV_HEADS", 2)
        self.hidden, self.length, self.batch_tokens = integer("MLP_DIM", 768), integer("TRAIN_SEQ_LEN", 256), integer("TRAIN_BATCH_TOKENS", 16384)
        self.iterations, self.most_seconds = integer("ITERATIONS", 400), number("MAX_WALLCLOCK_SECONDS", 600)
        self.muon_lr, self.adam_lr, self.ema_decay = number("MUON_LR", 0.02), number("ADAM_LR", 0.003), number("EMA_DECAY", 0.99)
        self.val_tokens, self.seed, self.compile = integer("VAL_TOKENS", 131072), integer("SEED", 1337), bool(integer("COMPILE", 0))
        self.clip_sigmas, self.level, self.survivors = number("CLIP_SIGMAS", 12.85), os.environ.get("LEVEL", "best"), integer("SURVIVORS", 4)
        self.budget = integer("BUDGET_BYTES", 16_000_000 - Path(__file__).stat().st_size)
        self.folder = Path(os.environ.get("OUT_DIR", "build/train"))


# ---- ranks ----


def start() -> tuple[int, int, torch.device]:
    if "RANK" not in os.environ:
        sys.exit(f"{Path(__file__).name}: start it by torchrun --standalone --nproc_per_node=8 {Path(__file__).name}")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        device = torch.device("cpu")
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
        dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size(), device


def say(text: str) -> None:
    if dist.get_rank() == 0:
        print(text, flush=True)


# ---- data ----


def tokens_of(s: Settings) -> tuple[Tensor, float]:
    """Tokens, and bytes of text per token."""
    if s.data_path is None:
        text = source_bytes()
    else:
        path = Path(s.data_path)
        text = b"".join(p.read_bytes() for p in sorted(path.glob("*.txt"))) if path.is_dir() else path.read_bytes()
    if s.vocabulary == 256:
        return torch.frombuffer(bytearray(text), dtype=torch.uint8).long(), 1.0
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    parts = [text[i : i + 65536].decode(errors="replace") for i in range(0, len(text), 65536)]
    tokenizer.train_from_iterator(parts, vocab_size=s.vocabulary, show_progress=False)
    tokens = [t for part in tokenizer.encode_batch(parts) for t in part.ids]
    return torch.tensor(tokens), len(text) / len(tokens)


# ---- training ----


def train(model: Gpt, tokens: Tensor, s: Settings, device: torch.device) -> dict[str, Tensor]:
    """The average of weights over the last steps."""
    rank, world = dist.get_rank(), dist.get_world_size()
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "tok_emb" not in name and p.shape[0] > 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    optimizers = [torch.optim.Muon(matrices, lr=s.muon_lr, weight_decay=0.01, momentum=0.95), torch.optim.Adam(others, lr=s.adam_lr, betas=(0.9, 0.95))]
    initial = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    run = torch.compile(model) if s.compile else model
    generator = torch.Generator().manual_seed(s.seed + rank)
    sequences = max(1, s.batch_tokens // (s.length * world))
    begin = time.monotonic()
    for step in range(s.iterations):
        passed = torch.tensor([time.monotonic() - begin], device=device)
        dist.broadcast(passed, 0)  # rank 0's clock counts
        done = max(step / s.iterations, float(passed) / s.most_seconds)
        if done >= 1:
            break
        factor = min(1.0, (step + 1) / 20) * min(1.0, 2.5 * (1 - done) + 0.02)
        for optimizer, rates in zip(optimizers, initial):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * factor
        at = torch.randint(len(tokens) - s.length - 1, (sequences,), generator=generator)
        x = torch.stack([tokens[i : i + s.length + 1] for i in at]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = F.cross_entropy(run(x[:, :-1]).flatten(0, 1).float(), x[:, 1:].flatten())
        loss.backward()
        for p in model.parameters():
            dist.all_reduce(p.grad)
            p.grad /= world
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        decay = min(s.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, p in model.named_parameters():
                average[name].lerp_(p, 1 - decay)
        if (step + 1) % 50 == 0 or step == 0:
            say(f"step {step + 1}: {loss.item() / math.log(2):.3f} bits per token, {time.monotonic() - begin:.0f} s")
    return average


@torch.no_grad()
def bits_per_byte(model: nn.Module, held: Tensor, s: Settings, bytes_per_token: float, device: torch.device) -> float:
    """Of held-out text, each rank a share; sums in float64."""
    sequences = held[: len(held) // (s.length + 1) * (s.length + 1)].view(-1, s.length + 1)[dist.get_rank() :: dist.get_world_size()]
    total = torch.zeros(2, dtype=torch.float64, device=device)
    for part in sequences.split(16):
        part = part.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(part[:, :-1])
        total[0] += F.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten(), reduction="sum").double()
        total[1] += part[:, 1:].numel()
    dist.all_reduce(total)
    return float(total[0] / total[1]) / math.log(2) / bytes_per_token


# ---- artifacts ----


def write_ans(path: Path, state: Mapping[str, Tensor], hessians: Mapping[str, Tensor], s: Settings, told: dict[str, float]) -> dict[str, Tensor]:
    """Writes the artifact; returns what it must decode to."""
    begin = time.perf_counter()
    fitted = torch_ans.fit(dict(state), s.budget, hessians=hessians, level=s.level, survivors=s.survivors, min_quantized_numel=LEAST_WEIGHTS, progress=say)
    told["quantize_seconds"] = time.perf_counter() - begin
    begin = time.perf_counter()
    size = torch_ans.save_distributed(dict(state) | dict(fitted.quantized), path, level=s.level)
    told["serialize_seconds"] = time.perf_counter() - begin
    assert size == fitted.file_bytes, "all ranks together write another file than one"
    say(fitted.table())
    return {name: fitted.quantized[name].dequantize() if name in fitted.quantized else tensor for name, tensor in state.items()}


def write_brotli(path: Path, state: Mapping[str, Tensor], hessians: Mapping[str, Tensor], s: Settings, told: dict[str, float]) -> dict[str, Tensor]:
    """int6 symbols of GPTQ, scales of rows, the rest as float16, in torch's format, by Brotli."""
    import brotli

    begin = time.perf_counter()
    quantized = gptq.quantize_model(state, hessians, "uniform", step_sigmas=s.clip_sigmas / 31, scale_columns=False, rounds=0)
    embeddings = {name: torch_ans.quantize_weight(w, "uniform", step_sigmas=s.clip_sigmas / 31) for name, w in state.items() if is_quantized(w) and name not in quantized}
    quantized |= embeddings
    told["quantize_seconds"] = time.perf_counter() - begin
    begin = time.perf_counter()
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in quantized:
            q = quantized[name]
            result[f"{name}.q"], result[f"{name}.scale"] = q.symbols.cpu().clamp(-31, 31).to(torch.int8), torch.ldexp(q.scale.float(), torch.tensor(q.exponent)).half().cpu()
        else:
            result[name] = tensor.cpu()
    if dist.get_rank() == 0:
        buffer = io.BytesIO()
        torch.save(result, buffer)
        path.write_bytes(brotli.compress(buffer.getvalue(), quality=11, lgwin=24))
    dist.barrier()
    told["serialize_seconds"] = time.perf_counter() - begin
    return _from_brotli(result, state)


def read_brotli(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    import brotli

    return _from_brotli(torch.load(io.BytesIO(brotli.decompress(path.read_bytes()))), state)


def _from_brotli(result: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (result[f"{name}.q"].float() * result[f"{name}.scale"].float()[:, None]).to(tensor.device, tensor.dtype) if f"{name}.q" in result else result[name].to(tensor.device)
        for name, tensor in state.items()
    }


def main() -> int:
    s = Settings()
    _, world, device = start()
    torch.manual_seed(s.seed)
    tokens, bytes_per_token = tokens_of(s)
    cut = len(tokens) - s.val_tokens
    if cut < 2 * s.val_tokens:
        sys.exit(f"{Path(__file__).name}: {len(tokens)} tokens are too few for VAL_TOKENS={s.val_tokens}")
    model = Gpt(s.vocabulary, s.width, s.layers, s.heads, s.kv_heads, s.hidden)
    nn.init.normal_(model.tok_emb.weight, std=0.02)
    model.to(device)
    s.folder.mkdir(parents=True, exist_ok=True)
    kept = s.folder / f"{s.run_id}.trained.ans"
    if kept.exists():
        average = torch_ans.load(kept, device=device)
        say(f"trained before: {kept}")
    else:
        average = train(model, tokens[:cut], s, device)
        torch_ans.save_distributed(average, kept)
    # What is not quantized is kept in 16 bits, as its community does.
    state = {name: tensor if is_quantized(tensor) else tensor.half().float() for name, tensor in average.items()}
    passed_through = {name for name, tensor in state.items() if not is_quantized(tensor)}
    model.load_state_dict(state)
    model.eval()
    told: dict[str, float] = {"bpb_float": bits_per_byte(model, tokens[cut:], s, bytes_per_token, device)}

    generator = torch.Generator().manual_seed(s.seed)
    starts = torch.randint(cut - s.length, (16 * world,), generator=generator)[dist.get_rank() :: world]
    hessians = gptq.collect_hessians(model, [tokens[i : i + s.length][None].to(device) for i in starts])

    path = s.folder / f"{s.run_id}.{'ans' if s.use_ans else 'ptz'}"
    small = {name: tensor.half() if name in passed_through else tensor for name, tensor in state.items()}
    expected = (write_ans if s.use_ans else write_brotli)(path, small, hessians, s, told)
    model.load_state_dict({name: tensor.float() for name, tensor in expected.items()})
    told["bpb_quantized"] = bits_per_byte(model, tokens[cut:], s, bytes_per_token, device)
    begin = time.perf_counter()
    loaded = torch_ans.load(path, device=device) if s.use_ans else read_brotli(path, small)
    told["load_seconds"] = time.perf_counter() - begin
    assert all(torch.equal(loaded[name], expected[name]) for name in expected), "the artifact does not decode to what was quantized"
    model.load_state_dict({name: tensor.float() for name, tensor in loaded.items()})
    told["bpb_reloaded"] = bits_per_byte(model, tokens[cut:], s, bytes_per_token, device)
    assert told["bpb_reloaded"] == told["bpb_quantized"], "the reloaded model scores otherwise"
    told |= {"artifact_bytes": path.stat().st_size, "code_bytes": Path(__file__).stat().st_size, "weights": sum(p.numel() for p in model.parameters()), "ranks": world}
    say(json.dumps({"run": s.run_id, "use_ans": s.use_ans, **told}))
    if dist.get_rank() == 0:
        (s.folder / f"{s.run_id}.{'ans' if s.use_ans else 'ptz'}.json").write_text(json.dumps(told, indent=1) + "\n")
    dist.barrier()  # torchrun stops all others when one has ended
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # gloo's threads may outlive the group, and abort a process that is on its ordinary way out ("terminate called without an active exception", once in many runs)
