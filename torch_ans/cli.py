"""The command line: `python -m torch_ans`, or `torch-ans`.

Exit codes: 0 all well; 1 something is wrong with the data (one line on stderr says what); 2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from . import model as models
from . import explanation, ops, prediction, tree, weights
from ._version import __version__
from .analyze import Analysis, TensorReport, analyze, bits_per, inspect, roles
from .atomic import atomic_write, check_target
from .budget import Group, fit
from .decoder_writer import write_decoder
from .errors import AnsError, CorruptError, InvalidArgumentError, LimitExceededError, is_torch_out_of_memory
from .model_files import SUFFIXES, ModelFile, file_kind, read_model, write_model
from .pipeline import Progress

#: Key of the user's metadata under which the strings of a .safetensors file are kept.
_SAFETENSORS = "safetensors"
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    try:
        args.run(args, parser)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # `torch-ans info FILE | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\ntorch-ans: interrupted", file=sys.stderr)
        return 130
    except (AnsError, OSError, MemoryError) as error:
        where = f"{args.input}: " if isinstance(error, (CorruptError, LimitExceededError)) else ""
        print(f"torch-ans: {where}{_one_line(error)}", file=sys.stderr)
        return 1
    except RuntimeError as error:  # of torch
        if not is_torch_out_of_memory(error):
            raise
        print("torch-ans: out of memory", file=sys.stderr)
        return 1


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(str(error).split()) or "out of memory"
    return f"{type(error).__name__.removesuffix('Error')}: {text}" if isinstance(error, AnsError) else text


# ---- arguments ----


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torch-ans", description="Models as .ans files: entropy-coded, checked, decodable in parallel.")
    parser.add_argument("--version", action="version", version=f"torch-ans-weights {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    formats = ", ".join(SUFFIXES)

    command = commands.add_parser("compress", help="make an .ans file", description="Without --bits every bit of every tensor is kept.")
    command.add_argument("input", metavar="IN", help=f"a model: {formats}")
    command.add_argument("-o", "--output", metavar="OUT.ans", required=True)
    add_compression_options(command)
    command.add_argument("--verify", action="store_true", help="decode what was written and compare it, before it gets its name")
    command.set_defaults(run=_compress)

    command = commands.add_parser("fit", help="make an .ans file of at most so many bytes", description="Quantizes large float matrices as finely as a number of bytes allows.")
    command.add_argument("input", metavar="IN", help=f"a model: {formats}")
    command.add_argument("-o", "--output", metavar="OUT.ans", required=True)
    command.add_argument("--budget", type=_byte_count, metavar="BYTES", required=True, help="the largest size that the file may have")
    command.add_argument("--quantizer", default="trellis8", metavar="NAMES", help=f'one or more of {", ".join(weights.QUANTIZERS)}, clip, with commas (default: trellis8)')
    command.add_argument("--bits", type=int, choices=range(2, 9), default=6, metavar="N", help="of clip (default: 6)")
    command.add_argument("--level", choices=prediction.LEVELS, default="fast", help="how hard to look for a smaller file (default: fast)")
    command.add_argument("--verify", action="store_true", help="decode what was written and compare it, before it gets its name")
    command.add_argument("--json", metavar="FILE", help="settings, sizes, errors and curves of all tensors")
    command.add_argument("--curves", action="store_true", help="also bits and errors of each tensor at the steps that were tried")
    command.add_argument("--plot", metavar="FILE", help="a .png or .svg of the curves (needs matplotlib)")
    command.set_defaults(run=_fit)

    command = commands.add_parser("decompress", help="turn an .ans file back into a model")
    command.add_argument("input", metavar="IN.ans")
    command.add_argument("-o", "--output", metavar="OUT", required=True, help=f"a model: {formats}")
    command.add_argument("--dtype", choices=_DTYPES, help="dtype of quantized weights (default: what they were)")
    _add_max_bytes(command)
    command.set_defaults(run=_decompress)

    command = commands.add_parser("verify", help="check all checksums and decode everything")
    command.add_argument("input", metavar="IN.ans")
    _add_max_bytes(command)
    command.set_defaults(run=_verify)

    command = commands.add_parser("info", help="what is in an .ans file, and what each tensor takes")
    command.add_argument("input", metavar="IN.ans")
    command.add_argument("--json", action="store_true")
    command.add_argument("--roles", action="store_true", help="join tensors whose names differ in numbers only")
    _add_max_bytes(command)
    command.set_defaults(run=_info)

    command = commands.add_parser("decoder", help="write a small Python file that decodes an .ans file", description="A module with load(content), which needs torch and nothing else.")
    command.add_argument("input", metavar="IN.ans")
    command.add_argument("-o", "--output", metavar="OUT.py", required=True)
    command.add_argument("--no-verify", dest="verify", action="store_false", help="do not decode the file with it and compare")
    command.set_defaults(run=_decoder)

    command = commands.add_parser("analyze", help="compare sizes: theoretical minimum, ANS, LZMA, Brotli, zstd")
    command.add_argument("input", metavar="IN", help=f"a model: {formats}")
    add_compression_options(command)
    command.add_argument("--json", action="store_true")
    command.add_argument("--roles", action="store_true", help="also a line for every kind of tensor")
    command.add_argument("--explain", action="store_true", help="also which ideas would make the file smaller, tried on these weights")
    command.add_argument("--html", metavar="FILE", help="all of it as a page")
    command.set_defaults(run=_analyze)
    return parser


def add_compression_options(command: argparse.ArgumentParser) -> None:
    """The options that `compression_options` reads."""
    command.add_argument("--bits", type=int, choices=range(2, 9), metavar="N", help="quantize large float matrices to N bits (2 to 8)")
    command.add_argument(
        "--clip-sigmas", type=_clip, metavar="K", help=f'clip rows at K standard deviations ({ops.DEFAULT_CLIP_SIGMAS}), or "absmax": nowhere'
    )
    command.add_argument("--quantizer", choices=("clip", *weights.QUANTIZERS), default="clip", help='how large float matrices are quantized (default: "clip", with --bits)')
    command.add_argument("--bits-per-weight", type=float, metavar="R", help="with any other quantizer: as fine as so many bits allow, entropy coding included")
    command.add_argument("--step-sigmas", type=float, metavar="S", help="or with steps of so many standard deviations of a row")
    command.add_argument("--level", choices=prediction.LEVELS, default="fast", help="how hard to look for a smaller file (default: fast)")
    command.add_argument(
        "--chunk-symbols",
        type=_chunk_symbols,
        default=ops.DEFAULT_CHUNK_SYMBOLS,
        metavar="N",
        help=f"symbols per chunk that decodes on its own (1 to {ops.MAX_CHUNK_SYMBOLS}; default {ops.DEFAULT_CHUNK_SYMBOLS})",
    )


def compression_options(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Arguments of `compress_model`."""
    if args.clip_sigmas is not None and args.bits is None:
        parser.error("--clip-sigmas needs --bits: nothing is quantized without")
    fine = [args.bits_per_weight, args.step_sigmas]
    if args.quantizer == "clip" and any(value is not None for value in fine):
        parser.error("--bits-per-weight and --step-sigmas need a --quantizer")
    if args.quantizer != "clip" and (args.bits is not None or sum(value is not None for value in fine) != 1):
        parser.error(f"--quantizer {args.quantizer} needs either --bits-per-weight or --step-sigmas, and no --bits")
    return {
        "bits": args.bits,
        "clip_sigmas": args.clip_sigmas,
        "chunk_symbols": args.chunk_symbols,
        "level": args.level,
        "quantizer": args.quantizer,
        "bits_per_weight": args.bits_per_weight,
        "step_sigmas": args.step_sigmas,
    }


