"""Small decoders: of golden streams, of files of all kinds, of damaged files; what is in them, and how they are made small."""

from __future__ import annotations

import ast
import dataclasses
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import test_matrix
import torch
from model_examples import normal, same, tensors_everywhere
from torch import Tensor

import torch_ans
from torch_ans import cli, decoder_writer as writer, errors, ops, write_decoder
from torch_ans.container import record_checksum
from torch_ans.decoder import names
from torch_ans.decoder.minifying import minify
from torch_ans.decoder.printing import squeeze
from torch_ans.entries import Entry, Index, Kind
from torch_ans.model import CompressedModel

GOLDEN = Path(__file__).resolve().parent / "golden"
STREAMS = json.loads((GOLDEN / "index.json").read_text())
DTYPES = {"i8": torch.int8, "u8": torch.uint8, "i16": torch.int16}
SOURCE = writer.SOURCE.read_text()


@pytest.fixture(autouse=True)
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are a little longer are found sooner."""
    monkeypatch.setattr(names, "NAME_TRIALS", 200)


def file_of(stream: Tensor, numel: int, dtype: torch.dtype) -> bytes:
    """A file of one stream of symbols."""
    entry = Entry("x", Kind.SYMBOLS, str(dtype).removeprefix("torch."), (numel,), (), (stream.numel(),), record_checksum([stream.numpy()]))
    return CompressedModel(Index((entry,)), [[stream]]).to_bytes()


def decoded(content: bytes, whole: bool = False) -> tuple[dict[str, Tensor], str]:
    """What the decoder that is made for a file decodes (`whole`: the source itself), and its text."""
    text = SOURCE if whole else writer.decoder_of(content)
    return writer.module_of(text)["load"](content), text


def check_content(content: bytes, whole: bool = False) -> str:
    """The decoder of a file, which decodes it right."""
    state, text = decoded(content, whole)
    with torch_ans.open(content) as file:
        assert same(state, {name: file.get_tensor(name) for name in file.keys()})
    return text


def check(model: object, **options: object) -> str:
    """The decoder of a model, which decodes it right."""
    return check_content(torch_ans.dumps(model, **options))


@pytest.mark.parametrize("name", STREAMS)
def test_golden_streams(name: str) -> None:
    entry = STREAMS[name]
    stream = torch.tensor(list((GOLDEN / f"{name}.stream").read_bytes()), dtype=torch.uint8)
    dtype = DTYPES[entry["symbol_type"]]
    for whole in (False, True):
        symbols = decoded(file_of(stream, entry["numel"], dtype), whole)[0]["x"]
        assert torch.equal(symbols, torch_ans.decode_stream(stream, entry["numel"], dtype))


@pytest.mark.parametrize("name", [name for name, (_, options) in test_matrix.CASES.items() if "reference" not in options])
def test_matrix_streams(name: str) -> None:
    symbols, options = test_matrix.CASES[name]
    options = {**options, "own_predictors": True} if "predictors" in options else options
    stream = ops.encode_matrix(symbols, ops.fit_matrix(symbols, **options).header)
    assert torch.equal(decoded(file_of(stream, symbols.numel(), symbols.dtype))[0]["x"], symbols.reshape(-1))


def test_every_dtype_and_shape() -> None:
    check(tensors_everywhere())


@pytest.mark.parametrize("quantizer, level", [("clip", "fast"), ("clip", "default"), ("clip", "best"), ("uniform", "fast"), ("uniform", "best"), ("trellis4", "fast"), ("trellis8", "best"), ("trellis32", "fast")])
def test_levels_and_quantizers(quantizer: str, level: str) -> None:
    options = {"bits": 6} if quantizer == "clip" else {"quantizer": quantizer, "bits_per_weight": 3.3}
    check(test_matrix.network(), min_quantized_numel=1000, level=level, **options)


def test_a_file_with_everything() -> None:
    content = test_matrix.mixed_file()
    check_content(content)
    check_content(content, whole=True)


def test_matrices_of_every_type_that_refer_to_each_other() -> None:
    g = torch.Generator().manual_seed(4)
    state = {}
    for dtype in (torch.int8, torch.uint8, torch.int16):
        before = test_matrix.correlated(300, 48, 3, dtype=torch.uint8 if dtype == torch.uint8 else torch.int8).to(dtype)
        for i in range(3):
            noise = torch.randint(-2, 3, before.shape, generator=g)
            state[f"{dtype}.{i}"] = before = (before.int() + noise).clamp(0 if dtype == torch.uint8 else -120, 120).to(dtype)
    state["wide"] = state["torch.int16.0"] * 100
    model = torch_ans.compress_model(state, bits=None, level="best")
    assert any(entry.refers for entry in model.index.entries)
    assert same(decoded(model.to_bytes())[0], state)


def test_quantized_weights_of_every_dtype_with_scales_of_all_sizes() -> None:
    state = {}
    for i, dtype in enumerate((torch.float16, torch.bfloat16, torch.float32, torch.float64)):
        for exponent in (0, -14, 9):
            weight = (normal(40, 96, seed=i) * 2.0**exponent).to(dtype)
            state[f"{dtype}.{exponent}"] = weight
            uniform = torch_ans.quantize_weight(weight, "uniform", bits_per_weight=4.0)
            scale = torch.arange(-48, 48, dtype=torch.int8)
            state[f"{dtype}.{exponent}.columns"] = dataclasses.replace(uniform, column_scale=scale)
    state["wild"] = torch_ans.quantize_weight(torch.cat([normal(8, 4000), torch.full((8, 1), 9000.0)], 1), "trellis8", step_sigmas=0.2)
    assert state["wild"].symbols.dtype == torch.int16
    tiny = normal(300, 64)
    tiny *= 1e-30
    check({**state, "tiny": tiny}, bits=5, min_quantized_numel=1)


def test_symbols_that_are_tied_to_scales_and_tensors_that_are_one() -> None:
    w = normal(100, 64)
    check({"w.q": (w * 9).to(torch.int8), "w.s": torch.rand(100).half(), "a": w, "b": w, "nested": [w, {"c": w}]}, ties=(".q", ".s"))


@pytest.mark.parametrize("chunk_symbols", [1, 31, 1000, 2**22])
def test_chunks_of_all_sizes(chunk_symbols: int) -> None:
    check({"a": (normal(5, 999) * 20).to(torch.int8), "b": torch.arange(5000), "c": torch.zeros(3000)}, chunk_symbols=chunk_symbols)


def test_it_holds_what_the_artifact_needs(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    plain = {"w": torch.randint(-3, 4, (400, 100), generator=g, dtype=torch.int8)}
    sizes = [len(check(plain)), len(check(test_matrix.network(), bits=6, min_quantized_numel=1000)), len(check(test_matrix.network(), bits=6, min_quantized_numel=1000, level="best"))]
    assert 0 < sizes[0] < sizes[1] < 0.7 * sizes[2] and sizes[2] < 0.6 * len(SOURCE)
    text = check(plain)
    imports = [alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names]
    assert imports in (["torch"], ["zlib", "torch"])
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(ast.parse(text)))


def test_written_by_path_bytes_and_model_and_imported(tmp_path: Path) -> None:
    state = {"w": normal(300, 64), "b": normal(64)}
    model = torch_ans.compress_model(state, min_quantized_numel=1)
    model.write(tmp_path / "model.ans")
    for number, artifact in enumerate([tmp_path / "model.ans", str(tmp_path / "model.ans"), model.to_bytes(), model]):
        size = write_decoder(artifact, tmp_path / f"decode{number}.py")
        assert size == (tmp_path / f"decode{number}.py").stat().st_size
    assert len({(tmp_path / f"decode{number}.py").read_bytes() for number in range(4)}) == 1
    code = "import decode0, torch; s = decode0.load(open('model.ans', 'rb').read()); t = decode0.load(open('model.ans', 'rb').read()); assert all(torch.equal(s[k], t[k]) for k in s); torch.save(s, 'out.pt')"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True, env={"PATH": "", "PYTHONPATH": ""})
    assert same(torch.load(tmp_path / "out.pt"), torch_ans.load(tmp_path / "model.ans"))


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch_ans.save({"w": normal(30, 64)}, tmp_path / "m.ans")
    assert cli.main(["decoder", str(tmp_path / "m.ans"), "-o", str(tmp_path / "decode.py")]) == 0
    assert "verified" in capsys.readouterr().out
    assert same(writer.module_of((tmp_path / "decode.py").read_text())["load"]((tmp_path / "m.ans").read_bytes()), torch_ans.load(tmp_path / "m.ans"))
    (tmp_path / "m.ans").write_bytes((tmp_path / "m.ans").read_bytes()[:-1])
    assert cli.main(["decoder", str(tmp_path / "m.ans"), "-o", str(tmp_path / "none.py")]) == 1
    assert "FileTruncated" in capsys.readouterr().err and not (tmp_path / "none.py").exists()


def test_a_dtype_that_torch_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = torch_ans.dumps({"w": torch.zeros(3, dtype=torch.uint8).view(torch.bits8)})
    monkeypatch.delattr(torch, "bits8")
    with pytest.raises(errors.UnsupportedDtypeError, match="bits8"):
        write_decoder(content, tmp_path / "decode.py")


def test_a_decoder_that_errs_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = torch_ans.dumps({"w": normal(30, 64)})
    text = writer.decoder_of(content)
    monkeypatch.setattr(writer, "decoder_of", lambda content: text.replace(">>1|", ">>2|"))
    with pytest.raises(errors.CorruptError):
        write_decoder(content, tmp_path / "decode.py")
    assert not (tmp_path / "decode.py").exists()


@pytest.mark.parametrize("level", ["fast", "best"])
def test_damaged_files_end(level: str) -> None:
    """In an error or in wrong tensors, but soon."""
    state = {name: tensor for name, tensor in test_matrix.network().items() if name.startswith(("0", "1"))}
    content = torch_ans.dumps({name: tensor[:, :40].contiguous() if tensor.dim() == 2 else tensor for name, tensor in state.items()}, bits=4, min_quantized_numel=1000, level=level)
    load = writer.module_of(writer.decoder_of(content))["load"]
    rng = random.Random(1)
    failed = 0
    for i in range(12):
        damaged = bytearray(content)
        at = rng.randrange(32, 600) if i % 2 else rng.randrange(600, len(content))
        damaged[at] ^= 1 << rng.randrange(8)
        try:
            load(bytes(damaged[: rng.randrange(33, len(content))]) if i % 4 == 3 else bytes(damaged))
        except Exception:
            failed += 1
    assert failed >= 3


# ---- the writer ----


def test_marks_fit_together() -> None:
    """What `used` asks for is marked somewhere, and the source has no mark in vain."""
    calls = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    named = {mark: {node.args[0].value for node in calls if node.func.id == mark} for mark in ("has", "used", "one")}
    assert named["used"] <= named["has"] | {f"VARIES_{name}" for name in named["one"]}


def test_minified_code_does_the_same() -> None:
    text = '''
def load(first, second):
    """Doc."""
    count = 0
    def inner(value):
        nonlocal count
        count += value
        def deepest():
            return [value * other for other in range(first)] + [count]
        return deepest
    result = []
    for index in range(3):
        if index == 1:
            result += inner(index)()
        elif index > 1:
            result.append(-index ** 2 if index else not second)
        else:
            while len(result) < 2:
                result.append("a  b" + str(index))
    result.sort(key=lambda item: str(item))
    return result, count
'''
    small = minify(ast.parse(text), ["load"])
    assert writer.module_of(small)["load"](4, 5) == writer.module_of(text)["load"](4, 5)
    assert len(small) < 0.6 * len(text)
    assert squeeze("a = not b if c else [x for x in  (1, 2)]") == "a=not b if c else[x for x in(1,2)]"


def test_functions_that_are_called_once_are_written_where_they_are_called() -> None:
    text = """
