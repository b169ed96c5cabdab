"""Weights on grids: steps from bits, files of them, and quantized weights that come from elsewhere."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch
from model_examples import normal, same
from torch import Tensor

import torch_ans
from torch_ans import batches, cli, errors, grid, ops, prediction, weights
from torch_ans.grid import quantize_weight
from torch_ans.weights import QUANTIZERS, QuantizedWeight

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def heavy(rows: int = 120, columns: int = 200, seed: int = 5) -> Tensor:
    """Rows of different size, with outliers of many deviations and a row of nothing."""
    w = normal(rows, columns, seed=seed) * torch.exp2(normal(rows, 1, seed=seed + 1))
    w[::7, ::31] *= 40
    w[3] = 0
    return w


def relative_error(w: Tensor, q: QuantizedWeight) -> float:
    kept = w.double().var(1) > 0
    return ((w.double() - q.dequantize(torch.float64)).square().mean(1) / w.double().var(1))[kept].mean().item()


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("bits", [2.0, 3.3, 5.0])
def test_bits_are_as_asked(quantizer: str, bits: float) -> None:
    w = normal(300, 400)
    q = quantize_weight(w, quantizer, bits_per_weight=bits)
    data = torch_ans.dumps({"w": q})
    scales = 300 * 2 * 8
    assert abs(8 * len(data) - scales - bits * w.numel()) < 0.02 * bits * w.numel() + 2000
    assert relative_error(w, q) < 1.35 * 4.0**-bits * (math.pi * math.e / 6 if quantizer == "uniform" else 1.17)


def test_quantizers_by_error_at_equal_bits() -> None:
    w = normal(300, 400)
    found = [relative_error(w, quantize_weight(w, quantizer, bits_per_weight=3.3)) for quantizer in ("uniform", "trellis4", "trellis8", "trellis32")]
    assert found == sorted(found, reverse=True)
    gained = 0.5 * math.log2(found[0] / found[2])
    assert gained > 0.17


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_clipped(quantizer: str, dtype: torch.dtype) -> None:
    w = heavy().to(dtype)
    q = quantize_weight(w, quantizer, step_sigmas=0.05)
    assert q.symbols.dtype == torch.int16  # outliers are many steps
    assert q.dequantize().dtype == dtype
    step = torch.ldexp(q.scale.double(), torch.tensor(q.exponent))[:, None]
    assert ((w.double() - q.dequantize(torch.float64)).abs() <= (0.51 if quantizer == "uniform" else 4.1) * step + 1e-30).all()
    assert not q.symbols[3].any()


@pytest.mark.parametrize("level", prediction.LEVELS)
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_files(quantizer: str, level: str) -> None:
    state = {"a": heavy(dtype := 128), "b": normal(96, 128, seed=8).bfloat16(), "c": normal(64, 9, 3, 3), "small": normal(10), "ids": torch.arange(7)}
    state["a"] = heavy(200, dtype)
    data = torch_ans.dumps(state, quantizer=quantizer, bits_per_weight=3.5, min_quantized_numel=1000, level=level)
    loaded = torch_ans.loads(data)
    expected = {}
    for name, tensor in state.items():
        expected[name] = quantize_weight(tensor, quantizer, bits_per_weight=3.5).dequantize() if tensor.numel() >= 1000 else tensor
    assert same(loaded, expected)
    with torch_ans.open(data) as file:
        for name in ("a", "b", "c"):
            q = file.get_quantized_weight(name)
            assert weights.same(q, quantize_weight(state[name], quantizer, bits_per_weight=3.5)), name
            for dtype_ in DTYPES:
                assert torch.equal(file.get_tensor(name, dtype_), q.dequantize(dtype_))
        again = torch_ans.dumps({name: file.get_quantized_weight(name) if name in "abc" else file.get_tensor(name) for name in file.keys()}, level=level)
    assert again == data


def test_higher_levels_are_smaller_and_equal() -> None:
    mixing = torch.eye(96) + 0.6 * normal(96, 96, seed=3) / 96**0.5
    state = {"w": normal(600, 96, seed=4) @ mixing, "v": normal(600, 96, seed=5) @ mixing}
    files = [torch_ans.dumps(state, quantizer="trellis8", bits_per_weight=3.3, min_quantized_numel=1000, level=level) for level in prediction.LEVELS]
    assert len(files[1]) < 0.97 * len(files[0]) and len(files[2]) <= len(files[1])
    assert same(torch_ans.loads(files[0]), torch_ans.loads(files[1])) and same(torch_ans.loads(files[0]), torch_ans.loads(files[2]))


def given(trellis: int, scaled: bool) -> QuantizedWeight:
    """As another quantizer might make it: with scales of columns."""
    w = normal(70, 48, seed=6)
    column_scale = (8 * normal(48, seed=7)).round().to(torch.int8) if scaled else None
    steps = grid.row_steps(w, 0.3)
    factor = weights.column_factor(column_scale) if column_scale is not None else None
    symbols = ops.quantize_trellis(w, steps.step, trellis, column_step=factor).symbols if trellis else weights.round_to_steps(w, steps.step, factor)
    return QuantizedWeight(weights.narrowed(symbols), steps.scale, int(steps.exponent), column_scale, trellis, (7, 10, 48), torch.bfloat16)


@pytest.mark.parametrize("trellis, scaled", list(itertools.product([0, 4, 8, 32], [False, True])))
def test_quantized_weights_of_others(trellis: int, scaled: bool) -> None:
    q = given(trellis, scaled)
    step = torch.ldexp(q.scale.float(), torch.tensor(q.exponent))[:, None]
    expected = q.symbols.float() * step
    if q.column_scale is not None:
        expected *= weights.column_factor(q.column_scale)
    assert torch.equal(q.dequantize(), expected.view(7, 10, 48).bfloat16())
    for level in prediction.LEVELS:
        data = torch_ans.dumps({"nested": [q, {"x": torch.ones(3)}]}, level=level)
        loaded = torch_ans.loads(data)
        assert torch.equal(loaded["nested"][0], q.dequantize())
        with torch_ans.open(data) as file:
            assert weights.same(file.get_quantized_weight("nested.0"), q)
            file.verify()


@pytest.mark.parametrize("level", ["fast", "best"])
def test_many_at_once(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a GPU."""
    state = {f"{t}{s}": given(t, s) for t in (0, 8) for s in (False, True)} | {"wide": quantize_weight(heavy(), "uniform", step_sigmas=0.1), "clip": normal(300, 300)}
    data = torch_ans.dumps(state, bits=6, level=level)
    expected = torch_ans.loads(data)
    monkeypatch.setattr(batches, "decodes_on", lambda device: True)
    assert same(torch_ans.loads(data), expected)
    for name, q in state.items():
        if isinstance(q, QuantizedWeight):
            assert torch.equal(expected[name], q.dequantize())


