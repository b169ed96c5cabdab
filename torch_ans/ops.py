"""The operators `torch.ops.ans.*`, typed and documented. BITSTREAM.md defines the bytes.

Words: a *symbol* is one integer of a tensor (int8, uint8 or int16); a *row* of a matrix is its last dimension; a *chunk* is a run of
symbols that decodes on its own. Wrong arguments raise `InvalidArgumentError`, damaged data a subclass of `CorruptError` (see `errors.py`).
The wrappers are not differentiable: results require no grad, and `*_out` refuses tensors that do unless grad mode is off; autograd learns that
they have changed. Every operator (but `cpu_backend`) also works inside `torch.compile(fullgraph=True)` when called as `torch.ops.ans.<name>`; its errors are then RuntimeErrors
that carry the same names.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import InvalidArgumentError, translate

#: Symbols per chunk unless the caller says otherwise: about 10 bytes of overhead for every 40 KB of int6 weights.
DEFAULT_CHUNK_SYMBOLS = 81920
#: The longest chunk that the bitstream allows.
MAX_CHUNK_SYMBOLS = 1 << 22
#: rANS coders that advance side by side in a chunk.
LANES = 32
#: Default clip of `quantize` in multiples of a row's standard deviation, where one is wanted: wide enough that clipping costs nothing.
DEFAULT_CLIP_SIGMAS = 12.85


class Quantized(NamedTuple):
    """symbols int8 [..., C]; scale float16 [...]; exponent int32 []. A weight is `symbols * scale * 2**exponent`."""

    symbols: Tensor
    scale: Tensor
    exponent: Tensor


class Encoded(NamedTuple):
    """payload uint8 [bytes]; directory int32 [chunks, 2]: 16-bit words and tail symbols of every chunk."""

    payload: Tensor
    directory: Tensor


class TableInfo(NamedTuple):
    """frequencies int32 [alphabet], of 4096; index i stands for `first_value + i`, the last one for the escape if there is one."""

    frequencies: Tensor
    first_value: int
    core_size: int
    has_escape: bool
    raw_bits: int
    raw_min: int


def _sigmas(clip_sigmas: float | str | None) -> float | None:
    return None if clip_sigmas == "absmax" else clip_sigmas  # type: ignore[return-value]


@contextlib.contextmanager
def _writing(out: Sequence[Tensor]) -> Iterator[None]:
    """Around an operator that writes to these tensors. The operators are not differentiable: what autograd would refuse is refused, and so is what
    only pretends to be its memory. Afterwards autograd knows that they have changed: a graph that needs their old values does not go on with the new
    ones."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in out):
        raise InvalidArgumentError("out requires grad: decode into it under torch.no_grad()")
    if any(tensor.is_neg() or tensor.is_conj() for tensor in out):
        raise InvalidArgumentError("out is a negated or conjugated view")
    with translate():
        yield
    torch.autograd.graph.increment_version(out)


def row_scale(weight: Tensor, bits: int, clip_sigmas: float | str | None = None) -> Tensor:
    """float32 scale of every row of `weight` [..., C] (float32, bfloat16 or float16): the largest magnitude over `2**(bits-1) - 1`, or with
    `clip_sigmas` that many standard deviations (of N - 1) over it (None or "absmax": the former). Statistics are float64 sums over a fixed tree, the same on every device.
    Raises NotFiniteError for NaN and infinity."""
    with translate():
        return torch.ops.ans.row_scale(weight.detach(), bits, _sigmas(clip_sigmas))


def pack_scale(row_scale: Tensor) -> tuple[Tensor, Tensor]:
    """float32 row scales -> (float16 scales, int32 exponent []), scale = float16 * 2**exponent. The exponent is 0 for ordinary scales and keeps
    tiny or huge ones in range otherwise; a nonzero scale stays nonzero."""
    with translate():
        return torch.ops.ans.pack_scale(row_scale.detach())


def quantize_rows(weight: Tensor, scale: Tensor, exponent: Tensor, bits: int) -> Tensor:
    """int8 symbols of `weight` for given scales: `round(weight / scale)`, halves to even, clamped to ±(2**(bits-1) - 1); 0 where the scale is 0."""
    with translate():
        return torch.ops.ans.quantize_rows(weight.detach(), scale.detach(), exponent, bits)


