"""No damaged file does more than raise a named error, and memory stays within bounds."""

from __future__ import annotations

import collections
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch_ans
from container_forge import reseal
from model_examples import same
from torch_ans import errors
from torch_ans.entries import Kind
from torch_ans.errors import CorruptError, InvalidArgumentError, LimitExceededError


# ---- damage ----


def small_file():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(8, 70, generator=generator)
    tree = {
        "w": weight, "list": [torch.arange(90, dtype=torch.int16), (weight * 9).to(torch.int8)],
        "shared": weight, "b": torch.zeros(3), "flag": torch.tensor([True, False]),
        "bf": weight[:3].bfloat16(), "scale": weight[:, 0].half(), "c": torch.complex(weight[0, :5], weight[0, 5:10]),
    }  # fmt: skip
    ties = {"list.1": "scale"}
    return torch_ans.dumps(tree, bits=5, select=lambda name, tensor: name == "w", chunk_symbols=128, ties=ties, metadata={"a": 1})


def outcome(data):
    """Name of the error that reading everything raises, or "read"."""
    try:
        with torch_ans.open(data, max_bytes=1 << 20) as file:
            file.tree()
            for name in file:
                tensor = file.get_tensor(name)
                assert tensor.shape == file.get_shape(name) and tensor.dtype == file.get_dtype(name)
                if file.get_scale_name(name) is not None or file.entry(name).kind == Kind.QUANTIZED:
                    file.dequantize(name, torch.bfloat16)
    except (CorruptError, LimitExceededError) as error:
        assert type(error).__name__.removesuffix("Error") in errors.BY_NAME, repr(error)
        return type(error).__name__
    except InvalidArgumentError as error:
        assert "scales, which do not divide" in str(error)
        return "InvalidArgumentError"
    return "read"


def test_every_prefix_and_every_changed_byte_of_a_file_is_a_named_error():
    data = small_file()
    assert outcome(data) == "read"
    for size in range(len(data)):
        assert outcome(data[:size]) != "read"
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        assert outcome(bytes(damaged)) != "read"


def test_with_valid_checksums_damage_is_a_named_error_or_gives_tensors_of_the_declared_shape():
    data, outcomes = small_file(), collections.Counter()
    for position in range(len(data)):
        for value in {data[position] ^ 1 << position % 8, 0xFF} - {data[position]}:
            outcomes[outcome(reseal(data[:position] + bytes([value]) + data[position + 1 :]))] += 1
    rng = random.Random(1)
    for _ in range(1000):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            begin = rng.randrange(len(data))
            damaged[begin : begin + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        outcomes[outcome(reseal(bytes(damaged)))] += 1
    assert outcomes["read"] > 100 and len(outcomes) > 15, outcomes


def test_max_bytes_bounds_what_is_decoded():
    data = torch_ans.dumps({"zeros": torch.zeros(1 << 20)})
    assert len(data) < 200
    for read in (torch_ans.loads, torch_ans.open, torch_ans.decompress_model):
        with pytest.raises(LimitExceededError, match="4194304"):
            read(data, max_bytes=1 << 20)
    assert same(torch_ans.loads(data), {"zeros": torch.zeros(1 << 20)})


# ---- memory ----


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("bits", [6, None], ids=["quantized", "exact"])
def test_memory_stays_near_input_output_and_the_largest_tensor(bits):
    """In a process of its own, whose memory nothing else has enlarged."""
    script = f"""
        import gc, torch, torch_ans
        torch.set_num_threads(1)
        def memory(what):
            return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(what)).split()[1])
        def peak(work):
            gc.collect()
            open("/proc/self/clear_refs", "w").write("5")  # resets the peak
            before = memory("VmRSS")
            result = work()
            return result, memory("VmHWM") - before
        small = {{"w": torch.randn(300, 300)}}
        torch_ans.decompress_model(torch_ans.compress_model(small, {bits}))  # what a first call allocates for good
        tree = {{str(i): torch.randn(n, 1024).mul_(0.02) for i, n in enumerate((16000, 6000, 6000))}}
        largest = 16000 * 1024 * {1 if bits else 4}
        compressed, used = peak(lambda: torch_ans.compress_model(tree, {bits}))
        output, total = compressed.file_bytes, sum(t.nbytes for t in tree.values())
        assert used < output + largest + 0.1 * (total + output + largest), (used, output, largest)
        back, used = peak(lambda: torch_ans.decompress_model(compressed))
        assert used < total + largest + 0.1 * (total + output + largest), (used, total, largest)
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