def load(first, second):
    total = 0
    def add(value):
        nonlocal total
        total += value
        return total
    def measured(values, factor):
        length = len(values)
        def longest(least):
            return max([least, *values]) * factor
        values = [value + factor for value in values]
        return longest(length), values, length
    def early(value):
        if value > 3:
            return value
        return -value
    def kept():
        captured = total
        return lambda: captured
    def shifted(value):
        return value << second
    def numbered():
        nonlocal carried
        carried += 1
        return carried
    def weighted(value):
        return value * 10
    def doubled(value):
        nonlocal total
        total *= 2
        return value
    later = []
    carried = 0
    for number in range(first):
        best, *rest = measured([number, second, carried], 2)
        carried = carried * 3 + best % 7
        later.append((rest, early(number), kept()))
        later += [shifted(add(number) + carried)]
        total += doubled(number)
        later.append((numbered() * 100 + weighted(numbered()), 0, kept()))
    for item in measured_again(total, later):
        later = later + [item] if total % 2 else later
    return total, carried, [x() if callable(x) else x for x in later if not isinstance(x, tuple)], [(rest, value, old()) for rest, value, old in [x for x in later if isinstance(x, tuple)]]
def measured_again(total, items):
    number = 0
    for item in items:
        number = number + total
        total = number - len(items)
    return [number, total]
"""
    small = minify(ast.parse(text), ["load"])
    for arguments in ((0, 1), (3, 2), (6, 5)):
        assert writer.module_of(small)["load"](*arguments) == writer.module_of(text)["load"](*arguments)
    assert sum(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(small))) == 5, "left: load, early, kept, numbered (twice called) and doubled (`total` is read before it is called)"