def quantize(weight: Tensor, bits: int = 6, clip_sigmas: float | str | None = None) -> Quantized:
    """Symmetric quantization of each row of `weight` [..., C] to `bits` (2 … 8): `row_scale`, `pack_scale` and `quantize_rows` in one. Without
    `clip_sigmas` nothing is clipped (absmax); `compress_model`'s default is 12.85 standard deviations: a coarser grid, a smaller file."""
    with translate():
        return Quantized(*torch.ops.ans.quantize(weight.detach(), bits, _sigmas(clip_sigmas)))


def dequantize(symbols: Tensor, scale: Tensor, exponent: Tensor, dtype: torch.dtype = torch.float32, column_factor: Tensor | None = None) -> Tensor:
    """`symbols * scale * 2**exponent` in float32, times `column_factor` [C] (float32) if given, rounded once to `dtype` (float32, bfloat16 or float16); shapes as in `Quantized`."""
    with translate():
        return torch.ops.ans.dequantize(symbols, scale.detach(), exponent, dtype, column_factor)


class TrellisQuantized(NamedTuple):
    """symbols int16 [..., C], in steps: each is `2 * k + (state & 1)` (see `quantize_trellis`). bits: of all symbols under one table for each class of columns and
    `state & 1`, tables not counted. error: mean squared, in squared steps of the weights' rows."""

    symbols: Tensor
    bits: float
    error: float


def quantize_trellis(
    weight: Tensor,
    row_step: Tensor,
    states: int = 8,
    *,
    column_step: Tensor | None = None,
    column_class: Tensor | None = None,
    classes: int = 1,
    rounds: int = 3,
) -> TrellisQuantized:
    """Trellis-coded quantization of each row of `weight` [..., C] (float32, bfloat16 or float16) in multiples of `row_step` [...] (float32, times `column_step` [C] if given).

    Along a row runs a state machine of 4, 8 or 32 states. In state s the next symbol is 2k + (s & 1) for some k, so that it costs as much as one of a grid of twice the step,
    and errs less (BITSTREAM.md, section 7.5). `fit_matrix(..., trellis=states)` and `encode_matrix` make a stream of rows of such symbols. Viterbi's search finds the symbols of least `error + lagrange * bits`, with the bits that these very symbols have: `rounds` times with tables from the round before, and
    lagrange = 2 ln 2 times its error (the slope of rate against distortion at high rate). `column_class` (uint8 [C], below `classes`): columns that have tables of their own.
    Raises NotFiniteError for NaN and infinity, InvalidArgumentError for weights of more than 32,700 steps."""
    with translate():
        costs = torch.zeros(classes, 4, 128, dtype=torch.int32, device=weight.device)
        for round_number in range(rounds + 1):
            symbols, counts, error = torch.ops.ans.quantize_trellis(weight.detach(), row_step, costs, states, column_step, column_class)
            mean = error.item() / 4096 / max(1, weight.numel())
            costs, bits = torch.ops.ans.trellis_costs(counts, 2 * math.log(2) * mean)
    return TrellisQuantized(symbols, bits.item(), mean)


class FeedbackQuantized(NamedTuple):
    """symbols int16 [..., C]; bits of all symbols under a table for each class of columns and `state & 1`, tables not counted; error: the sum of `column_weight * error^2`, in squared
    steps; costs (int32 [classes, 4, 128]): what the symbols cost in such tables, for another search that begins where this one ended."""

    symbols: Tensor
    bits: float
    error: float
    costs: Tensor


