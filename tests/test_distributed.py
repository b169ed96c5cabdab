"""`save_distributed` on real process groups: the same bytes for any number of ranks, and no rank left behind when one fails."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch_ans
from distributed_worker import OPTIONS, TIMEOUT_S, example, large_example
from torch_ans import distributed
from torch_ans.entries import QuantizedMeta
from torch_ans.errors import DistributedSaveError, InvalidArgumentError
from torch_ans.ops import Encoded
from torch_ans.records import EncodedPiece

WORKER = Path(__file__).with_name("distributed_worker.py")
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not hasattr(os, "fork"), reason="needs torch.distributed and fork"
)


def run(command, folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    return {int(file.stem[4:]): json.loads(file.read_text()) for file in Path(folder).glob("rank*.json")}


def run_forked(world_size, scenario, folder):
    """Outcomes by rank, and the exit codes of all ranks."""
    outcomes = run([WORKER, "--fork", str(world_size), scenario, str(folder)], folder)
    return outcomes, json.loads((folder / "codes.json").read_text())


@functools.cache
def alone(name):
    return torch_ans.dumps(example(), **OPTIONS[name])


def leftovers(folder):
    return [file.name for file in folder.iterdir() if file.suffix == ".tmp" or file.suffix == ".ans"]


def test_worlds_of_1_2_3_and_8_write_the_file_that_one_process_writes(tmp_path):
    outcomes, codes = run_forked(8, "same_bytes", tmp_path)
    assert codes == [0] * 8
    for rank, by_name in outcomes.items():
        for name, outcome in by_name.items():
            assert "message" not in outcome, (rank, name, outcome)
            assert outcome["size"] == outcome["size_on_return"], (rank, name, outcome)
    for ranks in ("0", "0-1", "0-1-2", "0-1-2-3-4-5-6-7", "2-5-7"):
        for name in OPTIONS:
            if ranks != "2-5-7":
                assert (tmp_path / f"{name}-{ranks}.ans").read_bytes() == alone(name), (name, ranks)
    for name in OPTIONS:
        assert (tmp_path / f"{name}-5-2-7.ans").read_bytes() == alone(name)
    assert (tmp_path / "one.ans").read_bytes() == torch_ans.dumps({"only": torch.arange(5)})
    assert (tmp_path / "nothing.ans").read_bytes() == torch_ans.dumps({})
    assert (tmp_path / "verified.ans").read_bytes() == torch_ans.dumps(example(), metadata={"a": [1]}, **OPTIONS["quantized"])


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_a_model_of_23_million_weights_is_the_same_file(world_size, tmp_path):
    outcomes, codes = run_forked(world_size, "large", tmp_path)
    assert codes == [0] * world_size and "message" not in str(outcomes)
    assert (tmp_path / "exact.ans").read_bytes() == torch_ans.dumps(large_example())
    assert (tmp_path / "quantized.ans").read_bytes() == torch_ans.dumps(large_example(), bits=6)


def test_rank_that_fails_is_named_by_all_and_nothing_is_left(tmp_path):
    outcomes, codes = run_forked(3, "failures", tmp_path)
    assert codes == [0] * 3 and sorted(outcomes) == [0, 1, 2]
    expected = {
        "nan": (None, "NotFiniteError: 'embedding' cannot be quantized"),
        "inf": (None, "NotFiniteError: 'layer.2.weight' cannot"),
    }
    for rank in (0, 2):
        expected[f"select-{rank}"] = rank, "MemoryError: no memory"
        expected[f"options-{rank}"] = rank, "InvalidArgumentError: bits is 1"
        expected[f"type-{rank}"] = rank, "['odd'] is a builtins.object, which cannot be saved"
        expected[f"progress-{rank}"] = rank, "ValueError: stop"
    expected["metadata-0"] = 0, "metadata cannot be written as JSON"
    expected["folder"] = 0, "FileNotFoundError"
    expected["directory"] = 0, "not a regular file"
    expected["shape"] = 1, "other names, shapes or dtypes"
    expected["bits"] = 2, "other options"
    expected["fewer"] = 1, "0 tensors of 0 elements"
    for by_name in outcomes.values():
        assert set(by_name) == {*expected, "metadata-2", "well"}
        assert "size" in by_name["metadata-2"] and "size" in by_name["well"]  # only rank 0's metadata count
        for name, (culprit, reason) in expected.items():
            outcome = by_name[name]
            assert "message" in outcome, (name, outcome)
            assert reason in outcome["message"], (name, outcome)
            assert culprit is None or outcome["rank"] == culprit, (name, outcome)
            assert f"rank {outcome['rank']}" in outcome["message"] and outcome["seconds"] < TIMEOUT_S / 2
    for name in ("nan", "inf"):
        assert len({by_name[name]["rank"] for by_name in outcomes.values()}) == 1
    assert outcomes[0]["nan"]["rank"] > 0  # the end of the embedding is not rank 0's
    assert sorted(leftovers(tmp_path)) == ["metadata-2.ans", "well.ans"] and (tmp_path / "well.ans").read_bytes() == alone(
        "quantized"
    )


@pytest.mark.parametrize(("scenario", "victim"), [("killed", 1), ("killed_early", 0)])
def test_when_a_rank_is_killed_the_others_raise_in_time(scenario, victim, tmp_path):
    outcomes, codes = run_forked(3, scenario, tmp_path)
    assert codes[victim] == -9 and sorted(outcomes) == [rank for rank in range(3) if rank != victim]
    for by_name in outcomes.values():
        assert by_name["killed"]["rank"] == -1 and "died" in by_name["killed"]["message"]
        assert by_name["killed"]["seconds"] < TIMEOUT_S + 5
    assert leftovers(tmp_path) == []


def test_when_a_rank_does_not_call_the_others_raise_after_the_timeout_of_the_group(tmp_path):
    outcomes, _ = run_forked(3, "absent", tmp_path)
    for rank in (0, 2):
        assert outcomes[rank]["absent"]["rank"] == -1 and outcomes[rank]["absent"]["seconds"] < 10
    assert leftovers(tmp_path) == []


def test_under_torchrun(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    outcomes = run([*launcher, str(WORKER), "checkpoint", str(tmp_path)], tmp_path)
    assert sorted(outcomes) == [0, 1]
    for name in OPTIONS:
        assert (tmp_path / f"{name}.ans").read_bytes() == alone(name)


def test_without_a_process_group_the_error_says_so(tmp_path):
    with pytest.raises(InvalidArgumentError, match="init_process_group"):
        torch_ans.save_distributed({}, tmp_path / "m.ans")


def test_pieces_survive_being_packed():
    def stream(payload, chunks):
        directory = torch.randint(0, 1 << 20, (chunks, 2), dtype=torch.int32)
        return Encoded(torch.randint(0, 256, (payload,), dtype=torch.uint8), directory)

    pieces = {
        5: EncodedPiece(1, 0, [torch.tensor([0], dtype=torch.uint8)] * 2, [stream(0, 0), stream(7, 3)], None),
        2: EncodedPiece(0, -17, [torch.arange(9, dtype=torch.uint8)], [stream(11, 1)], torch.randn(5).half()),
        9: EncodedPiece(0, 3, [torch.arange(2, dtype=torch.uint8)], [stream(3, 2)], torch.zeros(0).half()),
        7: EncodedPiece(2, 5, [], [], None, [torch.arange(n, dtype=torch.uint8) for n in (4, 0, 7)], QuantizedMeta(70, 16, -3, 1)),
    }
    for some in ({}, pieces):
        back = distributed.unpack_pieces(distributed.pack_pieces(some))
        assert list(back) == list(some)
        for number, piece in some.items():
            other = back[number]
            assert (piece.form, piece.exponent, piece.meta) == (other.form, other.exponent, other.meta) and all(
                map(torch.equal, piece.prefixes, other.prefixes)
            )
            for one, two in zip(piece.streams, other.streams, strict=True):
                assert torch.equal(one.payload, two.payload) and torch.equal(one.directory, two.directory)
            assert (piece.scale is None) == (other.scale is None) and (piece.record is None) == (other.record is None)
            assert all(map(torch.equal, piece.record or [], other.record or []))
            assert piece.scale is None or torch.equal(piece.scale, other.scale) and piece.scale.dtype == other.scale.dtype


def test_error_keeps_its_rank_when_pickled():
    import pickle

    error = pickle.loads(pickle.dumps(DistributedSaveError("rank 3 failed", 3)))
    assert error.rank == 3 and str(error) == "rank 3 failed"
