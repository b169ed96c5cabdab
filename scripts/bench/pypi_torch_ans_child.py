"""The far end of pypi_torch_ans.py: runs where `import torch_ans` means PyPI's torch-ans.

Reads one JSON command a line and answers with one JSON line; times are taken here. Imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
import torch_ans
from torch_ans.utils import TorchANSInterface


class Piece:
    """One array of symbols with its coder, whose table is made here, outside of what is timed. `device` is among the settings."""

    def __init__(self, symbols: torch.Tensor, settings: dict[str, Any]) -> None:
        device = settings.get("device", "cpu")
        self.symbols, self.indexes = symbols.to(device, torch.int32), torch.zeros(symbols.numel(), dtype=torch.int32, device=device)
        lowest = int(symbols.min())
        counts = torch.bincount(symbols.long() - lowest)
        self.coder = TorchANSInterface(bypass_coding=False, **{"device": "cpu", **settings})
        sizes, offsets = (torch.tensor([number], dtype=torch.int32) for number in (counts.numel(), lowest))
        self.coder.init_params(counts[None].float(), sizes, offsets)
        self.stream = self.input = self.decoded = torch.empty(0)

    def encode(self) -> None:
        self.stream = self.coder.encode(self.symbols, self.indexes)

    def decode(self) -> None:
        self.decoded = self.coder.decode(self.input, self.indexes)


def main() -> None:
    def tell(answer: Any) -> None:
        print(json.dumps(answer), flush=True)

    pieces: list[Piece] = []
    tell(torch_ans.__file__)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        if command == "load":
            path, settings, threads = arguments
            torch.set_num_threads(threads)
            with np.load(path) as arrays:
                pieces = [Piece(torch.from_numpy(arrays[name]), settings) for name in arrays.files]
            tell(len(pieces))
        elif command == "bytes":
            tell(sum(int(piece.stream[:, 0].sum()) for piece in pieces))  # a stream begins with its length
        elif command == "check":
            tell(all(torch.equal(piece.decoded, piece.symbols) for piece in pieces))
        else:
            if command == "decode":  # which consumes a stream
                for piece in pieces:
                    piece.input = piece.stream.clone()
            wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
            wait()
            begin = time.perf_counter()
            for piece in pieces:
                getattr(piece, command)()
            wait()
            tell(time.perf_counter() - begin)


main()