def quantize_feedback(
    weight: Tensor,
    row_step: Tensor,
    states: int,
    feedback: Tensor,
    column_weight: Tensor,
    *,
    column_step: Tensor | None = None,
    column_class: Tensor | None = None,
    classes: int = 1,
    rounds: int = 3,
    costs: Tensor | None = None,
    survivors: int = 1,
) -> FeedbackQuantized:
    """`quantize_trellis` (with `states` 0: rounding to one of the two nearest integers) where later columns of a row make up for the errors of earlier ones.

    The target of column j is `weight / step` less the sum over i < j of `error[i] * feedback[i, j]` (float32 [C, C], at most a million), with the error in steps of what column i has been quantized to;
    what is made least is the sum of `column_weight[j] * error[j]^2` (float32 [C], 1 on average) and bits, as in `quantize_trellis`. `torch_ans.gptq` makes both of a Hessian.
    survivors: how many paths of each state are followed, 1 to 4, each with errors of its own, until all agree or for 64 columns; four take five times as long as one and save about 0.025
    bits. costs: of an earlier result, instead of a first round in which bits cost nothing."""
    with translate():
        if costs is None:
            costs = torch.zeros(classes, 4, 128, dtype=torch.int32, device=weight.device)
        for round_number in range(rounds + 1):
            symbols, counts, error = torch.ops.ans.quantize_feedback(weight.detach(), row_step, costs, states, feedback, column_weight, column_step, column_class, survivors)
            total = error.item()
            costs, bits = torch.ops.ans.trellis_costs(counts, 2 * math.log(2) * total / max(1, weight.numel()), states > 0)
    return FeedbackQuantized(symbols, bits.item(), total, costs)


def row_scale_many(weight: Sequence[Tensor], bits: int, clip_sigmas: float | str | None = None) -> list[Tensor]:
    """`row_scale` of many tensors of one device in one call: on a GPU as many launches, and waits, as for one. An error names the tensor."""
    with translate():
        return torch.ops.ans.row_scale_many([w.detach() for w in weight], bits, _sigmas(clip_sigmas)) if weight else []