def test_column_factors_are_powers_of_two() -> None:
    c = torch.arange(-128, 128).to(torch.int8)
    factor = weights.column_factor(c).double()
    assert torch.allclose(factor, torch.exp2(c.double() / 16), rtol=2e-5, atol=0)
    assert torch.equal(factor[::16], torch.exp2(c[::16].double() / 16))


def test_verified_files(tmp_path) -> None:
    state = {"w": heavy(), "v": normal(60, 70), "q": given(8, True)}
    for quantizer in QUANTIZERS:
        path = tmp_path / quantizer
        torch_ans.save(state, path, quantizer=quantizer, bits_per_weight=4, min_quantized_numel=100, verify=True)
    with pytest.raises(errors.CorruptError):
        model = torch_ans.compress_model(state, quantizer="trellis8", bits_per_weight=4, min_quantized_numel=100)
        torch_ans.model.write_model(model, tmp_path / "x", state | {"w": 1.1 * heavy()}, True)


def test_degenerate_weights() -> None:
    state = {
        "zeros": torch.zeros(100, 50),
        "equal": torch.full((100, 50), 3.0),
        "two values": torch.where(normal(100, 50) > 0, 1.0, -1.0),
        "tiny": normal(100, 50) * 1e-30,
        "one row": normal(1, 5000),
        "one column": normal(5000, 1),
        "vast range": torch.exp2(40 * normal(100, 1)) * normal(100, 50),
    }
    for quantizer in QUANTIZERS:
        data = torch_ans.dumps(state, quantizer=quantizer, bits_per_weight=3, min_quantized_numel=1)
        loaded = torch_ans.loads(data)
        assert same(loaded, {name: quantize_weight(w, quantizer, bits_per_weight=3).dequantize() for name, w in state.items()})
        assert not loaded["zeros"].any()
        for name in ("equal", "two values", "one row"):
            assert (loaded[name] - state[name]).square().mean() < 0.1 * state[name].square().mean(), (quantizer, name)


def test_select_by_bits_and_names() -> None:
    state = {"a": normal(100, 100), "b": normal(100, 100, seed=2), "c": normal(100, 100, seed=3)}
    data = torch_ans.dumps(state, quantizer="trellis8", bits_per_weight=3, min_quantized_numel=1, select=lambda name, tensor: {"a": 5.0, "b": False}.get(name))
    with torch_ans.open(data) as file:
        size = {name: sum(stream.numel() for _, stream in file.get_streams(name)) * 8 / 10_000 for name in state}
    assert size["b"] > 16 and 4.8 < size["a"] < 5.5 and 2.8 < size["c"] < 3.5