def _clip(text: str) -> float | str:
    value = text if text == "absmax" else float(text)  # argparse turns a ValueError into a usage error
    if not isinstance(value, str) and not 0 < value < float("inf"):
        raise ValueError
    return value


_clip.__name__ = "number of standard deviations"


def _chunk_symbols(text: str) -> int:
    value = int(text)
    if not 1 <= value <= ops.MAX_CHUNK_SYMBOLS:
        raise ValueError
    return value


_chunk_symbols.__name__ = "chunk size"


def _byte_count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


_byte_count.__name__ = "number of bytes"


def _add_max_bytes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--max-bytes", type=_byte_count, metavar="N", help="refuse a file whose tensors need more (default: 1 GiB, or 64 times the file)")


def check_model_path(path: str, parser: argparse.ArgumentParser) -> None:
    """Ends with a usage error unless the path has the suffix of a model."""
    try:
        file_kind(path)
    except InvalidArgumentError as error:
        parser.error(str(error))


# ---- progress ----


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Progress]:
    """A progress bar in bytes, on a terminal only."""
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, leave=False, disable=not sys.stderr.isatty()) as bar:
        yield lambda name, size: bar.update(size) and None


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _nbytes(model: Any) -> int:
    return sum(tensor.nbytes for tensor in tree.flatten(model, lambda node: isinstance(node, Tensor)).tensors)


# ---- commands ----


