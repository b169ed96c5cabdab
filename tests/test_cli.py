"""The command line: what goes in comes out, errors are one line with a name, and exit codes tell data from usage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import torch_ans
from torch_ans import cli

ROOT = Path(__file__).resolve().parent.parent
NUMPY_DTYPES = "bool u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 c8 c16".split()


def run(*arguments: object) -> int:
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as ended:  # argparse
        return int(ended.code or 0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(1)
    path = tmp_path / "model.safetensors"
    tensors = {"layer.weight": torch.randn(300, 256, generator=generator), "layer.bias": torch.randn(300, generator=generator)}
    save_file(tensors, path, metadata={"format": "pt", "who": "me"})
    return path


def same_arrays(a: Path, b: Path) -> None:
    with np.load(a) as left, np.load(b) as right:
        assert left.files == right.files
        for name in left.files:
            x, y = left[name], right[name]
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), name


# ---- round trips ----


def test_npz_comes_back_with_names_dtypes_and_every_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"{dtype}/{shape}": (rng.normal(size=shape) * 9).astype(dtype) for dtype in NUMPY_DTYPES for shape in [(), (0, 3), (40, 7)]}
    arrays |= {"file": np.arange(3), "allow_pickle": np.zeros(2), "a.b.0": rng.integers(-31, 32, (64, 300)).astype(np.int8)}
    arrays["nan"] = np.array([np.nan, -0.0, np.inf], dtype=np.float32)
    source = tmp_path / "in.npz"
    with zipfile.ZipFile(source, "w") as archive:  # numpy.savez would take the names of its own arguments
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, array)
    assert run("compress", source, "-o", tmp_path / "m.ans", "--verify") == 0
    assert run("decompress", tmp_path / "m.ans", "-o", tmp_path / "out.npz") == 0
    same_arrays(source, tmp_path / "out.npz")


@pytest.mark.parametrize("options", [[], ["--chunk-symbols", "1000"]])
def test_safetensors_comes_back_with_its_metadata(tmp_path: Path, weights: Path, options: list[str]) -> None:
    assert run("compress", weights, "-o", tmp_path / "m.ans", *options) == 0
    assert run("decompress", tmp_path / "m.ans", "-o", tmp_path / "out.safetensors") == 0
    with safe_open(weights, "pt") as left, safe_open(tmp_path / "out.safetensors", "pt") as right:
        assert left.metadata() == right.metadata()
        assert sorted(left.keys()) == sorted(right.keys())
        assert all(torch.equal(left.get_tensor(name), right.get_tensor(name)) for name in left.keys())


def test_pt_comes_back_with_its_nesting(tmp_path: Path) -> None:
    shared = torch.randn(50, 60)
    state = {"model": {"w": shared, "v": shared}, "opt": [torch.arange(5), {"lr": 1e-3, "name": "adam", 3: None}], "epoch": 7}
    torch.save(state, tmp_path / "in.pt")
    assert run("compress", tmp_path / "in.pt", "-o", tmp_path / "m.ans", "--verify") == 0
    assert run("decompress", tmp_path / "m.ans", "-o", tmp_path / "out.pt") == 0
    back = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(back["model"]["w"], shared) and back["model"]["v"].data_ptr() == back["model"]["w"].data_ptr()
    assert torch.equal(back["opt"][0], torch.arange(5)) and back["opt"][1] == {"lr": 1e-3, "name": "adam", 3: None} and back["epoch"] == 7


def test_shared_tensors_can_be_written_as_safetensors(tmp_path: Path) -> None:
    tied = torch.randn(20, 20)
    torch.save({"a": tied, "b": tied, "c": tied[3]}, tmp_path / "in.pt")
    assert run("compress", tmp_path / "in.pt", "-o", tmp_path / "m.ans") == 0
    assert run("decompress", tmp_path / "m.ans", "-o", tmp_path / "out.safetensors") == 0
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("b"), tied) and torch.equal(file.get_tensor("c"), tied[3])


def test_bits_quantize_large_matrices_only(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", weights, "-o", tmp_path / "m.ans", "--bits", 6, "--clip-sigmas", 4.5, "--verify") == 0
    assert "verified" in capsys.readouterr().out
    assert run("decompress", tmp_path / "m.ans", "-o", tmp_path / "out.safetensors", "--dtype", "bfloat16") == 0
    with safe_open(weights, "pt") as left, safe_open(tmp_path / "out.safetensors", "pt") as right:
        assert torch.equal(left.get_tensor("layer.bias"), right.get_tensor("layer.bias"))
        expected = torch_ans.dequantize(*torch_ans.quantize(left.get_tensor("layer.weight"), 6, 4.5), torch.bfloat16)
        assert torch.equal(right.get_tensor("layer.weight"), expected)


def test_scripts_of_the_origin_work_over_the_same_code(tmp_path: Path, weights: Path) -> None:
    command = [sys.executable, ROOT / "scripts" / "ans_compress.py", "--input", weights, "--output", tmp_path / "a.ans", "--bits", "6", "--verify"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert run("compress", weights, "-o", tmp_path / "b.ans", "--bits", 6) == 0
    assert (tmp_path / "a.ans").read_bytes() == (tmp_path / "b.ans").read_bytes()


# ---- info and verify ----


def test_info_accounts_for_every_byte(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.ans"
    run("compress", weights, "-o", path, "--bits", 6)
    capsys.readouterr()
    assert run("info", path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["head_bytes"] + sum(tensor["bytes"] for tensor in told["tensors"]) == told["file_bytes"] == path.stat().st_size
    assert [t["name"] for t in told["tensors"]] == [t["name"] for t in sorted(told["tensors"], key=lambda t: t["name"])]
    weight = next(tensor for tensor in told["tensors"] if tensor["name"] == "layer.weight")
    with torch_ans.open(path) as file:
        counts = np.bincount(file.get_quantized("layer.weight").symbols.numpy().ravel().astype(int) + 128)
    shares = counts[counts > 0] / counts.sum()
    assert weight["streams"][0]["minimum_bytes"] == pytest.approx(-counts.sum() * (shares * np.log2(shares)).sum() / 8)
    assert (weight["kind"], weight["bits"], weight["streams"][0]["model"]) == ("quantized", 6, "order0")
    assert weight["bits_per_weight"] == 8 * weight["bytes"] / 76800
    for arguments in (["info", path], ["info", path, "--roles"], ["verify", path]):
        assert run(*arguments) == 0


def test_info_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"empty": torch.zeros(0), "scalar": torch.tensor(1)}, tmp_path / "in.pt")
    torch.save({}, tmp_path / "none.pt")
    for name in ("in", "none"):
        assert run("compress", tmp_path / f"{name}.pt", "-o", tmp_path / "m.ans") == 0
        assert run("info", tmp_path / "m.ans") == 0
        assert run("info", tmp_path / "m.ans", "--json") == 0
        assert run("info", tmp_path / "m.ans", "--roles") == 0


def test_a_reader_that_stops_early_is_no_error_to_report(tmp_path: Path) -> None:
    torch.save({f"t{i}": torch.zeros(1) for i in range(3000)}, tmp_path / "in.pt")
    run("compress", tmp_path / "in.pt", "-o", tmp_path / "m.ans")
    script = f"'{sys.executable}' -m torch_ans info '{tmp_path}/m.ans' | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""


# ---- errors ----


def fails_with_one_line(capsys: pytest.CaptureFixture[str], *arguments: object, says: str) -> None:
    capsys.readouterr()
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("torch-ans: ") and err.count("\n") == 1 and says in err, err


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array(["text"]), "UnsupportedDtype"),
        (np.zeros(3, dtype=">i4"), "UnsupportedDtype"),
        (np.zeros(3, dtype="M8[s]"), "UnsupportedDtype"),
        (np.zeros(3, dtype=[("x", "f4")]), "UnsupportedDtype"),
        (np.array([{}], dtype=object), "UnsupportedDtype"),
        (np.zeros(3, dtype=np.longdouble), "UnsupportedDtype"),
    ],
)
def test_arrays_that_torch_cannot_hold_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], array: np.ndarray, says: str
) -> None:
    np.savez(tmp_path / "in.npz", culprit=array)
    fails_with_one_line(capsys, "compress", tmp_path / "in.npz", "-o", tmp_path / "m.ans", says=says)
    fails_with_one_line(capsys, "compress", tmp_path / "in.npz", "-o", tmp_path / "m.ans", says="'culprit'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
@pytest.mark.parametrize("data", [b"", b"garbage of some length", b"PK\x03\x04aaaa", b"\x80\x02", b"\xff" * 40])
def test_files_that_are_no_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, data: bytes) -> None:
    (tmp_path / f"in{suffix}").write_bytes(data)
    fails_with_one_line(capsys, "compress", tmp_path / f"in{suffix}", "-o", tmp_path / "m.ans", says="InvalidArgument")


def test_pickled_objects_are_never_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"layer": torch.nn.Linear(2, 2)}, tmp_path / "in.pt")
    fails_with_one_line(capsys, "compress", tmp_path / "in.pt", "-o", tmp_path / "m.ans", says="objects other than tensors")


def test_models_that_a_format_cannot_hold_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x": torch.zeros(9, dtype=torch.bfloat16), "y": torch.zeros(2, dtype=torch.complex128)}, tmp_path / "flat.pt")
    torch.save({"x": [torch.zeros(3)]}, tmp_path / "nested.pt")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    for name in ("flat", "nested", "list"):
        run("compress", tmp_path / f"{name}.pt", "-o", tmp_path / f"{name}.ans")
    before = sorted(tmp_path.iterdir())
    for name, suffix, says in (
        ("flat", ".npz", "UnsupportedDtype: 'x'"),
        ("flat", ".safetensors", "UnsupportedDtype"),
        ("nested", ".npz", "write a .pt"),
        ("nested", ".safetensors", "write a .pt"),
        ("list", ".npz", "write a .pt"),
    ):
        fails_with_one_line(capsys, "decompress", tmp_path / f"{name}.ans", "-o", tmp_path / f"out{suffix}", says=says)
    assert sorted(tmp_path.iterdir()) == before, "a failure leaves nothing behind"


def test_damage_missing_files_and_limits_exit_with_1(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, bad = tmp_path / "m.ans", tmp_path / "bad.ans"
    run("compress", weights, "-o", path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    for command in (["verify", bad], ["info", bad], ["decompress", bad, "-o", tmp_path / "x.npz"]):
        fails_with_one_line(capsys, *command, says="RecordChecksumMismatch: ")
    fails_with_one_line(capsys, "verify", weights, says="BadMagic: ")
    fails_with_one_line(capsys, "verify", tmp_path / "none.ans", says="none.ans: No such file")
    fails_with_one_line(capsys, "compress", tmp_path / "none.npz", "-o", path, says="none.npz: No such file")
    fails_with_one_line(capsys, "compress", weights, "-o", tmp_path / "no" / "folder.ans", says="No such file")
    fails_with_one_line(capsys, "decompress", path, "-o", tmp_path / "no" / "folder.npz", says="No such file")
    fails_with_one_line(capsys, "verify", path, "--max-bytes", 100, says="LimitExceeded: ")


def test_the_input_is_never_overwritten(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights.read_bytes()
    assert run("compress", weights, "-o", weights) == 2
    assert run("compress", weights, "-o", tmp_path / "other.npz") == 2
    assert "suffix of a model" in capsys.readouterr().err
    (tmp_path / "link.ans").symlink_to(weights)
    fails_with_one_line(capsys, "compress", weights, "-o", tmp_path / "link.ans", says="the input itself")
    assert weights.read_bytes() == before and not (tmp_path / "other.npz").exists()


def test_not_finite_weights_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "in.npz", w=np.full((300, 300), np.nan, dtype=np.float32))
    fails_with_one_line(capsys, "compress", tmp_path / "in.npz", "-o", tmp_path / "m.ans", "--bits", 6, says="NotFinite: 'w'")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["compress", "in.npz"],
        ["compress", "in.bin", "-o", "m.ans"],
        ["compress", "in.npz", "-o", "m.ans", "--bits", "9"],
        ["compress", "in.npz", "-o", "m.ans", "--bits", "x"],
        ["compress", "in.npz", "-o", "m.ans", "--clip-sigmas", "4"],
        ["compress", "in.npz", "-o", "m.ans", "--bits", "6", "--clip-sigmas", "nan"],
        ["compress", "in.npz", "-o", "m.ans", "--chunk-symbols", "0"],
        ["decompress", "m.ans", "-o", "out.bin"],
        ["analyze", "in.ans"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "usage: " in capsys.readouterr().err


def test_module_runs_and_shows_no_bar_where_there_is_no_terminal(tmp_path: Path, weights: Path) -> None:
    for arguments in (["compress", weights, "-o", tmp_path / "m.ans"], ["info", tmp_path / "m.ans"], ["--version"]):
        done = subprocess.run([sys.executable, "-m", "torch_ans", *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done