def test_wrong_arguments() -> None:
    w = {"w": normal(300, 300)}
    wrong = [
        dict(quantizer="trellis16", bits_per_weight=3),
        dict(quantizer="trellis8"),
        dict(quantizer="trellis8", bits_per_weight=3, step_sigmas=0.3),
        dict(quantizer="trellis8", bits_per_weight=0),
        dict(quantizer="trellis8", bits_per_weight=True),
        dict(quantizer="trellis8", bits_per_weight=13),
        dict(quantizer="uniform", step_sigmas=float("nan")),
        dict(quantizer="uniform", step_sigmas=-1.0),
        dict(quantizer="uniform", bits_per_weight=3, bits=6),
        dict(quantizer="uniform", bits_per_weight=3, clip_sigmas=4.0),
        dict(bits_per_weight=3.0),
        dict(quantizer="uniform", bits_per_weight=3, select=lambda name, tensor: 40),
    ]
    for options in wrong:
        with pytest.raises(errors.InvalidArgumentError):
            torch_ans.compress_model(w, **options)
    for bad in (float("nan"), float("inf")):
        broken = w["w"].clone()
        broken[7, 7] = bad
        for quantizer in QUANTIZERS:
            with pytest.raises(errors.NotFiniteError):
                quantize_weight(broken, quantizer, bits_per_weight=3)
            with pytest.raises(errors.NotFiniteError, match="'w'"):
                torch_ans.compress_model({"w": broken}, quantizer=quantizer, bits_per_weight=3, min_quantized_numel=1)
    q = given(8, True)
    fields = {name: getattr(q, name) for name in ("symbols", "scale", "exponent", "column_scale", "trellis", "shape", "dtype")}
    changes = [("symbols", q.symbols.int()), ("scale", q.scale[1:]), ("scale", q.scale.float()), ("exponent", 2000), ("column_scale", q.column_scale[1:])]
    for name, value in [*changes, ("trellis", 16), ("shape", (7, 48)), ("dtype", torch.int8)]:
        with pytest.raises(errors.InvalidArgumentError):
            QuantizedWeight(**fields | {name: value})
    broken = q.symbols.clone()
    broken[0, 0] ^= 1
    with pytest.raises(errors.NoTrellisPathError):
        torch_ans.dumps({"w": QuantizedWeight(**fields | {"symbols": broken})})
    with pytest.raises(errors.InvalidArgumentError, match="steps"):
        quantize_weight(torch.tensor([[1e6, *[1.0, -1.0] * 30_000]]), "uniform", step_sigmas=0.005)


def test_command_line(tmp_path, capsys) -> None:
    source, target = tmp_path / "m.pt", tmp_path / "m.ans"
    state = {"w": normal(300, 300)}
    torch.save(state, source)
    assert cli.main(["compress", str(source), "-o", str(target), "--quantizer", "trellis8", "--bits-per-weight", "3.3", "--verify"]) == 0
    assert same(torch_ans.load(target), {"w": quantize_weight(state["w"], bits_per_weight=3.3).dequantize()})
    assert cli.main(["info", str(target)]) == 0
    assert cli.main(["verify", str(target)]) == 0
    assert cli.main(["analyze", str(source), "--quantizer", "uniform", "--step-sigmas", "0.4"]) == 0
    for wrong in (["--quantizer", "trellis8"], ["--bits-per-weight", "3"], ["--quantizer", "uniform", "--step-sigmas", "1", "--bits", "6"]):
        with pytest.raises(SystemExit):
            cli.main(["compress", str(source), "-o", str(target), *wrong])
    capsys.readouterr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("trellis", [0, 8])