def _compress(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    options = compression_options(args, parser)
    _check_paths(args, parser)
    compress_file(args.input, args.output, verify=args.verify, **options)


def _check_paths(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    check_model_path(args.input, parser)
    with contextlib.suppress(InvalidArgumentError):
        file_kind(args.output)
        parser.error(f"{args.output} has the suffix of a model, but what is written is an .ans file")


def _read(source: str, target: str) -> tuple[ModelFile, dict[str, Any] | None]:
    """A model, and what is kept with it in a file of ours; before all the work it is made sure that the file can be written."""
    check_target(target)
    if os.path.exists(target) and os.path.samefile(source, target):
        raise InvalidArgumentError(f"{target} is the input itself")
    contents = read_model(source)
    return contents, {_SAFETENSORS: contents.metadata} if contents.metadata else None


def compress_file(source: str, target: str, *, verify: bool, **options: Any) -> None:
    """Compresses a model file and says what came of it."""
    contents, metadata = _read(source, target)
    begin = time.perf_counter()
    with _bar("compressing", _nbytes(contents.model)) as progress:
        compressed = models.compress_model(contents.model, metadata=metadata, progress=progress, **options)
    seconds = time.perf_counter() - begin
    size = models.write_model(compressed, target, contents.model, verify)
    numel = sum(entry.numel for entry in compressed.index.entries)
    rate = f", {8 * size / numel:.4f} bits per weight" if numel else ""
    print(f"{target}: {size:,} bytes{rate}, compressed in {seconds:.2f} s{', verified' if verify else ''}")


def _fit(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    _check_paths(args, parser)
    contents, metadata = _read(args.input, args.output)
    group = Group(quantizers=args.quantizer.split(","), bits=args.bits)
    fitted = fit(contents.model, args.budget, groups=group, level=args.level, metadata=metadata, progress=_tell)
    _tell("")
    models.write_model(fitted.model, args.output, None, args.verify)
    if args.json is not None:
        with atomic_write(args.json) as file:
            file.write(json.dumps(fitted.to_json(), indent=1).encode())
    if args.plot is not None:
        fitted.plot(args.plot)
    if args.curves:
        print(f"{fitted.curves_table()}\n")
    print(fitted.table())
    limited = "; all steps are as small as they may be" if fitted.is_limited else ""
    print(f"{args.output}: {fitted.file_bytes:,} bytes, fitted in {fitted.seconds:.2f} s ({fitted.rounds} rounds){limited}{', verified' if args.verify else ''}")


def _decompress(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    check_model_path(args.output, parser)
    dtype = getattr(torch, args.dtype) if args.dtype else None
    begin = time.perf_counter()
    with models.open(args.input, max_bytes=args.max_bytes) as file:
        with _bar("decompressing", file.index.decoded_bytes) as progress:
            model = file.tree(dtype, progress)
        kept = file.metadata().get(_SAFETENSORS)
    seconds = time.perf_counter() - begin
    strings = kept if isinstance(kept, dict) and all(isinstance(value, str) for value in kept.values()) else {}
    write_model(args.output, ModelFile(model, strings))
    print(f"{args.output}: {os.path.getsize(args.output):,} bytes, decompressed in {seconds:.2f} s")


def _verify(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with models.open(args.input, max_bytes=args.max_bytes) as file:
        file.verify()
        print(f"{args.input}: {len(file)} tensors, {file.file_bytes:,} bytes, all well")


def _decoder(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    size = write_decoder(args.input, args.output, verify=args.verify)
    print(f"{args.output}: {size:,} bytes{', verified' if args.verify else ''}")


def _info(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with models.open(args.input, max_bytes=args.max_bytes) as file:
        with _bar("decoding", file.index.decoded_bytes) as progress:
            tensors = inspect(file, progress)
        numel, minimum = sum(tensor.numel for tensor in tensors), sum(tensor.minimum_bytes for tensor in tensors)
        whole: dict[str, Any] = {"file_bytes": file.file_bytes, "head_bytes": file.head_bytes, "weights": numel, "minimum_bytes": minimum}
        whole |= {"bits_per_weight": bits_per(file.file_bytes, numel), "overhead_bytes": file.file_bytes - minimum}
        metadata = file.metadata()
    if args.json:
        print(json.dumps(whole | {"metadata": metadata, "roles": roles(tensors), "tensors": [t.to_json() for t in tensors]}))
        return
    print_roles(roles(tensors)) if args.roles else _print_tensors(tensors)
    rate = f"{whole['bits_per_weight']:.4f} bits per weight; " if numel else ""
    print(f"{file.file_bytes:,} bytes, of which header and index {file.head_bytes:,}; {rate}order-0 entropy {minimum:,.0f} bytes, ", end="")
    print(f"overhead {whole['overhead_bytes']:,.0f} bytes")


def _printable(name: str) -> str:
    """A name without anything that a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _print_tensors(tensors: Sequence[TensorReport]) -> None:
    width = max([len(_printable(tensor.name)) for tensor in tensors] + [6])
    print(f"{'tensor':{width}}  {'shape':>16}  {'dtype':11}{'kind':12}{'model':20}{'bytes':>12}{'bits/w':>10}{'entropy':>14}{'overhead':>10}")
    for t in tensors:
        kind = f"{t.kind} {t.bits}" if t.bits else t.kind
        rate = f"{8 * t.bytes / t.numel:10.4f}" if t.numel else f"{'-':>10}"
        shape = "x".join(map(str, t.shape)) or "scalar"
        numbers = f"{t.bytes:12,}{rate}{t.minimum_bytes:14,.1f}{t.bytes - t.minimum_bytes:10,.1f}"
        print(f"{_printable(t.name):{width}}  {shape:>16}  {t.dtype:11}{kind:12}{t.model:20}{numbers}")


def print_roles(table: Sequence[dict[str, Any]]) -> None:
    width = max([len(_printable(row["role"])) for row in table] + [4])
    print(f"{'role':{width}}{'tensors':>9}{'weights':>14}{'bytes':>14}{'entropy':>14}{'bits/w':>10}")
    for row in table:
        rate = "-" if row["bits_per_weight"] is None else f"{row['bits_per_weight']:.4f}"
        numbers = f"{row['tensors']:9}{row['weights']:14,}{row['bytes']:14,}{row['minimum_bytes']:14,.0f}"
        print(f"{_printable(row['role']):{width}}{numbers}{rate:>10}")


def _analyze(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    options = compression_options(args, parser)
    check_model_path(args.input, parser)
    analyze_file(args.input, as_json=args.json, by_role=args.roles, explain=args.explain, page=args.html, **options)


def analyze_file(
    source: str, *, as_json: bool, by_role: bool, explain: bool = False, page: str | None = None, tell: Callable[[str], None] = _tell, **options: Any
) -> None:
    """Analyzes a model file and prints the comparison."""
    contents = read_model(source)
    result = analyze(contents.model, progress=lambda name: tell(f"running {name}"), **options)
    found = explanation.findings(contents.model, result, options, lambda name: tell(f"trying {name}")) if explain or page is not None else []
    tell("")
    if page is not None:
        with atomic_write(page) as file:
            file.write(explanation.to_html(result, found, os.path.basename(source)).encode())
    if as_json:
        print(json.dumps(result.to_json() | ({"findings": [finding.to_json() for finding in found]} if found else {})))
        return
    print_analysis(result)
    if found:
        print(f"\n{explanation.to_text(found)}")
    if by_role:
        print()
        print_roles(roles(result.tensors))


_SHOWN_CLIPPING = 8


def print_analysis(result: Analysis) -> None:
    """The comparison as a table."""
    print(f"{'':22}{'bytes':>14}{'bits/weight':>13}{'to minimum':>14}{'compress s':>12}{'decompress s':>14}")

    def line(name: str, size: float, rest: str) -> None:
        rate = f"{8 * size / result.numel:.4f}" if result.numel else "-"
        print(f"{name:22}{size:14,.0f}{rate:>13}{rest}")

    line("theoretical minimum", result.minimum_bytes, "")
    for coder in sorted(result.coders, key=lambda c: (c.bytes is None, c.bytes)):
        if coder.bytes is None:
            print(f"{coder.name:22}{coder.missing:>14}")
        else:
            difference = coder.bytes - result.minimum_bytes
            line(coder.name, coder.bytes, f"{difference:+14,.0f}{coder.compress_seconds:12.3f}{coder.decompress_seconds:14.3f}")
    for clipping in result.clipping[:_SHOWN_CLIPPING]:
        print(f"clipping wastes {clipping.wasted_bits:.3f} bits per weight of {clipping.name!r} ({100 * clipping.clipped:.3f} % of its weights are clipped)")
    if result.clipping:
        if len(result.clipping) > _SHOWN_CLIPPING:
            print(f"and of {len(result.clipping) - _SHOWN_CLIPPING} others")
        print("An unclipped grid errs as much for fewer bits: --quantizer uniform --bits-per-weight N")
    print(f"{result.numel:,} weights. The minimum is the order-0 entropy of each stream; torch_ans is the whole file, header and index included")
    print(f"({result.head_bytes:,} bytes), from weights to file and back; the others get its {result.symbol_bytes:,} integers and bytes.")