def pack_scale_many(row_scale: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """`pack_scale` of many tensors of one device in one call."""
    with translate():
        return torch.ops.ans.pack_scale_many([r.detach() for r in row_scale]) if row_scale else ([], [])


def quantize_rows_many(weight: Sequence[Tensor], scale: Sequence[Tensor], exponent: Sequence[Tensor], bits: int) -> list[Tensor]:
    """`quantize_rows` of many tensors of one device in one call."""
    with translate():
        return torch.ops.ans.quantize_rows_many([w.detach() for w in weight], scale, exponent, bits) if weight else []


def quantize_many(weight: Sequence[Tensor], bits: int = 6, clip_sigmas: float | str | None = None) -> list[Quantized]:
    """`quantize` of many tensors of one device in one call."""
    with translate():
        parts = torch.ops.ans.quantize_many([w.detach() for w in weight], bits, _sigmas(clip_sigmas)) if weight else ()
    return [Quantized(*part) for part in zip(*parts)]


def histogram_many(symbols: Sequence[Tensor]) -> Tensor:
    """int64 [tensors, bins]: `histogram` of many tensors (one or more) of one device and dtype in one call."""
    if not symbols:  # of which device and dtype would the result be?
        raise InvalidArgumentError("there are no tensors")
    with translate():
        return torch.ops.ans.histogram_many(symbols)


def histogram(symbols: Tensor, contexts: Tensor | None = None, num_contexts: int = 1) -> Tensor:
    """int64 [num_contexts, bins]: how often each value occurs (in each context: uint8, one per symbol). 256 bins for int8 and uint8, 65536 for
    int16; bin 0 is the lowest value of the dtype."""
    with translate():
        return torch.ops.ans.histogram(symbols, contexts, num_contexts)


def build_table(counts: Tensor, symbol_dtype: torch.dtype) -> Tensor:
    """The coded table (uint8 [bytes], BITSTREAM.md section 3) for symbols with these counts (int64 [bins]). Frequencies are normalised exactly, to
    the optimum in code length; values too rare for a slot of 1/4096 are left to an escape where that is shorter."""
    with translate():
        return torch.ops.ans.build_table(counts, symbol_dtype)


def table_frequencies(table: Tensor, symbol_dtype: torch.dtype) -> TableInfo:
    """What a coded table says."""
    with translate():
        frequencies, info = torch.ops.ans.table_frequencies(table, symbol_dtype)
    first_value, core_size, has_escape, raw_bits, raw_min = info.tolist()
    return TableInfo(frequencies, first_value, core_size, bool(has_escape), raw_bits, raw_min)


def encode(symbols: Tensor, table: Tensor, chunk_symbols: int = DEFAULT_CHUNK_SYMBOLS) -> Encoded:
    """rANS-encodes `symbols` (any shape, in row-major order), 32 lanes per chunk of `chunk_symbols` (1 … 2**22) symbols. Raises
    SymbolNotInTableError if the table neither has a slot for a symbol nor an escape that reaches it."""
    with translate():
        return Encoded(*torch.ops.ans.encode(symbols, table, chunk_symbols))


def encode_many(symbols: Sequence[Tensor], table: Sequence[Tensor], chunk_symbols: Sequence[int]) -> list[Encoded]:
    """`encode` of many tensors of one device in one call. Tables may be on the CPU. An error names the tensor."""
    with translate():
        parts = torch.ops.ans.encode_many(symbols, table, chunk_symbols) if symbols else ()
    return [Encoded(*part) for part in zip(*parts)]


def decode(payload: Tensor, directory: Tensor, table: Tensor, numel: int, chunk_symbols: int, symbol_dtype: torch.dtype) -> Tensor:
    """The `numel` symbols (flat) that `encode` was given."""
    with translate():
        return torch.ops.ans.decode(payload, directory, table, numel, chunk_symbols, symbol_dtype)


def decode_dequantize(
    payload: Tensor,
    directory: Tensor,
    table: Tensor,
    scale: Tensor,
    exponent: Tensor,
    shape: Sequence[int],
    chunk_symbols: int,
    symbol_dtype: torch.dtype,
    dtype: torch.dtype,
) -> Tensor:
    """`dequantize(decode(...).view(shape), scale, exponent, dtype)` without the symbols in between."""
    with translate():
        return torch.ops.ans.decode_dequantize(payload, directory, table, scale, exponent, list(shape), chunk_symbols, symbol_dtype, dtype)


def decode_out(payload: Tensor, directory: Tensor, table: Tensor, chunk_symbols: int, out: Tensor) -> Tensor:
    """`decode` into `out` (contiguous, any shape; its dtype is the symbols'), which is returned. After an error its contents are undefined."""
    with _writing([out]):
        torch.ops.ans.decode_out(payload, directory, table, chunk_symbols, out)
    return out


def decode_dequantize_out(
    payload: Tensor,
    directory: Tensor,
    table: Tensor,
    scale: Tensor,
    exponent: Tensor,
    chunk_symbols: int,
    symbol_dtype: torch.dtype,
    out: Tensor,
) -> Tensor:
    """`decode_dequantize` into `out` (contiguous; its shape and dtype are the result's), which is returned: straight into a model's parameters.
    After an error its contents are undefined."""
    with _writing([out]):
        torch.ops.ans.decode_dequantize_out(payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, out)
    return out


def stream_prefix(counts: Tensor, symbol_dtype: torch.dtype, chunk_symbols: int = DEFAULT_CHUNK_SYMBOLS) -> Tensor:
    """The first bytes of a stream for symbols with these counts (int64 [bins]), up to its chunk directory: the cheapest model (raw, constant or
    order0) and what it needs. Depends on the counts alone, so that all ranks of a job find the same."""
    with translate():
        return torch.ops.ans.stream_prefix(counts, symbol_dtype, chunk_symbols)


def pack_directory(directory: Tensor) -> Tensor:
    """The bytes of a chunk directory (int32 [chunks, 2]), BITSTREAM.md section 5."""
    with translate():
        return torch.ops.ans.pack_directory(directory)


def stream_layout(stream: Tensor, numel: int, symbol_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Takes a stream (uint8 [bytes]) apart: int64 [model, chunk_symbols, table begin, table end, payload begin] and its directory. Checks everything
    but the chunks themselves."""
    with translate():
        return torch.ops.ans.stream_layout(stream, numel, symbol_dtype)


def encode_stream(symbols: Tensor, chunk_symbols: int = DEFAULT_CHUNK_SYMBOLS) -> Tensor:
    """The stream (uint8 [bytes], BITSTREAM.md) of `symbols` (int8, uint8 or int16, any shape) in the cheapest model: counting, table, coding in one."""
    with translate():
        return torch.ops.ans.encode_stream(symbols, chunk_symbols)


def encode_streams(symbols: Sequence[Tensor], chunk_symbols: int | Sequence[int] = DEFAULT_CHUNK_SYMBOLS) -> list[Tensor]:
    """`encode_stream` of many tensors of one device in one call; one chunk size for all, or one for each."""
    sizes = [chunk_symbols] * len(symbols) if isinstance(chunk_symbols, int) else list(chunk_symbols)
    with translate():
        return torch.ops.ans.encode_streams(symbols, sizes) if symbols else []


def decode_stream(stream: Tensor, numel: int, symbol_dtype: torch.dtype) -> Tensor:
    """The `numel` symbols (flat) of a stream. The caller bounds `numel`: a constant stream of two bytes may stand for any number of symbols."""
    with translate():
        return torch.ops.ans.decode_stream(stream, numel, symbol_dtype)


def decode_stream_out(stream: Tensor, out: Tensor) -> Tensor:
    """`decode_stream` into `out` (contiguous; its size and dtype are the symbols'), which is returned. After an error its contents are undefined."""
    with _writing([out]):
        torch.ops.ans.decode_stream_out(stream, out)
    return out


def decode_streams_out(streams: Sequence[Tensor], out: Sequence[Tensor]) -> Sequence[Tensor]:
    """`decode_stream_out` of many streams in one call, which is faster than one after another: their chunks are decoded side by side. Each tensor of
    `out` is contiguous, has its stream's size and the dtype of its symbols (a stream says neither: another size or dtype gives other symbols or a
    CorruptError); `out` is returned. Streams on the CPU are decoded to wherever `out` is. After an error the contents of all are undefined."""
    with _writing(out):
        if streams or out:  # without a tensor there is no device to choose a kernel by
            torch.ops.ans.decode_streams_out(streams, out)
    return out


def decode_streams_dequantize_out(
    streams: Sequence[Tensor],
    scale: Sequence[Tensor],
    exponent: Sequence[Tensor],
    symbol_dtype: torch.dtype,
    out: Sequence[Tensor],
    column_factor: Sequence[Tensor | None] = (),
) -> Sequence[Tensor]:
    """`dequantize` of many streams in one call, without the symbols in between: `out[i]` (contiguous; float32, bfloat16 or float16, the last dimension
    is a row) receives the weights of `streams[i]` with the row scales `scale[i]` and the exponent `exponent[i]`, and `column_factor[i]` where there is one; `out` is returned.
    After an error the contents of all are undefined."""
    with _writing(out):
        if streams or out:
            factors = [torch.empty(0, device=of_one.device) if factor is None else factor for factor, of_one in zip(column_factor, out)]
            torch.ops.ans.decode_streams_dequantize_out(streams, scale, exponent, symbol_dtype, out, factors)
    return out


# ---- matrices: prediction models (BITSTREAM.md, section 7). Encoding and decoding run where the symbols are, everything else on the CPU ----


class FittedMatrix(NamedTuple):
    """header uint8 [bytes]: the model of a matrix, for `encode_matrix`. bits: of the stream that it will make, estimated."""

    header: Tensor
    bits: int


class FittedPredictor(NamedTuple):
    """predictor uint8 [bytes], for `fit_matrix`; what it saves in the matrices that it was fitted to, in bits, and what its coefficients take."""

    predictor: Tensor
    gain_bits: float
    coefficient_bits: float


def fit_matrix(
    symbols: Tensor,
    columns: int,
    transposed: bool = False,
    predictors: Sequence[Tensor] = (),
    *,
    own_predictors: bool = False,
    reference: Tensor | None = None,
    reference_transposed: bool = False,
    means: bool = True,
    levels: int = 0,
    chunk_symbols: int = DEFAULT_CHUNK_SYMBOLS,
    sample_symbols: int = 1 << 20,
    adaptations: int = 6,
    trellis: int = 0,
) -> FittedMatrix:
    """The best model of symbols (int8, uint8 or int16, of any shape) as lines of `columns` symbols. Line i, column j is element `i * columns + j`, or with
    `transposed` element `j * lines + i`.

    predictors: of which each line uses the one that suits it (none given: no linear prediction). `own_predictors`: the stream carries them; otherwise
        `encode_matrix` and `decode_matrix` need them again.
    reference: symbols of another matrix of the same size and dtype (`reference_transposed` as `transposed`), whose line i may help to predict line i.
    means: columns have means. levels: how deep lines of this matrix may refer to each other (0: not at all).
    sample_symbols: choices are made on about so many symbols; the result is fitted to all.
    adaptations: so many ways to follow scales along a line are tried (1 … 6); 0: scales are those of the columns, which is the fastest to decode.
    trellis: symbols are the integers of `quantize_trellis` with so many states; lines are then its rows."""
    with translate():
        header, bits = torch.ops.ans.fit_matrix(
            symbols, columns, transposed, list(predictors), own_predictors, reference, reference_transposed, means, levels, chunk_symbols, sample_symbols, adaptations, trellis
        )
    return FittedMatrix(header, int(bits))


def encode_matrix(symbols: Tensor, header: Tensor, predictors: Sequence[Tensor] = (), reference: Tensor | None = None) -> Tensor:
    """The stream (uint8) of symbols under a header of `fit_matrix`, with the predictors (unless the header carries them) and the reference that it was made with."""
    with translate():
        return torch.ops.ans.encode_matrix(symbols, header, list(predictors), reference)


def decode_matrix(stream: Tensor, numel: int, symbol_dtype: torch.dtype, predictors: Sequence[Tensor] = (), reference: Tensor | None = None) -> Tensor:
    """Symbols [numel] of a stream of `encode_matrix`, with the same predictors and reference. Raises a CorruptError if the stream is damaged, ReferenceMissingError if it needs what is not given."""
    with translate():
        return torch.ops.ans.decode_matrix(stream, numel, symbol_dtype, list(predictors), reference)


def decode_matrices_out(streams: Sequence[Tensor], out: Sequence[Tensor], predictors: Sequence[Sequence[Tensor]], references: Sequence[int | Tensor | None]) -> Sequence[Tensor]:
    """`decode_matrix` of many streams in one call: on a GPU as many launches as the longest chain of references has levels. `out[i]` (contiguous; its size and dtype are the symbols')
    receives the symbols of `streams[i]`, which needs `predictors[i]` and `references[i]`: the number of an earlier stream, other symbols of this size and dtype, or None. Streams may be
    on the CPU, predictors are there; `out` is returned. After an error the contents of all are undefined."""
    given = [reference for reference in references if isinstance(reference, Tensor)]
    behind = iter(range(len(streams), len(streams) + len(given)))
    numbers = [-1 if reference is None else next(behind) if isinstance(reference, Tensor) else reference for reference in references]
    with _writing(out):
        if streams or out:
            joined = [predictor for own in predictors for predictor in own]
            torch.ops.ans.decode_matrices_out(list(streams), joined, [len(own) for own in predictors], given, numbers, list(out))
    return out


def matrix_directory(stream: Tensor, numel: int, symbol_dtype: torch.dtype, predictors: Sequence[Tensor] = ()) -> Tensor:
    """int32 [chunks, 2]: 16-bit words and tail symbols of every chunk of a matrix stream, which needs these predictors."""
    with translate():
        return torch.ops.ans.matrix_directory(stream, numel, symbol_dtype, list(predictors))


def matrix_needs(stream: Tensor, numel: int, symbol_dtype: torch.dtype) -> tuple[int, bool]:
    """How many predictors `decode_matrix` needs for a stream, and whether it needs a reference: (0, False) for streams of other models."""
    with translate():
        predictors, reference, _, _ = torch.ops.ans.matrix_needs(stream, numel, symbol_dtype).tolist()
    return predictors, bool(reference)


def stream_trellis(stream: Tensor, numel: int, symbol_dtype: torch.dtype) -> tuple[int, int]:
    """The states of the trellis that the symbols of a stream follow, and the columns of its rows: (0, columns) for a matrix stream without, (0, 0) for streams of other models."""
    with translate():
        _, _, states, columns = torch.ops.ans.matrix_needs(stream, numel, symbol_dtype).tolist()
    return states, columns


def stream_predictors(stream: Tensor, numel: int, symbol_dtype: torch.dtype) -> list[Tensor]:
    """The predictors (uint8) that a matrix stream carries, for other streams that use them too; an empty list for streams of other models. The stream must not need predictors itself."""
    with translate():
        return torch.ops.ans.stream_predictors(stream, numel, symbol_dtype)


def matrix_gram(symbols: Tensor, columns: int, transposed: bool = False) -> Tensor:
    """int64 [columns + 2, columns]: exact sums over the lines of a matrix (as of `fit_matrix`). Row k < columns holds the products of column k with every column, the next row the sums
    of the columns, the last one the number of lines, and zeros."""
    with translate():
        return torch.ops.ans.matrix_gram(symbols, columns, transposed)


def fit_predictor(grams: Sequence[Tensor]) -> FittedPredictor:
    """The linear predictor that saves most in all these matrices (results of `matrix_gram`), coefficients paid for. Solved in fp64 in a fixed order."""
    with translate():
        predictor, bits = torch.ops.ans.fit_predictor(list(grams))
    return FittedPredictor(predictor, *bits.tolist())


def predictor_gains(grams: Sequence[Tensor], predictors: Sequence[Tensor], stride: int = 1) -> Tensor:
    """What predictors save in matrices, in bits, by their `matrix_gram`: as far as every `stride`-th column tells. float64 [grams, predictors]."""
    with translate():
        return torch.ops.ans.predictor_gains(list(grams), list(predictors), stride)


def reference_gain(symbols: Tensor, columns: int, transposed: bool, reference: Tensor, reference_transposed: bool) -> float:
    """About what the lines of a matrix save by references to the same lines of another one, in bits."""
    with translate():
        return float(torch.ops.ans.reference_gain(symbols, columns, transposed, reference, reference_transposed))


def fit_predictors(symbols: Sequence[Tensor], columns: int, transposed: Sequence[bool], most: int) -> list[Tensor]:
    """Up to `most` predictors for the lines of several matrices, each line using one: groups of lines and their predictors are fitted in turn."""
    with translate():
        return torch.ops.ans.fit_predictors(list(symbols), columns, [int(t) for t in transposed], most)


class DecodePlan:
    """Decoding many streams again and again, or inside a CUDA graph: everything that the host has to find out is found out here, once.

    The streams (uint8) and `out` are as for `decode_streams_out`, or with `scale`, `exponent` and `symbol_dtype` as for
    `decode_streams_dequantize_out`; all are contiguous and on one device, and stay where they are as long as the plan lives (what they hold may change,
    if headers, and so sizes, stay as they are).

    plan = DecodePlan(streams, out)
    status = plan.run()      # queues a constant number of launches and does not wait
    plan.check(status)       # waits; raises a CorruptError if a stream was damaged, and then the contents of `out` are undefined
    """

    def __init__(
        self,
        streams: Sequence[Tensor],
        out: Sequence[Tensor],
        scale: Sequence[Tensor] = (),
        exponent: Sequence[Tensor] = (),
        symbol_dtype: torch.dtype = torch.int8,
    ) -> None:
        self._streams, self._out, self._scale, self._exponent = list(streams), list(out), list(scale), list(exponent)
        if not self._out:
            raise InvalidArgumentError("there are no streams")
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self._out):
            raise InvalidArgumentError("out requires grad: plan under torch.no_grad()")
        with translate():
            self._plan = torch.ops.ans.plan_decode(self._streams, self._scale, self._exponent, symbol_dtype, self._out)

    def run(self) -> Tensor:
        """Decodes. Returns a status (int32 [streams], on the device) for `check`; on the CPU errors are raised at once."""
        with _writing(self._out):
            return torch.ops.ans.run_decode(*self._plan, self._streams, self._scale, self._exponent, self._out)

    def check(self, status: Tensor) -> None:
        """Raises a CorruptError that names the stream if one was damaged."""
        with translate():
            torch.ops.ans.check_decoded(status)


def cpu_backend(name: str = "") -> str:
    """Name of the CPU backend in use (avx512, avx2 or scalar) after selecting `name`; "best" takes the best again. For tests and benchmarks:
    all backends produce the same bytes. The environment variable TORCH_ANS_BACKEND sets the first choice."""
    with translate():
        return torch.ops.ans.cpu_backend(name)