@pytest.mark.parametrize("wild", [False, True])
def test_weights_are_made_while_streams_are_decoded(trellis: int, wild: bool, dtype: torch.dtype) -> None:
    """Many rows: several chunks, bands that are not full; symbols of 8 and of 16 bits."""
    w = normal(333, 300, seed=9)
    if wild:
        w[::5, ::7] *= 100
    steps = grid.row_steps(w, 0.01 if wild else 0.3)
    factor = weights.column_factor((8 * normal(300, seed=2)).round().to(torch.int8))
    for factors in (None, factor):
        symbols = weights.narrowed(ops.quantize_trellis(w, steps.step, trellis, column_step=factors).symbols if trellis else weights.round_to_steps(w, steps.step, factors))
        assert (symbols.dtype == torch.int16) == wild
        expected = symbols.float() * steps.step[:, None] * (1 if factors is None else factors)
        streams = [torch_ans.streams.encode_rows(symbols, trellis, 8192)] + ([] if trellis else [ops.encode_stream(symbols, 5000)])
        outs = ops.decode_streams_dequantize_out(
            streams, [steps.scale] * len(streams), [steps.exponent] * len(streams), symbols.dtype, [torch.empty(333, 300, dtype=dtype) for _ in streams], [factors] * len(streams)
        )
        assert all(torch.equal(out, expected.to(dtype)) for out in outs)
        assert torch.equal(ops.dequantize(symbols, steps.scale, steps.exponent, dtype, factors), expected.to(dtype))
    for wrong in (factor[1:], factor.double(), factor.view(1, -1)):
        with pytest.raises(errors.InvalidArgumentError):
            ops.dequantize(symbols, steps.scale, steps.exponent, dtype, wrong)
        with pytest.raises(errors.InvalidArgumentError):
            ops.decode_streams_dequantize_out(streams, [steps.scale] * len(streams), [steps.exponent] * len(streams), symbols.dtype, outs, [wrong] * len(streams))


@pytest.mark.parametrize("quantizer", ["uniform", "trellis8"])
def test_rows_that_are_too_long_are_cut(quantizer: str) -> None:
    assert weights.grid_columns((2, 90_000)) == 45_000 and weights.grid_columns((5, 65_536)) == 65_536
    w = normal(2, 90_000)
    q = torch_ans.quantize_weight(w, quantizer, bits_per_weight=3)
    assert q.symbols.shape == (4, 45_000) and relative_error(w.view(4, -1), dataclasses.replace(q, shape=(4, 45_000))) < 0.03
    assert torch.equal(torch_ans.loads(torch_ans.dumps({"w": w}, quantizer=quantizer, bits_per_weight=3))["w"], q.dequantize())
    with pytest.raises(errors.InvalidArgumentError, match="'w': rows of 89989 weights"):  # a prime number
        torch_ans.dumps({"w": normal(1, 89_989)}, quantizer=quantizer, bits_per_weight=3)


def test_long_rows_of_others() -> None:
    symbols = torch.zeros(1, 90_000, dtype=torch.int8)
    q = QuantizedWeight(symbols, torch.ones(1).half(), 0, None, 0, (1, 90_000), torch.float32)
    with torch_ans.open(torch_ans.dumps({"w": q})) as file:
        assert weights.same(file.get_quantized_weight("w"), q)
    with pytest.raises(errors.InvalidArgumentError, match="more than 65536"):
        dataclasses.replace(q, trellis=8)


def test_a_weight_under_two_names_is_stored_once(tmp_path: Path) -> None:
    q = torch_ans.quantize_weight(normal(300, 200), bits_per_weight=3)
    once, twice = torch_ans.dumps({"a": q}), torch_ans.dumps({"a": q, "b": q})
    assert len(twice) < len(once) + 40
    torch_ans.save({"a": q, "b": q}, tmp_path / "m.ans", verify=True)
    with torch_ans.open(tmp_path / "m.ans") as file:
        assert weights.same(file.get_quantized_weight("b"), q)
    loaded = torch_ans.load(tmp_path / "m.ans")
    assert loaded["a"] is loaded["b"] and torch.equal(loaded["a"], q.dequantize())


@pytest.mark.parametrize("mode", QUANTIZERS)
def test_quantize_has_modes_that_clip_nothing(mode: str) -> None:
    w = normal(6, 20, 256)
    w[1, 2, 3] = 90
    found = torch_ans.quantize(w, mode=mode, step_sigmas=0.1)
    assert found.symbols.shape == w.shape and found.scale.shape == (6, 20) and found.symbols.dtype == torch.int16
    back = torch_ans.dequantize(found.symbols, found.scale, found.exponent)
    steps = torch.ldexp(found.scale.float(), found.exponent)[..., None]
    assert ((back - w).abs() <= (0.5001 if mode == "uniform" else 4.1) * steps).all()
    assert torch.equal(torch_ans.quantize(w, 6, 4.5).symbols, ops.quantize(w, 6, 4.5).symbols)
    for wrong in ({"mode": mode}, {"mode": mode, "step_sigmas": 0.3, "clip_sigmas": 3}, {"mode": "int6", "step_sigmas": 1}, {"step_sigmas": 1}):
        with pytest.raises(errors.InvalidArgumentError):
            torch_ans.quantize(w, **wrong)
