"""A small GPT as size contests train them (RMS norms, rotary positions, grouped queries, squared ReLU, skips from the first half of the layers to the second, tied embedding), from a file of weights or
trained here, byte by byte, for some minutes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from .text import source_bytes

HEAD = 64  # columns of an attention head


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],))


def rotate(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    angle = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), 10000.0 ** -(torch.arange(half) / half))
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v = (nn.Linear(width, h * HEAD, bias=False) for h in (heads, kv_heads, kv_heads))
        self.proj = nn.Linear(width, width, bias=False)
        self.q_gain = nn.Parameter(torch.full((heads,), 1.5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, HEAD)).transpose(1, 2) for layer in (self.c_q, self.c_k, self.c_v))
        q = rotate(norm(q)) * self.q_gain[:, None, None]
        y = F.scaled_dot_product_attention(q, rotate(norm(k)), v, is_causal=True, enable_gqa=True)
        return self.proj(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc, self.proj = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.relu(self.fc(x)).square())


class Block(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(width, heads, kv_heads), Mlp(width, hidden)
        self.attn_scale, self.mlp_scale = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.resid_mix = nn.Parameter(torch.stack([torch.ones(width), torch.zeros(width)]))

    def forward(self, x: Tensor, first: Tensor) -> Tensor:
        x = self.resid_mix[0] * x + self.resid_mix[1] * first
        x = x + self.attn_scale * self.attn(norm(x))
        return x + self.mlp_scale * self.mlp(norm(x))


class Gpt(nn.Module):
    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, kv_heads, hidden) for _ in range(layers))
        self.skip_weights = nn.Parameter(torch.ones(layers // 2, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        x = first = norm(self.tok_emb(tokens))
        skips, half = [], len(self.blocks) // 2
        for i, block in enumerate(self.blocks):
            if i >= len(self.blocks) - half:
                x = x + self.skip_weights[i - (len(self.blocks) - half)] * skips.pop()
            x = block(x, first)
            if i < half:
                skips.append(x)
        return 30 * torch.tanh(F.linear(norm(x), self.tok_emb.weight) / 30)


def from_file(path: Path) -> Gpt:
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    vocabulary, width = state["tok_emb.weight"].shape
    layers = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    heads, kv_heads = (state[f"blocks.0.attn.{name}.weight"].shape[0] // HEAD for name in ("c_q", "c_k"))
    model = Gpt(vocabulary, width, layers, heads, kv_heads, state["blocks.0.mlp.fc.weight"].shape[0])
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def sampled(model: Gpt, sequences: int, length: int, seed: int) -> Tensor:
    """Text of the model's own: tokens [sequences, length], where there is no other that it knows."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(model.tok_emb.num_embeddings, (sequences, 1), generator=generator)
    while tokens.shape[1] < length:
        chance = model(tokens)[:, -1].softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(chance, 1, generator=generator)], dim=1)
    return tokens


def trained(seconds: float, progress: Callable[[str], None]) -> tuple[Gpt, Tensor, Tensor]:
    """A model of bytes, trained for so long (AdamW); tokens for calibration and for evaluation, which it has not seen."""
    torch.manual_seed(0)
    length, batch = 256, 16
    data = torch.frombuffer(bytearray(source_bytes()), dtype=torch.uint8).long()
    cut = len(data) * 9 // 10
    model = Gpt(256, 256, 6, 4, 2, 768)
    nn.init.normal_(model.tok_emb.weight, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05)
    generator = torch.Generator().manual_seed(1)
    begin, step = time.monotonic(), 0
    while (passed := time.monotonic() - begin) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * min(1.0, 3 * (1 - passed / seconds) + 0.02)
        at = torch.randint(cut - length - 1, (batch,), generator=generator)
        x = torch.stack([data[i : i + length + 1] for i in at])
        loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            progress(f"step {step}, {passed:.0f} s: {loss.item() / math.log(2):.3f} bits per byte")
    held = data[cut : cut + 96 * length].view(-1, length)
    return model.eval(), data[: 128 * length].view(-1, length), held


@torch.no_grad()
def log_chances(model: Gpt, tokens: Tensor) -> Tensor:
    return torch.cat([model(part).log_softmax(-1) for part in tokens.split(16)])


def divergence(reference: Tensor, other: Tensor) -> float:
    """Mean Kullback-Leibler divergence of next-token distributions, in nats."""
    return float((reference.exp() * (reference - other)).sum(-1).mean())


def bits_per_token(chances: Tensor, tokens: Tensor) -> float:
    return float(F.nll_loss(chances[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())) / math.log(2)
